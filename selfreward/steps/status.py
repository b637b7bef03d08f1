"""`selfreward status`: for every step of the run's own configuration, whether it is done, under way or next.

Also finds versions that were made from earlier versions of their inputs (`outdated_versions`), for reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from selfreward.config.files import load_config
from selfreward.config.run import RunConfig
from selfreward.errors import SelfrewardError, UsageError
from selfreward.exchange.importing import is_imported
from selfreward.steps.pipeline import find_version, resolve_plan
from selfreward.steps.step import Plan, plan_run
from selfreward.store.journal import Journal
from selfreward.store.run import Run, is_model
from selfreward.store.version import Version


@dataclass(frozen=True)
class StepStatus:
    """One line of the status table. `state`: done, under way, next, to do, outdated, blocked."""

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
    lines: dict[str, StepStatus] = {}
    for plan in plan_run(config):
        waits_for = [
            name
            for name in (*plan.inputs.values(), *plan.models.values())
            if name in lines and lines[name].state != "done"
        ]
        first = all(line.state in ("done", "blocked") for line in lines.values())
        lines[plan.name] = _status(run, config, plan, waits_for, "next" if first else "to do")
    return list(lines.values())


def _status(run: Run, config: RunConfig, plan: Plan, waits_for: list[str], unbuilt: str) -> StepStatus:
    current = run.current(plan.name) if run.has(plan.name) else None

    def line(state: str, detail: str = "", version: Version | None = current) -> StepStatus:
        rows, name = (version.n_rows, version.version) if version else (None, None)
        return StepStatus(plan.name, state, rows, name, detail)

    if current and is_imported(current):
        return line("done", "imported")
    if waits_for:
        return line("outdated", f"waits for {waits_for[0]}") if current else line("to do")
    try:
        recipe, _, _ = resolve_plan(run, config, plan)
        version = find_version(run, plan, recipe)
    except SelfrewardError as error:
        return line("blocked", str(error))
    if version is not None:
        return line("done", version=version)
    if n_done := journalled(run.work_folder(recipe)):
        return line("under way", f"{n_done:,} answers written")
    return line("outdated", "made with other settings or inputs") if current else line(unbuilt)


def next_command(path: Path, lines: list[StepStatus]) -> str:
    """The next command, in one line."""
    if all(line.state == "done" for line in lines):
        return f"everything is done; look at it with: selfreward sql {path} 'FROM pairs'"
    step = next(line for line in lines if line.state != "done")
    return f"next: {step.name}; continue with: selfreward run {path / 'config.yaml'} --run {path}"


def journalled(work: Path) -> int:
    """Completions in a step's journals, read without repairing them, since their writer may be alive."""
    return sum(len(unit) for path in sorted(work.glob("journal*.jsonl")) for unit in Journal(path).units())


def outdated_versions(versions: Mapping[str, Version]) -> dict[str, str]:
    """The outdated ones among a run's current versions, from their manifests alone: name -> reason.

    A version is outdated if an input has other content now, or is outdated itself. Names not in `versions` are skipped.
    """
    reasons: dict[str, str] = {}

    def reason(name: str) -> str:
        if name not in reasons:
            reasons[name] = ""  # ends the recursion if a hostile manifest's inputs form a cycle
            for entry in versions[name].manifest["inputs"].values():
                source, at, _ = entry["name"].partition("@")
                if source not in versions or not ("version" in entry or (at and is_model(source))):
                    continue  # a file, a text or a foreign model
                if versions[source].content_sha256 != entry["content_sha256"]:
                    reasons[name] = f"made from an earlier {source}"
                elif reason(source):
                    reasons[name] = f"made from {source}, which is outdated"
        return reasons[name]

    return {name: why for name in versions if (why := reason(name))}


def outdated_lines(outdated: Mapping[str, str]) -> list[str]:
    """One sentence per outdated version."""
    return [f"{name} is outdated: {why}" for name, why in outdated.items()]
