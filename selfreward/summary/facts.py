"""The figures of a run as typed values, computed once: report, cards, `evaluate paper` and the audit's funnel print them.

    summary = summarize(Run("runs/demo"))
    [judge.model for judge in summary.judges if judge.dataset not in summary.outdated]

Everything is derived from the versions alone, verified when read, because the configuration in the run folder may have
changed since. A missing figure is None. `outdated` names the versions made from earlier versions of their inputs;
callers mark their figures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from selfreward.errors import DamagedError
from selfreward.notes import (
    AlpacaFigures,
    AnnotationsNotes,
    JsonObject,
    JudgeEvalNotes,
    RuleEvalNotes,
    ScoresNotes,
    TrainingNotes,
)
from selfreward.statistics import Figure, paired_difference
from selfreward.steps.costs import spent
from selfreward.steps.status import outdated_versions
from selfreward.store.run import Run, is_model
from selfreward.store.version import Version
from selfreward.summary.funnel import COLUMNS, EFT_COLUMNS, FunnelStep, counted, eft_funnel, iteration_funnel
from selfreward.tables import DATASETS, DatasetName, kind_of

if TYPE_CHECKING:
    pass

Verdicts = Sequence[tuple[str, bool | None]]
"""prompt_id and whether an answer keeps its rules."""


@dataclass(frozen=True)
class Lengths:
    """Characters of the answers of one iteration."""

    candidates: Sequence[int] = ()
    chosen: Sequence[int] = ()
    rejected: Sequence[int] = ()

    @property
    def longer_chosen(self) -> float | None:
        """The share of pairs whose chosen answer is the longer one; it reveals a judge that prefers length."""
        pairs = list(zip(self.chosen, self.rejected, strict=True))
        return sum(c > r for c, r in pairs) / len(pairs) if pairs else None


@dataclass(frozen=True)
class Iteration:
    """The existing parts of one iteration."""

    number: int
    funnel: Sequence[FunnelStep] = ()
    statuses: Mapping[str, int] = field(default_factory=dict)
    """Judgements by status; only `ok` has a score."""
    histogram: Sequence[tuple[float, int]] = ()
    """Score of one judgement -> how many gave it."""
    scores: Sequence[float] = ()
    """Mean score of each scored candidate."""
    lengths: Lengths = Lengths()
    agreement: Sequence[JsonObject] = ()
    """Between each two judges or templates, if several judged the candidates (`ScoresNotes`)."""


@dataclass(frozen=True)
class Judge:
    """How one model judged ranked replies that nothing was trained on."""

    dataset: str
    model: str
    statuses: Mapping[str, int]
    histogram: Sequence[tuple[float, int]]
    notes: JudgeEvalNotes
    replies: str = "eft_eval"
    """Where the replies come from (`evaluate.judge.replies`)."""

    @property
    def of_people(self) -> bool:
        """Whether people ranked them, as far as the run knows: a program ranks the control experiment's."""
        return self.replies != "rules"

    @property
    def where(self) -> str:
        """The replies in words."""
        named = {"eft_eval": "EFT eval split", "rules": "held-out replies with rules"}
        return named.get(self.replies, "replies of evaluate.judge.replies")

    @property
    def judgements(self) -> int:
        """All of them."""
        return sum(self.statuses.values())

    @property
    def scored(self) -> int:
        """Those with a score."""
        return self.statuses.get("ok", 0)

    @property
    def accuracy(self) -> Figure | None:
        """Agreement with humans on pairs of replies, ties half; None if nothing could be compared."""
        figure = self.notes.figure("pairwise_ties_half")
        return figure if figure and figure.value is not None else None


@dataclass(frozen=True)
class Trained:
    """A model that the run trained."""

    model: str
    notes: TrainingNotes


@dataclass(frozen=True)
class WinRate:
    """How one model did in alpaca-eval."""

    dataset: str
    model: str
    figures: AlpacaFigures
    notes: AnnotationsNotes


