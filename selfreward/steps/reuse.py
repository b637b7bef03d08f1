"""An input counts by what a step uses of it: a version stands if only another part of that input has changed.

A key holds the whole content of each input. Another score range or judge template changes EFT's targets and so the
keys of the steps that read only its held-out prompts; building those again would ask a model for the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfreward.errors import SelfrewardError
from selfreward.store.recipe import Recipe, contents
from selfreward.store.run import Run
from selfreward.store.version import Version


def differs_only_unused(
    run: Run, recipe: Recipe, role: str, used: Callable[[Version], Any]
) -> Version | None:
    """The latest version that differs from the recipe in the input `role` alone, by nothing that is `used` of it."""
    if role not in recipe.inputs:
        return None
    wanted: Any = None
    for version in reversed(run.versions(recipe.name)):
        try:
            manifest = version.manifest
            theirs = contents(manifest["inputs"])
            ours = contents(recipe.inputs)
            if (manifest["builder"], manifest["params"], theirs | {role: ours[role]}) != (
                recipe.builder,
                recipe.params,
                ours,
            ):
                continue
            wanted = wanted or used(_input(run, recipe.inputs[role]))
            if used(_input(run, manifest["inputs"][role])) == wanted:
                version.check_files()
                return version
        except SelfrewardError:  # a version or an input that is damaged or gone proves nothing
            continue
    return None


def _input(run: Run, entry: dict[str, str]) -> Version:
    return run.version(entry["name"], entry["version"])
