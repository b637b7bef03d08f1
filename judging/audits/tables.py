"""Tables for audits beside the datasets, made when the first audit needs them.

| table | rows |
|---|---|
| `configured` | one: `lang`, `seed`, `min_score`, `max_score`, from the run's configuration (else the defaults) |
| `expected_counts` | `iteration`, `n_candidates` a prompt, `n_judgements` a candidate; from the manifests, else NULL |
| `other_iterations` | `dataset`, `iteration`, `n_rows` whose iteration differs from the dataset's name |
| `repeated_keys` | `dataset`, `iteration`, `id`, `n` of rows that share the key of their dataset (selfreward/tables/datasets.py) |
| `null_cells` | `dataset`, `iteration`, `id`, `column_name` of cells that are NULL and may not be |
| `training_texts` | every text that enters training: `dataset`, `iteration`, `id`, `part`, `text` |
| `texts` | these and a seeded sample of the other candidates and prompts; `enters_training` distinguishes them |
| `judged` | the judgements of each candidate by one judging set-up: `score`, `score_variance`, `n_judgements`, `n_scored` |
| `expected_scores` | `judged`, or what `judging.combine` or `scores.source` makes of the judgements |
| `pair_sides` | the answers of each pair (`side`: `chosen`, `rejected`) beside the candidate and its score, or
NULL: `told_score` and `score`, `finish_reason`, `other_prompt`, `other_text` (the pair's is not the candidate's) |
| `judgement_sample` | a seeded sample of the judgements (all of them, if they are few) |
| `contamination` | `dataset`, `iteration`, `id`, `part`, `kind`, `evaluation_id`, `evaluation_dataset`, `rouge_l`, `text` |
| `prompt_words` | `dataset`, `iteration`, `id`, `unknown_share` of the words, `text`: ift and the kept prompts |
| `near_duplicates` | `dataset`, `iteration`, `id`, `part`, `similarity`, `other_dataset`, `other_id` |
| `token_counts`, `template_facts`, `special_tokens` | what the trainer's tokenizer makes of the rows (judging/audits/tokens.py) |

A sample is drawn by a hash of the row's id and the run's seed, so that it is the same in every run of the audit.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from selfreward.judging.audits.contamination import contamination
from selfreward.judging.audits.data import AuditData, Provided, Unavailable
from selfreward.judging.audits.near import near_duplicates
from selfreward.judging.audits.tokens import special_tokens, template_facts, token_counts
from selfreward.judging.audits.unknown import prompt_words
from selfreward.judging.scores import scores_of
from selfreward.sql.views import VERSIONS
from selfreward.tables import BY_KIND, DATASETS, DatasetName, required_columns

if TYPE_CHECKING:
    import pyarrow as pa

_HIGHEST = (1 << 64) - 1
"""The highest of DuckDB's hashes."""


def _configured(data: AuditData) -> pa.Table:
    import pyarrow as pa

    judging = data.config.judging
    row = {"lang": data.config.seeds.lang, "seed": data.config.seed, "min_score": judging.min_score,
           "max_score": judging.max_score}  # fmt: skip
    return pa.Table.from_pylist([row])


def _expected_counts(data: AuditData) -> None:
    """The counts that the manifests ask for; NULL for imported datasets."""
    data.create(
        "expected_counts",
        f"""SELECT iteration,
            max(CASE WHEN dataset = 'candidates' THEN (params ->> '$.candidates.n')::BIGINT
                     * coalesce((params ->> '$.models')::BIGINT, 1) END) AS n_candidates,
            max(CASE WHEN dataset = 'judgements' AND (params ->> '$.judging.mode') = 'expected' THEN 1
                     WHEN dataset = 'judgements' THEN (params ->> '$.judging.samples')::BIGINT END
                * coalesce((params ->> '$.setups')::BIGINT, 1)) AS n_judgements
        FROM {VERSIONS} WHERE iteration IS NOT NULL GROUP BY iteration""",
    )


def _require_datasets(data: AuditData) -> None:
    if not any(data.has(kind) for kind in BY_KIND):
        raise Unavailable(f"the run has no {', '.join(BY_KIND)}")


def _null_cells(data: AuditData) -> pa.Table:
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    _require_datasets(data)
    for name in data.run.names():
        dataset = DatasetName.parse(name)
        if dataset.dataset is None:
            continue
        table, (id_column, *_) = data.run.table(name), dataset.dataset.key
        place = {"dataset": dataset.kind, "iteration": dataset.iteration}
        for column in sorted(required_columns(dataset.dataset.row) & set(table.column_names)):
            # Arrow knows the count, so ids are looked up only in columns that have NULLs.
            if table[column].null_count:
                ids = table[id_column].filter(table[column].is_null())
                rows += [{**place, "id": id, "column_name": column} for id in ids.to_pylist()]
    schema = {"dataset": pa.string(), "iteration": pa.int64(), "id": pa.string(), "column_name": pa.string()}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(schema.items())))


