"""Runs in the environment of other tools: reads files with a tool's own loader and writes down what it would train on.

A reader is a script `read_TOOL.py` with one function, `read(file, tokenizer, settings)`. Its rows hold rendered texts
(`prompt`, `chosen`, `rejected`; or `prompt`, `completion`, `label`), in the order of the tool. One process reads all
files of a tool, since importing some of them takes longer than the rest.
"""

import json
import sys
import traceback
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest import mock


def main(read):
    """Read what the JSON file that is the only argument lists; the rows (or the error) of each go into its `out`."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    found = {}
    for name, (file, settings) in asked["files"].items():
        try:
            found[name] = {"rows": read(Path(file), asked["tokenizer"], settings)}
        except Exception as error:
            traceback.print_exc()
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    Path(asked["out"]).write_text(json.dumps(found))


def trained_part(tokenizer, ids, labels):
    """What comes before the last run of trained tokens, and this run, as texts."""
    ends = [i for i in range(1, len(ids)) if labels[i] != -100 and labels[i - 1] == -100]
    return tokenizer.decode(ids[: ends[-1]]), tokenizer.decode(ids[ends[-1] :])


def absent(*modules):
    """Stand-ins for modules that a tool imports at its start and does not need to read rows."""
    for name in set(modules) - set(sys.modules):
        sys.modules[name] = mock.MagicMock(__spec__=ModuleSpec(name, None), __path__=[], __version__="0")
