"""The report of a run: each step's result, the judge's quality, the effect of training, and what to try next.

A small model judges badly, and the report shows it: the share of judgements without a score before and after SFT, the
score histogram, the pair funnel. Versions made from earlier versions of their inputs are marked OUTDATED
everywhere. `RUN/report.html` is the same as a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfreward.errors import UsageError
from selfreward.exchange.importing import is_imported
from selfreward.notes import JsonObject
from selfreward.statistics import Figure
from selfreward.steps.pipeline import StepResult
from selfreward.store.run import Run, is_model
from selfreward.summary import PAGE as PAGE
from selfreward.summary.advice import advice
from selfreward.summary.facts import (
    Iteration,
    Judge,
    RuleRate,
    Summary,
    Trained,
    WinRate,
    find_damaged,
    summarize,
)
from selfreward.summary.funnel import FunnelStep, format_funnel
from selfreward.text import format_histogram, format_table, printable


@dataclass(frozen=True)
class Report:
    """A run's figures and, after `run`, the outcome of each step."""

    path: Path
    steps: Sequence[StepResult]
    seconds: float | None
    """None if nothing was run."""
    summary: Summary
    next: Sequence[str]


def report_run(path: Path, steps: Sequence[StepResult] | None = None, seconds: float | None = None) -> Report:
    """The report of a run as it is now; `steps` and `seconds` as `run` had them. Raises UsageError for an empty run."""
    run = Run(path)
    summary = summarize(run, damaged=find_damaged(run))
    if not summary.versions and not summary.damaged:
        raise UsageError(
            f"{path}: nothing has been built in this run yet; build it with `selfreward run CONFIG --run {path}`"
        )
    return Report(path, _steps(summary) if steps is None else steps, seconds, summary, _next(run, summary))


def as_plain(report: Report) -> JsonObject:
    """For `--json`."""
    summary = report.summary
    return {
        "run": str(report.path),
        "seconds": None if report.seconds is None else round(report.seconds, 1),
        "built": sum(step.status == "built" for step in report.steps),
        "steps": [
            {"name": s.name, "status": s.status, "in": s.n_in, "out": s.n_out, "dropped": s.dropped,
             "seconds": round(s.seconds, 1), "version": s.version} for s in report.steps
        ],
        "outdated": dict(summary.outdated),
        "damaged": dict(summary.damaged),
        "eft": _funnel_values(summary, summary.eft),
        "judges": [_judge_values(judge) for judge in summary.judges],
        "iterations": [
            {"iteration": i.number, **_funnel_values(summary, i.funnel), "histogram": i.histogram,
             "judgements_by_status": i.statuses} for i in summary.iterations
        ],
        "training": [{"model": trained.model, **trained.notes.stored()} for trained in summary.trained],
        "alpaca": [{**(row.notes.alpaca or {}), "failed": row.notes.failures, "model_name": row.model} for row in summary.win_rates],
        "spent": summary.spent,
        "next": report.next,
    }  # fmt: skip


def _steps(summary: Summary) -> list[StepResult]:
    """The existing versions, if nothing was run."""
    return [
        StepResult(
            name=name,
            status="outdated" if name in summary.outdated else "imported" if is_imported(version) else "current",
            version=version.version,
            n_in=version.manifest["counts"]["in"],
            n_out=version.n_rows,
            dropped=version.manifest["counts"]["dropped"],
            seconds=0.0,
        )
        for name, version in summary.versions.items()
    ]  # fmt: skip


def _funnel_values(summary: Summary, steps: Sequence[FunnelStep]) -> JsonObject:
    rows = [{"what": s.what, "n": s.n, "lost": s.lost, "paper": s.paper} for s in steps if s.n is not None]
    return {"funnel": rows, "funnel_text": format_funnel(steps, summary.outdated)}


def _judge_values(judge: Judge) -> JsonObject:
    return {
        "model": judge.model,
        "judgements": judge.judgements,
        "scored": judge.scored,
        "scored_share": judge.scored / judge.judgements if judge.judgements else None,
        "by_status": judge.statuses,
        "failed": judge.notes.failures,
        "histogram": judge.histogram,
        "agreement": judge.notes.agreement,
    }


def _next(run: Run, summary: Summary) -> list[str]:
    lines = []
    if summary.outdated and (run.path / "config.yaml").is_file():
        lines.append(f"selfreward run {run.path / 'config.yaml'} --run {run.path}")
    # Only commands whose data exists: each must work when pasted.
    pairs = summary.versions.get("iter1/pairs")
    if pairs:
        lines.append(
            f'selfreward sql {run.path} "SELECT chosen_score, rejected_score, chosen FROM pairs LIMIT 3"'
        )
    lines.append(f"selfreward audit {run.path}")
    if pairs and pairs.n_rows:
        lines.append(f"selfreward lineage {run.path} {pairs.table(['pair_id'])['pair_id'][0].as_py()}")
    lines.append(f"selfreward card {run.path}")
    lines.append(f"selfreward publish {run.path} --repo USER/NAME --dry-run published")
    return lines