@dataclass(frozen=True)
class RuleRate:
    """How often one model kept the rules of its prompts."""

    dataset: str
    model: str
    notes: RuleEvalNotes
    kept: Figure | None
    gain: Figure | None
    """The rate minus M1's on the same prompts; None for M0 and M1."""


@dataclass(frozen=True)
class Summary:
    """Everything."""

    versions: Mapping[str, Version]
    """The summarized versions, in the order in which a run builds them."""
    outdated: Mapping[str, str]
    """Dataset or model -> why it is not current."""
    eft: Sequence[FunnelStep]
    iterations: Sequence[Iteration]
    judges: Sequence[Judge]
    trained: Sequence[Trained]
    win_rates: Sequence[WinRate]
    rule_rates: Sequence[RuleRate]
    spent: float
    """Cost on paid servers, in the currency of their prices."""
    damaged: Mapping[str, str] = field(default_factory=dict)
    """Dataset or model -> what is wrong with it; left out of everything else."""


def find_damaged(run: Run) -> dict[str, str]:
    """Current versions that cannot be read, with the reason; every file of every dataset is hashed."""
    damaged = {}
    for name in run.names():
        try:
            version = run.current(name)
            # The weights of a model are not on the page, and may be large: names and sizes only.
            version.check_files() if is_model(name) else version.verify()
        except DamagedError as error:
            damaged[name] = str(error)
    return damaged


def summarize(
    run: Run, chosen: Sequence[Version] | None = None, damaged: Mapping[str, str] | None = None
) -> Summary:
    """The figures of the chosen versions of a run, of all current ones by default, without the `damaged` ones."""
    damaged = damaged or {}
    current = {name: run.current(name) for name in run.names() if name not in damaged}
    versions = current if chosen is None else {version.name: version for version in chosen}
    versions = dict(sorted(versions.items(), key=lambda entry: as_made(entry[0])))
    # Against everything current, though only the chosen versions are summarized.
    outdated = outdated_versions(current)
    of_kind = {kind: [v for name, v in versions.items() if kind_of(name) == kind] for kind in _ALL_KINDS}
    numbers = sorted({iteration_of(v.name) for kind in ("prompts", "pairs") for v in of_kind[kind]})
    # A run without training measures one judge, though an earlier build measured it as M0 and as M1.
    judges = {version.manifest["inputs"].get("model", {}).get("content_sha256", version.name): _judge(version)
              for version in of_kind["judge_eval"]}  # fmt: skip
    return Summary(
        versions=versions,
        outdated={name: outdated[name] for name in versions if name in outdated},
        eft=_eft(versions["eft"]) if "eft" in versions else (),
        iterations=[_iteration(versions, number) for number in numbers],
        judges=list(judges.values()),
        trained=[Trained(name, v.notes(TrainingNotes)) for name, v in versions.items() if is_model(name)],
        win_rates=[_win_rate(version) for version in of_kind["annotations"]],
        rule_rates=_rule_rates(of_kind["rule_eval"]),
        spent=spent(run.path / ".work"),
        damaged=damaged,
    )


_SETUP = ("seeds", "ift", "SFT", "eft")
_MEASURES = tuple(dataset.kind for dataset in DATASETS if dataset.from_zero)
_KINDS = tuple(d.kind for d in DATASETS if d.per_iteration and not d.from_zero)
_ALL_KINDS = (*_KINDS, *_MEASURES)


def as_made(name: str) -> tuple[int, int, str]:
    """For sorting: seeds, IFT and EFT, M1, then the iterations by number, each with the model it trains, then the rest.

    >>> sorted(["M2", "iter1/pairs", "M1", "iter2/judge_eval", "iter1/judge_eval", "audits", "eft", "seeds"], key=as_made)
    ['seeds', 'eft', 'M1', 'iter1/pairs', 'M2', 'iter1/judge_eval', 'iter2/judge_eval', 'audits']
    """
    kind = kind_of(name)
    if name in _SETUP:
        return 0, _SETUP.index(name), name
    if is_model(name):
        return int(name.removeprefix("M")) - 1, len(_KINDS), name
    if kind in _KINDS:
        return iteration_of(name), _KINDS.index(kind), name
    if kind in _MEASURES:
        # After all iterations, of which there are at most 99.
        return 1000 + iteration_of(name), _MEASURES.index(kind), name
    return 10_000, 0, name


