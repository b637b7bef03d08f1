"""Where a row came from: a tree from any id down to the seeds, with texts, scores, models and dataset versions.

    tree = lineage(Run("runs/demo"), "pair-3f0c…")       # lineage_text.format_lineage prints it

A pair leads to its two candidates, each to its judgements (text and score); to the prompt, its demonstrations (ift rows
or earlier prompts, and theirs in turn), and their seed rows; a pair of judgements to both and to every comparison of the
answer's judgements. Each step reads the version that the manifest of the row's
dataset names as its input. A repeated row is not expanded again (`above`). The id of an evaluation prompt
(`out-…`) leads to every model's answer to it and the verdicts on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError, UsageError
from selfreward.sql.pair_outcomes import WITHOUT_PAIR
from selfreward.sql.queries import connect, quoted
from selfreward.sql.views import OpenRun
from selfreward.store.run import Run, is_model
from selfreward.store.version import Version
from selfreward.tables import BY_KIND, DATASETS, DatasetName, kind_of
from selfreward.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

Read = Callable[[Version], "pa.Table"]
_ID_COLUMNS = {dataset.kind: dataset.key[0] for dataset in DATASETS if dataset.prefix}
_OUTPUT_PREFIX = f"{BY_KIND['model_outputs'].prefix}-"


@dataclass
class Node:
    """One row and its sources. `relation` is its role for its parent in the tree."""

    id: str
    relation: str
    dataset: str
    """`iter1/pairs@3f0c…`; empty if the row is missing."""
    facts: dict[str, Any] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    note: str = ""
    """`above`, `missing`, or that another version than the recorded one was read."""
    versions: list[dict[str, Any]] = field(default_factory=list)
    """Of the root: every version with a row in the tree, its builder and its inputs (models included)."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "id": self.id,
            "relation": self.relation,
            "dataset": self.dataset,
            "facts": self.facts,
            "note": self.note,
            **({"versions": self.versions} if self.versions else {}),
            "children": [child.to_dict() for child in self.children],
        }


def lineage(run: Run, id: str, read: Read = Version.table) -> Node:
    """The tree below the row with this id. Raises UsageError if no current dataset has it.

    `read` gives the verified rows of a version: a server that answers many questions keeps them.
    """
    reader = _Reader(run, read)
    tree = _Tree(reader)
    try:
        node = tree.evaluation_prompt(id) if id.startswith(_OUTPUT_PREFIX) else tree.root(id)
    # A missing column, or a value that should be a list.
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.path}: the rows that {id!r} is derived from are not valid rows of a run ({type(error).__name__}: {error}); "
            "`selfreward audit` lists them"
        ) from error
    if node is None:
        raise UsageError(
            f"{run.path}: no row has the id {id!r}; ids look like "
            f"{', '.join(f'{dataset.prefix}-…' for dataset in DATASETS if dataset.prefix)}, for example {reader.example()}"
        )
    node.versions = [_describe(tree.versions[name]) for name in sorted(tree.versions)]
    return node


