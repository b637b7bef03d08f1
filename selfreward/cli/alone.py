"""`python -m selfreward.builders.candidates CONFIG`: one step of a run alone, on existing inputs.

A step's module ends with `run_alone()` under `if __name__ == "__main__"`. Inputs must exist, and later steps are not
run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreward.cli import main
from selfreward.cli.runs import show_step
from selfreward.errors import UsageError


def run_alone() -> None:
    """The command line of the module that Python runs as `__main__`."""
    module = sys.modules["__main__"]
    name = str(module.__spec__.name) if module.__spec__ else ""
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False,
                      context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
    about = (module.__doc__ or "").partition("\n")[0]
    app.command(help=f"{about} Uses the run's existing inputs; `selfreward run` builds everything.")(
        _command(name)
    )
    main(app, f"python -m {name}")


def _command(module: str) -> Any:
    def build(
        config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration (YAML).")],
        run_folder: Annotated[
            Path | None, typer.Option("--run", metavar="DIR", help="Run folder; default: `run` of CONFIG.")
        ] = None,
        iteration: Annotated[
            int | None, typer.Option(min=1, help="Only this iteration; default: each, in order.")
        ] = None,
    ) -> None:
        from selfreward.config.files import load_config
        from selfreward.steps.pipeline import run_pipeline
        from selfreward.steps.signals import Interrupted
        from selfreward.steps.step import Plan
        from selfreward.steps.trust import require_trust

        def wanted(plan: Plan) -> bool:
            return plan.module == module and (iteration is None or plan.name.startswith(f"iter{iteration}/"))

        resolved = load_config(config)
        require_trust(config, resolved)
        try:
            # the same pipeline as `selfreward run`, so that the step is reused or built in exactly the same
            # way
            steps = run_pipeline(resolved, run_folder or Path(resolved.run), None, show_step, wanted)
        except Interrupted as stop:
            raise typer.Exit(128 + stop.signal_number) from stop
        if not steps:
            raise UsageError(f"{config}: its run has no step {module} (in iteration {iteration or 'any'})")

    return build