def _repeated_keys(data: AuditData) -> None:
    queries = []
    _require_datasets(data)
    for dataset in (dataset for dataset in DATASETS if dataset.key):
        iteration = "iteration" if dataset.per_iteration else "NULL::BIGINT"
        key = ", ".join((*(("iteration",) if dataset.per_iteration else ()), *dataset.key))
        # Counting hashes is cheaper than counting keys; only keys whose hash repeats are counted themselves.
        kind, hashed = dataset.kind, f"hash({key})"
        queries.append(
            f"""SELECT '{kind}' AS dataset, {iteration} AS iteration, {dataset.key[0]} AS id, count(*) AS n FROM {kind}
            WHERE {hashed} IN (SELECT {hashed} AS key FROM {kind} GROUP BY key HAVING count(*) > 1)
            GROUP BY {key} HAVING n > 1"""
        )
    data.create("repeated_keys", "\nUNION ALL ".join(queries))


def _other_iterations(data: AuditData) -> pa.Table:
    import pyarrow as pa

    rows = []
    for dataset in map(DatasetName.parse, data.run.names()):
        # Reading it fills `other_iterations`; a view no longer shows what the rows themselves say.
        data.run.table(str(dataset))
        if n_rows := data.run.other_iterations.get(str(dataset)):
            rows.append({"dataset": dataset.kind, "iteration": dataset.iteration, "n_rows": n_rows})
    schema = {"dataset": pa.string(), "iteration": pa.int64(), "n_rows": pa.int64()}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(schema.items())))


_TRAINING_TEXTS = """
SELECT 'ift' AS dataset, NULL::BIGINT AS iteration, ift_id AS id, 'prompt' AS part, prompt AS text FROM ift
UNION ALL SELECT 'ift', NULL, ift_id, 'response', response FROM ift
UNION ALL SELECT 'eft', NULL, eft_id, 'prompt', prompt FROM eft WHERE accepted AND split = 'train'
UNION ALL SELECT 'eft', NULL, eft_id, 'response', response FROM eft WHERE accepted AND split = 'train'
UNION ALL SELECT 'eft', NULL, eft_id, 'target', target FROM eft WHERE accepted AND split = 'train'
UNION ALL SELECT 'pairs', iteration, pair_id, 'prompt', {prompt} FROM pairs
UNION ALL SELECT 'pairs', iteration, pair_id, 'chosen', {chosen} FROM pairs
UNION ALL SELECT 'pairs', iteration, pair_id, 'rejected', {rejected} FROM pairs
UNION ALL SELECT 'judge_pairs', iteration, judge_pair_id, 'chosen', {chosen} FROM judge_pairs
UNION ALL SELECT 'judge_pairs', iteration, judge_pair_id, 'rejected', {rejected} FROM judge_pairs"""


def _training_texts(data: AuditData) -> None:
    texts = {
        c: f"array_to_string([m.content for m in {c}], chr(10))" for c in ("prompt", "chosen", "rejected")
    }
    data.create("training_texts", _TRAINING_TEXTS.format(**texts), as_view=True)


def _texts(data: AuditData) -> None:
    """All texts that are trained on, and of the rest the rows with the lowest hashes."""
    seed, n = data.config.seed, data.sample_rows
    data.create(
        "other_texts",
        f"""SELECT *, hash(id, {seed}) AS place FROM (
            SELECT 'candidates' AS dataset, iteration, candidate_id AS id FROM candidates
            ANTI JOIN (SELECT unnest([chosen_id, rejected_id]) AS candidate_id FROM pairs) USING (candidate_id)
            UNION ALL SELECT 'prompts', iteration, prompt_id FROM prompts ANTI JOIN pairs USING (prompt_id) WHERE kept)""",
    )
    data.create("drawn", f"SELECT * FROM other_texts ORDER BY place LIMIT {n}")
    data.create(
        "sampled_texts",
        """SELECT dataset, d.iteration, id, 'response' AS part, response AS text
        FROM drawn d JOIN candidates c ON dataset = 'candidates' AND d.iteration = c.iteration AND id = candidate_id
        UNION ALL SELECT dataset, d.iteration, id, 'prompt', prompt
        FROM drawn d JOIN prompts p ON dataset = 'prompts' AND d.iteration = p.iteration AND id = prompt_id""",
    )
    data.create(
        "texts",
        "SELECT *, true AS enters_training FROM training_texts UNION ALL SELECT *, false FROM sampled_texts",
        as_view=True,
    )
    n_training, n_rest = data.count("SELECT 1 FROM training_texts"), data.count("SELECT 1 FROM other_texts")
    data.notes.append(
        f"text checks: all {n_training:,} texts that enter training, and {min(n, n_rest):,} of {n_rest:,} others "
        f"(by hash, seed {seed})"
    )


