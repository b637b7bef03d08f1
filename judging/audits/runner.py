"""Runs the audit pack against a run and reports pass, warn or fail for each check (`selfreward audit RUN`).

    report = run_audits(Run("runs/demo"))
    print(format_report(report)); sys.exit(report.exit_code)

A verdict is `pass`, `warn` or `fail` (the figure breaks the threshold, at the audit's severity), `skipped` with a reason
(a dataset is absent, there is nothing to measure), or `error`: the audit itself broke, which says nothing about the
data. Offending rows are counted in full; up to `MAX_SAVED` per check are saved as the dataset `audits`. `gate`
runs the same for one iteration, and refuses on a failure: training and publishing call it first.

An audit is one .sql file (judging/audits/pack.py); judging/audits/tables.py provides tables beside the datasets.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import GateError, StoreError, UsageError
from selfreward.judging.audits.data import AuditData, Unavailable
from selfreward.judging.audits.pack import Audit, choose, load_pack
from selfreward.judging.audits.tables import PROVIDED
from selfreward.sql.queries import read_stream
from selfreward.sql.views import VERSIONS, OpenRun
from selfreward.steps.status import outdated_lines, outdated_versions
from selfreward.store.run import Counts, Recipe, Run, is_model, text_input
from selfreward.tables import AuditVerdict, DatasetName, OffendingRow, Severity, to_table
from selfreward.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "judging.audit"
VERSION = 2
DATASET = "audits"
MAX_SAVED = 1000
"""Offending rows of one check that are saved; the report always gives the full number."""
_TOLD = ("name", "group", "verdict", "figure_text", "at_most", "threshold", "n_rows", "reason", "figure_of",
         "protects_from")  # fmt: skip
_CUT = 2000
"""Characters of one text in a saved row."""


@dataclass(frozen=True)
class AuditResult:
    """The result of one audit. `n_rows` offending rows, of which `rows` are kept; figure None: nothing to measure."""

    name: str
    group: str
    severity: Severity
    verdict: AuditVerdict
    figure: float | None
    threshold: float
    at_most: bool
    n_rows: int
    figure_of: str
    """The meaning of the figure."""
    protects_from: str
    iteration: int | None = None
    """The iteration with the worst figure."""
    detail: str = ""
    reason: str = ""
    """Of `skipped` and `error`."""
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def figure_text(self) -> str:
        """The figure as text: four digits, but a count in full; empty if there is no figure."""
        if self.figure is None:
            return ""
        return f"{self.figure:.0f}" if self.figure.is_integer() else f"{self.figure:.4g}"


@dataclass(frozen=True)
class AuditReport:
    """All results, with notes on checks that looked at a sample."""

    results: list[AuditResult]
    notes: list[str]
    seconds: float
    saved: str = ""
    """`audits@<version>`, if offending rows were saved."""
    not_saved: str = ""
    """Why the rows could not be saved, if saving was requested."""

    def by_verdict(self, verdict: str) -> list[AuditResult]:
        """Results with this verdict."""
        return [result for result in self.results if result.verdict == verdict]

    @property
    def exit_code(self) -> int:
        """1 if anything failed, could not be checked because an audit broke, or could not be saved."""
        return 1 if self.by_verdict("fail") or self.by_verdict("error") or self.not_saved else 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the rows are in the dataset `audits`."""
        results = [{k: v for k, v in vars(result).items() if k != "rows"} for result in self.results]
        return {"results": results, "notes": self.notes, "seconds": self.seconds, "saved": self.saved,
                "not_saved": self.not_saved}  # fmt: skip


def run_audits(
    run: Run,
    *,
    checks: Iterable[str] | None = None,
    pack: Path | None = None,
    thresholds: Mapping[str, float] | None = None,
    iteration: int | None = None,
    against: Iterable[Path] = (),
    save: bool = True,
    threads: int | None = None,
    memory_limit: str | None = None,
) -> AuditReport:
    """Run the pack (or `checks`: names or groups) and save the offending rows as the dataset `audits`.

    `iteration` k looks at the datasets up to iteration k, and judges figures and rows of iteration k alone (and what
    belongs to none). `against` names evaluation files beside the configured ones. UsageError for an unknown check or
    threshold, InputError for a broken header; an audit that breaks is a result, not an exception.
    """
    started = time.monotonic()
    audits = choose(load_pack(pack), checks)
    limits = thresholds_of(audits, thresholds or {})
    with OpenRun(run.path, threads, memory_limit) as opened:
        _restrict(opened, iteration)
        data = AuditData(opened, PROVIDED, iteration, tuple(against))
        results = [_run_one(data, audit, limits[audit.name]) for audit in audits]
        # Older rows beside newer inputs break checks that neither would break alone.
        outdated = outdated_versions({name: run.current(name) for name in run.names()})
        seen = {name: why for name, why in outdated.items() if is_model(name) or name in opened.names()}
        notes = [*outdated_lines(seen), *data.notes]
        report = AuditReport(results, notes, time.monotonic() - started)
        if not save:
            return report
        try:
            return replace(report, saved=_save(run, opened, audits, limits, report, tuple(against)))
        except StoreError as error:
            # The run was audited all the same: its result must not be lost with the rows.
            return replace(report, not_saved=str(error))


