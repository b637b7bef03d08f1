"""The command line: one verb per task, thin wrappers around functions that Python code can call.

Results go to stdout, progress and logs to stderr; every command that prints a table takes `--json`. Exit codes: 0
success, 1 failure or failed check, 2 wrong usage. Errors meant for the user are one sentence; `--debug` adds the
traceback.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreward.errors import SelfrewardError, UsageError
from selfreward.openmp import COMMAND, spin_at_most
from selfreward.secrets import mask
from selfreward.text import printable

app = typer.Typer(
    name="selfreward",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# imported by name when a command needs them: `selfreward --help` answers in under 0.3 s
COMMANDS = (
    "selfreward.cli.runs",
    "selfreward.cli.files",
    "selfreward.cli.tools",
    "selfreward.cli.ask",
    "selfreward.cli.view",
    "selfreward.judging.cli",
    "selfreward.evaluation.cli",
    "selfreward.data_cards.cli",
)
"""Modules that add commands: each has `register(app)`. Add a new group of commands here."""


def _version(wanted: bool) -> None:
    if wanted:
        from selfreward import __version__

        print(f"selfreward {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="No progress on stderr: results and errors only.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Also show the libraries' logs (level INFO).")
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file", metavar="FILE", help="Append progress lines and logs to FILE, with times."
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show errors with their traceback; accepted anywhere on the line.")
    ] = False,
) -> None:
    """Self-Rewarding Language Models as datasets you can see, question and publish.

    Example: selfreward run configs/demo.yaml
    """
    if quiet:
        os.environ["SELFREWARD_QUIET"] = "all"
    if log_file is not None:
        try:
            # before the command starts: a run of hours must not fail over its log
            log_file.open("a").close()
        except OSError as error:
            raise UsageError(f"--log-file {log_file}: cannot be written ({error.strerror})") from error
        # set in the environment, so that training processes and workers write there too
        os.environ["SELFREWARD_LOG_FILE"] = str(log_file.resolve())
    if verbose or log_file is not None:
        _log(verbose, log_file)


def _log(verbose: bool, log_file: Path | None) -> None:
    import logging

    handlers: list[logging.Handler] = [logging.StreamHandler()] if verbose else []
    handlers += [logging.FileHandler(log_file)] if log_file is not None else []
    logging.basicConfig(
        level=logging.INFO, handlers=handlers, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def main(command: typer.Typer | None = None, name: str = "selfreward") -> None:
    """Entry point of the `selfreward` command (or of another); turns errors into exit codes."""
    spin_at_most(COMMAND)
    # only other libraries' bars: ours decide for themselves
    os.environ.setdefault("TQDM_DISABLE", "1")
    debug = "--debug" in sys.argv or bool(os.environ.get("SELFREWARD_DEBUG"))
    # accepted anywhere on the line, so Typer must not see it after a subcommand
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.stdout = _UntilThePipeBreaks(sys.stdout)
    try:
        (command or assemble())(args=arguments, prog_name=name)
    except SelfrewardError as error:
        _fail(str(error), error.exit_code, debug, error)
    except Exception as error:  # the outermost boundary: any other exception is a bug, and reported as one
        message = f"unexpected {type(error).__name__}: {error}; this is a bug, --debug shows where"
        _fail(message, 1, debug, error)
    finally:
        sys.stdout.flush()


def assemble() -> typer.Typer:
    """The app with every command, each example on its own line at the end of its help."""
    for name in COMMANDS:
        importlib.import_module(name).register(app)
    _set_examples_apart(app)
    return app


def _set_examples_apart(group: typer.Typer) -> None:
    for command in group.registered_commands:
        text, _, example = (inspect.getdoc(command.callback) or "").partition("Example:")
        command.help = text.strip()
        # \b: the help's formatter leaves the lines of this paragraph as they are
        command.epilog = f"\b\nExample:\n  {' '.join(example.split())}"
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _set_examples_apart(inner.typer_instance)


class _UntilThePipeBreaks:
    """Standard output that ignores a closed reader (`… | head`)."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._tolerant():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._tolerant():
            self._stream.flush()

    @contextlib.contextmanager
    def _tolerant(self) -> Any:
        try:
            yield
        except BrokenPipeError:
            # the descriptor, not the object: Python flushes it once more at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _fail(message: str, code: int, debug: bool, error: Exception) -> None:
    if debug:
        import traceback

        # masked: a traceback shows requests with their headers
        print(printable(mask("".join(traceback.format_exception(error)))), file=sys.stderr)
    print(f"selfreward: {printable(mask(message))}", file=sys.stderr)
    sys.exit(code)