# -- text ---------------------------------------------------------------------------------------------------


def format_report(report: Report) -> str:
    """The report for a terminal."""
    summary = report.summary
    parts = [_format_steps(report.steps)]
    if summary.damaged:
        lines = [f"  {name}: {why}" for name, why in summary.damaged.items()]
        parts.append("\n".join(["DAMAGED, and left out of everything below:", *lines]))
    if summary.outdated:
        lines = [f"  {name}: {why}" for name, why in summary.outdated.items()]
        parts.append("\n".join(["OUTDATED, until the run is completed:", *lines]))
    if summary.eft:
        text = format_funnel(summary.eft, summary.outdated)
        parts.append(f"EFT: from ranked replies to a judge's training rows\n{text}")
    if summary.judges:
        parts.append(_format_judges(summary, summary.judges))
    parts += [_format_iteration(summary, iteration) for iteration in summary.iterations]
    if sentences := advice(summary):
        parts.append("Is there a signal?\n" + "\n".join(f"  {sentence}" for sentence in sentences))
    if summary.trained:
        parts.append(_format_training(summary, summary.trained))
    if summary.win_rates:
        parts.append(_format_win_rates(summary, summary.win_rates))
    if summary.rule_rates:
        parts.append(_format_rule_rates(summary, summary.rule_rates))
    if summary.spent:
        parts.append(f"Spent on paid servers in this run folder: {summary.spent:.4g}")
    parts.append("Next\n" + "\n".join(f"  {line}" for line in report.next))
    took = "" if report.seconds is None else f"{report.seconds:.0f} s in all; "
    parts.append(f"{took}run folder {report.path}, page {report.path / PAGE}")
    # Names and reasons come from files and servers: no control character may reach the terminal.
    return printable("\n\n".join(parts))


def format_unchanged(path: Path, steps: Sequence[StepResult], seconds: float) -> str:
    """The line for a run in which every step is up to date."""
    return (
        f"nothing to do: all {len(steps)} steps of {path} are up to date ({seconds:.1f} s); "
        f"its figures: selfreward report {path}"
    )


def _format_steps(steps: Sequence[StepResult]) -> str:
    rows = [
        (s.name, s.status, s.n_in, s.n_out, ", ".join(f"{reason} {n}" for reason, n in s.dropped.items()),
         s.seconds) for s in steps
    ]  # fmt: skip
    return format_table(("step", "", "rows in", "rows out", "dropped", "seconds"), rows)


def _marked(summary: Summary, model: str, dataset: str) -> str:
    return f"{model} OUTDATED" if dataset in summary.outdated else model


def _format_judges(summary: Summary, judges: Iterable[Judge]) -> str:
    rows = []
    for judge in judges:
        unscored = ", ".join(f"{s} {n}" for s, n in judge.statuses.items() if s != "ok")
        share = f"{100 * judge.scored / judge.judgements:.1f}" if judge.judgements else "-"
        label = _marked(summary, judge.model, judge.dataset)
        rows.append((label, judge.judgements, judge.scored, share, _accuracy(judge), unscored))
    first = next(iter(judges))
    agreement = "agreement with humans %" if first.of_people else "agreement with ranks %"
    head = ("judge", "judgements", "scored", "scored %", agreement, "unscored")
    lines = [f"How the models judge ({first.where}, never trained on)", format_table(head, rows)]
    if {"M0", "M1"} <= {judge.model for judge in judges}:
        lines.append("M0 is the model before any training, M1 after SFT on IFT and EFT.")
    elif not any(is_model(judge.model) for judge in judges):
        lines.append("No model was trained in this run; this is the judge that gave the scores.")
    # In the table a failing server looks like a bad judge; its first error shows the difference.
    lines += [f"{judge.model}: {judge.notes.failures}" for judge in judges if judge.notes.failures]
    for judge in judges:
        if judge.histogram:
            title = f"Scores given by {_marked(summary, judge.model, judge.dataset)}:"
            lines += [title, format_histogram(judge.histogram)]
    return "\n".join(lines)


def _accuracy(judge: Judge) -> str:
    """Agreement with humans on pairs, ties half: percent, 95 % interval, number of pairs."""
    figure = judge.accuracy
    if figure is None:
        return "-"
    return f"{figure.shown(digits=0)} of {figure.n}"


def _format_iteration(summary: Summary, iteration: Iteration) -> str:
    lines = [f"Iteration {iteration.number}", format_funnel(iteration.funnel, summary.outdated)]
    if iteration.histogram:
        lines += ["Scores of its judgements:", format_histogram(iteration.histogram)]
    if iteration.agreement:
        lines += ["How its judges agree (pairs of answers to one prompt):", _format_agreement(iteration)]
    return "\n".join(lines)


