"""The audit results of a run for its card and repository, and the gate before anything is sent.

The audits themselves are SQL in `judging/audits/`; only this module calls them.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from selfreward.data_cards.cards.redact import public_text
from selfreward.errors import GateError
from selfreward.steps.status import outdated_lines, outdated_versions
from selfreward.store.run import Run

if TYPE_CHECKING:
    from selfreward.judging.audits.runner import AuditResult

AUDITS_DATASET = "audits"
"""Offending rows that `selfreward audit` saves in the run: not part of the data, so published only with `--only`."""
_WORST_FIRST = ("error", "fail", "warn", "pass", "skipped")


@dataclass(frozen=True)
class AuditLine:
    """One check; `figure` and `limit` formatted for display."""

    check: str
    group: str
    verdict: str
    """`pass`, `warn`, `fail`, `skipped`, or `error` if the audit itself failed to run."""
    figure: str
    limit: str
    found: int
    """Offending rows."""
    where: str
    """The worst iteration, or why it was skipped."""
    figure_of: str
    protects_from: str


@dataclass(frozen=True)
class Audits:
    """All checks, and whether failures blocked publishing."""

    lines: list[AuditLine]
    notes: list[str]
    """The sample that was checked, if not all rows were."""
    overruled: bool
    """Whether failed checks were ignored (`--no-gate`)."""

    @property
    def summary(self) -> str:
        """One sentence for the card."""
        verdicts = Counter(line.verdict for line in self.lines)
        counted = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in _WORST_FIRST if verdicts[verdict])
        gate = (
            " The gate was off (--no-gate): failed checks did not block publishing." if self.overruled else ""
        )
        return f"{len(self.lines)} checks: {counted}.{gate}"

    def to_json(self) -> str:
        """For `selfreward/audits.json`."""
        body = {"overruled": self.overruled, "summary": self.summary, "notes": self.notes}
        return (
            json.dumps(
                {**body, "audits": [asdict(line) for line in self.lines]}, indent=2, ensure_ascii=False
            )
            + "\n"
        )


def audit_run(run: Run, gated: bool = True) -> Audits:
    """Run every audit. Raises GateError if `gated` and one fails or cannot run."""
    from selfreward.judging.audits.runner import run_audits
    from selfreward.summary.settings import settings_of

    # the thresholds of the run's own gate: a run that passed training must not fail here by other limits
    config = settings_of(run.path, {name: run.current(name) for name in run.names()}).config
    report = run_audits(run, save=False, thresholds=config.gate_thresholds if config else None)
    bad = [*report.by_verdict("fail"), *report.by_verdict("error")]
    if bad and gated:
        names = ", ".join(f"{result.name} ({result.reason or result.verdict})" for result in bad)
        raise GateError(
            f"{run.path}: {len(bad)} of {len(report.results)} audits failed: {names}; nothing was sent. {_cause(run)}"
            f"`selfreward audit {run.path}` shows the rows; --no-gate publishes anyway, and the card says so"
        )
    # problems first: readers of a card rarely scroll past the rows that pass
    lines = sorted(map(_line, report.results), key=lambda line: _WORST_FIRST.index(line.verdict))
    return Audits(lines, [public_text(note) for note in report.notes], bool(bad))


def _cause(run: Run) -> str:
    """Outdated versions, as a likely cause: rows next to newer inputs fail for that reason alone."""
    lines = outdated_lines(outdated_versions({name: run.current(name) for name in run.names()}))
    return f"{'; '.join(lines)}: complete the run first. " if lines else ""


def _line(result: AuditResult) -> AuditLine:
    iteration = "" if result.iteration is None else f"iter{result.iteration}"
    return AuditLine(
        check=result.name,
        group=result.group,
        verdict=result.verdict,
        figure=result.figure_text,
        limit=f"{'at most' if result.at_most else 'at least'} {result.threshold:g}",
        found=result.n_rows,
        where=public_text(result.reason or "; ".join(filter(None, (iteration, result.detail)))),
        figure_of=result.figure_of,
        protects_from=result.protects_from,
    )
