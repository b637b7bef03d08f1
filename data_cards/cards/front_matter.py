"""The YAML header of a card, written by libraries and read back before it is used.

`load_dataset` and the viewer rely on a dataset card's YAML: the configurations, their files, features and counts.
`huggingface_hub` and `datasets` write it from objects; it is parsed again, and refused if the result differs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selfreward.data_cards.cards.facts import RunFacts
from selfreward.data_cards.tree.layout import config_name
from selfreward.data_cards.tree.parquet import DatasetFiles
from selfreward.errors import StoreError
from selfreward.notes import JsonObject
from selfreward.summary.facts import Judge, WinRate
from selfreward.tables import kind_of

if TYPE_CHECKING:
    import pyarrow as pa

_TAGS = ["self-rewarding", "llm-as-a-judge", "rlhf", "dpo", "preference", "synthetic", "trl", "selfreward"]
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))  # fmt: skip


def dataset_front_matter(
    title: str, licence: str | None, facts: RunFacts, datasets: Sequence[tuple[DatasetFiles, pa.Schema]]
) -> str:
    """The YAML of the dataset card, with its fences; `licence` is None for a preview."""
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    card = DatasetCardData(
        pretty_name=title,
        license=licence,
        language=_languages(facts) or None,
        task_categories=["text-generation"],
        size_categories=[_size(facts.rows)],
        annotations_creators=["machine-generated"],
        tags=_TAGS,
    )
    # `load_dataset` fails on a configuration without rows; its files are published all the same
    filled = [(data, schema) for data, schema in datasets if data.n_rows]
    if filled:
        MetadataConfigs(_configs([data for data, _ in filled])).to_dataset_card_data(card)
        DatasetInfosDict(_infos(filled)).to_dataset_card_data(card)
    text = _fenced(card)
    _require_same(text, filled)
    return text


def _configs(datasets: Sequence[DatasetFiles]) -> dict[str, JsonObject]:
    """Configuration -> its files."""
    configs: dict[str, JsonObject] = {
        config_name(data.name): {
            "data_files": [
                {
                    "split": split,
                    "path": [entry.path for entry in entries] if len(entries) > 1 else entries[0].path,
                }
                for split, entries in data.splits.items()
            ]
        }
        for data in datasets
    }
    # the viewer opens with the newest pairs; by length first, so that iter10 sorts after iter9
    pairs = sorted(
        (data.name for data in datasets if kind_of(data.name) == "pairs"), key=lambda n: (len(n), n)
    )
    first = config_name(pairs[-1]) if pairs else next(iter(configs))
    if first != "default":
        configs[first]["default"] = True
    return configs


def _infos(datasets: Sequence[tuple[DatasetFiles, pa.Schema]]) -> JsonObject:
    from datasets import DatasetInfo, Features, SplitDict, SplitInfo

    infos = {}
    for data, schema in datasets:
        splits = SplitDict()
        for split, entries in data.splits.items():
            splits.add(SplitInfo(split, data.arrow_bytes[split], sum(entry.rows for entry in entries)))
        infos[config_name(data.name)] = DatasetInfo(
            features=Features.from_arrow_schema(schema.remove_metadata()),
            splits=splits,
            config_name=config_name(data.name),
            download_size=sum(entry.bytes for entry in data.files),
            dataset_size=sum(data.arrow_bytes.values()),
        )
    return infos


def _require_same(text: str, datasets: Sequence[tuple[DatasetFiles, pa.Schema]]) -> None:
    from datasets import Features
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    read = DatasetCard(text).data
    infos = DatasetInfosDict.from_dataset_card_data(read)
    configs = MetadataConfigs.from_dataset_card_data(read)
    # YAML has no form for some Arrow types; a silent change would only show when a user loads the data
    for data, schema in datasets:
        name = config_name(data.name)
        if name not in configs or infos[name].features != Features.from_arrow_schema(
            schema.remove_metadata()
        ):
            raise StoreError(
                f"{data.name}: its columns change when written to a card's YAML and read back; rename the "
                "extra columns that were imported, or leave the dataset out with --only"
            )


def model_front_matter(
    title: str,
    licence: str | None,
    base_model: str | None,
    dataset_repo: str,
    results: Sequence[Any],
    facts: RunFacts,
) -> str:
    """The YAML of a model card, with its fences; `results` are `EvalResult`s."""
    from huggingface_hub import ModelCard, ModelCardData

    card = ModelCardData(
        license=licence,
        base_model=base_model,
        datasets=[dataset_repo],
        language=_languages(facts) or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        model_name=title,
        eval_results=list(results) or None,
        # the tag `synthetic` is about data, not about a model
        tags=[tag for tag in _TAGS if tag != "synthetic"],
    )
    text = _fenced(card)
    read = ModelCard(text).data
    if read.eval_results != (list(results) or None) or read.license != licence:
        raise StoreError(f"{title}: the model card's YAML does not read back the same; this is a bug")
    return text


def model_results(dataset_repo: str, revision: str, judge: Judge | None, rate: WinRate | None) -> list[Any]:
    """The run's measurements of a model as the Hub's `model-index`, in percent as in the paper."""
    from huggingface_hub import EvalResult

    def result(dataset: str, kind: str, name: str, value: float) -> Any:
        config = config_name(dataset)
        return EvalResult(
            task_type="text-generation",
            dataset_type=dataset_repo,
            dataset_name=f"{dataset_repo} ({config})",
            dataset_config=config,
            dataset_split="train",
            dataset_revision=revision,
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 2),
        )

    results = []
    if judge and judge.accuracy and judge.accuracy.value is not None:
        name = f"agreement with {'humans' if judge.of_people else 'ranks of a program'}, ties half, %"
        results.append(result(judge.dataset, "pairwise_accuracy", name, 100 * judge.accuracy.value))
    if judge and judge.judgements:
        name = "judgements with a readable score, %"
        results.append(result(judge.dataset, "scored_share", name, 100 * judge.scored / judge.judgements))
    if rate and rate.figures.win_rate is not None:
        name = f"win rate against {rate.figures.reference}, judged by {rate.figures.annotator}, %"
        results.append(result(rate.dataset, "win_rate", name, rate.figures.win_rate))
    if rate and rate.figures.length_controlled_winrate is not None:
        name = "length-controlled win rate, %"
        results.append(result(rate.dataset, "lc_win_rate", name, rate.figures.length_controlled_winrate))
    return results


def _languages(facts: RunFacts) -> list[str]:
    """The seeds' languages as the Hub accepts them, two or three letters: `pt` for `pt-BR`."""
    # `lang` in a user's table can be anything, and one invalid code makes the Hub reject the whole commit
    codes = {lang.partition("-")[0].lower() for lang in facts.origin.languages}
    return sorted(code for code in codes if re.fullmatch("[a-z]{2,3}", code))


def _fenced(card: Any) -> str:
    return f"---\n{card.to_yaml(line_break=chr(10))}\n---\n\n"


def _size(rows: int) -> str:
    return next((name for limit, name in _SIZES if rows < limit), "1B<n<10B")
