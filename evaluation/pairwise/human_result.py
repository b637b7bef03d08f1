"""Filled sheets read back: verdicts by model, majority of the annotators, and their agreement.

A prompt is decided by what more than half of its annotators say. If all verdicts are in without a majority, it is
a tie, and counted as split; if missing verdicts could still decide it, it is open: left out of the shares, and
counted both ways in their intervals. Agreement is over the prompts that everyone judged.

Refused, with file and row: a verdict other than 0, 1, 2, an item that the key does not have, an item twice.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from selfreward.errors import InputError
from selfreward.evaluation.ask.answers import ModelAccess
from selfreward.evaluation.ask.files import Offenders
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.measure import File, Measure, Result
from selfreward.evaluation.pairwise.human_sheet import KeyItem, SheetKey, cells_sha256, read_key
from selfreward.evaluation.pairwise.result import percent
from selfreward.judging.parsing.verdicts import AnnotatorAgreement, annotator_agreement
from selfreward.reading.opening import read_text
from selfreward.statistics import Figure, open_share
from selfreward.store.sealed import digest

TABLE = "human_verdicts"
_VERDICTS = {"0": "tie", "1": "1", "2": "2", "0.0": "tie", "1.0": "1", "2.0": "2", "tie": "tie"}


@plain_dataclass(frozen=True, slots=True)
class HumanVerdict:
    """One annotator on one prompt; row of the table `human_verdicts`."""

    evaluation_id: str
    item_id: str
    annotator: int
    prompt: str
    model_a: str
    model_b: str
    first: str
    """`a` or `b`: whose answer was shown first."""
    verdict: str | None
    """`a`, `b` or `tie`; NULL if the cell is empty or the sheet was not returned."""
    comment: str | None


@plain_dataclass(frozen=True, slots=True)
class HumanResult(Result):
    """Majority verdicts; `win` is a's."""

    model_a: str
    model_b: str
    n_prompts: int
    n_annotators: int
    n_verdicts: int
    """Of `n_prompts` x `n_annotators`."""
    win: Figure
    tie: Figure
    loss: Figure
    n_split: int
    """Ties because no verdict had more than half."""
    n_open: int
    """Prompts that the missing verdicts could still decide."""
    first_chosen: Figure
    """Of the verdicts that name a winner: the share for the response shown first; 50 % is no habit."""
    agreement: AnnotatorAgreement | None
    """Over the prompts that everyone judged; None without such prompts or with one annotator."""
    notes: tuple[str, ...]
    rows: tuple[HumanVerdict, ...]

    def text(self) -> str:
        """Shares, their completeness, and the annotators' agreement."""
        n_asked = self.n_prompts * self.n_annotators
        shares = (("wins", self.win), ("ties", self.tie), ("losses", self.loss))
        lines = [
            f"{self.model_a} against {self.model_b}, majority of {self.n_annotators} people on {self.n_prompts} prompts",
            *(f"  {word:<10} {percent(share)}" for word, share in shares),
            f"  verdicts   {self.n_verdicts} of {n_asked}; {self.n_split} prompts split (ties), {self.n_open} open",
            f"  place      the response shown first was chosen in {percent(self.first_chosen)}",
        ]
        if self.agreement is not None:
            alpha = self.agreement.alpha.value
            lines.append(
                f"  agreement  pairs of verdicts {percent(self.agreement.pairwise)}, unanimous "
                f"{percent(self.agreement.unanimous)}, Krippendorff's alpha {'n/a' if alpha is None else f'{alpha:.2f}'}"
            )
        return "\n".join([*lines, *(f"warning: {note}" for note in self.notes)])


@dataclass(frozen=True, kw_only=True)
class HumanImport(Measure[HumanResult, HumanResult]):
    """Read filled sheets: majority and agreement."""

    name = "human-import"
    sheets: Annotated[tuple[Path, ...], Field(title="SHEET…")]
    """The filled sheets (csv)."""
    key: File
    """The key.json that human-export wrote."""

    def rows(self, ask: ModelAccess) -> HumanResult:
        """No model is called: humans judged."""
        return read_sheets(read_key(self.key), self.sheets)

    def tables(self, result: HumanResult) -> Iterable[Tables]:
        """`human_verdicts`, a row for each annotator and prompt."""
        evaluation = Evaluation(
            measure="human",
            model=result.model_a,
            against=result.model_b,
            judge=f"{result.n_annotators} people, majority",
            prompts="human evaluation sheet",
            n_prompts=result.n_prompts,
            settings={"items": digest(sorted(row.item_id for row in result.rows))},
        )
        figures = evaluation.shares(result, "win", "tie", "loss")
        if result.agreement is not None:
            figures.append(evaluation.of_figure("pairwise_agreement", result.agreement.pairwise))
            figures.append(evaluation.of_figure("alpha", result.agreement.alpha, "correlation"))
        yield Tables(evaluation, figures, {TABLE: result.rows})