class _Reader:
    """Rows by id, from verified versions, each registered once."""

    def __init__(self, run: Run, read: Read) -> None:
        self.run = run
        self._read = read
        self._connection = connect()
        self._registered: dict[Path, str] = {}
        """Folder of a version -> the view of its rows, numbered."""

    def candidates_for(self, id: str) -> Iterator[Version]:
        """Current versions of the datasets that may hold an id, likeliest first."""
        names = [n for n in self.run.names() if not is_model(n) and kind_of(n) in _ID_COLUMNS]
        prefix = id.partition("-")[0]
        # The prefix is only a hint: imported rows may have ids of any form.
        for name in sorted(names, key=lambda name: BY_KIND[kind_of(name)].prefix != prefix):
            yield self.run.current(name)

    def rows(self, version: Version, column: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Rows whose `column` is one of `ids`. Raises InputError without such a column, or for odd values."""
        import duckdb

        view = self._registered.get(version.folder)
        if view is None:
            view = self._registered[version.folder] = f"v{len(self._registered)}"
            self._connection.register(view, self._read(version))
        query = f"SELECT * FROM {quoted(view)} WHERE {quoted(column)} IN (SELECT unnest($1::VARCHAR[]))"
        try:
            result = self._connection.execute(query, [list(ids)])
            names = [entry[0] for entry in result.description]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        except (duckdb.Error, ArithmeticError, ValueError) as error:
            raise InputError(
                f"{version.folder}: its rows cannot be looked up by {column!r}: {one_line(error)}"
            ) from error

    def input(self, version: Version, kind: str) -> tuple[Version | None, str]:
        """The version of `kind` that `version` was made from (and a note), else the current one of its iteration."""
        recorded = [entry for entry in version.manifest["inputs"].values() if kind_of(entry["name"]) == kind]
        for entry in recorded:
            for found in self.run.versions(entry["name"]):
                if found.content_sha256 == entry["content_sha256"]:
                    return found, ""
        # Nothing was recorded (by an import), or that version is gone, which the node must say.
        for name in (str(DatasetName.parse(version.name).sibling(kind)), kind):
            if self.run.has(name):
                note = "from the current version: the one it was made from is gone" if recorded else ""
                return self.run.current(name), note
        return None, ""

    def inputs(self, version: Version, kind: str) -> list[Version]:
        """All versions of `kind` among the inputs (the prompts of earlier iterations)."""
        names = {e["name"] for e in version.manifest["inputs"].values() if kind_of(e["name"]) == kind}
        return [self.run.current(name) for name in sorted(names) if self.run.has(name)]

    def example(self) -> str:
        """Some id of this run, for the error message."""
        for version in self.candidates_for("pair-"):
            ids = self._read(version)[_ID_COLUMNS[kind_of(version.name)]]
            if len(ids):
                return str(ids[0])
        return "none: the run has no rows"


class _Tree:
    """Builds nodes; every row is expanded once."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._seen: set[str] = set()
        self._judgements: Version | None = None
        self.versions: dict[str, Version] = {}
        """Every version with a row in the tree."""

    def root(self, id: str) -> Node | None:
        """The tree below a row; None if no current dataset has it."""
        for version in self._reader.candidates_for(id):
            rows = self._reader.rows(version, _ID_COLUMNS[kind_of(version.name)], [id])
            if rows:
                node = self.node(version, rows[0], "")
                if kind_of(version.name) == "prompts":
                    node.facts |= self._why_no_pair(id)
                return node
        return None

    def _why_no_pair(self, prompt_id: str) -> dict[str, str]:
        """The fact `no pair` of a kept prompt that has none."""
        with OpenRun(self._reader.run.path) as opened:
            if WITHOUT_PAIR not in opened.views():
                return {}
            try:
                opened.load([WITHOUT_PAIR])
            # Imported rows may lack what explains it; where the prompt comes from is still known.
            except InputError as error:
                return {"no pair": f"unknown: {error}"}
            query = f"SELECT reason FROM {quoted(WITHOUT_PAIR)} WHERE prompt_id = $1"
            found = opened.bare_connection.execute(query, [prompt_id]).fetchone()
        return {"no pair": str(found[0])} if found else {}

    def evaluation_prompt(self, id: str) -> Node | None:
        """The answers of all models to an evaluation prompt, which share its id, each with the verdicts on it."""
        run = self._reader.run
        root = Node(id, "", "")
        for name in (name for name in run.names() if kind_of(name) == "model_outputs"):
            for row in self._reader.rows(run.current(name), "output_id", [id]):
                root.facts = {"prompt": row["instruction"]}
                answer = self._plain_node(run.current(name), row, id, "answered by")
                root.children.append(answer)
                verdicts = str(DatasetName.parse(name).sibling("annotations"))
                if run.has(verdicts):
                    rows = self._reader.rows(run.current(verdicts), "output_id", [id])
                    answer.children = [
                        self._plain_node(run.current(verdicts), r, id, "judged by") for r in rows
                    ]
        return root if root.children else None

    def _plain_node(self, version: Version, row: dict[str, Any], id: str, relation: str) -> Node:
        """A row and its facts, without its sources."""
        facts = {
            name: row[name] for name in BY_KIND[kind_of(version.name)].facts if row.get(name) is not None
        }
        node = Node(id, relation, f"{version.name}@{version.version}", facts)
        self.versions[node.dataset] = version
        return node

    def node(self, version: Version, row: dict[str, Any], relation: str, note: str = "") -> Node:
        kind = kind_of(version.name)
        id = str(row[_ID_COLUMNS[kind]])
        # Prompts share demonstrations: expanded each time, the tree would grow exponentially.
        if id in self._seen:
            return Node(id, relation, f"{version.name}@{version.version}", note="above")
        self._seen.add(id)
        node = self._plain_node(version, row, id, relation)
        node.note = note
        open_kind = getattr(self, f"_open_{kind}", None)
        node.children = open_kind(version, row) if open_kind else []
        return node

    def _open_pairs(self, version: Version, row: dict[str, Any]) -> list[Node]:
        scores, _ = self._reader.input(version, "scores")
        # This pair's judgements need not be the current ones.
        if scores is not None:
            self._judgements, _ = self._reader.input(scores, "judgements")
        return [
            *self._follow(version, "prompts", [row["prompt_id"]], "prompt"),
            *self._follow(version, "candidates", [row["chosen_id"]], "chosen"),
            *self._follow(version, "candidates", [row["rejected_id"]], "rejected"),
        ]

    def _open_judge_pairs(self, version: Version, row: dict[str, Any]) -> list[Node]:
        self._judgements, _ = self._reader.input(version, "judgements")
        sides = [
            *self._follow(version, "judgements", [row["chosen_id"]], "chosen"),
            *self._follow(version, "judgements", [row["rejected_id"]], "rejected"),
        ]
        compared, note = self._reader.input(version, "meta_judgements")
        if compared is None:
            return sides
        rows = self._reader.rows(compared, "candidate_id", [row["candidate_id"]])
        rows = sorted(rows, key=lambda row: str(row["meta_judgement_id"]))
        return [*sides, *(self.node(compared, row, "rests on", note) for row in rows)]

    def _open_meta_judgements(self, version: Version, row: dict[str, Any]) -> list[Node]:
        return [
            *self._follow(version, "judgements", [row["first_id"]], "shown first"),
            *self._follow(version, "judgements", [row["second_id"]], "shown second"),
        ]

    def _open_candidates(self, version: Version, row: dict[str, Any]) -> list[Node]:
        judgements = self._judgements_of(version, row["candidate_id"])
        if row["prompt_id"] in self._seen:
            return judgements
        return [*judgements, *self._follow(version, "prompts", [row["prompt_id"]], "prompt")]

    def _judgements_of(self, version: Version, candidate_id: str) -> list[Node]:
        judgements, note = self._judgements, ""
        if judgements is None:
            judgements, note = self._reader.input(version, "judgements")
        if judgements is None:
            return []
        rows = self._reader.rows(judgements, "candidate_id", [candidate_id])
        rows = [row for row in rows if row["judgement_id"] not in self._seen]
        return [self.node(judgements, r, "judged by", note) for r in sorted(rows, key=lambda r: r["sample"])]

    def _open_judgements(self, version: Version, row: dict[str, Any]) -> list[Node]:
        if row["candidate_id"] in self._seen:
            return []
        return self._follow(version, "candidates", [row["candidate_id"]], "judges")

    def _open_prompts(self, version: Version, row: dict[str, Any]) -> list[Node]:
        ids = list(row["demonstration_ids"])
        ift, note = self._reader.input(version, "ift")
        places = [(ift, "ift_id")] if ift else []
        places += [(v, "prompt_id") for v in [version, *self._reader.inputs(version, "prompts")]]
        found: dict[str, Node] = {}
        for place, column in places:
            missing = [id for id in ids if id not in found]
            for demonstration in self._reader.rows(place, column, missing) if missing else []:
                found[str(demonstration[column])] = self.node(place, demonstration, "was shown", note)
        # An id without a row is a node marked `missing`: nothing is left out silently.
        return [found.get(id) or Node(id, "was shown", "", note="missing") for id in ids]

    def _open_ift(self, version: Version, row: dict[str, Any]) -> list[Node]:
        return self._follow(version, "seeds", [row["source_id"]], "comes from", optional=True)

    def _open_eft(self, version: Version, row: dict[str, Any]) -> list[Node]:
        return self._open_ift(version, row)

    def _open_reviews(self, version: Version, row: dict[str, Any]) -> list[Node]:
        for place in self._reader.candidates_for(row["row_id"]):
            if kind_of(place.name) == row["dataset"]:
                for found in self._reader.rows(place, _ID_COLUMNS[row["dataset"]], [row["row_id"]]):
                    return [self.node(place, found, "is about")]
        return [Node(row["row_id"], "is about", "", note="missing")]

    def _follow(
        self, version: Version, kind: str, ids: Sequence[str], relation: str, optional: bool = False
    ) -> list[Node]:
        """The rows of `kind` with these ids; a missing one is a node, unless the run has no such dataset."""
        place, note = self._reader.input(version, kind)
        if place is None:
            return [] if optional else [Node(id, relation, "", note="missing") for id in ids]
        rows = {str(r[_ID_COLUMNS[kind]]): r for r in self._reader.rows(place, _ID_COLUMNS[kind], ids)}
        return [
            self.node(place, rows[id], relation, note)
            if id in rows
            else Node(id, relation, "", note="missing")
            for id in ids
        ]


def _describe(version: Version) -> dict[str, Any]:
    """A version, its builder and its inputs (models included)."""
    manifest = version.manifest
    inputs = [
        # a model's name already contains its hash
        entry["name"]
        if "@" in entry["name"]
        else f"{entry['name']}@{entry.get('version', entry['content_sha256'][:12])}"
        for entry in manifest["inputs"].values()
    ]
    return {
        "name": version.name,
        "version": version.version,
        "builder": manifest["builder"],
        "inputs": inputs,
    }
