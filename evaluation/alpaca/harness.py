"""The only access to alpaca-eval, isolating its side effects on the importing process.

Measured on 0.6.6: importing it sets the root logger to INFO and reads a `.env` file into the environment; its
functions log through the root logger and draw progress bars. A library must not change any of that.

Covered: root level and handlers, environment variables, its log records and progress bars, its own
deprecation warnings. Not covered: its API decoders, which we never call; judges are our own engines.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from selfreward.errors import SelfrewardError


def import_alpaca_eval(submodule: str = "") -> ModuleType:
    """The package `alpaca_eval`, or one of its submodules (`"metrics"`), without side effects.

    Raises `SelfrewardError` if it cannot be imported, usually because of setuptools 81 or newer, which no longer
    has the `pkg_resources` that alpaca-eval imports.
    """
    environment = dict(os.environ)
    name = f"alpaca_eval.{submodule}" if submodule else "alpaca_eval"
    try:
        with contained():
            return importlib.import_module(name)
    except ImportError as error:
        raise SelfrewardError(
            f"{name} cannot be imported ({error}); install it with: pip install 'alpaca-eval>=0.6.6' 'setuptools<81'"
        ) from error
    finally:
        _restore_environment(environment)


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Wraps every call into alpaca-eval."""
    # user code must not run inside: its stderr would be lost; problems that alpaca-eval only logs are counted
    # from the rows instead
    root = logging.getLogger()
    level = root.level
    guard = logging.NullHandler()  # with a handler present, `logging.info` installs none
    root.addHandler(guard)
    root.addFilter(_not_from_alpaca_eval)
    try:
        # its progress bars go to stderr
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.filterwarnings("ignore", message=".*pkg_resources.*")
            yield
    finally:
        root.removeFilter(_not_from_alpaca_eval)
        root.removeHandler(guard)
        root.setLevel(level)


def alpaca_eval_folder() -> Path:
    """The package's folder, without importing it."""
    # not imported: that takes 2 s
    spec = importlib.util.find_spec("alpaca_eval")
    if spec is None or not spec.submodule_search_locations:
        raise SelfrewardError(
            "alpaca_eval is not installed; install it with: pip install 'alpaca-eval>=0.6.6'"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _not_from_alpaca_eval(record: logging.LogRecord) -> bool:
    return "alpaca_eval" not in Path(record.pathname).parts


def _restore_environment(environment: dict[str, str]) -> None:
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