def _format_agreement(iteration: Iteration) -> str:
    rows = []
    for found in iteration.agreement:
        sides = (f"{found[f'{side}_judge']}, {found[f'{side}_template']}" for side in ("first", "second"))
        n, same, reversed_ = (found[name] or 0 for name in ("comparisons", "same_order", "reversed"))
        rows.append(
            (
                *sides,
                found["both_scored"],
                f"{found['mean_difference']:+.2f}",
                n,
                same,
                reversed_,
                n - same - reversed_,
            )
        )
    head = (
        "judge, template",
        "other",
        "both scored",
        "difference",
        "compared",
        "same order",
        "reversed",
        "tied",
    )
    return format_table(head, rows)


def _format_training(summary: Summary, models: Iterable[Trained]) -> str:
    rows = []
    for trained in models:
        notes, metrics = trained.notes, trained.notes.metrics or {}
        changes = (notes.change(answer) for answer in ("completion", "chosen", "rejected"))
        losses = [metrics[k] for k in ("loss_first", "loss_last_tenth") if metrics.get(k) is not None]
        rows.append(
            (
                _marked(summary, trained.model, trained.model),
                *("-" if change is None else f"{change:+.4f}" for change in changes),
                (notes.effect or {}).get("rows"),
                metrics.get("steps"),
                " to ".join(f"{loss:.3f}" for loss in losses),
            )
        )
    head = ("model", "answer", "chosen", "rejected", "rows", "steps", "loss")
    title = "Mean change of an answer's log-probability (nats), start model to saved weights as the engine loads them"
    return f"{title}\n{format_table(head, rows)}"


def _format_win_rates(summary: Summary, rates: Sequence[WinRate]) -> str:
    lines = []
    for rate in rates:
        row, ends = rate.figures, (rate.figures.win_rate_ci_low, rate.figures.win_rate_ci_high)
        interval = "-" if None in ends else "{:.1f} to {:.1f}".format(*ends)
        lost = ", ".join(f"{reason} {n}" for reason, n in (row.n_lost or {}).items())
        lines.append(
            (
                _marked(summary, rate.model, rate.dataset), row.win_rate, interval,
                f"{row.n_annotated} of {row.n_total}" + (f" ({lost})" if lost else ""),
                row.avg_length, row.n_disagree,
            )
        )  # fmt: skip
    head = ("model", "win rate %", "95 % interval", "judged", "characters", "order-dependent")
    first = rates[0].figures
    failed = "".join(f"{rate.model}: {rate.notes.failures}\n" for rate in rates if rate.notes.failures)
    return (
        f"alpaca-eval against {first.reference} answers, judged by {first.annotator}\n{format_table(head, lines)}\n{failed}"
        "With a judge and prompts of this size the figure shows that the harness works, not how good the model is."
    )


def _format_rule_rates(summary: Summary, rates: Sequence[RuleRate]) -> str:
    rows = [
        (
            _marked(summary, rate.model, rate.dataset), rate.kept.shown() if rate.kept else "-",
            rate.gain.shown(sign="+") if rate.gain else "-", rate.kept.n if rate.kept else 0, rate.notes.mean_chars,
            None if rate.notes.distinct_words is None else 100 * rate.notes.distinct_words, rate.notes.role_leakage,
            ", ".join(f"{reason} {n}" for reason, n in (rate.notes.unchecked or {}).items()),
        )
        for rate in rates
    ]  # fmt: skip
    head = (
        "model",
        "kept %",
        "against M1, points",
        "answers",
        "characters",
        "different words %",
        "like a judgement",
        "no verdict",
    )
    lines = ["Answers that keep the rule of their prompt, checked by a program (prompts never trained on)"]
    lines.append(format_table(head, rows))
    kinds = sorted({kind for rate in rates for kind in rate.notes.by_rule or {}})
    by_kind = [
        (kind, *("{} of {}".format(*(rate.notes.by_rule or {}).get(kind, (0, 0))) for rate in rates))
        for kind in kinds
    ]
    lines.append(format_table(("rule", *(rate.model for rate in rates)), by_kind))
    if rates[-1].gain:
        lines.append(_gain_in_words(rates[-1].model, rates[-1].gain))
    return "\n".join(lines)


def _gain_in_words(model: str, gain: Figure) -> str:
    """What the interval of the gain allows to say."""
    if gain.low is not None and gain.low > 0:
        return f"{model} keeps rules more often than M1: the 95 % interval of the difference is above 0."
    if gain.high is not None and gain.high < 0:
        return f"{model} keeps rules LESS often than M1: the 95 % interval of the difference is below 0."
    return f"No difference between {model} and M1 is shown: the 95 % interval covers 0."
