"""A version made by an earlier parser stands if today's parser reads every one of its texts as they were read then.

So a better parser costs a run nothing where it changes nothing. What it cannot see: a first attempt that was resampled for
want of a score is not stored, so a score that today's parser would have found there is gone with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfreward.judging.parsing.scores import PARSER_VERSION, parse_score
from selfreward.store.recipe import contents

if TYPE_CHECKING:
    from selfreward.store.recipe import Recipe
    from selfreward.store.run import Run
    from selfreward.store.version import Version


def read_alike(run: Run, recipe: Recipe, text: str, score: str) -> Version | None:
    """The latest version that differs from the recipe in the parser alone and whose column `text` reads as `score`."""
    for version in reversed(run.versions(recipe.name)):
        manifest = version.manifest
        params = dict(manifest["params"])
        earlier = params.pop("parser", None)
        if (
            isinstance(earlier, int)
            and earlier < PARSER_VERSION
            and manifest["builder"] == recipe.builder
            and contents(manifest["inputs"]) == contents(recipe.inputs)
            and params == {name: value for name, value in recipe.params.items() if name != "parser"}
            and _reads_alike(version, text, score, params["judging"])
        ):
            return version
    return None


def _reads_alike(version: Version, text: str, score: str, scale: dict[str, float]) -> bool:
    for row in version.table().to_pylist():
        if row.get("status") == "engine_error" or row[text] is None:
            continue
        found = parse_score(
            row[text], row.get("finish_reason", "stop"), scale["min_score"], scale["max_score"]
        )
        if found.score != row[score] or found.status != row.get("status", found.status):
            return False
    return True
