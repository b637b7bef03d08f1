"""The audit results of a run as its card and its repository show them, and the gate before anything is sent.

The audits themselves are SQL in `judging/`; this is the only place here that knows how they are called.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from selfreward.errors import GateError
from selfreward.store import Run


@dataclass(frozen=True)
class AuditLine:
    """One check on one dataset."""

    check: str
    dataset: str
    verdict: str
    """`pass`, `warn`, `fail`, `error`, or `skipped`."""
    figure: str
    limit: str
    found: int | None
    """Offending rows."""
    protects_from: str


@dataclass(frozen=True)
class Audits:
    """All checks, and whether they were a gate."""

    lines: list[AuditLine]
    gated: bool

    @property
    def summary(self) -> str:
        """One sentence for the card."""
        if not self.lines:
            return "This run was not audited."
        verdicts = [line.verdict for line in self.lines]
        counted = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(sorted(verdicts)))
        gate = (
            ""
            if self.gated
            else " The gate was switched off (--no-gate), so a failed audit did not stop this."
        )
        return f"{len(verdicts)} checks: {counted}.{gate}"

    def to_json(self) -> str:
        """For `selfreward/audits.json`."""
        body = {"gated": self.gated, "summary": self.summary, "audits": [asdict(line) for line in self.lines]}
        return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def audit_run(run: Run, gated: bool = True) -> Audits:
    """Run every audit; GateError, before anything is sent, where one fails and `gated`."""
    audits = Audits(_lines(run), gated)
    failed = [line for line in audits.lines if line.verdict in ("fail", "error")]
    if failed and gated:
        names = ", ".join(f"{line.check} ({line.dataset})" for line in failed)
        raise GateError(
            f"{run.path}: {len(failed)} audit(s) failed: {names}; nothing was sent. `selfreward audit {run.path}` shows "
            "the rows; --no-gate publishes all the same, and the card says so"
        )
    return audits


def _lines(run: Run) -> list[AuditLine]:
    return []
