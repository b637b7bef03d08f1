"""What a run gives out, as operations to interrupt: its cards, an exported file, a DuckDB file of everything."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from driver import Operation, readers_view
from published_run import make_published_run

from selfreward.data_cards.cards.audits import Audits
from selfreward.data_cards.cards.report_copy import ReportCopy
from selfreward.data_cards.preview import write_cards
from selfreward.exchange.exporting import export_file
from selfreward.sql.output import run_query
from selfreward.store.run import Run


def output_operations(folder: Path) -> list[Operation]:
    """Each replaces what an earlier call with other settings wrote; readers find one or the other, file by file."""
    sample = folder / "published"
    make_published_run(sample)
    return [
        _output("cards", sample, _card, "mit", "cc-by-4.0"),
        _output("export", sample, _export, "plain", "sharegpt"),
        _output("sql --out everything.duckdb", sample, _audit_file, "SELECT 1", "SELECT 2"),
    ]


def _output(name: str, sample: Path, write: Callable[[Path, str], object], old: str, new: str) -> Operation:
    def prepare(folder: Path) -> None:
        shutil.copytree(sample, folder, symlinks=True)
        (folder / "out").mkdir()
        write(folder, old)

    return Operation(name, prepare, partial(write, setting=new), _look)


def _look(folder: Path) -> dict[str, Any]:
    """The run's datasets and every file beside them that can be seen; a DuckDB file by its rows, as its bytes vary."""
    files = [p for p in (folder / "out").rglob("*") if p.is_file() and not p.name.startswith(".")]
    return {**readers_view(folder), **{f"out/{p.name}": _content(p) for p in files}}


def _content(path: Path) -> str:
    if path.suffix != ".duckdb":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        return str(connection.execute("FROM result").fetchall() + connection.execute("FROM pairs").fetchall())


def _card(folder: Path, setting: str) -> None:
    """Without audits and with blank pictures, which would take most of the time and are made out of sight."""
    with (
        mock.patch("selfreward.data_cards.preview.audit_run", lambda run, gated: Audits([], [], gated)),
        mock.patch("selfreward.data_cards.cards.render.write_report", partial(_blank_report, setting)),
    ):
        write_cards(folder, "ann/x", setting, folder / "out" / "cards")


def _blank_report(setting: str, folder: Path, title: str, repo: str, facts: Any) -> ReportCopy:
    (folder / "images").mkdir()
    (folder / "images" / "scores.svg").write_bytes(setting.encode())
    iterations = {iteration.number: {"images/scores.svg": "scores"} for iteration in facts.summary.iterations}
    return ReportCopy(["images/scores.svg"], {}, iterations, [])


def _export(folder: Path, setting: str) -> None:
    export_file(Run(folder), "iter1/pairs", folder / "out" / "pairs.jsonl", setting)


def _audit_file(folder: Path, setting: str) -> None:
    run_query(folder, setting, out=folder / "out" / "everything.duckdb")
