"""The control experiment with its controls: does the rule-keeping rate rise with the judge's scores, and only then?

    python benchmarks/control.py runs/control --seeds 1 2 3

Four arms of configs/control.yaml that share everything up to the first judgements of a seed:

    self       the loop as it is: the model's own judge
    shuffled   the judge's scores exchanged at random among the answers to a prompt (negative control)
    no-eft     the model before any training judges (negative control)
    gold       a program's verdicts as scores: the ceiling

Each seed has a folder of runs, one for each arm; the same command again resumes. Prints two tables in Markdown and writes
OUT/control.json (every figure) and OUT/control.png (four curves).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from selfreward.config.run import load_config
from selfreward.notes import JudgeEvalNotes
from selfreward.statistics import Figure
from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import Run
from selfreward.summary.facts import summarize

ARMS = {
    "self": [],
    # Scores that are not the judge's contradict its judgements: the audit that would say so is told to let them.
    "shuffled": ["scores.source=shuffled", "gate_thresholds={scores_match_judgements: 1}"],
    "no-eft": ["judging.judge=hf:smollm2-135m-instruct"],
    "gold": ["scores.source=rules", "gate_thresholds={scores_match_judgements: 1}"],
}
SHARED_UNTIL = "iter1/candidates"


def main() -> None:
    """Run what is missing, then print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/control.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        shared = [*arguments.overrides, f"seed={seed}"]
        base = arguments.out / f"seed{seed}" / "shared"
        run_pipeline(load_config(arguments.config, shared), base, until=SHARED_UNTIL)
        for arm in arguments.arms:
            folder = arguments.out / f"seed{seed}" / arm
            if not folder.exists():
                shutil.copytree(base, folder, symlinks=True)
            started = time.monotonic()
            try:
                run_pipeline(load_config(arguments.config, [*shared, *ARMS[arm]]), folder)
                ended = None
            # An arm may end early, as a judge without training may give no score: that is its result.
            except Exception as error:
                ended = str(error).splitlines()[0]
            rows.append(_figures(folder, arm, seed) | {"ended": ended, "seconds": time.monotonic() - started})
    (arguments.out / "control.json").write_text(json.dumps(rows, indent=1))
    print(_table(rows))
    _plot(rows, arguments.out / "control.png")


def _figures(folder: Path, arm: str, seed: int) -> dict[str, Any]:
    run = Run(folder)
    rates = {}
    for rate in summarize(run).rule_rates:
        judged = rate.dataset.replace("rule_eval", "judge_eval")
        agreement = (
            run.current(judged).notes(JudgeEvalNotes).figure("pairwise_ties_half")
            if run.has(judged)
            else None
        )
        rates[rate.dataset.split("/")[0].replace("iter", "M")] = {
            "kept": _plain(rate.kept),
            "gain": _plain(rate.gain),
            "characters": rate.mean_chars,
            "distinct_words": rate.distinct_words,
            "judge": _plain(agreement),
            "by_rule": rate.notes.by_rule,
        }
    return {"arm": arm, "seed": seed, "models": rates}


def _plain(figure: Figure | None) -> list[float | None] | None:
    return None if figure is None else [figure.value, figure.low, figure.high]


def _table(rows: list[dict[str, Any]]) -> str:
    head = "| arm | seed | judge M1 % | M1 | M2 | M3 | M3 - M1, points | characters M1, M3 | different words M1, M3 | ended |"
    lines = [head, "|" + "---|" * 10]
    for row in rows:
        models = row["models"]
        lines.append(
            "| "
            + " | ".join(
                [
                    row["arm"],
                    str(row["seed"]),
                    _percent(models.get("M1", {}).get("judge")),
                    *(_percent(models.get(m, {}).get("kept")) for m in ("M1", "M2", "M3")),
                    _percent(models.get("M3", {}).get("gain"), "+"),
                    ", ".join(_number(models.get(m, {}).get("characters")) for m in ("M1", "M3")),
                    ", ".join(_number(models.get(m, {}).get("distinct_words"), 2) for m in ("M1", "M3")),
                    row["ended"] or "",
                ]
            )
            + " |"
        )
    return "\n".join(lines)


def _percent(figure: list[float | None] | None, sign: str = "") -> str:
    if figure is None or figure[0] is None:
        return "-"
    value, low, high = figure
    interval = "" if low is None or high is None else f" [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
    return f"{100 * value:{sign}.1f}{interval}"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4), dpi=110)
    for arm, color in zip(ARMS, ("#2563eb", "#9ca3af", "#f59e0b", "#16a34a"), strict=True):
        own = [row for row in rows if row["arm"] == arm]
        for place, row in enumerate(own):
            points = [
                (int(m[1:]), 100 * v["kept"][0])
                for m, v in sorted(row["models"].items())
                if v["kept"] and m != "M0"
            ]
            axes.plot(
                *zip(*points, strict=True),
                color=color,
                alpha=0.7,
                marker="o",
                ms=4,
                label=arm if place == 0 else None,
            )
    axes.set_xticks([1, 2, 3], ["M1", "M2", "M3"])
    axes.set_ylabel("answers that keep their rule, % (held-out prompts)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, title="scores from")
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
