"""All errors that a user can see.

A message is one clear sentence: where, what was found, what was expected, what to do. The command line prints it without
a traceback (`--debug` shows one) and exits with the class's code: 1 "failed or found bad", 2 "wrong use". Secrets of the
environment, logins and signed queries are masked in every message.

    SelfrewardError                 exit 1
    ├── UsageError                  exit 2   wrong flag, unknown name, unknown dataset
    │   └── ConfigError             exit 2   the configuration file is wrong
    ├── InputError                  a file or a row from the user is bad
    ├── EmptyResultError            nothing is left after the filters; carries the funnel
    ├── StoreError                  the run folder cannot be read or written
    │   ├── DamagedError            bytes on disk differ from what was published
    │   ├── FormatError             the run folder was written by a newer version
    │   ├── BusyError               another live process is building the same thing
    │   └── AccountingError         rows in differ from rows out plus dropped
    ├── EngineError                 a text-generation engine failed as a whole
    │   └── CapabilityError         the engine cannot do what the step needs
    ├── CostLimitError              the next request would exceed `max_cost`
    ├── TrainingError               preflight refused, or the trained model equals its start
    └── GateError                   an audit failed
"""

from __future__ import annotations

from selfreward.secrets import mask


class SelfrewardError(Exception):
    """Base of all errors meant for the user; `exit_code` is the exit code of the command line."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(mask(message))


class UsageError(SelfrewardError):
    """The command was called wrongly."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration cannot be used."""


class InputError(SelfrewardError):
    """A file or row from the user is bad; the message names file, line and column."""


class EmptyResultError(SelfrewardError):
    """A step has nothing left to work on; the message holds the funnel that led there."""


class StoreError(SelfrewardError):
    """The run folder cannot be read or written."""


class DamagedError(StoreError):
    """Bytes on disk are not the bytes that were published; the message names the file."""


class FormatError(StoreError):
    """The run folder has a newer format than this version reads."""


class BusyError(StoreError):
    """Another live process is working on the same run."""


class AccountingError(StoreError):
    """A step did not account for every row: rows in differ from rows out plus dropped."""


class EngineError(SelfrewardError):
    """A text-generation engine failed as a whole (one bad request is a row, not an error)."""


class CapabilityError(EngineError):
    """The engine lacks something the step needs; raised before any request is sent."""


class CostLimitError(SelfrewardError):
    """Continuing would cost more than the configured limit."""


class TrainingError(SelfrewardError):
    """A training step refused its data, or had no effect."""


class GateError(SelfrewardError):
    """An audit with severity `fail` found offending rows."""
