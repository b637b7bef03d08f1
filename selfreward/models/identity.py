"""What identifies a model folder: it changes when any byte that can change an answer changes (weights, tokenizer, chat
template, configuration, generation configuration), and is the same on any machine and under any path."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from selfreward.errors import InputError, StoreError
from selfreward.models.folder import NOT_THE_MODEL, check_model_folder
from selfreward.models.known import cache_dir
from selfreward.store import durable
from selfreward.store.version import file_sha256

UNSETTLED_NS = 2_000_000_000
"""Files younger than this are not remembered: a write within the clock's grain leaves size and times equal."""


@dataclass(frozen=True)
class ModelIdentity:
    """`sha256` is over all files."""

    sha256: str
    bytes: int
    files: dict[str, str]
    """Name -> sha256."""


def model_identity(folder: Path | str) -> ModelIdentity:
    """What identifies a model folder.

    Hashed once (about 1 GB/s) and remembered in the user's cache by each file's path, size and times; the
    next call takes a millisecond. Raises InputError for what `check_model_folder` refuses.
    """
    folder = Path(folder).absolute()
    check_model_folder(folder)
    stamps = _stamps(folder)
    memory = cache_dir() / "identities" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:32]}.json"
    if (known := _recall(memory, stamps)) is not None:
        return known
    files = {name: file_sha256(folder / name) for name in stamps}
    if _stamps(folder) != stamps:
        raise InputError(
            f"{folder}: the model's files changed while they were read; wait until they are written"
        )
    text = json.dumps(files, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    size = sum(stamp[0] for stamp in stamps.values())
    identity = ModelIdentity(hashlib.sha256(text.encode()).hexdigest(), size, files)
    _remember(memory, folder, stamps, identity)
    return identity


def _stamps(folder: Path) -> dict[str, list[int]]:
    """Name -> [size, mtime_ns, ctime_ns] of each file that counts. The change time cannot be set back, so a
    file replaced with its old size and modification time is seen too."""
    candidates = [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]
    names = sorted(str(path.relative_to(folder)) for path in candidates if path.is_file())
    stats = {name: (folder / name).stat() for name in names if name not in NOT_THE_MODEL and name[0] != "."}
    return {name: [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in stats.items()}


def _recall(memory: Path, stamps: dict[str, list[int]]) -> ModelIdentity | None:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        return ModelIdentity(**known["identity"]) if known["stamps"] == stamps else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never seen, or a memory that cannot be read: hash again


def _remember(memory: Path, folder: Path, stamps: dict[str, list[int]], identity: ModelIdentity) -> None:
    newest = max(time_ns for stamp in stamps.values() for time_ns in stamp[1:])
    if time.time_ns() - newest < UNSETTLED_NS:
        return
    known = {"folder": str(folder), "stamps": stamps, "identity": asdict(identity)}
    try:
        durable.make_folder(memory.parent)
        durable.replace_file(memory, json.dumps(known).encode())
    except StoreError:
        pass  # a cache that cannot be written costs time, not correctness
