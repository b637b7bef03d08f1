"""The license of a published dataset: that of the seeds, or one that the seeds' license allows.

The published rows contain the seeds' prompts and replies, so the seeds' license applies to them. For sources not
listed below (such as your own table) the license must be given. This is bookkeeping, not legal advice: the check
knows four conditions (attribution, share alike, non-commercial, no derivatives), not the license's text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.errors import UsageError


@dataclass(frozen=True)
class Terms:
    """Conditions for redistribution."""

    attribution: bool = True
    share_alike: bool = False
    non_commercial: bool = False
    no_derivatives: bool = False
    own_terms: bool = False
    """Terms that no other license has (model licences, `other`): only the same identifier passes."""


_FREE, _BY = Terms(attribution=False), Terms()
LICENCES = {
    **dict.fromkeys(("cc0-1.0", "pddl", "unlicense", "wtfpl"), _FREE),
    **dict.fromkeys(("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "odc-by", "cdla-permissive-1.0",
                     "cdla-permissive-2.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0"), _BY),
    **dict.fromkeys(("cc-by-sa-3.0", "cc-by-sa-4.0", "odbl", "cdla-sharing-1.0", "gpl-3.0"), Terms(share_alike=True)),
    **dict.fromkeys(("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"), Terms(non_commercial=True)),
    **dict.fromkeys(("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"), Terms(share_alike=True, non_commercial=True)),
    **dict.fromkeys(("cc-by-nd-4.0",), Terms(no_derivatives=True)),
    **dict.fromkeys(("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"), Terms(non_commercial=True, no_derivatives=True)),
    **dict.fromkeys(("llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma", "other"), Terms(own_terms=True)),
}  # fmt: skip
"""Identifiers as the Hub writes them in a card's `license`."""

_SOURCES = {
    "embedded": "apache-2.0",
    "OpenAssistant/oasst1": "apache-2.0",
    "OpenAssistant/oasst2": "apache-2.0",
    "databricks/databricks-dolly-15k": "cc-by-sa-3.0",
    "HuggingFaceH4/no_robots": "cc-by-nc-4.0",
    "Anthropic/hh-rlhf": "mit",
    "nvidia/HelpSteer2": "cc-by-4.0",
    "tatsu-lab/alpaca": "cc-by-nc-4.0",
}
"""By the name under which it was loaded; a file's name says nothing about its license."""


def source_licence(source: str) -> str | None:
    """The license of a seed source, None if unknown.

    >>> source_licence("OpenAssistant/oasst1"), source_licence("my-oasst1-table.csv")
    ('apache-2.0', None)
    """
    return _SOURCES.get(source)


def licence_id(flag: str, wanted: str) -> str:
    """A license as the Hub writes it. Raises UsageError for an unknown one.

    >>> licence_id("--license", "MIT"), licence_id("--license", "CC BY 4.0")
    ('mit', 'cc-by-4.0')
    """
    known = "-".join(wanted.lower().split())
    if known in LICENCES:
        return known
    near = difflib.get_close_matches(known, LICENCES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(LICENCES)}"
    raise UsageError(f"{flag} {wanted!r}: not a license identifier of the Hub; {hint}")


def choose_licence(sources: Sequence[str], wanted: str | None) -> str:
    """The license to publish under. Raises UsageError if it is unknown, missing or not allowed by the seeds' license.

    `sources` are those of the seeds; empty if the user imported the rows.
    """
    if wanted is not None:
        wanted = licence_id("--license", wanted)
    known = {source: licence for source in sources if (licence := source_licence(source))}
    unknown = [source for source in sources if source not in known]
    # never guessed: a wrong license harms the authors of the seeds, a refusal costs the user one flag
    if wanted is None:
        wanted = _carried_over(known, unknown)
    for source, licence in known.items():
        if why := forbidden_because(licence, wanted):
            raise UsageError(
                f"--license {wanted}: the seeds from {source!r} are under {licence}, which {why}"
            )
    return wanted


def _carried_over(known: dict[str, str], unknown: list[str]) -> str:
    if unknown or not known:
        what = f"of the seeds from {unknown[0]!r}" if unknown else "of rows you imported"
        raise UsageError(
            f"the license {what} is unknown, so it must be given: --license cc-by-4.0 (or another identifier of the "
            "Hub) publishes under a license that they allow"
        )
    licences = sorted(set(known.values()))
    if len(licences) > 1:
        found = ", ".join(f"{source} {licence}" for source, licence in sorted(known.items()))
        raise UsageError(
            f"the seeds have several licenses ({found}); choose the one to publish under with --license"
        )
    return licences[0]


def forbidden_because(seeds: str, wanted: str) -> str | None:
    """Why rows under license `seeds` may not be published under `wanted`; None if they may.

    >>> forbidden_because("apache-2.0", "cc0-1.0")
    'requires attribution; publish under a license that requires it too'
    """
    terms, offered = LICENCES[seeds], LICENCES[wanted]
    if terms.no_derivatives:
        return "allows no derived works; these rows may not be published"
    if terms.own_terms and wanted != seeds:
        return f"has its own terms; publish under {seeds}"
    if terms.share_alike and _family(wanted) != _family(seeds):
        return f"requires derived works to carry the same license; publish under {seeds}"
    if terms.non_commercial and not offered.non_commercial:
        return f"forbids commercial use; publish under {seeds} or another non-commercial license"
    if terms.attribution and not offered.attribution:
        return "requires attribution; publish under a license that requires it too"
    return None


def _family(licence: str) -> str:
    """A license without its version."""
    # cc-by-sa-3.0 allows derived works under 4.0, so the versions of one license count as the same
    return re.sub(r"-\d[\d.]*$", "", licence)
