"""Lineage in SQL: a view of the links between rows, and a recursive macro that follows them from one row to its seeds.

    SELECT relation, id FROM lineage('pair-…')

`lineage_edges(child_id, parent_id, relation)` holds every link of the current datasets; `lineage(id)` the rows that a row
is derived from, each with the row it was reached from. A pair leads to its two candidates, their judgements, its
prompt, the prompt's demonstrations and their seed rows. The tree with texts and versions is `selfreward lineage`.
"""

from __future__ import annotations

from collections.abc import Iterable

from selfreward.tables import DATASETS, Dataset, Link, arrow_schema

EDGES = "lineage_edges"
LINEAGE = "lineage"

_SCORED = """SELECT pair_id AS child_id, judgement_id AS parent_id, 'rests on' AS relation
FROM (SELECT pair_id, unnest([chosen_id, rejected_id]) AS candidate_id FROM pairs) JOIN judgements USING (candidate_id)"""
_COMPARED = """SELECT judge_pair_id AS child_id, meta_judgement_id AS parent_id, 'rests on' AS relation
FROM judge_pairs JOIN meta_judgements USING (candidate_id)"""
# UNION, not UNION ALL: repeated rows are dropped, so that a cycle in imported rows ends too.
_LINEAGE = f"""CREATE OR REPLACE MACRO {LINEAGE}(of_id) AS TABLE
WITH RECURSIVE reached AS (
    SELECT of_id::VARCHAR AS id, NULL::VARCHAR AS made_into, NULL::VARCHAR AS relation
    UNION
    SELECT parent_id, child_id, e.relation FROM {EDGES} e JOIN reached ON e.child_id = reached.id
)
SELECT id, made_into, relation FROM reached"""


def child_datasets() -> set[str]:
    """The datasets with links."""
    return {dataset.kind for dataset in DATASETS if dataset.links}


def lineage_statements(kinds: Iterable[str]) -> list[str]:
    """The statements that create the view and the macro over datasets of these kinds."""
    return [f"CREATE OR REPLACE VIEW {EDGES} AS {_edges_query(set(kinds))}", _LINEAGE]


def _edges_query(kinds: set[str]) -> str:
    parts = [
        f"SELECT {dataset.key[0]} AS child_id, {_parents(dataset, link)} AS parent_id, '{link.relation}' AS relation "
        f"FROM {dataset.kind}"
        for dataset in DATASETS
        for link in dataset.links
        if dataset.kind in kinds
    ]
    parts += [_SCORED] if {"pairs", "judgements"} <= kinds else []
    parts += [_COMPARED] if {"judge_pairs", "meta_judgements"} <= kinds else []
    # A view without links still needs its columns, or queries on a young run would fail.
    nothing = (
        "SELECT NULL::VARCHAR AS child_id, NULL::VARCHAR AS parent_id, NULL::VARCHAR AS relation LIMIT 0"
    )
    return "\nUNION ALL ".join(parts) or nothing


def _parents(dataset: Dataset, link: Link) -> str:
    """A list of ids is unnested."""
    is_list = str(arrow_schema(dataset.row).field(link.column).type).startswith("list")
    return f"unnest({link.column})" if is_list else link.column
