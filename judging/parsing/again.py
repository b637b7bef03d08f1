"""Reuse of a version made by an earlier parser, if the current parser reads every text in it alike.

So a better parser costs a run nothing if it changes nothing. Limit: a first attempt that was resampled because it had
no score is not stored, so a score that the current parser would find there is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
            # Text in mode expected (`expected 2`): those scores were never parsed.
            isinstance(earlier, int)
            and earlier < PARSER_VERSION
            and manifest["builder"] == recipe.builder
            and contents(manifest["inputs"]) == contents(recipe.inputs)
            and params == {name: value for name, value in recipe.params.items() if name != "parser"}
            and _reads_alike(version, text, score, params["judging"])
        ):
            return version
    return None


def _reads_alike(version: Version, text: str, score: str, scale: dict[str, Any]) -> bool:
    for row in version.table().to_pylist():
        # Nothing was written, so no parser can read it differently.
        if row.get("status") == "engine_error" or row[text] is None:
            continue
        limits, by = (scale["min_score"], scale["max_score"]), scale.get("score_pattern")
        found = parse_score(
            row[text], row.get("finish_reason", "stop"), *limits, **({"pattern": by} if by else {})
        )
        if found.score != row[score] or found.status != row.get("status", found.status):
            return False
    return True