def gate(run: Run, iteration: int, stage: str, thresholds: Mapping[str, float] | None = None) -> AuditReport:
    """Raise GateError before `stage` (training, publishing) if the data fails; it names the checks.

    Iteration 0 is what precedes the first: ift and eft.
    """
    report = run_audits(run, iteration=iteration, save=False, thresholds=thresholds)
    # A broken audit refuses, too: passing it over would switch off the protection.
    bad = [*report.by_verdict("fail"), *report.by_verdict("error")]
    if bad:
        told = "; ".join(_sentence(result) for result in bad[:5])
        more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise GateError(
            f"{stage}, iteration {iteration}: {len(bad)} of {len(report.results)} audits do not pass: {told}{more}. "
            f"`selfreward audit {run.path}` saves the rows; gate_thresholds in the configuration sets another limit for one audit, --no-gate goes on "
            "regardless, and both are recorded"
        )
    return report


def _sentence(result: AuditResult) -> str:
    if result.verdict == "error":
        return f"{result.name} broke ({result.reason})"
    limit = f"{'at most' if result.at_most else 'at least'} {result.threshold:g}"
    return f"{result.name} ({result.figure_of}: {result.figure_text or '-'}, expected {limit})"


def thresholds_of(
    audits: Sequence[Audit], given: Mapping[str, float], where: str = "--threshold "
) -> dict[str, float]:
    """The limit of each audit; UsageError for an unknown name."""
    limits = {audit.name: audit.threshold for audit in audits}
    for name, value in given.items():
        if name not in limits:
            raise UsageError(f"{where}{name}={value:g}: no such audit; known: {', '.join(limits)}")
        limits[name] = float(value)
    return limits


def _restrict(opened: OpenRun, iteration: int | None) -> None:
    """Hide later iterations, which may be leftovers of an earlier configuration, and earlier audits."""

    def wanted(name: str) -> bool:
        number = DatasetName.parse(name).iteration
        return name != DATASET and (iteration is None or number is None or number <= iteration)

    opened.keep_only(wanted)


# -- one audit -----------------------------------------------------------------------------------------------


def _run_one(data: AuditData, audit: Audit, threshold: float) -> AuditResult:
    """Run one audit; an exception becomes its verdict, so that the others still run."""
    started = time.monotonic()
    try:
        found = _measure(data, audit, threshold)
    except Unavailable as reason:
        found = {"verdict": "skipped", "reason": str(reason)}
    except Exception as error:
        # The boundary: audits, rows and chat templates come from others and may raise anything.
        found = {"verdict": "error", "reason": one_line(error) or type(error).__name__}
    base = {
        "figure": None,
        "n_rows": 0,
        "name": audit.name,
        "group": audit.group,
        "severity": audit.severity,
        "threshold": threshold,
        "at_most": audit.at_most,
        "figure_of": audit.figure,
        "protects_from": audit.protects_from,
    }
    return AuditResult(**{**base, **found, "seconds": time.monotonic() - started})


def _measure(data: AuditData, audit: Audit, threshold: float) -> dict[str, Any]:
    absent = [name for name in audit.needs if not data.has(name)]
    datasets = [name for name in (*audit.needs, *audit.uses) if name not in (*PROVIDED, VERSIONS)]
    if absent or (datasets and not any(map(data.has, datasets))):
        raise Unavailable(f"the run has no {', '.join(absent or audit.uses)}")
    data.need((*audit.needs, *audit.uses))
    *figure, rows = _statements(data, audit)
    if not figure:
        n_rows, kept = _offending(data, audit, rows, threshold)
        verdict = audit.severity if audit.breaks(n_rows, threshold) else "pass"
        return {"figure": float(n_rows), "n_rows": n_rows, "rows": kept, "verdict": verdict}
    if re.search(r"\boffending\b", figure[0]):
        # Computed once: the figure and the rows would otherwise run the same query twice.
        values = _values(audit, rows, threshold)
        data.connection.execute(f"CREATE OR REPLACE TEMP TABLE offending AS {rows}", values)
        rows = "SELECT * FROM offending"
    worst = _worst(audit, _rows(data, audit, figure[0], threshold))
    value = float(worst["figure"])
    found = {"figure": value, "iteration": worst.get("iteration"), "detail": str(worst.get("detail") or "")}
    if not audit.breaks(value, threshold):
        return {**found, "verdict": "pass"}
    n_rows, kept = _offending(data, audit, rows, threshold)
    return {**found, "verdict": audit.severity, "n_rows": n_rows, "rows": kept}


