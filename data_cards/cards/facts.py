"""The facts behind a card: the run's summary, its settings from the manifests, and a few columns.

A missing figure is None, and the card says so. Everything is derived from the published versions, so that the same
run gives the same card, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from selfreward.config.run import RunConfig
from selfreward.data_cards.tree.layout import config_name
from selfreward.errors import SelfrewardError
from selfreward.exchange.importing import is_imported
from selfreward.store.run import Run, is_model, text_input
from selfreward.store.version import Version
from selfreward.summary.facts import Summary, summarize
from selfreward.summary.settings import Settings
from selfreward.tables import BY_KIND, DatasetName, kind_of


@dataclass(frozen=True)
class DatasetFacts:
    """One published dataset or model, from its manifest."""

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
        return kind_of(self.name) or self.name

    @property
    def each_row(self) -> str:
        """A description of one row; a dash for a dataset of the user's own."""
        dataset = BY_KIND.get(self.kind)
        return dataset.each_row if dataset else "–"


@dataclass(frozen=True)
class Origin:
    """Where the seeds of a run come from; both empty if unknown (imported rows only)."""

    sources: Sequence[str]
    languages: Sequence[str]


@dataclass(frozen=True)
class RunFacts:
    """All facts of a card."""

    path: Path
    """The run folder."""
    summary: Summary
    datasets: list[DatasetFacts]
    models: list[DatasetFacts]
    settings: Settings
    origin: Origin
    generators: list[str]
    """Names of the models that wrote text in the rows."""
    template: str | None
    samples: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Iteration -> texts of its first pair and of one judgement of the chosen answer."""
    imported: list[str] = field(default_factory=list)
    """Datasets imported by the user."""

    @property
    def config(self) -> RunConfig | None:
        """The configuration that built the rows; None for a run of imported datasets."""
        return self.settings.config

    @property
    def rows(self) -> int:
        """Total rows of all published datasets."""
        return sum(dataset.rows for dataset in self.datasets)

    @property
    def judges_itself(self) -> bool:
        """Whether the judge is a model of the run, as in the paper."""
        own = ("current", "fixed", "previous", "first")
        return self.config is None or all(judge in own for judge in self.config.judging.judges)


def gather(run: Run, versions: Sequence[Version], settings: Settings, origin: Origin) -> RunFacts:
    """The facts of the chosen versions of a run."""
    summary = summarize(run, versions)
    settings, template = _with_template(settings, summary.versions)
    datasets = [v for v in versions if not is_model(v.name)]
    return RunFacts(
        path=run.path,
        summary=summary,
        datasets=[_dataset(v) for v in datasets],
        models=[_dataset(v) for v in versions if is_model(v.name)],
        settings=settings,
        origin=origin,
        generators=_generators(datasets),
        template=template,
        samples={
            i.number: found for i in summary.iterations if (found := _sample(summary.versions, i.number))
        },
        imported=[v.name for v in datasets if is_imported(v)],
    )


def seed_origin(run: Run) -> Origin:
    """From `seeds` if the run has it, otherwise from the datasets derived from it.

    A source read from a user's file is that file, even if its stem is the name of a known source.
    """
    versions = [
        run.current(name) for name in (["seeds"] if run.has("seeds") else ["ift", "eft"]) if run.has(name)
    ]
    # a file read by the user counts as itself, even if its stem is the name of a known source
    files = [entry["name"] for v in versions if (entry := v.manifest["inputs"].get("seed_file"))]
    return Origin(files or _distinct(versions, "source"), _distinct(versions, "lang"))


def _distinct(versions: Iterable[Version], column: str) -> list[str]:
    found: set[str] = set()
    for version in versions:
        if column in version.manifest["schema"]:
            found |= set(version.table([column])[column].unique().drop_null().to_pylist())
    return sorted(found)


def _with_template(settings: Settings, versions: Mapping[str, Version]) -> tuple[Settings, str | None]:
    """The settings with the template of the last judgements, and its text; None if no longer available."""
    from selfreward.judging.prompts.templates import RANGES, load_template

    judged = [version for name, version in versions.items() if kind_of(name) == "judgements"]
    hashes = [
        v.manifest["inputs"]["template"]["content_sha256"]
        for v in judged
        if "template" in v.manifest["inputs"]
    ]
    config = settings.config
    if config is None:
        return settings, None
    named, texts = config.judging.template, {}
    for name in (named, *RANGES):
        with suppress(SelfrewardError):
            texts[name] = load_template(name).text
    used = named
    # a manifest has only the template's hash, so the configured and the built-in templates are searched for
    # it
    if hashes and named in texts:
        # reversed: if two names have the same text, the configured one wins
        hashed = {text_input(name, text)["content_sha256"]: name for name, text in reversed(texts.items())}
        used = hashed.get(hashes[-1], "another file")
    if used == named:
        return settings, texts.get(named)
    judging = config.judging.model_copy(update={"template": used})
    return replace(settings, config=config.model_copy(update={"judging": judging})), texts.get(used)


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


def _generators(versions: Sequence[Version]) -> list[str]:
    columns = {
        "prompts": "generator",
        "candidates": "model",
        "judgements": "judge",
        "meta_judgements": "judge",
    }
    found: set[str] = set()
    # a name in a card is a claim about who wrote the text, so it comes from the rows, not from the settings
    for kind, column in columns.items():
        found |= set(_distinct((v for v in versions if kind_of(v.name) == kind), column))
    return sorted(found)


def _sample(versions: Mapping[str, Version], number: int) -> dict[str, str] | None:
    pairs, judgements = (
        versions.get(str(DatasetName("pairs", number))),
        versions.get(str(DatasetName("judgements", number))),
    )
    if pairs is None or pairs.n_rows == 0:
        return None
    pair = pairs.table().slice(0, 1).to_pylist()[0]
    sample = {role: pair[role][-1]["content"] for role in ("prompt", "chosen", "rejected") if pair[role]}
    sample |= {name: f"{pair[name]:.3g}" for name in ("chosen_score", "rejected_score")}
    if judgements is not None:
        table = judgements.table(["candidate_id", "judgement"])
        # -1 where the chosen candidate has no judgement, as in imported pairs
        place = table["candidate_id"].index(pair["chosen_id"]).as_py()
        if place >= 0:
            sample["judgement"] = table["judgement"][place].as_py()
    return sample
