"""The end of a run: what each step did, how good the judge is, what the training changed, what to try next.

Everything here is read from manifests. A small model judges badly, and the report shows it: the share of judgements
without a score before and after SFT, the score histogram, the pair funnel. `RUN/report.html` is the same as a page.
"""

from __future__ import annotations

import html
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfreward.funnel import FunnelStep, eft_funnel, format_funnel, funnel
from selfreward.steps.generation import failed_answers
from selfreward.steps.pipeline import Step
from selfreward.store import durable
from selfreward.store.run import Run
from selfreward.text import format_histogram, format_table, printable


def report_run(path: Path, steps: list[Step], seconds: float) -> dict[str, Any]:
    """The report as plain values (`--json`); also writes `report.html`."""
    run = Run(path)
    report = {
        "run": str(path),
        "seconds": round(seconds, 1),
        "built": sum(step.status == "built" for step in steps),
        "steps": [
            {"name": s.name, "status": s.status, "in": s.n_in, "out": s.n_out, "dropped": s.dropped,
             "seconds": round(s.seconds, 1), "version": s.version} for s in steps
        ],
        "eft": _funnel_values(eft_funnel(run)),
        "judges": _judges(run),
        "iterations": _iterations(run),
        "training": _training(run),
        "alpaca": _alpaca(run),
    }  # fmt: skip
    report["next"] = _next(run, report)
    durable.replace_file(path / "report.html", _page(format_report(report)).encode())
    return report


