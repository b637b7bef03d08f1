"""What audits can ask beside the datasets: tables that are made when the first audit needs them.

| table | rows |
|---|---|
| `configured` | one: `lang`, `seed`, `min_score`, `max_score`, from the run's configuration (else the defaults) |
| `expected_counts` | `iteration`, `n_candidates` a prompt, `n_judgements` a candidate; from the manifests, NULL if unsaid |
| `other_iterations` | `dataset`, `iteration`, `n_rows` that say another iteration than the dataset's name does |
| `null_cells` | `dataset`, `iteration`, `id`, `column_name` of cells that are NULL and may not be |
| `training_texts` | every text that enters training: `dataset`, `iteration`, `id`, `part`, `text` |
| `texts` | these and a seeded sample of the other candidates and prompts; `enters_training` tells them apart |
| `judged` | the judgements of each candidate by one judging set-up: `score`, `score_variance`, `n_judgements`, `n_scored` |
| `pair_sides` | the answers of each pair (`side`: `chosen`, `rejected`) beside the candidate and its score, NULL where there is
none: `told_score` and `score`, `finish_reason`, `other_prompt`, `other_text` (the pair's is not the candidate's) |
| `judgement_sample` | a seeded sample of the judgements (all of them, where they are few) |
| `contamination` | `dataset`, `iteration`, `id`, `part`, `kind`, `evaluation_id`, `evaluation_dataset`, `rouge_l`, `text` |
| `prompt_words` | `dataset`, `iteration`, `id`, `unknown_share` of the words, `text`: ift and the kept prompts |
| `near_duplicates` | `dataset`, `iteration`, `id`, `part`, `similarity`, `other_dataset`, `other_id` |
| `token_counts`, `template_facts`, `special_tokens` | what the trainer's tokenizer makes of the rows (audit_tokens.py) |

A sample is drawn by a hash of the row's id and the run's seed, so that it is the same in every run of the audit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.exchange.importing import KEYS, ROW_CLASSES
from selfreward.sql.queries import quoted
from selfreward.sql.views import VERSIONS, OpenRun
from selfreward.store.names import DatasetName
from selfreward.tables import arrow_schema, required_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from selfreward.config.run import RunConfig

SAMPLE_ROWS = 20_000
_HIGHEST = (1 << 64) - 1
"""Of DuckDB's hashes."""


class Unavailable(Exception):
    """A table cannot be made for this run; the message is the reason for which audits are skipped."""


@dataclass
class AuditData:
    """A run under audit: its views, the configuration it was made with, and the tables made so far."""

    run: OpenRun
    iteration: int | None = None
    """None looks at everything; k at the datasets up to iteration k."""
    against: tuple[Path, ...] = ()
    """Evaluation files beside the configured ones."""
    sample_rows: int = SAMPLE_ROWS
    notes: list[str] = field(default_factory=list)
    """What was looked at, where it was not everything."""
    _made: set[str] = field(default_factory=set)
    _refused: dict[str, Exception] = field(default_factory=dict)

    @property
    def connection(self) -> Any:
        """DuckDB, with the tables that `need` made."""
        return self.run.bare_connection

    @cached_property
    def config(self) -> RunConfig:
        """The run's configuration; the defaults where it has none (imported data)."""
        from selfreward.config.run import RunConfig, load_config

        path = self.run.run.path / "config.yaml"
        return load_config(path) if path.is_file() else RunConfig()

    @cached_property
    def tokenizer(self) -> Any:
        """M0's tokenizer, loaded once."""
        from selfreward.judging.audits.tokens import load_tokenizer

        return load_tokenizer(self)

    def has(self, name: str) -> bool:
        """Whether the run has rows of a dataset (or a table can be made)."""
        return name in PROVIDED or name == VERSIONS or bool(self.run.datasets(name))

    def need(self, names: Iterable[str]) -> None:
        """Make views and tables; datasets that the run lacks are empty. Unavailable says why one cannot be made."""
        for name in names:
            if name in self._made:
                continue
            if name in self._refused:
                raise self._refused[name]
            if name in PROVIDED:
                made = self._make(name)
                if made is not None:
                    self.connection.register(name, made)
            elif self.run.datasets(name) or name == VERSIONS:
                self.run.load([name])
            elif name in ROW_CLASSES:
                self.connection.register(name, arrow_schema(ROW_CLASSES[name]).empty_table())
            else:
                raise Unavailable(f"the run has no {name}")
            self._made.add(name)

    def _make(self, name: str) -> pa.Table | None:
        """A provided table; what could not be made for one audit is not tried again for the next."""
        try:
            self.need(PROVIDED[name].uses)
            return PROVIDED[name].make(self)
        except Exception as error:
            self._refused[name] = error
            raise

    def create(self, name: str, query: str, as_view: bool = False) -> None:
        """A temporary table (rows are copied) or view from SQL."""
        kind = "VIEW" if as_view else "TABLE"
        self.connection.execute(f"CREATE OR REPLACE TEMP {kind} {quoted(name)} AS {query}")

    def count(self, query: str) -> int:
        """How many rows a query has."""
        ((n,),) = self.connection.execute(f"SELECT count(*) FROM ({query})").fetchall()
        return int(n)


