"""A file being imported: every cell is checked, missing columns are filled in, then the rows are streamed.

Every row is checked against the dataset's class (columns, types, NULLs, accepted values, unique ids, the iteration), and
an error is one sentence with file, row and column. Checked rows wait in a spool; once the last one is checked, they go
into the store batch by batch. Memory grows by only 8 bytes per row, used to find repeated ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward import chats
from selfreward.errors import InputError
from selfreward.exchange.derived import CellRow, Cells, last_turns, one_turn_answers
from selfreward.exchange.own_rows import FillState, rules_of
from selfreward.exchange.spool import Spool
from selfreward.reading.columns import Place, extra_column, to_column
from selfreward.reading.files import Chunk, read_chunks
from selfreward.reading.opening import kind_of
from selfreward.store.run import Run
from selfreward.tables import Dataset, DatasetName, accepted_values, arrow_schema, required_columns

if TYPE_CHECKING:
    import pyarrow as pa

# Columns that the conversational export calls by another name.
_RENAMED = {"score_margin": "margin"}


class Incoming:
    """A file whose rows are all valid rows of a dataset. Raises InputError for the first that is not."""

    def __init__(self, run: Run, name: DatasetName, dataset: Dataset, path: Path) -> None:
        import pyarrow as pa

        self.run, self.name, self.path = run, name, path
        self._key, self._rules = dataset.key, rules_of(dataset)
        self._schema, self._required = arrow_schema(dataset.row), required_columns(dataset.row)
        self._accepted = accepted_values(dataset.row)
        if name.kind == "prompts" and self._has(chats.COLUMN):
            self._schema = self._schema.append(pa.field(chats.COLUMN, chats.messages_type()))
        self._extras: dict[str, pa.DataType | None] = {}
        self._present: frozenset[str] | None = None
        self._spool = Spool(run.path)
        self._one_kind = True  # no extra column has changed its type on the way
        self.n_rows = self._check()

    @property
    def schema(self) -> pa.Schema:
        """The class's columns, then the file's extra ones."""
        import pyarrow as pa

        return pa.schema([*self._schema, *(pa.field(n, t or pa.null()) for n, t in self._extras.items())])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, checked, in batches."""
        import pyarrow as pa

        schema = self.schema
        if self._one_kind:
            yield from self._spool.batches(schema)
            return
        # The type of an extra column is known only now: the values are read anew rather than cast.
        for known, extra in self._columns(self._extras):
            columns = {**known, **extra}
            yield pa.record_batch([columns[column] for column in schema.names], schema=schema)

    def _check(self) -> int:
        """Check and spool every row, find the types of extra columns, and hash the ids."""
        import numpy as np
        import pyarrow as pa

        n_rows = 0
        hashes = [np.empty(0, np.int64)]
        for known, extra in self._columns({}):
            n = len(next(iter(known.values())))
            n_rows += n
            for column, values in extra.items():
                before = self._extras.get(column)
                self._extras[column] = self._one_type(column, before, values.type)
                self._one_kind &= before in (None, pa.null(), self._extras[column])
            self._spool.add({**known, **extra})
            # Hashes instead of the ids: 8 bytes per row, however long the ids are.
            hashes.append(np.fromiter(map(hash, self._keys(known)), np.int64, n))
        if not n_rows:
            raise InputError(f"{self.path}: has no rows; expected the rows of {self.name}")
        ids, counts = np.unique(np.concatenate(hashes), return_counts=True)
        if (counts > 1).any():
            self._refuse_twins(set(ids[counts > 1].tolist()))
        return n_rows

    def _keys(self, known: Mapping[str, pa.Array]) -> Iterator[tuple[Any, ...]]:
        return zip(*(known[column].to_pylist() for column in self._key), strict=True)

    def _refuse_twins(self, hashes: set[int]) -> None:
        """Name the first key that two rows have; equal hashes of different keys are let through."""
        seen: dict[tuple[Any, ...], int] = {}
        numbers = (number for chunk in read_chunks(self.path) for number in chunk.numbers)
        keys = (key for known, _ in self._columns({}) for key in self._keys(known))
        for number, key in zip(numbers, keys, strict=True):
            if key in seen:
                shown = ", ".join(f"{column} {value!r}" for column, value in zip(self._key, key, strict=True))
                raise InputError(
                    f"{self.path}: row {number}: {shown} is already that of row {seen[key]}{self._made_key()}"
                )
            if hash(key) in hashes:
                seen[key] = number

    def _made_key(self) -> str:
        """How the id was made, if the file has none."""
        column, present = self._key[0], self._present or frozenset()
        says = next((rule.says for rule in self._rules if rule.column == column), "")
        return f" ({column} is {says})" if says and column not in present else ""

    def _one_type(self, column: str, before: pa.DataType | None, now: pa.DataType) -> pa.DataType:
        import pyarrow as pa

        if before is None or before == now:
            return now
        try:
            schemas = [pa.schema([(column, kind)]) for kind in (before, now)]
            return pa.unify_schemas(schemas, promote_options="permissive").field(column).type
        except pa.ArrowException as error:
            raise InputError(
                f"{self.path}: column {column!r} mixes {before} and {now}; give it one type, or leave it out"
            ) from error

    # -- the rows of the file --------------------------------------------------------------------------------

    def _columns(
        self, extra_types: Mapping[str, pa.DataType | None]
    ) -> Iterator[tuple[dict[str, pa.Array], dict[str, pa.Array]]]:
        """Chunk by chunk, the class's columns, checked and filled in, and the extra ones."""
        import pyarrow as pa

        rows = FillState(str(self.path), self.name.iteration, self._prompt_ids)
        for chunk in read_chunks(self.path):
            if not len(chunk.numbers):
                continue
            cells = {self._name_of(column, chunk): values for column, values in chunk.columns.items()}
            extra = {
                column: extra_column(cells[column], extra_types.get(column), self._place(column, chunk))
                for column in cells
                if column not in self._schema.names
            }
            for column in extra_types.keys() - extra.keys():
                extra[column] = pa.nulls(len(chunk.numbers), extra_types[column])
            yield self._known(cells, extra, chunk, rows), extra

    def _name_of(self, column: str, chunk: Chunk) -> str:
        renamed = _RENAMED.get(column, column) if self.name.kind == "pairs" else column
        return column if renamed in chunk.columns else renamed

    def _place(self, column: str, chunk: Chunk) -> Place:
        return Place(str(self.path), column, chunk.numbers)

    def _known(
        self, cells: Mapping[str, Any], extra: Mapping[str, pa.Array], chunk: Chunk, rows: FillState
    ) -> dict[str, pa.Array]:
        self._same_columns(cells, chunk)
        self._require(cells)
        known = {
            column: self._converted(column, cells[column], chunk)
            for column in self._schema.names
            if column in cells
        }
        if self.name.kind == "pairs":
            known |= one_turn_answers(known, self._place("chosen", chunk))
        if self.name.kind == "prompts" and chats.COLUMN in known:
            known |= last_turns(known, self._place(chats.COLUMN, chunk))
        self._fill(known, extra, chunk, rows)
        for column, values in known.items():
            self._check_column(values, self._place(column, chunk))
        return known

    def _same_columns(self, cells: Mapping[str, Any], chunk: Chunk) -> None:
        """Refuse a fillable column that only some rows have."""
        present = frozenset(rule.column for rule in self._rules if rule.column in cells)
        if self._present is None:
            self._present = present
        # Filled in for some rows only, ids of two kinds would share a column.
        if odd := sorted(self._present ^ present):
            raise InputError(
                f"{self.path}: column {odd[0]!r} is in some rows only (missing around row {chunk.numbers[0]}); give it to "
                "every row, or remove it to have it filled in"
            )

    def _require(self, cells: Mapping[str, Any]) -> None:
        filled = {rule.column for rule in self._rules}
        read = {c for rule in self._rules if rule.column not in cells for c in rule.needs}
        needed = (self._required | read) - filled
        in_chats = self.name.kind == "pairs" or (self.name.kind == "prompts" and chats.COLUMN in cells)
        absent = sorted(needed - cells.keys() - ({"prompt"} if in_chats else set()))
        if absent:
            raise InputError(
                f"{self.path}: has no column {absent[0]!r}, but {', '.join(map(repr, cells)) or 'none'}; {self.name} needs "
                f"{', '.join(sorted(needed))} (`selfreward import RUN {self.name} --columns` lists all)"
            )

    def _converted(self, column: str, cells: Any, chunk: Chunk) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        kind, from_csv = self._schema.field(column).type, kind_of(self.path) == "csv"
        role = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}.get(column)
        values = to_column(cells, kind, self._place(column, chunk), from_csv=from_csv, role=role)
        if from_csv and column in self._required and pa.types.is_string(kind):
            # Most CSV writers do not quote an empty text.
            values = pc.fill_null(values, "")
        return values

    def _fill(
        self, known: dict[str, pa.Array], extra: Mapping[str, pa.Array], chunk: Chunk, rows: FillState
    ) -> None:
        import pyarrow as pa

        rules = [rule for rule in self._rules if rule.column not in known]
        for column in self._schema.names:
            if column not in known and column not in self._required:
                known[column] = pa.nulls(len(chunk.numbers), self._schema.field(column).type)
        if not rules:
            return
        needs = {column for rule in rules for column in rule.needs}
        read = dict(known)
        # The prompt's text, for which the class has only an id.
        for column in needs & extra.keys():
            read[column] = to_column(extra[column], pa.string(), self._place(column, chunk))
        for column in (needs | self._required) & read.keys():
            self._refuse_null(read[column], self._place(column, chunk))
        made: dict[str, list[Any]] = {rule.column: [] for rule in rules}
        cells = Cells(read)
        for index, number in enumerate(chunk.numbers):
            rows.number = number
            row = CellRow(cells, index)
            for rule in rules:
                row[rule.column] = rule.make(row, rows)
                made[rule.column].append(row[rule.column])
        known.update({c: pa.array(values, self._schema.field(c).type) for c, values in made.items()})

    def _refuse_null(self, values: pa.Array, place: Place) -> None:
        if values.null_count:
            found = values.is_null().index(True).as_py()
            raise place.refuse(found, f"is NULL; {place.column} needs a value")

    def _check_column(self, values: pa.Array, place: Place) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if place.column in self._required:
            self._refuse_null(values, place)
        expected = sorted(self._accepted.get(place.column, ()))
        if place.column == "iteration":
            wrong = pc.index(pc.equal(values, self.name.iteration), False).as_py()
            if wrong >= 0:
                raise place.refuse(wrong, f"holds {values[wrong]}, but these are rows of {self.name}")
        elif expected:
            wrong = pc.index(pc.is_in(values, pa.array([*expected, None])), False).as_py()
            if wrong >= 0:
                raise place.refuse(
                    wrong, f"holds {values[wrong].as_py()!r}, expected one of {', '.join(expected)}"
                )

    @property
    def looks_up_prompts(self) -> bool:
        """Whether rows are joined with the run's prompts by text."""
        return self.name.kind in ("candidates", "pairs") and "prompt_id" not in (self._present or ())

    # -- prompts of the run ----------------------------------------------------------------------------------

    @cached_property
    def _prompt_ids(self) -> dict[str, str]:
        """Ids of the run's prompts by text, if rows without ids are joined with them."""
        name = str(self.name.sibling("prompts"))
        if self.name.kind not in ("candidates", "pairs") or not self.run.has(name) or self._has("prompt_id"):
            return {}
        rows = self.run.current(name).table(["prompt", "prompt_id"]).to_pylist()
        # Reversed, so that the first of several equal prompts wins.
        return {row["prompt"]: row["prompt_id"] for row in reversed(rows)}

    def _has(self, column: str) -> bool:
        return any(column in chunk.columns for chunk in itertools.islice(read_chunks(self.path), 2))

    @property
    def prompts_input(self) -> dict[str, dict[str, str]]:
        """The recipe's inputs besides the file."""
        if not self._prompt_ids:
            return {}
        version = self.run.current(str(self.name.sibling("prompts")))
        entry = {"name": version.name, "version": version.version, "content_sha256": version.content_sha256}
        return {"prompts": entry}
