"""Near duplicates among the texts that are trained on, within and across datasets (`selfreward.similarity.near`).

Prompts are compared with prompts, and answers (ift's and the chosen ones) with answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selfreward.judging.audits.data import AuditData
from selfreward.similarity.near import similar_pairs

if TYPE_CHECKING:
    import pyarrow as pa

# The rows of one EFT prompt share it by construction, so it counts once.
_GROUPS = {
    "prompt": """SELECT * FROM training_texts WHERE part = 'prompt' AND dataset <> 'eft'
        UNION ALL SELECT 'eft', NULL, min(eft_id), 'prompt', prompt FROM eft WHERE accepted AND split = 'train'
        GROUP BY prompt_id, prompt""",
    "answer": """SELECT * FROM training_texts WHERE (dataset, part) IN (('ift', 'response'), ('pairs', 'chosen'))""",
}


def near_duplicates(data: AuditData) -> pa.Table:
    """One row for each text that nearly repeats an earlier one, and which."""
    data.need(["eft"])
    rows: list[dict[str, Any]] = []
    for query in _GROUPS.values():
        table = data.connection.sql(
            f"SELECT * FROM ({query}) ORDER BY dataset, iteration, id"
        ).to_arrow_table()
        names = table.select(["dataset", "iteration", "id", "part"])
        for first, second, similarity in similar_pairs(table["text"]):
            (earlier, later) = names.take([first, second]).to_pylist()
            rows.append(
                {
                    **later,
                    "similarity": similarity,
                    "other_dataset": earlier["dataset"],
                    "other_id": earlier["id"],
                }
            )
    return _table(rows)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    texts = ("dataset", "id", "part", "other_dataset", "other_id")
    schema = [
        *((name, pa.string()) for name in texts),
        ("iteration", pa.int64()),
        ("similarity", pa.float64()),
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))
