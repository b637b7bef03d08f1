"""`selfreward doctor`: checks whether this machine meets the requirements of a run; changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

TESTED = {
    "torch": "2.13.0",
    "transformers": "5.19.0",
    "trl": "1.16.0",
    "datasets": "5.2.0",
    "pyarrow": "26.0.1",
    "pandas": "3.1.1",
    "duckdb": "2.0.0",
    "alpaca-eval": "0.6.6",
    "peft": "0.21.2",
    "accelerate": "1.15.0",
    "openai": "3.54.0",
    "scikit-learn": "1.9.1",
    "setuptools": "78.1.1",
}
"""Versions tested together; constraints.txt pins the same ones (a test compares them)."""
_MIN_FREE_GIB = 5


@dataclass(frozen=True)
class Finding:
    """`verdict`: `ok`, or `untested` or `bad` with what to do."""

    check: str
    found: str
    verdict: str


def examine() -> list[Finding]:
    """All findings, in the order they are printed."""
    from selfreward.models.known import cache_dir, pulled

    findings = [
        Finding("python", sys.version.split()[0], "ok" if sys.version_info >= (3, 11) else "bad: needs 3.11")
    ]
    findings += [_library(name, tested) for name, tested in TESTED.items()]
    cache = cache_dir()
    free_gib = shutil.disk_usage(_existing(cache)).free / 2**30
    room = (
        "ok"
        if free_gib >= _MIN_FREE_GIB
        else f"bad: under {_MIN_FREE_GIB} GiB; make room or set SELFREWARD_CACHE"
    )
    findings.append(Finding("free disk (cache)", f"{free_gib:.1f} GiB", room))
    findings.append(Finding("cores", str(os.cpu_count()), "ok"))
    findings.append(_device())
    for name, folder in pulled().items():
        found, verdict = (
            ("pulled", "ok") if folder else ("not pulled", f"get it: selfreward models pull {name}")
        )
        findings.append(Finding(f"model {name}", found, verdict))
    return findings


def _library(name: str, tested: str) -> Finding:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "missing", "bad: pip install -c constraints.txt selfreward")
    # torch adds its build to the version: 2.13.0+cpu counts as the tested 2.13.0.
    same = found.split("+")[0] == tested
    return Finding(name, found, "ok" if same else f"untested (tested with {tested})")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("device", torch.cuda.get_device_name(0), "ok")
    return Finding("device", f"CPU ({torch.get_num_threads()} threads)", "ok")


def _existing(path: Path) -> Path:
    # the cache may not exist yet, and its disk is that of the nearest folder that does
    while not path.exists():
        path = path.parent
    return path
