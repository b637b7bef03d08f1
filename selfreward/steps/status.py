"""`selfreward status`: for every step of the run's own configuration, whether it is done, under way or next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfreward.config.run import load_config
from selfreward.errors import SelfrewardError, UsageError
from selfreward.steps.pipeline import find_version, resolve_plan
from selfreward.steps.step import plan_run
from selfreward.store.journal import Journal
from selfreward.store.run import Run


@dataclass(frozen=True)
class StepStatus:
    """One line of the status table. `state`: done, under way, to do, outdated (its inputs changed)."""

    name: str
    state: str
    rows: int | None
    version: str | None
    detail: str


def run_status(path: Path) -> list[StepStatus]:
    """The state of every step; nothing is built or changed."""
    run = Run(path)
    config_path = path / "config.yaml"
    if not config_path.is_file():
        raise UsageError(
            f"{path}: no config.yaml, so its steps are unknown; run `selfreward run CONFIG` first"
        )
    config = load_config(config_path)
    lines: list[StepStatus] = []
    blocked = False
    for plan in plan_run(config):
        # A later step's key needs the content of this one's output, so nothing is known about it yet.
        if blocked:
            lines.append(StepStatus(plan.name, "to do", None, None, ""))
            continue
        try:
            recipe, _, _ = resolve_plan(run, config, plan)
            version = find_version(run, plan, recipe)
        except SelfrewardError as error:
            lines.append(StepStatus(plan.name, "blocked", None, None, str(error)))
            blocked = True
            continue
        if version is not None:
            lines.append(StepStatus(plan.name, "done", version.n_rows, version.version, ""))
            continue
        blocked = True
        n_done = journalled(run.work_folder(recipe) / "journal.jsonl")
        state = "under way" if n_done else "outdated" if run.has(plan.name) else "next"
        lines.append(
            StepStatus(plan.name, state, None, None, f"{n_done:,} answers written" if n_done else "")
        )
    return lines


def next_command(path: Path, lines: list[StepStatus]) -> str:
    """The next command, in one line."""
    if all(line.state == "done" for line in lines):
        return f"everything is done; look at it with: selfreward sql {path} 'FROM pairs'"
    step = next(line for line in lines if line.state != "done")
    return f"next: {step.name}; continue with: selfreward run {path / 'config.yaml'} --run {path}"


def journalled(path: Path) -> int:
    """Completions in a journal, read without repairing it, since its writer may be alive."""
    if not path.is_file():
        return 0
    return sum(len(unit) for unit in Journal(path).units())