@dataclass(frozen=True)
class Provided:
    """A table that can be made: from which datasets and tables, and how (returning it, or creating it in SQL)."""

    uses: tuple[str, ...]
    make: Callable[[AuditData], pa.Table | None]


def _configured(data: AuditData) -> pa.Table:
    import pyarrow as pa

    judging = data.config.judging
    row = {"lang": data.config.seeds.lang, "seed": data.config.seed, "min_score": judging.min_score,
           "max_score": judging.max_score}  # fmt: skip
    return pa.Table.from_pylist([row])


def _expected_counts(data: AuditData) -> None:
    """What the manifests say was asked for; imported datasets do not say."""
    data.create(
        "expected_counts",
        f"""SELECT iteration,
            max(CASE WHEN dataset = 'candidates' THEN (params ->> '$.candidates.n')::BIGINT END) AS n_candidates,
            max(CASE WHEN dataset = 'judgements' AND (params ->> '$.judging.mode') = 'expected' THEN 1
                     WHEN dataset = 'judgements' THEN (params ->> '$.judging.samples')::BIGINT END) AS n_judgements
        FROM {VERSIONS} WHERE iteration IS NOT NULL GROUP BY iteration""",
    )


def _null_cells(data: AuditData) -> pa.Table:
    """Arrow knows how many NULLs a column has; ids are looked up only where there are any."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for name in data.run.names():
        dataset = DatasetName.parse(name)
        kind = dataset.kind
        if kind not in ROW_CLASSES:
            continue
        table = data.run.table(name)
        for column in sorted(required_columns(ROW_CLASSES[kind]) & set(table.column_names)):
            if table[column].null_count:
                ids = table[KEYS.get(kind, column)].filter(table[column].is_null())
                rows += [
                    {
                        "dataset": kind,
                        "iteration": dataset.iteration,
                        "id": id,
                        "column_name": column,
                    }
                    for id in ids.to_pylist()
                ]
    schema = {"dataset": pa.string(), "iteration": pa.int64(), "id": pa.string(), "column_name": pa.string()}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(schema.items())))


def _other_iterations(data: AuditData) -> pa.Table:
    """Every dataset is read; in the views the name's iteration has taken the place of what the rows say."""
    import pyarrow as pa

    rows = []
    for dataset in map(DatasetName.parse, data.run.names()):
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
UNION ALL SELECT 'pairs', iteration, pair_id, 'rejected', {rejected} FROM pairs"""


def _training_texts(data: AuditData) -> None:
    texts = {
        c: f"array_to_string([m.content for m in {c}], chr(10))" for c in ("prompt", "chosen", "rejected")
    }
    data.create("training_texts", _TRAINING_TEXTS.format(**texts), as_view=True)


def _texts(data: AuditData) -> None:
    """Everything that is trained on, and of the rest the rows with the lowest hashes."""
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


def _pair_sides(data: AuditData) -> None:
    """Texts are compared by hash: 64 bits, against which two different ones have no chance worth a second look."""
    data.create(
        "pair_sides",
        """SELECT iteration, pair_id, side, candidate_id, told_score, s.score, finish_reason,
            c.prompt_id <> p.prompt_id AS other_prompt, c.prompt_id IS NOT NULL AND hash(response) <> told AS other_text
        FROM (
            SELECT iteration, pair_id, prompt_id, unnest(['chosen', 'rejected']) AS side,
                unnest([chosen_id, rejected_id]) AS candidate_id, unnest([chosen_score, rejected_score]) AS told_score,
                unnest([hash(chosen[-1].content), hash(rejected[-1].content)]) AS told FROM pairs
        ) p LEFT JOIN candidates c USING (iteration, candidate_id) LEFT JOIN scores s USING (iteration, candidate_id)""",
    )


def _judgement_sample(data: AuditData) -> None:
    """The judgements with the lowest hashes; sorting begins with those that are surely low enough, where there are."""
    seed, n, n_all = data.config.seed, data.sample_rows, data.count("SELECT 1 FROM judgements")
    place = f"hash(judgement_id, {seed})"
    for low in (min(_HIGHEST, (_HIGHEST // max(n_all, 1)) * n * 5 // 4), _HIGHEST):
        query = f"SELECT * FROM judgements WHERE {place} <= {low}::UBIGINT ORDER BY {place} LIMIT {n}"
        data.create("judgement_sample", query)
        if data.count("SELECT 1 FROM judgement_sample") == min(n, n_all):
            break
    data.notes.append(f"texts of judgements: {min(n, n_all):,} of {n_all:,} (by hash, seed {seed})")


def _contamination(data: AuditData) -> pa.Table:
    from selfreward.judging.audits.contamination import contamination

    return contamination(data)


def _prompt_words(data: AuditData) -> pa.Table:
    from selfreward.judging.audits.unknown import prompt_words

    return prompt_words(data)


def _near_duplicates(data: AuditData) -> pa.Table:
    from selfreward.judging.audits.near import near_duplicates

    return near_duplicates(data)


def _token_counts(data: AuditData) -> pa.Table:
    from selfreward.judging.audits.tokens import token_counts

    return token_counts(data)


def _template_facts(data: AuditData) -> pa.Table:
    from selfreward.judging.audits.tokens import template_facts

    return template_facts(data)


def _special_tokens(data: AuditData) -> pa.Table:
    from selfreward.judging.audits.tokens import special_tokens

    return special_tokens(data)


PROVIDED: dict[str, Provided] = {
    "configured": Provided((), _configured),
    "expected_counts": Provided((VERSIONS,), _expected_counts),
    "null_cells": Provided((), _null_cells),
    "other_iterations": Provided((), _other_iterations),
    "training_texts": Provided(("ift", "eft", "pairs"), _training_texts),
    "texts": Provided(("training_texts", "candidates", "prompts"), _texts),
    "judged": Provided(("judgements",), _judged),
    "pair_sides": Provided(("pairs", "candidates", "scores"), _pair_sides),
    "judgement_sample": Provided(("judgements",), _judgement_sample),
    "contamination": Provided(("training_texts", "eft"), _contamination),
    "prompt_words": Provided(("ift", "prompts"), _prompt_words),
    "near_duplicates": Provided(("training_texts",), _near_duplicates),
    "token_counts": Provided(("ift", "eft", "pairs"), _token_counts),
    "template_facts": Provided((), _template_facts),
    "special_tokens": Provided((), _special_tokens),
}
