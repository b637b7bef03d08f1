"""Lineage in SQL: a view of the links between rows, and a recursive macro that follows them from one row to its seeds.

    SELECT relation, id FROM lineage('pair-…')

`lineage_edges(child_id, parent_id, relation)` holds every link of the current datasets; `lineage(id)` the rows that a row
is derived from, each with the row it was reached from. A pair leads to its two candidates, their judgements, its
prompt, the prompt's demonstrations and their seed rows. The tree with texts and versions is `selfreward lineage`.
"""

from __future__ import annotations

from collections.abc import Iterable

EDGES = "lineage_edges"
LINEAGE = "lineage"

# (child dataset, child id, parent dataset, parent id, relation); a list of ids is unnested.
_LINKS = (
    ("pairs", "pair_id", "candidates", "chosen_id", "chosen"),
    ("pairs", "pair_id", "candidates", "rejected_id", "rejected"),
    ("judgements", "judgement_id", "candidates", "candidate_id", "judges"),
    ("candidates", "candidate_id", "prompts", "prompt_id", "answers"),
    ("prompts", "prompt_id", "ift", "unnest(demonstration_ids)", "was shown"),
    ("ift", "ift_id", "seeds", "source_id", "comes from"),
    ("eft", "eft_id", "seeds", "source_id", "comes from"),
)
_SCORED = """SELECT pair_id AS child_id, judgement_id AS parent_id, 'rests on' AS relation
FROM (SELECT pair_id, unnest([chosen_id, rejected_id]) AS candidate_id FROM pairs) JOIN judgements USING (candidate_id)"""
_LINEAGE = f"""CREATE OR REPLACE MACRO {LINEAGE}(of_id) AS TABLE
WITH RECURSIVE reached AS (
    SELECT of_id::VARCHAR AS id, NULL::VARCHAR AS made_into, NULL::VARCHAR AS relation
    UNION
    SELECT parent_id, child_id, e.relation FROM {EDGES} e JOIN reached ON e.child_id = reached.id
)
SELECT id, made_into, relation FROM reached"""


def child_datasets() -> set[str]:
    """The datasets with links."""
    return {link[0] for link in _LINKS}


def lineage_statements(kinds: Iterable[str]) -> list[str]:
    """The statements that create the view and the macro over datasets of these kinds."""
    return [f"CREATE OR REPLACE VIEW {EDGES} AS {_edges_query(set(kinds))}", _LINEAGE]


def _edges_query(kinds: set[str]) -> str:
    parts = [
        f"SELECT {key} AS child_id, {parent} AS parent_id, '{relation}' AS relation FROM {child}"
        for child, key, _, parent, relation in _LINKS
        if child in kinds
    ]
    parts += [_SCORED] if {"pairs", "judgements"} <= kinds else []
    nothing = (
        "SELECT NULL::VARCHAR AS child_id, NULL::VARCHAR AS parent_id, NULL::VARCHAR AS relation LIMIT 0"
    )
    return "\nUNION ALL ".join(parts) or nothing
