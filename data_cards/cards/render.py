"""Cards: a dataset's README and a model's, from facts and templates.

The front matter comes from libraries (`front_matter`), the text from Jinja templates that show
every value from the data as plain text (`markdown`). The same versions give the same card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from selfreward.config.files import dump_config
from selfreward.data_cards.cards.audits import Audits
from selfreward.data_cards.cards.base_models import generating_licences
from selfreward.data_cards.cards.facts import DatasetFacts, RunFacts
from selfreward.data_cards.cards.front_matter import dataset_front_matter, model_front_matter, model_results
from selfreward.data_cards.cards.licences import source_licence
from selfreward.data_cards.cards.markdown import render
from selfreward.data_cards.cards.redact import public_config
from selfreward.data_cards.cards.report_copy import write_report
from selfreward.data_cards.cards.weaknesses import weaknesses
from selfreward.data_cards.tree.layout import CARD, config_name
from selfreward.data_cards.tree.parquet import DatasetFiles
from selfreward.notes import TrainingNotes
from selfreward.store.version import Version
from selfreward.summary.facts import Judge, WinRate
from selfreward.tables import DatasetName

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ModelLink:
    """One of the run's models on the Hub."""

    name: str
    repo: str
    url: str


@dataclass(frozen=True)
class TrainingData:
    """A published configuration that a model was trained on."""

    repo: str
    url: str
    config: str
    revision: str


def write_dataset_card(
    folder: Path,
    repo: str,
    tag: str,
    licence: str | None,
    facts: RunFacts,
    datasets: Sequence[tuple[DatasetFiles, pa.Schema]],
    audits: Audits,
    models: Sequence[ModelLink] = (),
) -> dict[str, Path]:
    """Write README.md, the plots and the copy of the report below `folder`; path in the repository -> file."""
    title = repo.rpartition("/")[2]
    config = public_config(facts.config)
    report = write_report(folder, title, repo, facts)
    text = dataset_front_matter(title, licence, facts, datasets) + render(
        "dataset.md.jinja",
        title=title,
        repo=repo,
        repo_literal=Markup(f'"{repo}"'),
        tag=tag,
        licence=licence,
        facts=facts,
        config=config,
        config_text=dump_config(config) if config else "",
        splits={data.name: _splits(data) for data, _ in datasets},
        report=report,
        audits=audits,
        weaknesses=weaknesses(facts),
        models=models,
        seeds_licence=_seeds_licence(facts.origin.sources),
        generating_licences=generating_licences(facts.config, facts.generators),
        **_example([config_name(data.name) for data, _ in datasets if data.n_rows]),
    )
    (folder / CARD).write_text(text, encoding="utf-8")
    return {path: folder / path for path in [CARD, *report.files]}


def write_model_card(
    path: Path,
    repo: str,
    licence: str | None,
    licence_note: str,
    model: DatasetFacts,
    version: Version,
    facts: RunFacts,
    base: str | None,
    dataset_repo: str,
    revision: str,
    training_data: Sequence[TrainingData],
) -> None:
    """Write a model's README; `revision` is the dataset repository's commit that holds its results."""
    import yaml

    title = repo.rpartition("/")[2]
    judge = next((judge for judge in facts.summary.judges if judge.model == model.name), None)
    rate = next((rate for rate in facts.summary.win_rates if rate.model == model.name), None)
    # the figures of an outdated measurement are of other weights than the ones published
    stale = facts.summary.outdated
    results = model_results(
        dataset_repo,
        revision,
        judge if judge and judge.dataset not in stale else None,
        rate if rate and rate.dataset not in stale else None,
    )
    text = model_front_matter(title, licence, base, dataset_repo, results, facts) + render(
        "model.md.jinja",
        title=title,
        repo_literal=Markup(f'"{repo}"'),
        model=model,
        started_from=base or _not_on_the_hub(facts),
        parameters=yaml.safe_dump(version.manifest["params"], sort_keys=True, allow_unicode=True),
        training_data=training_data,
        effect=version.notes(TrainingNotes).effect,
        judge_template=facts.template,
        judge=judge,
        alpaca=rate.figures if rate else None,
        outdated=facts.summary.outdated.get(model.name),
        weaknesses=weaknesses(_facts_of(facts, version, judge, rate)),
        dataset_repo=dataset_repo,
        licence=licence,
        licence_note=licence_note,
    )
    path.write_text(text, encoding="utf-8")


def _facts_of(facts: RunFacts, version: Version, judge: Judge | None, rate: WinRate | None) -> RunFacts:
    """The part of a run about one model: the pairs it was trained on, and its measurements."""
    inputs = {entry["name"] for entry in version.manifest["inputs"].values()}
    mine = {version.name} | {measured.dataset for measured in (judge, rate) if measured}
    summary = replace(
        facts.summary,
        outdated={name: why for name, why in facts.summary.outdated.items() if name in mine},
        iterations=[i for i in facts.summary.iterations if str(DatasetName("pairs", i.number)) in inputs],
        judges=[judge] if judge else [],
        win_rates=[rate] if rate else [],
    )
    return replace(facts, summary=summary)


def _not_on_the_hub(facts: RunFacts) -> str:
    config = public_config(facts.config)
    return f"{config.model}, which is not on the Hub" if config else "an unknown model"


def _splits(data: DatasetFiles) -> Markup:
    if not data.n_rows:
        return Markup("none: no rows, so there is nothing to load")
    parts = [f"`{split}` {sum(entry.rows for entry in entries):,}" for split, entries in data.splits.items()]
    return Markup(", ".join(parts))


def _seeds_licence(sources: Sequence[str]) -> str:
    known = sorted({licence for source in sources if (licence := source_licence(source))})
    return f", under {', '.join(known)}" if known else ""


def _example(configs: Sequence[str]) -> dict[str, Markup]:
    """The configuration shown in the loading example."""
    pairs = [config for config in configs if config.endswith("_pairs")]
    config = pairs[-1] if pairs else next(iter(configs), "pairs")
    return {"example": Markup(config.rpartition("_")[2]), "example_literal": Markup(f'"{config}"')}
