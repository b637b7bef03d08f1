"""An audit report as text: one line per check, then a sentence for each that did not pass, worst first."""

from __future__ import annotations

from typing import Any

from selfreward.judging.audits.runner import AuditReport, AuditResult
from selfreward.text import format_table, printable, shorten

_WHERE = 48
_ORDER = ("error", "fail", "warn", "pass", "skipped")


def format_report(report: AuditReport, all_checks: bool = True) -> str:
    """The table (check, verdict, figure, threshold, rows), then a sentence for each check that did not pass.

    `all_checks` False leaves out what passed and what was skipped; the last line counts them.
    """
    shown = [r for r in report.results if all_checks or r.verdict not in ("pass", "skipped")]
    head = ("check", "group", "verdict", "figure", "threshold", "rows", "where")
    lines = [format_table(head, [_row(result) for result in shown])] if shown else []
    told = [
        _sentence(result) for verdict in ("error", "fail", "warn") for result in report.by_verdict(verdict)
    ]
    lines += ["", *told] if told else []
    counts = [f"{len(report.by_verdict(v))} {v}" for v in _ORDER if report.by_verdict(v)]
    lines += ["", *report.notes, f"{', '.join(counts) or 'no audits'}; {report.seconds:.1f} s"]
    if report.saved and any(result.rows for result in report.results):
        worst = sorted(report.results, key=lambda result: _ORDER.index(result.verdict))
        first = next(result.name for result in worst if result.rows)
        lines += [
            f"offending rows: {report.saved}; selfreward sql RUN \"FROM audits WHERE audit = '{first}'\""
        ]
    return printable("\n".join(lines))


def _row(result: AuditResult) -> tuple[Any, ...]:
    limit = f"{'≤' if result.at_most else '≥'} {result.threshold:g}"
    where = f"iter{result.iteration}" if result.iteration is not None else ""
    where = "; ".join(filter(None, (where, result.detail))) if result.verdict != "skipped" else result.reason
    return (
        result.name,
        result.group,
        result.verdict,
        result.figure_text,
        limit,
        result.n_rows,
        shorten(where, _WHERE),
    )


def _sentence(result: AuditResult) -> str:
    if result.verdict == "error":
        return f"{result.name}: the audit itself broke: {result.reason}"
    limit = f"expected {'at most' if result.at_most else 'at least'} {result.threshold:g}"
    saved = (
        f"; {len(result.rows):,} of {result.n_rows:,} rows kept" if len(result.rows) < result.n_rows else ""
    )
    return f"{result.name} ({result.verdict}): {result.figure_of} is {result.figure_text}, {limit}{saved}. It protects from {result.protects_from}."
