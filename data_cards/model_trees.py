"""The tree of a model repository: the version's own files, its manifest and its card.

Files are published as stored, so that `pull` restores the version with its manifest. Files that
run code when loaded (pickles) are not published.
"""

from __future__ import annotations

from pathlib import Path

from selfreward.data_cards.cards.base_models import hub_name
from selfreward.data_cards.cards.facts import RunFacts
from selfreward.data_cards.cards.render import TrainingData, write_model_card
from selfreward.data_cards.tree.layout import CARD, MODEL_MANIFEST, config_name, model_repo
from selfreward.data_cards.tree.trees import Tree
from selfreward.errors import InputError
from selfreward.models.folder import PICKLES
from selfreward.store.run import is_model
from selfreward.store.version import MANIFEST, Version

_OWN_CARD = "selfreward/README.version.md"


def published_path(name: str) -> str:
    """The path of a version's file in the repository."""
    return _OWN_CARD if name == CARD else name


def refuse_unsafe_weights(version: Version) -> None:
    """Raise InputError for a version with files that run code when loaded, or without safetensors."""
    names = [entry["name"] for entry in version.manifest["files"]]
    pickles = [name for name in names if Path(name).suffix in PICKLES]
    if pickles or not any(name.endswith(".safetensors") for name in names):
        found = (
            f"holds {pickles[0]}, which runs code when loaded" if pickles else "holds no .safetensors file"
        )
        raise InputError(
            f"{version.folder}: {found}; publish the datasets without --models, or save the model as safetensors"
        )


def model_tree(
    version: Version,
    facts: RunFacts,
    licence: str,
    dataset_repo: str,
    dataset_url: str,
    revision: str,
    folder: Path,
) -> Tree:
    """The repository of one model, its files verified; its card is written into `folder`."""
    version.verify()
    write_card_of(version, facts, licence, dataset_repo, dataset_url, revision, folder / CARD)
    files = {
        published_path(entry["name"]): version.folder / entry["name"] for entry in version.manifest["files"]
    }
    return Tree.of({**files, MODEL_MANIFEST: version.folder / MANIFEST, CARD: folder / CARD})


def write_card_of(
    version: Version,
    facts: RunFacts,
    licence: str | None,
    dataset_repo: str,
    dataset_url: str,
    revision: str,
    path: Path,
) -> None:
    """Write the card of one of the run's models; `licence` is None for a preview."""
    write_model_card(
        path,
        model_repo(dataset_repo, version.name),
        licence,
        _licence_note(facts),
        next(model for model in facts.models if model.name == version.name),
        version,
        facts,
        _base(version, facts, dataset_repo),
        dataset_repo,
        revision,
        _training_data(version, facts, dataset_repo, dataset_url, revision),
    )


def _licence_note(facts: RunFacts) -> str:
    return f", inherited from {hub_name(facts.config.model) or 'the base model'}" if facts.config else ""


def _base(version: Version, facts: RunFacts, repo: str) -> str | None:
    """The model it was trained from: another model of this run, or M0."""
    published = {model.name for model in facts.models}
    for entry in version.manifest["inputs"].values():
        parent = entry["name"].partition("@")[0]
        if is_model(parent) and parent in published:
            return model_repo(repo, parent)
    return hub_name(facts.config.model) if facts.config else None


def _training_data(
    version: Version, facts: RunFacts, repo: str, url: str, revision: str
) -> list[TrainingData]:
    """Its input datasets whose published version is the one it was trained on."""
    published = {dataset.name: dataset.content_sha256 for dataset in facts.datasets}
    # by content, not by name: the current `ift` may be newer than the one the model was trained on
    return [
        TrainingData(
            repo,
            f"{url}/tree/{revision}/data/{config_name(entry['name'])}",
            config_name(entry["name"]),
            revision,
        )
        for _, entry in sorted(version.manifest["inputs"].items())
        if published.get(entry["name"]) == entry["content_sha256"]
    ]
