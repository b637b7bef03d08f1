"""The command line: one verb for each thing to do, thin over functions that can be called from Python.

Results go to stdout, progress and logs to stderr; every command that prints a table takes `--json`. Exit 0 done, 1
failed or found bad, 2 wrong use. Errors meant for the user are one sentence; `--debug` adds the traceback. Nothing heavy
is imported before a command needs it: `selfreward --help` answers in under 0.3 s.
"""

from __future__ import annotations

import importlib
import os
import sys

import typer

from selfreward.engines.openmp import COMMAND, spin_at_most
from selfreward.errors import SelfrewardError
from selfreward.secrets import mask
from selfreward.text import printable

app = typer.Typer(
    name="selfreward",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Self-Rewarding Language Models as datasets you can see, question and publish.",
)

COMMANDS = (
    "selfreward.cli.runs",
    "selfreward.cli.files",
    "selfreward.cli.tools",
    "selfreward.cli.ask",
    "selfreward.judging.cli",
    "selfreward.evaluation.cli",
    "selfreward.data_cards.cli",
)
"""Modules that add commands: each has `register(app)`. A new group of commands is one line here."""


def main() -> None:
    """Entry point of the `selfreward` command; the one place that turns errors into exit codes."""
    spin_at_most(COMMAND)
    debug = "--debug" in sys.argv or bool(os.environ.get("SELFREWARD_DEBUG"))
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    for name in COMMANDS:
        importlib.import_module(name).register(app)
    try:
        app(args=arguments, prog_name="selfreward")
    except SelfrewardError as error:
        _fail(str(error), error.exit_code, debug, error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # the outermost boundary: whatever else went wrong is a bug, and said as one
        message = f"unexpected {type(error).__name__}: {error}; this is a bug, --debug shows where"
        _fail(message, 1, debug, error)


def _fail(message: str, code: int, debug: bool, error: Exception) -> None:
    if debug:
        import traceback

        print(printable(mask("".join(traceback.format_exception(error)))), file=sys.stderr)
    print(f"selfreward: {printable(mask(message))}", file=sys.stderr)
    sys.exit(code)