def iteration_of(name: str) -> int:
    """The number of a dataset's iteration, or 0."""
    return DatasetName.parse(name).iteration or 0


def model_label(named: str | None, number: int) -> str:
    """A model's name in tables: `M1` of `M1@3f0c…`, M0, or the name of a model that the run did not train.

    >>> model_label("M1@91ab23cd45ef", 1), model_label("hf:base@91ab23cd45ef", 0), model_label("openai:judge", 1)
    ('M1', 'M0', 'openai:judge')
    """
    if named is None or number == 0:
        return f"M{number}"
    # Only a content hash is cut: a Hub revision such as `@main` belongs to the name.
    return re.sub(r"@[0-9a-f]{12,}$", "", named)


def _eft(version: Version) -> Sequence[FunnelStep]:
    counts = version.manifest["counts"]
    return eft_funnel(version.table(EFT_COLUMNS), counts["in"], counts["dropped"])


def _iteration(versions: Mapping[str, Version], number: int) -> Iteration:
    found = {kind: versions[name] for kind in COLUMNS if (name := str(DatasetName(kind, number))) in versions}
    tables = {kind: version.table(COLUMNS[kind]) for kind, version in found.items()}

    def values(kind: str, column: str) -> list[Any]:
        return tables[kind][column].drop_null().to_pylist() if kind in tables else []

    # Why a prompt gave no pair is in no row; only the manifest of `pairs` has it.
    no_pair, no_judge_pair = (
        found[kind].manifest["counts"]["dropped"] if kind in found else {}
        for kind in ("pairs", "judge_pairs")
    )
    chosen, rejected = (
        [sum(len(message["content"]) for message in messages) for messages in values("pairs", side)]
        for side in ("chosen", "rejected")
    )
    return Iteration(
        number=number,
        funnel=iteration_funnel(tables, number, no_pair, no_judge_pair),
        statuses=counted(tables.get("judgements"), "status"),
        histogram=sorted(counted(tables.get("judgements"), "score").items()),
        scores=values("scores", "score"),
        lengths=Lengths(values("candidates", "n_chars"), chosen, rejected),
        agreement=(found["scores"].notes(ScoresNotes).agreement if "scores" in found else None) or (),
    )


def _judge(version: Version) -> Judge:
    rows, notes = version.table(["status", "score"]), version.notes(JudgeEvalNotes)
    model = model_label(version.manifest["inputs"].get("model", {}).get("name"), iteration_of(version.name))
    histogram = sorted(counted(rows, "score").items())
    replies = version.manifest["params"].get("judge_eval", {}).get("replies", "eft_eval")
    return Judge(version.name, model, counted(rows, "status"), histogram, notes, replies)


def _win_rate(version: Version) -> WinRate:
    notes = version.notes(AnnotationsNotes)
    figures = AlpacaFigures.read(notes.alpaca or {})
    return WinRate(version.name, model_label(figures.model, iteration_of(version.name)), figures, notes)


def _rule_rates(versions: Sequence[Version]) -> list[RuleRate]:
    verdicts = {version.name: _verdicts(version) for version in versions}
    first = verdicts.get("iter1/rule_eval")
    return [_rule_rate(version, verdicts[version.name], first) for version in versions]


def _verdicts(version: Version) -> Verdicts:
    table = version.table(["prompt_id", "kept"])
    return list(zip(table["prompt_id"].to_pylist(), table["kept"].to_pylist(), strict=True))


def _rule_rate(version: Version, verdicts: Verdicts, first: Verdicts | None) -> RuleRate:
    notes, number = version.notes(RuleEvalNotes), iteration_of(version.name)
    return RuleRate(
        dataset=version.name,
        model=model_label(version.manifest["inputs"].get("model", {}).get("name"), number),
        notes=notes,
        kept=Figure(**notes.kept) if notes.kept else None,
        gain=paired_difference(verdicts, first) if first is not None and number > 1 else None,
    )
