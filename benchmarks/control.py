"""The control experiment with its controls: does the rule-keeping rate rise with the judge's scores, and only then?

    python benchmarks/control.py runs/control --seeds 1 2 3

Four arms of configs/control.yaml that share everything up to the first judgements of a seed:

    self       the loop as it is: the model's own judge
    shuffled   the judge's scores exchanged at random among the answers to a prompt (negative control)
    no-eft     the model before any training judges (negative control)
    gold       a program's verdicts as scores: the ceiling

Each seed has a folder of runs, one for each arm; the same command again resumes. Prints a table in Markdown and writes
OUT/control.json (every figure) and OUT/control-seedN.svg (four curves with intervals).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from selfreward.config.files import load_config
from selfreward.errors import SelfrewardError
from selfreward.page.by_model import by_model, in_percent
from selfreward.page.figures import shown
from selfreward.statistics import Figure
from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import Run
from selfreward.summary.facts import RuleRate, summarize

ARMS = {
    "self": [],
    "shuffled": ["scores.source=shuffled"],
    "no-eft": ["judging.judge=hf:smollm2-135m-instruct"],
    "gold": ["scores.source=rules"],
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
    found: list[Arm] = []
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
                ended = ""
            # An arm may end early, as a judge without training may give no score: that is its result.
            except SelfrewardError as error:
                ended = str(error).splitlines()[0]
            found.append(Arm(arm, seed, _models(folder), ended, time.monotonic() - started))
        _plot([one for one in found if one.seed == seed], arguments.out / f"control-seed{seed}.svg")
    (arguments.out / "control.json").write_text(json.dumps(list(map(asdict, found)), indent=1))
    print(_table(found))


@dataclass(frozen=True)
class Model:
    """One model of an arm."""

    rate: RuleRate
    judge: Figure | None


@dataclass(frozen=True)
class Arm:
    """One arm of one seed: its models by name, why it ended early, and its time in this call."""

    arm: str
    seed: int
    models: dict[str, Model]
    ended: str
    seconds: float


def _models(folder: Path) -> dict[str, Model]:
    summary = summarize(Run(folder))
    judges = {judge.dataset.partition("/")[0]: judge.accuracy for judge in summary.judges}
    numbers = {rate.dataset.partition("/")[0]: rate for rate in summary.rule_rates}
    return {f"M{name.removeprefix('iter')}": Model(rate, judges.get(name)) for name, rate in numbers.items()}


def _table(found: list[Arm]) -> str:
    head = "| arm | seed | judge M1 % | M1 | M2 | M3 | M3 - M1, points | characters M1, M3 | different words M1, M3 | ended |"
    return "\n".join([head, "|" + "---|" * 10, *map(_row, found)])


def _row(one: Arm) -> str:
    first, last = one.models.get("M1"), one.models.get("M3")
    rates = [one.models[name].rate if name in one.models else None for name in ("M1", "M2", "M3")]
    cells = [
        one.arm,
        str(one.seed),
        first.judge.shown() if first and first.judge else "-",
        *(rate.kept.shown() if rate and rate.kept else "-" for rate in rates),
        last.rate.gain.shown(sign="+") if last and last.rate.gain else "-",
        ", ".join(shown(rate.notes.mean_chars if rate else None) for rate in rates[::2]),
        ", ".join(shown(rate.notes.distinct_words if rate else None) for rate in rates[::2]),
        one.ended,
    ]
    return f"| {' | '.join(cells)} |"


def _plot(arms: list[Arm], path: Path) -> None:
    figures = [
        in_percent(model.rate.kept, name, one.arm)
        for one in arms
        for name, model in one.models.items()
        if name != "M0"
    ]
    chart = by_model("rules kept (%)", figures, y_range=(0, 100))
    if chart:
        path.write_text(
            chart.file(f"Answers that keep their rule, by whose scores were trained on (seed {arms[0].seed})")
        )


if __name__ == "__main__":
    main()
