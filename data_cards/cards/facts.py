"""What a card says about a run, gathered from manifests, the configuration and a few columns.

Nothing is made up and nothing is averaged away: a figure that does not exist is None and the card says so. All of it
follows from the published versions alone, so that the same run gives the same card, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.config.run import RunConfig, load_config
from selfreward.data_cards.cards.iterations import IterationFacts, iteration_facts
from selfreward.data_cards.tree.layout import config_name
from selfreward.errors import SelfrewardError
from selfreward.steps.generation import failed_answers
from selfreward.store.run import Run, is_model
from selfreward.store.version import Version

PAPER = "arXiv:2401.10020"


@dataclass(frozen=True)
class DatasetFacts:
    """One published dataset, from its manifest."""

    name: str
    config: str
    version: str
    content_sha256: str
    builder: str
    rows: int
    n_in: int
    dropped: dict[str, int]
    inputs: list[str]
    created: str

    @property
    def kind(self) -> str:
        """`pairs` of `iter1/pairs`."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class JudgeFacts:
    """How model M_k judged the EFT eval split."""

    model: str
    config: str
    judgements: int
    scored: int
    agreement: dict[str, Any] | None
    """`pairwise_ties_half`: value, low, high in [0, 1], and n pairs; None where nothing could be compared."""


@dataclass(frozen=True)
class RunFacts:
    """Everything a card says."""

    datasets: list[DatasetFacts]
    models: list[DatasetFacts]
    config: RunConfig | None
    iterations: list[IterationFacts]
    judges: list[JudgeFacts]
    alpaca: list[dict[str, Any]]
    sources: list[str]
    languages: list[str]
    generators: list[str]
    """Names of the models whose text stands in the rows."""
    template: str | None
    imported: list[str] = field(default_factory=list)
    """Datasets whose rows were brought by the user."""

    @property
    def rows(self) -> int:
        """Rows of all published datasets together."""
        return sum(dataset.rows for dataset in self.datasets)

    @property
    def judges_itself(self) -> bool:
        """Whether the judge is a model of the run, as in the paper, and not another one."""
        return self.config is None or self.config.judging.judge in ("current", "fixed")

    def dataset(self, name: str) -> DatasetFacts | None:
        """A dataset by its name in the run."""
        return next((d for d in self.datasets if d.name == name), None)


def gather(run: Run, versions: Sequence[Version]) -> RunFacts:
    """The facts of the chosen versions of a run."""
    by_name = {version.name: version for version in versions}
    datasets = [v for v in versions if not is_model(v.name)]
    config = read_config(run.path)
    numbers = sorted({_iteration(v.name) for v in datasets if v.name.startswith("iter")})
    return RunFacts(
        datasets=[_dataset(v) for v in datasets],
        models=[_dataset(v) for v in versions if is_model(v.name)],
        config=config,
        iterations=[iteration_facts(by_name, k) for k in numbers if f"iter{k}/prompts" in by_name
                    or f"iter{k}/pairs" in by_name],
        judges=[_judge(by_name[f"iter{k}/judge_eval"], k) for k in numbers if f"iter{k}/judge_eval" in by_name],
        alpaca=[_alpaca(by_name[f"iter{k}/annotations"], k) for k in numbers if f"iter{k}/annotations" in by_name],
        sources=seed_sources(run),
        languages=_distinct(_seeds_versions(run), "lang"),
        generators=_generators(by_name),
        template=_template(config),
        imported=[v.name for v in datasets if str(v.manifest["builder"]).startswith("import ")],
    )  # fmt: skip


def seed_sources(run: Run) -> list[str]:
    """Where the seeds of a run come from; empty where that cannot be told (imported rows only)."""
    return _distinct(_seeds_versions(run), "source")


def _seeds_versions(run: Run) -> list[Version]:
    """`seeds` where the run has it, otherwise what was cut from it."""
    names = ["seeds"] if run.has("seeds") else ["ift", "eft"]
    return [run.current(name) for name in names if run.has(name)]


def _distinct(versions: Iterable[Version], column: str) -> list[str]:
    found: set[str] = set()
    for version in versions:
        if column in version.manifest["schema"]:
            found |= set(version.table([column])[column].unique().drop_null().to_pylist())
    return sorted(found)


def read_config(run: Path) -> RunConfig | None:
    """The run's resolved configuration; None for a run of imported datasets."""
    path = run / "config.yaml"
    return load_config(path) if path.is_file() else None


def _template(config: RunConfig | None) -> str | None:
    """The judge prompt's text; None where there is no configuration or its file is gone."""
    from selfreward.judging.prompts.templates import load_template

    try:
        return load_template(config.judging.template).text if config else None
    except SelfrewardError:
        return None


def _dataset(version: Version) -> DatasetFacts:
    manifest = version.manifest
    counts = manifest["counts"]
    inputs = [
        f"{entry['name'].partition('@')[0]}@{entry['content_sha256'][:12]}"  # a model's name has a version already
        for _, entry in sorted(manifest["inputs"].items())
    ]
    return DatasetFacts(
        name=version.name,
        config=config_name(version.name),
        version=version.version,
        content_sha256=version.content_sha256,
        builder=str(manifest["builder"]),
        rows=version.n_rows,
        n_in=counts["in"],
        dropped={reason: n for reason, n in counts["dropped"].items() if n},
        inputs=inputs,
        created=str(manifest["created"]),
    )


def _iteration(name: str) -> int:
    return int(name.split("/")[0].removeprefix("iter"))


def _judge(version: Version, number: int) -> JudgeFacts:
    notes = version.manifest["counts"]["notes"]
    statuses = notes.get("by_status", {})
    agreement = notes.get("agreement") or {}
    figures = agreement.get("judge") or {}
    return JudgeFacts(
        model=f"M{number}",
        config=config_name(version.name),
        judgements=sum(statuses.values()),
        scored=statuses.get("ok", 0),
        agreement=figures.get("pairwise_ties_half"),
    )


def _alpaca(version: Version, number: int) -> dict[str, Any]:
    notes = version.manifest["counts"]["notes"]
    return {
        **(notes.get("alpaca") or {}),
        "failed": failed_answers(notes),
        "model": f"M{number}",
        "config": config_name(version.name),
    }


def _generators(versions: dict[str, Version]) -> list[str]:
    columns = {"prompts": "generator", "candidates": "model", "judgements": "judge"}
    found: set[str] = set()
    for kind, column in columns.items():
        found |= set(_distinct((v for name, v in versions.items() if name.endswith(f"/{kind}")), column))
    return sorted(found)
