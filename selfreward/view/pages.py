"""A row and all around it: its texts, where it comes from and what was made from it, and the same answer judged otherwise.

What cannot be found (a damaged dataset, a template that is gone) is said in its place; the rest of the page stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from selfreward import api
from selfreward.errors import SelfrewardError
from selfreward.sql.lineage import Node, lineage
from selfreward.store.run import is_model
from selfreward.tables import BY_KIND, DATASETS, kind_of
from selfreward.text import one_line
from selfreward.view.shelf import Shelf

_LONG = 60
_TEXTS = ("prompt", "instruction", "response", "output", "judgement", "target", "note")
_SCORED = ("candidates", "candidate_id")
"""Scores have no id of their own: they are known by the answer that they are of."""


@dataclass(frozen=True)
class Neighbour:
    """A row beside the one shown: what it is to it, where it is, and its facts."""

    relation: str
    dataset: str
    id: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class JudgedElsewhere:
    """A judgement of the same answer: another sample, judge, template, version, or iteration."""

    dataset: str
    version: str
    is_current: bool
    row: dict[str, Any]


@dataclass
class RowPage:
    """What is shown of one row."""

    name: str
    id: str
    facts: dict[str, Any]
    texts: dict[str, Any]
    """Long values; a list of messages stays one."""
    tree: Node | None = None
    made_from_it: list[Neighbour] = field(default_factory=list)
    judged: list[JudgedElsewhere] = field(default_factory=list)
    same_answers: list[Neighbour] = field(default_factory=list)
    prompt: str = ""
    """What the judge was sent."""
    no_prompt: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """`pairs` of `iter1/pairs`."""
        return kind_of(self.name)


def row_page(shelf: Shelf, name: str, row: dict[str, Any]) -> RowPage:
    """The page of a row of a dataset."""
    dataset = BY_KIND.get(kind_of(name))
    id = str(row.get(dataset.key[0], "")) if dataset and dataset.key else ""
    long = [column for column in _TEXTS if row.get(column)]
    long += [column for column, value in row.items() if column not in long and _is_long(value)]
    page = RowPage(
        name,
        id,
        {column: value for column, value in row.items() if column not in long},
        {column: row[column] for column in long},
    )
    if dataset is None or not id:
        return page
    if dataset.prefix:
        with _said(page):
            page.tree = lineage(shelf.run, id, shelf.read)
            if dataset.kind == "judgements":
                page.texts = {**_judged_texts(page.tree), **page.texts}
        page.made_from_it = list(_made_from(shelf, page, dataset.kind, id))
    if dataset.kind == "judgements":
        try:
            page.prompt = api.sent_prompt(shelf.run, id, read=shelf.read)
        except SelfrewardError as error:
            page.no_prompt = str(error)
    if candidate := row.get("candidate_id"):
        page.judged = [
            one
            for one in _judged(shelf, page, candidate)
            if one.row.get("judgement_id") != id or not one.is_current
        ]
    if dataset.kind == "candidates" and row.get("response"):
        page.same_answers = list(_same_answers(shelf, page, str(row["response"]), id))
    return page


def _judged_texts(node: Node) -> dict[str, Any]:
    """What a judgement is about, for who is asked to agree: the prompt and the answer."""
    found: dict[str, Any] = {}
    for answer in (child for child in node.children if child.relation == "judges"):
        for prompt in (child for child in answer.children if child.relation == "prompt"):
            found["prompt"] = prompt.facts.get("prompt", "")
        found["response"] = answer.facts.get("response", "")
    return {name: text for name, text in found.items() if text}


def _is_long(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(part, dict) for part in value)
    return isinstance(value, str) and (len(value) > _LONG or "\n" in value)


class _said:
    """An error while a part of the page is made becomes a sentence on it."""

    def __init__(self, page: RowPage) -> None:
        self._page = page

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, SelfrewardError):
            text = one_line(error)
            if text not in self._page.problems:
                self._page.problems.append(text)
            return True
        return False


def _made_from(shelf: Shelf, page: RowPage, kind: str, id: str) -> Iterator[Neighbour]:
    """The rows that name this one as something they were made from."""
    for dataset in DATASETS:
        columns = [
            (link.column, link.relation)
            for link in dataset.links
            if kind == link.parent or dataset.kind == "reviews"
        ]
        # Prompts are shown earlier prompts too, beside rows of `ift`.
        columns += (
            [("demonstration_ids", "was shown")] if (kind, dataset.kind) == ("prompts", "prompts") else []
        )
        columns += (
            [("candidate_id", "score of")]
            if (kind, "candidate_id") == _SCORED and dataset.kind == "scores"
            else []
        )
        for name in (name for name in shelf.names() if kind_of(name) == dataset.kind):
            for column, relation in columns:
                with _said(page):
                    for row in shelf.find(name, column, id):
                        yield Neighbour(
                            relation,
                            name,
                            str(row[dataset.key[0]]),
                            _facts(dataset.facts or ("score", "n_scored"), row),
                        )


def _facts(names: Sequence[str], row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in names if row.get(name) is not None}


def _judged(shelf: Shelf, page: RowPage, candidate_id: str) -> Iterator[JudgedElsewhere]:
    """Every judgement of an answer in every stored version, current ones first."""
    import pyarrow.compute as pc

    for name in shelf.run.names():
        if is_model(name) or kind_of(name) != "judgements":
            continue
        current = shelf.run.current(name).version
        for version in sorted(shelf.run.versions(name), key=lambda v: v.version != current):
            with _said(page):
                table = shelf.read(version)
                for row in table.filter(pc.equal(table["candidate_id"], candidate_id)).to_pylist():
                    yield JudgedElsewhere(name, version.version, version.version == current, row)


def _same_answers(shelf: Shelf, page: RowPage, response: str, id: str) -> Iterator[Neighbour]:
    for name in (name for name in shelf.names() if kind_of(name) == "candidates"):
        with _said(page):
            for row in shelf.find(name, "response", response):
                if row["candidate_id"] != id:
                    yield Neighbour(
                        "the same text", name, str(row["candidate_id"]), _facts(("prompt_id", "model"), row)
                    )