def format_report(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    if report["built"] == 0:
        return (
            f"nothing to do: all {len(report['steps'])} steps of {report['run']} are up to date "
            f"({report['seconds']:.1f} s)"
        )
    parts = [_format_steps(report["steps"])]
    if report["eft"]["funnel"]:
        parts.append("EFT: from ranked replies to a judge's training rows\n" + report["eft"]["funnel_text"])
    if report["judges"]:
        parts.append(_format_judges(report["judges"]))
    for iteration in report["iterations"]:
        parts.append(_format_iteration(iteration))
    if report["training"]:
        parts.append(_format_training(report["training"]))
    if report["alpaca"]:
        parts.append(_format_alpaca(report["alpaca"]))
    parts.append("Next\n" + "\n".join(f"  {line}" for line in report["next"]))
    parts.append(
        f"{report['seconds']:.0f} s in all; run folder {report['run']}, page {report['run']}/report.html"
    )
    return printable("\n\n".join(parts))


# -- what the manifests say ----------------------------------------------------------------------------------


def _notes(run: Run, name: str) -> dict[str, Any] | None:
    if not run.has(name):
        return None
    notes: dict[str, Any] = run.current(name).manifest["counts"]["notes"]
    return notes


def _model_numbers(run: Run) -> list[int]:
    return sorted(
        int(name.split("/")[0].removeprefix("iter")) for name in run.names() if name.endswith("/judge_eval")
    )


def _judges(run: Run) -> list[dict[str, Any]]:
    found = []
    for number in _model_numbers(run):
        notes = _notes(run, f"iter{number}/judge_eval") or {}
        statuses = notes.get("by_status", {})
        total = sum(statuses.values())
        found.append({
            "model": f"M{number}",
            "judgements": total,
            "scored": statuses.get("ok", 0),
            "scored_share": statuses.get("ok", 0) / total if total else None,
            "by_status": statuses,
            "failed": failed_answers(notes),
            "histogram": notes.get("histogram", []),
            "agreement": notes.get("agreement"),
        })  # fmt: skip
    return found


def _iterations(run: Run) -> list[dict[str, Any]]:
    found = []
    for name in run.names():
        if name.endswith("/scores"):
            number = int(name.split("/")[0].removeprefix("iter"))
            notes = _notes(run, name) or {}
            found.append({
                "iteration": number,
                **_funnel_values(funnel(run, number)),
                "histogram": notes.get("histogram", []),
                "judgements_by_status": notes.get("judgements_by_status", {}),
            })  # fmt: skip
    return found


def _funnel_values(steps: list[FunnelStep]) -> dict[str, Any]:
    return {"funnel": [asdict(step) for step in steps], "funnel_text": format_funnel(steps)}


def _training(run: Run) -> list[dict[str, Any]]:
    models = [name for name in run.names() if name.startswith("M") or name == "SFT"]
    return [{"model": name, **(_notes(run, name) or {})} for name in models]


def _alpaca(run: Run) -> list[dict[str, Any]]:
    found = []
    for name in run.names():
        if name.endswith("/annotations"):
            number = name.split("/")[0].removeprefix("iter")
            found.append(
                {
                    "model": f"M{number}",
                    **(notes := _notes(run, name) or {}).get("alpaca", {}),
                    "failed": failed_answers(notes),
                    "model_name": f"M{number}",
                }
            )
    return found


def _next(run: Run, report: dict[str, Any]) -> list[str]:
    path = report["run"]
    lines = []
    if run.has("iter1/pairs"):
        lines.append(
            f'selfreward sql {path} "SELECT chosen_score, rejected_score, chosen FROM pairs LIMIT 3"'
        )
    lines.append(f"selfreward audit {path}")
    if run.has("iter1/pairs"):
        pair_ids = run.current("iter1/pairs").table(["pair_id"])["pair_id"]
        if len(pair_ids):
            lines.append(f"selfreward lineage {path} {pair_ids[0].as_py()}")
    lines.append(f"selfreward card {path}")
    lines.append(f"selfreward publish {path} --repo USER/NAME --dry-run published")
    return lines


# -- for people ----------------------------------------------------------------------------------------------


def _format_steps(steps: list[dict[str, Any]]) -> str:
    rows = [
        (s["name"], s["status"], s["in"], s["out"],
         ", ".join(f"{reason} {n}" for reason, n in s["dropped"].items()), s["seconds"]) for s in steps
    ]  # fmt: skip
    return format_table(("step", "", "rows in", "rows out", "dropped", "seconds"), rows)


def _format_judges(judges: list[dict[str, Any]]) -> str:
    rows = []
    for judge in judges:
        unscored = ", ".join(f"{s} {n}" for s, n in judge["by_status"].items() if s != "ok")
        accuracy = _pairwise(judge["agreement"])
        rows.append(
            (
                judge["model"],
                judge["judgements"],
                judge["scored"],
                _percent(judge["scored_share"]),
                accuracy,
                unscored,
            )
        )
    head = ("judge", "judgements", "scored", "scored %", "pairs as people %", "unscored")
    note = "M0 is the model before any training, M1 after SFT on IFT and EFT."
    histograms = [
        f"Scores given by {judge['model']}:\n{format_histogram(judge['histogram'])}"
        for judge in judges
        if judge["histogram"]
    ]
    return "\n".join(
        [
            "How the models judge (EFT eval split, never trained on)",
            format_table(head, rows),
            note,
            *[f"{judge['model']}: {judge['failed']}" for judge in judges if judge["failed"]],
            *histograms,
        ]
    )


def _pairwise(agreement: dict[str, Any] | None) -> str:
    """Pairs of replies ordered as people order them, ties half: percent, 95 % interval, number of pairs."""
    figure = ((agreement or {}).get("judge") or {}).get("pairwise_ties_half") or {}
    if figure.get("value") is None:
        return "-"
    value, low, high = (f"{100 * figure[name]:.0f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}] of {figure['n']}"


def _format_iteration(iteration: dict[str, Any]) -> str:
    return "\n".join([
        f"Iteration {iteration['iteration']}", iteration["funnel_text"],
        "Scores of its judgements:", format_histogram(iteration["histogram"]),
    ])  # fmt: skip


def _format_training(training: list[dict[str, Any]]) -> str:
    rows = []
    for model in training:
        effect = model.get("effect") or {}
        changes = [(effect.get(side) or {}).get("change") for side in ("completion", "chosen", "rejected")]
        metrics = model.get("metrics") or {}
        loss = " to ".join(
            f"{metrics[k]:.3f}" for k in ("loss_first", "loss_last_tenth") if metrics.get(k) is not None
        )
        rows.append((model["model"], *map(_signed, changes), effect.get("rows"), metrics.get("steps"), loss))
    head = ("model", "answer", "chosen", "rejected", "rows", "steps", "loss")
    title = "Mean change of an answer's log-probability (nats), start model to saved weights as the engine loads them"
    return f"{title}\n{format_table(head, rows)}"


def _format_alpaca(rows: list[dict[str, Any]]) -> str:
    lines = [
        (r["model_name"], r.get("win_rate"), _range(r), f"{r.get('n_annotated')} of {r.get('n_total')}",
         r.get("avg_length"), r.get("n_disagree")) for r in rows
    ]  # fmt: skip
    head = ("model", "win rate %", "95 % interval", "judged", "characters", "order-dependent")
    judge = rows[0].get("annotator")
    failed = "".join(f"{r['model_name']}: {r['failed']}\n" for r in rows if r["failed"])
    return (
        f"alpaca-eval against {rows[0].get('reference')} answers, judged by {judge}\n{format_table(head, lines)}\n{failed}"
        "With a judge and prompts of this size the figure shows that the harness works, not how good the model is."
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _range(row: dict[str, Any]) -> str:
    low, high = row.get("win_rate_ci_low"), row.get("win_rate_ci_high")
    return "-" if low is None or high is None else f"{low:.1f} to {high:.1f}"


def _page(text: str) -> str:
    return (
        "<!doctype html><meta charset='utf-8'><title>selfreward run</title>"
        "<style>body{font:14px/1.45 ui-monospace,monospace;margin:2rem;white-space:pre}</style>"
        f"<body>{html.escape(text)}</body>\n"
    )