def _judged(data: AuditData) -> None:
    """Judgements are the longest table, so one pass over them serves every audit that asks per candidate."""
    data.create(
        "judged",
        """SELECT iteration, candidate_id, judge, template, judge_mode, avg(score) AS score,
            var_pop(score) AS score_variance, count(*) AS n_judgements, count(score) AS n_scored
        FROM judgements GROUP BY ALL""",
    )


def _expected_scores(data: AuditData) -> None:
    """A view, but for the iterations with several judges or templates, or with the scores of a control."""
    others: dict[int, str] = {}
    for name in data.run.datasets("scores"):
        params, dataset = data.run.run.current(name).manifest["params"], DatasetName.parse(name)
        if dataset.iteration is not None and ("scores" in params or "combine" in params.get("judging", {})):
            made = partial(_sibling, data, dataset)
            data.connection.register(f"made_{dataset.iteration}", scores_of(made("judgements"), params, made))
            others[dataset.iteration] = f"SELECT * FROM made_{dataset.iteration}"
    plain = f"SELECT * FROM judged WHERE iteration NOT IN ({', '.join(map(str, others)) or 'NULL'})"
    parts = ["SELECT * FROM judged"] if not others else [plain, *others.values()]
    data.create("expected_scores", " UNION ALL BY NAME ".join(parts), as_view=True)


def _sibling(data: AuditData, dataset: DatasetName, kind: str) -> pa.Table:
    return data.run.table(str(dataset.sibling(kind)))


def _pair_sides(data: AuditData) -> None:
    """Texts are compared by 64-bit hash; the chance of a collision is negligible."""
    columns = [row[0] for row in data.connection.execute("DESCRIBE candidates").fetchall()]
    # A pair may have the reasoning before the answer (pairs.reasoning).
    thought = " AND hash(coalesce(reasoning, '') || response) <> told" if "reasoning" in columns else ""
    data.create(
        "pair_sides",
        f"""SELECT iteration, pair_id, side, candidate_id, told_score, s.score, finish_reason,
            c.prompt_id <> p.prompt_id AS other_prompt, c.prompt_id IS NOT NULL AND hash(response) <> told{thought} AS other_text
        FROM (
            SELECT iteration, pair_id, prompt_id, unnest(['chosen', 'rejected']) AS side,
                unnest([chosen_id, rejected_id]) AS candidate_id, unnest([chosen_score, rejected_score]) AS told_score,
                unnest([hash(chosen[-1].content), hash(rejected[-1].content)]) AS told FROM pairs
        ) p LEFT JOIN candidates c USING (iteration, candidate_id) LEFT JOIN scores s USING (iteration, candidate_id)""",
    )


def _judgement_sample(data: AuditData) -> None:
    """The judgements with the lowest hashes."""
    seed, n, n_all = data.config.seed, data.sample_rows, data.count("SELECT 1 FROM judgements")
    place = f"hash(judgement_id, {seed})"
    # Sorting all hashes is slow: first only those below a bound that 5/4 of the wanted rows should pass.
    for low in (min(_HIGHEST, (_HIGHEST // max(n_all, 1)) * n * 5 // 4), _HIGHEST):
        query = f"SELECT * FROM judgements WHERE {place} <= {low}::UBIGINT ORDER BY {place} LIMIT {n}"
        data.create("judgement_sample", query)
        if data.count("SELECT 1 FROM judgement_sample") == min(n, n_all):
            break
    data.notes.append(f"texts of judgements: {min(n, n_all):,} of {n_all:,} (by hash, seed {seed})")


PROVIDED: dict[str, Provided] = {
    "configured": Provided((), _configured),
    "expected_counts": Provided((VERSIONS,), _expected_counts),
    "null_cells": Provided((), _null_cells),
    "repeated_keys": Provided(tuple(dataset.kind for dataset in DATASETS if dataset.key), _repeated_keys),
    "other_iterations": Provided((), _other_iterations),
    "training_texts": Provided(("ift", "eft", "pairs", "judge_pairs"), _training_texts),
    "texts": Provided(("training_texts", "candidates", "prompts"), _texts),
    "judged": Provided(("judgements",), _judged),
    "expected_scores": Provided(("judged", "scores"), _expected_scores),
    "pair_sides": Provided(("pairs", "candidates", "scores"), _pair_sides),
    "judgement_sample": Provided(("judgements",), _judgement_sample),
    "contamination": Provided(("training_texts", "eft"), contamination),
    "prompt_words": Provided(("ift", "prompts"), prompt_words),
    "near_duplicates": Provided(("training_texts",), near_duplicates),
    "token_counts": Provided(("ift", "eft", "pairs", "judge_pairs"), token_counts),
    "template_facts": Provided((), template_facts),
    "special_tokens": Provided((), special_tokens),
}
