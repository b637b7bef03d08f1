"""The datasets of a run: their rows (`rows`, `measured`), the registry of them (`datasets`), their names, and rows as Arrow."""

from selfreward.tables.arrow import accepted_values, arrow_schema, from_table, required_columns, to_table
from selfreward.tables.datasets import BY_KIND, DATASETS, Dataset, Link
from selfreward.tables.measured import (
    Annotation,
    AuditVerdict,
    JudgeEval,
    ModelOutput,
    OffendingRow,
    RuleEval,
    Severity,
)
from selfreward.tables.meta_rows import JudgePair, MetaJudgement
from selfreward.tables.names import DatasetName, is_dataset, kind_of, row_id
from selfreward.tables.reviews import Review, ReviewVerdict
from selfreward.tables.rows import (
    Candidate,
    Eft,
    FinishReason,
    Ift,
    Judgement,
    JudgeMode,
    Message,
    Pair,
    Prompt,
    Score,
    Seed,
    Status,
)

__all__ = [
    "BY_KIND",
    "DATASETS",
    "Annotation",
    "AuditVerdict",
    "Candidate",
    "Dataset",
    "DatasetName",
    "Eft",
    "FinishReason",
    "Ift",
    "JudgeEval",
    "JudgeMode",
    "JudgePair",
    "Judgement",
    "Link",
    "Message",
    "MetaJudgement",
    "ModelOutput",
    "OffendingRow",
    "Pair",
    "Prompt",
    "Review",
    "ReviewVerdict",
    "RuleEval",
    "Score",
    "Seed",
    "Severity",
    "Status",
    "accepted_values",
    "arrow_schema",
    "from_table",
    "is_dataset",
    "kind_of",
    "required_columns",
    "row_id",
    "to_table",
]
