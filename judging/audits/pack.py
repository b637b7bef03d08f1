"""An audit is one .sql file: a header with its purpose, and a query that returns the offending rows.

    -- name: unscored_share
    -- group: judge
    -- protects from: rewards that rest on few judgements
    -- severity: warn
    -- threshold: at most 0.2
    -- figure: share of judgements without a score, worst iteration
    -- needs: judgements
    SELECT iteration, avg((score IS NULL)::INT) AS figure FROM judgements GROUP BY iteration;
    SELECT iteration, judgement_id AS id, status FROM judgements WHERE score IS NULL

One statement: its rows are the offending ones and the figure is their number (threshold: at most 0, unless stated). Two
statements: the first gives the `figure` (a row for each `iteration`, or one; NULL if there is nothing to measure; a
column `detail` is shown beside it), and the second, run only if a figure breaks the threshold, the offending rows.
If the first statement names the table `offending`, that is the second one's rows, computed before.
`$threshold`, and every `setting: name = value`, may be used in both. A line that starts with `--   ` continues the
one above; a line of `--` alone ends the header, and what follows is for readers.

`needs` lists the datasets and provided tables (judging/audits/tables.py) without which the audit is skipped; `uses` those
that count as empty if absent. A column `iteration` lets a gate look at one iteration alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from selfreward.errors import InputError, UsageError
from selfreward.tables import Severity

BUILT_IN = Path(__file__).parent / "checks"
GROUPS = ("contract", "judge", "data", "training")

_REQUIRED = ("name", "protects from", "severity", "needs")
_OPTIONAL = ("group", "threshold", "figure", "uses", "setting")
_THRESHOLD = re.compile(r"(at most|at least)\s+(-?\d+(?:\.\d+)?)$")
_SETTING = re.compile(r"([a-z][a-z0-9_]*)\s*=\s*(.+)$")
_NAME = re.compile(r"[a-z][a-z0-9_]*$")


@dataclass(frozen=True)
class Audit:
    """One audit, as its file describes it."""

    name: str
    group: str
    protects_from: str
    severity: Severity
    threshold: float
    at_most: bool
    """Whether a figure above the threshold offends; else one below it does."""
    figure: str
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    settings: dict[str, float | str] = field(default_factory=dict)
    sql: str = ""
    path: Path = Path()

    def breaks(self, figure: float, threshold: float) -> bool:
        """Whether a figure is on the wrong side of the threshold."""
        return figure > threshold if self.at_most else figure < threshold


def load_pack(folder: Path | None = None) -> list[Audit]:
    """The built-in audits in the order of `GROUPS`, then those of the user's folder.

    InputError in one sentence for a broken header; a name may occur once.
    """
    audits = [read_audit(path) for path in sorted(BUILT_IN.glob("*.sql"))]
    audits.sort(key=lambda audit: GROUPS.index(audit.group))
    if folder is not None:
        paths = sorted(folder.glob("*.sql")) if folder.is_dir() else []
        if not paths:
            raise UsageError(f"--pack {folder}: expected a folder with .sql files, found none")
        audits += [read_audit(path) for path in paths]
    seen: dict[str, Path] = {}
    for audit in audits:
        if audit.name in seen:
            raise InputError(
                f"{audit.path}: the name {audit.name!r} is already that of {seen[audit.name].name}"
            )
        seen[audit.name] = audit.path
    return audits


def choose(audits: list[Audit], checks: Iterable[str] | None) -> list[Audit]:
    """The audits with these names, or of these groups; all without `checks`. UsageError names the nearest."""
    if checks is None:
        return audits
    chosen = []
    for check in checks:
        found = [audit for audit in audits if check in (audit.name, audit.group)]
        if not found:
            known = [audit.name for audit in audits]
            near = difflib.get_close_matches(check, [*known, *GROUPS], n=3, cutoff=0.5)
            raise UsageError(
                f"--check {check!r}: no such audit; nearest: {', '.join(near) or ', '.join(known)}"
            )
        chosen += [audit for audit in found if audit not in chosen]
    return chosen


def read_audit(path: Path) -> Audit:
    """One file. InputError names the file, the fault in the header, and what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as an audit: {error}") from error
    header = _header(path, text)
    missing = [key for key in _REQUIRED if not header.get(key)]
    # An audit with `uses` alone is valid: it is skipped only if all of them are absent.
    if header.get("uses") and missing == ["needs"]:
        missing = []
    if missing:
        raise InputError(
            f"{path}: the header has no {missing[0]!r}; expected lines such as `-- {missing[0]}: …`"
        )
    if not _NAME.match(header["name"]):
        raise InputError(
            f"{path}: the header's name is {header['name']!r}, expected lower case, digits and _"
        )
    severity = header["severity"]
    if severity not in ("fail", "warn"):
        raise InputError(f"{path}: the header's severity is {severity!r}, expected fail or warn")
    group = header.get("group", "own")
    # A user's audit may name a group of its own.
    if path.parent == BUILT_IN and group not in GROUPS:
        raise InputError(f"{path}: the header's group is {group!r}, expected {', '.join(GROUPS)}")
    threshold, at_most = _threshold(path, header.get("threshold", "at most 0"))
    return Audit(
        name=header["name"],
        group=group,
        protects_from=header["protects from"],
        severity="fail" if severity == "fail" else "warn",
        threshold=threshold,
        at_most=at_most,
        figure=header.get("figure", "offending rows"),
        needs=_names(header.get("needs", "")),
        uses=_names(header.get("uses", "")),
        settings=_settings(path, header.get("setting", "")),
        sql=text,
        path=path,
    )


def _header(path: Path, text: str) -> dict[str, str]:
    """The comment lines at the top, as key and value."""
    header: dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if not line.startswith("--") or line.strip() == "--":
            break
        content = line[2:]
        if content.startswith("   ") and key:
            header[key] += f" {content.strip()}"
            continue
        key, colon, value = (part.strip() for part in content.partition(":"))
        if not colon or key not in (*_REQUIRED, *_OPTIONAL):
            near = difflib.get_close_matches(key, (*_REQUIRED, *_OPTIONAL), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join((*_REQUIRED, *_OPTIONAL))}"
            raise InputError(f"{path}: the header line {line!r} is none of an audit's; {hint}")
        header[key] = f"{header[key]}\n{value}" if key == "setting" and key in header else value
    return header


def _threshold(path: Path, text: str) -> tuple[float, bool]:
    match = _THRESHOLD.match(text)
    if match is None:
        raise InputError(
            f"{path}: the header's threshold is {text!r}, expected `at most 0.2` or `at least 0.2`"
        )
    return float(match[2]), match[1] == "at most"


def _settings(path: Path, text: str) -> dict[str, float | str]:
    settings: dict[str, float | str] = {}
    for part in text.splitlines():
        match = _SETTING.match(part)
        if match is None:
            raise InputError(f"{path}: the header's setting is {part!r}, expected `name = value`")
        try:
            settings[match[1]] = float(match[2])
        except ValueError:
            settings[match[1]] = match[2]
    return settings


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