def read_sheets(key: SheetKey, paths: Sequence[Path]) -> HumanResult:
    """All verdicts of the filled sheets, summarized. Missing sheets count as not filled in."""
    items = {item.item: item for item in key.items}
    names = (key.model_a, key.model_b)
    rows = {
        i.item: HumanVerdict("", i.item, i.annotator, i.prompt, *names, i.first, None, None)
        for i in key.items
    }
    seen: set[str] = set()
    n_changed = 0
    for path in paths:
        strangers, repeated = Offenders(), Offenders()
        for number, cells in _sheet(path):
            item = items.get(cells["item"])
            if item is None:
                strangers.add(number, cells["item"])
                continue
            if item.item in seen:
                repeated.add(number, item.item)
            seen.add(item.item)
            # a spreadsheet may have changed the texts: noted, since the verdict may be about other ones
            n_changed += _texts(cells) not in (None, item.cells_sha256)
            verdict = _verdict(cells, item, f"{path.name}, row {number}")
            comment = (cells.get("comment") or "").strip() or None
            rows[item.item] = replace(rows[item.item], verdict=verdict, comment=comment)
        strangers.refuse(path.name, "with an item that the key does not have; give the key of these sheets")
        repeated.refuse(path.name, "with an item that was read already")
    notes = (f"{n_changed} rows have other texts than were exported",) if n_changed else ()
    return summarise(key, list(rows.values()), notes)


def majority(verdicts: Sequence[str | None], n_annotators: int) -> tuple[str | None, str]:
    """The verdict of more than half of the annotators, and `decided`, `split` or `open`.

    >>> majority(["a", "a", None], 3), majority(["a", "b", "tie"], 3), majority(["a", None, None], 3)
    (('a', 'decided'), ('tie', 'split'), (None, 'open'))
    """
    counts = Counter(verdict for verdict in verdicts if verdict is not None)
    for verdict, n in counts.most_common(1):
        if 2 * n > n_annotators:
            return verdict, "decided"
    n_missing = n_annotators - sum(counts.values())
    most = max(counts.values(), default=0)
    # a tie only if the missing verdicts can no longer give any side a majority
    return ("tie", "split") if 2 * (most + n_missing) <= n_annotators else (None, "open")


def summarise(key: SheetKey, rows: Sequence[HumanVerdict], notes: tuple[str, ...] = ()) -> HumanResult:
    """Majorities, shares and agreement."""
    by_prompt: dict[str, list[str | None]] = {prompt: [] for prompt in key.prompts}
    for row in rows:
        by_prompt[row.prompt].append(row.verdict)
    outcomes = [majority(verdicts, key.n_annotators) for verdicts in by_prompt.values()]
    unknown = np.array([verdict is None for verdict, _ in outcomes])
    win, tie, loss = (
        open_share(np.array([verdict == outcome for verdict, _ in outcomes]), unknown)
        for outcome in ("a", "tie", "b")
    )
    decided = [row for row in rows if row.verdict in ("a", "b")]
    chosen_first = np.array([row.verdict == row.first for row in decided], dtype=bool)
    return HumanResult(
        model_a=key.model_a,
        model_b=key.model_b,
        n_prompts=len(by_prompt),
        n_annotators=key.n_annotators,
        n_verdicts=sum(row.verdict is not None for row in rows),
        win=win,
        tie=tie,
        loss=loss,
        n_split=sum(how == "split" for _, how in outcomes),
        n_open=int(unknown.sum()),
        first_chosen=open_share(chosen_first, np.zeros(len(decided), dtype=bool), "verdicts"),
        agreement=_agreement(list(by_prompt.values()), key.n_annotators),
        notes=notes,
        rows=tuple(rows),
    )


def _agreement(verdicts: Sequence[Sequence[str | None]], n_annotators: int) -> AnnotatorAgreement | None:
    codes = {"tie": 0, "a": 1, "b": 2}
    whole = [[codes[v] for v in of_prompt if v is not None] for of_prompt in verdicts]
    # agreement needs the same annotators on every prompt
    whole = [of_prompt for of_prompt in whole if len(of_prompt) == n_annotators]
    return annotator_agreement(whole) if whole and n_annotators > 1 else None


def _sheet(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV as spreadsheets write it."""
    text = read_text(path)
    header = text.split("\n", 1)[0]
    # the one most frequent in the header: spreadsheets choose it by the user's locale
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    lacking = [column for column in ("item", "verdict") if column not in (reader.fieldnames or [])]
    if lacking:
        raise InputError(f"{path.name}: has no column {lacking[0]}; expected a sheet that human-export wrote")
    csv.field_size_limit(2**31 - 1)  # responses are longer than the default 128 kB
    return [
        (number, {name: value or "" for name, value in row.items() if isinstance(name, str)})
        for number, row in enumerate(reader, start=1)
    ]


def _texts(cells: dict[str, str]) -> str | None:
    names = ("prompt", "response_1", "response_2")
    return cells_sha256([cells[name] for name in names]) if all(name in cells for name in names) else None


def _verdict(cells: dict[str, str], item: KeyItem, where: str) -> str | None:
    found = cells["verdict"].strip().lower()
    if not found:
        return None
    if found not in _VERDICTS:
        raise InputError(f"{where}: verdict is {cells['verdict']!r:.40}, expected 1, 2, 0 (tie) or nothing")
    if _VERDICTS[found] == "tie":
        return "tie"
    other = "b" if item.first == "a" else "a"
    return item.first if _VERDICTS[found] == "1" else other