def _worst(audit: Audit, figures: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the figure that is furthest on the wrong side."""
    figures = [row for row in figures if row["figure"] is not None]
    if not figures:
        raise Unavailable("there is nothing to measure")
    if any(math.isnan(float(row["figure"])) for row in figures):
        raise ValueError("the figure is NaN, which is no value; the query should give NULL")
    # The row's text breaks ties, so that the same data always names the same iteration.
    return (max if audit.at_most else min)(figures, key=lambda row: (float(row["figure"]), str(row)))


def _statements(data: AuditData, audit: Audit) -> list[str]:
    statements = [s for s in data.connection.extract_statements(audit.sql) if str(s.query).strip(" \n;")]
    if len(statements) not in (1, 2):
        raise UsageError(f"expected one or two statements, found {len(statements)}")
    return [data.run.check_reads(str(statement.query)) for statement in statements]


def _query(data: AuditData, audit: Audit, statement: str, threshold: float) -> Any:
    """A statement as a relation, `$names` filled in, without the rows of other iterations."""
    values = _values(audit, statement, threshold)
    relation = data.connection.sql(statement, params=values) if values else data.connection.sql(statement)
    if data.iteration is not None and "iteration" in relation.columns:
        return relation.filter(f"iteration IS NULL OR iteration = {data.iteration}")
    return relation


def _values(audit: Audit, statement: str, threshold: float) -> dict[str, Any]:
    """The parameters that a statement uses."""
    values: dict[str, Any] = {"threshold": threshold, **audit.settings}
    # DuckDB refuses parameters that do not occur in the statement.
    return {name: value for name, value in values.items() if re.search(rf"\${name}\b", statement)}


def _rows(data: AuditData, audit: Audit, statement: str, threshold: float) -> list[dict[str, Any]]:
    relation = _query(data, audit, statement, threshold)
    if "figure" not in relation.columns:
        raise UsageError(f"the first of two statements has no column `figure`, it has {relation.columns}")
    rows: list[dict[str, Any]] = read_stream(relation).read_all().to_pylist()
    return rows


def _offending(
    data: AuditData, audit: Audit, statement: str, threshold: float
) -> tuple[int, list[dict[str, Any]]]:
    """How many rows there are, and the first of them."""
    n_rows = 0
    rows: list[dict[str, Any]] = []
    # Streamed: a check may fail on every row of the run, and only the first are kept.
    for batch in read_stream(_query(data, audit, statement, threshold)):
        rows += batch.slice(0, max(0, MAX_SAVED - n_rows)).to_pylist()
        n_rows += batch.num_rows
    return n_rows, rows


# -- saving --------------------------------------------------------------------------------------------------


def _save(
    run: Run,
    opened: OpenRun,
    audits: Sequence[Audit],
    limits: Mapping[str, float],
    report: AuditReport,
    against: Sequence[Path],
) -> str:
    """Publish the offending rows; the audited versions, the audits' texts and the thresholds are the key."""
    from selfreward.store.run import file_input

    inputs = {}
    for name in opened.names():
        version = run.current(name)
        inputs[name] = {"name": name, "version": version.version, "content_sha256": version.content_sha256}
    inputs |= {f"audit {audit.name}": text_input(audit.path.name, audit.sql) for audit in audits}
    inputs |= {f"against {path.name}": file_input(path) for path in against}
    verdicts = {result.name: result.verdict for result in report.results}
    recipe = Recipe(DATASET, f"{NAME} {VERSION}", inputs, {"thresholds": dict(limits), "verdicts": verdicts})
    found = run.find(recipe)
    if found is not None:
        run.make_current(found)
        return f"{DATASET}@{found.version}"
    table = _table(report)
    n_found = sum(result.n_rows for result in report.results)
    over = {"over_max_saved": n_found - table.num_rows} if n_found > table.num_rows else {}
    # Not part of the key: all checks, including those without offending rows.
    told = [{key: getattr(result, key) for key in _TOLD} for result in report.results]
    notes = {"verdicts": verdicts, "results": told}
    version = run.publish_table(recipe, table, Counts(n_found, table.num_rows, over, notes))
    return f"{DATASET}@{version.version}"


def _table(report: AuditReport) -> pa.Table:
    rows = (_offending_row(result, row) for result in report.results for row in result.rows)
    return to_table(rows, OffendingRow)


def _offending_row(result: AuditResult, row: Mapping[str, object]) -> OffendingRow:
    """`dataset`, `iteration` and `id` as columns, the rest as JSON; long texts are cut, visibly."""
    rest = {key: value for key, value in row.items() if key not in ("dataset", "iteration", "id")}
    iteration = row.get("iteration")
    if not isinstance(iteration, int):
        rest |= {} if iteration is None else {"iteration": iteration}
        iteration = None
    return OffendingRow(
        audit=result.name,
        severity=result.severity,
        verdict=result.verdict,
        figure=result.figure,
        threshold=result.threshold,
        dataset=_text(row.get("dataset")),
        iteration=iteration,
        id=_text(row.get("id")),
        detail=json.dumps({k: _shortened(v) for k, v in rest.items()}, ensure_ascii=False, default=str),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _CUT:
        return f"{value[:_CUT]}… ({len(value):,} characters)"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
