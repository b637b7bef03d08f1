"""Reading one score statement: the words around the mention of a score, and the figure they give.

Promises: looks only at a few hundred characters around the mention, so that its cost is bounded; never guesses.
Whether the statement is the judge's own is decided in `selfreward.judging.parsing.quotations`, which statement counts in
`selfreward.judging.parsing.scores`. ASCII letters are lower case here.

A mention is the word score, rating or total (or its equivalent in some other languages), `[RESULT]`, `[[`, `/5` or
`out of 5`. With a figure in the right place it is a statement:

    Score: 4     **Score:** 4/5     score is 4.5     total score = 1 + 1 + 1 = 3     <score>4</score>     [[4]]
    {"score": 4}     | Score | 4 |     Score: \\boxed{4}     Score: four     I would rate it 4 out of 5.

Every statement has a rank (`Rank`), by how plainly it is the verdict. Ignored: a placeholder (`Score: <total
points>`), a limit (`maximum score: 5`), a score weighed or ruled out (`Score: 5 would be too generous`, `prevents
it from receiving a score of 5`, `if the score is 5`), and one ascribed to the response (`it claims a score of 5`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from selfreward.judging.parsing import words
from selfreward.tables import Status

WINDOW_CHARS = 160
"""Characters read after a mention, and on its line before it."""

LEAD_CHARS = 80
"""How many of them are searched for negations and for the speaker, which are next to the mention."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of scores, both ends included."""

    minimum: float
    maximum: float


class Rank(IntEnum):
    """How plainly a statement is the verdict; the highest rank in a reply decides."""

    NAMED = 1
    """The score of a part, or under a name that may be one: `Empathy score: 1`, `Relevance score: 1`, `Points: 1`."""
    REMARK = 2
    """In the course of a sentence: `such a reply earns a score of 4`."""
    OWN = 3
    """In a sentence of the judge's own: `I give it a score of 4`."""
    ALONE = 4
    """A line that holds nothing else: `4/5`, `[[4]]`, `\\boxed{4}`."""
    LABEL = 5
    """`Score: 4` at the start of a line, a cell or a sentence; `the total score is 4`, `I lower the score to 4`."""
    TOTAL = 6
    """`Total score: 4`."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A figure that a judge states; `value` is the score if the status is `ok`."""

    status: Status
    value: float
    number: int
    """Where the figure begins in the text."""
    end: int
    """Where the figure and its denominator end in the text."""
    has_denominator: bool
    rank: Rank = Rank.REMARK


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure inside a window: `end` is the window's index, `complete` says that a sentence could end here."""

    status: Status
    value: float
    end: int
    complete: bool
    has_denominator: bool


def read_labelled(text: str, start: int, word: str, scale: Scale) -> Statement | None:
    """The statement whose label is the score word at `text[start:]`, or None.

    >>> read_labelled("score: 4/5", 0, "score", Scale(0, 5)).value
    4.0
    """
    end = start + len(word)
    window = _after(text, end)
    plural = int(word == "score" and window.startswith("s"))
    label = words.LABELLED.match(window, plural) or words.BESIDE.match(window, plural)
    if label is None:
        return None
    before = _before(text, start)
    if not _is_label(before, window[plural:]):
        return None
    figure = _figure(window, label, scale)
    if figure is None or not _is_stated(before, label, figure, word, plural=bool(plural)):
        return None
    if _is_ascribed(text, start, before) or words.RULED_OUT.search(before[-LEAD_CHARS:]):
        return None
    if words.RULED_OUT_AFTER.match(window, figure.end) or words.LATER_PART.match(window, figure.end):
        return None
    status, rank, separator = figure.status, _rank(before, word), label["separator"]
    if separator == "to" or (rank == Rank.TOTAL and separator[:1].isalpha()):
        # "this brings the total score to 2": it may still rise.
        rank = Rank.LABEL
    if words.PART.search(before[-LEAD_CHARS // 2 :]):
        status, rank = "no_score", Rank.NAMED
    elif name := words.NAME_BEHIND.match(window):
        rank = Rank.TOTAL if words.TOTAL.search(name[1]) else Rank.NAMED
    number, figure_end = end + label.start("number"), end + figure.end
    return Statement(status, figure.value, number, figure_end, figure.has_denominator, rank)


def _rank(before: str, word: str) -> Rank:
    """Of a statement that follows `before` on its line."""
    if word in words.TOTAL_WORDS:
        return Rank.TOTAL
    if total := words.TOTAL.search(before[-LEAD_CHARS:]):
        rank = _rank(before[: len(before) - len(total[0])], word)
        return Rank.REMARK if rank == Rank.REMARK else Rank.TOTAL
    if word in words.PART_WORDS:
        return Rank.NAMED
    clause = words.CLAUSE_END.split(before)[-1].strip() or before
    if word == "[result]" or words.LABEL_LINE.match(clause) or words.AFTER_SENTENCE.search(before):
        return Rank.LABEL
    sentence = words.SENTENCE_END.split(before[-LEAD_CHARS:])[-1]
    if words.OWN_VERDICT.search(sentence) or words.ANNOUNCED.search(sentence):
        return Rank.OWN
    return Rank.NAMED if words.NAMED.match(before) else Rank.REMARK


def read_bracketed(text: str, start: int, word: str, scale: Scale) -> Statement | None:
    """`[[4]]`, the form that many judge prompts ask for: alone on its line, after a label, or in a sentence."""
    found = words.BRACKETED.match(text, start + len(word), start + WINDOW_CHARS)
    if found is None:
        return None
    before, window = _before(text, start), _after(text, found.end())
    if words.RULED_OUT.search(before[-LEAD_CHARS:]) or words.RULED_OUT_AFTER.match(window):
        return None
    if words.WEIGHED.search(words.CLAUSE_END.split(before)[-1]) or _is_ascribed(text, start, before):
        return None
    alone = words.MARKS_ONLY.match(before) and words.MARKS_ONLY.match(window.partition("\n")[0])
    over = found if found["over"] else words.OVER.match(window)
    value, same_scale = _value(found["number"]), not over or _value(over["over"]) == scale.maximum
    status: Status = _status(value, scale) if same_scale else "out_of_range"
    if words.MALFORMED.match(window) or words.RANGE.match(window) or words.LISTED.search(before):
        status = "no_score"
    rank = Rank.ALONE if alone else _rank(before, word)
    if rank <= Rank.REMARK and words.UNIT.match(window):
        rank = Rank.OWN
    # `Rating: [[4]]` is only ever written for the verdict.
    rank = Rank.TOTAL if rank == Rank.LABEL else rank
    return Statement(status, value, found.start("number"), found.end(), True, rank)


def read_over(text: str, start: int, word: str, scale: Scale) -> Statement | None:
    """The statement that ends in a denominator, without the word score: `I'd give it a 4/5`, or a bare `4/5`.

    Needs a first person, a heading such as `Overall:`, or a line that holds nothing else.
    """
    before = _before(text, start)
    figure = words.LAST_FIGURE.search(before)
    window = _after(text, start + len(word))
    if figure is None or not words.AFTER_OVER.match(window) or words.RULED_OUT_AFTER.match(window):
        return None
    lead = before[: figure.start()]
    alone = words.MARKS_ONLY.match(lead) and words.MARKS_ONLY.match(window.partition("\n")[0])
    given = words.OWN_VERDICT.search(lead) and not words.RULED_OUT.search(lead[-LEAD_CHARS:])
    # A figure over the maximum may count anything: "covers 4 out of 5 points".
    if not (alone or given) or _is_ascribed(text, start - len(before) + figure.start(), lead):
        return None
    value, number = _value(figure["number"]), start - len(before) + figure.start("number")
    rank = Rank.ALONE if alone else Rank.OWN
    return Statement(_status(value, scale), value, number, start + len(word), True, rank)


def read_boxed_last_line(text: str, scale: Scale) -> Statement | None:
    """A last line that is nothing but `\\boxed{4}`, also in display math, as judges trained on mathematics end."""
    box = words.BOXED_LINE.search(text[-WINDOW_CHARS:])
    if box is None:
        return None
    value = _value(box["number"])
    return Statement(_status(value, scale), value, len(text) - 1, len(text), True, Rank.ALONE)


def has_figure(text: str, start: int, word: str) -> bool:
    """Whether any figure follows the mention: a cheap test that rules out most mentions."""
    window = text[start + len(word) : start + len(word) + WINDOW_CHARS]
    return bool(words.ANY_DIGIT.search(window)) or any(number in window for number in words.NUMBER_WORDS)


def is_unfinished(text: str, start: int, word: str) -> bool:
    """Whether the text breaks off between a score word and its figure, as in `total score: **`."""
    end = start + len(word)
    return len(text) - end <= WINDOW_CHARS and bool(words.STARTED.match(_plain(text[end:])))


def _is_label(before: str, after: str) -> bool:
    """Neither part of a longer word (`underscore`, `scored`) nor the name of a limit."""
    longer = "a" <= after[:1] <= "z" or words.JOINED.search(before[-LEAD_CHARS // 2 :])
    return not (longer or words.LIMIT.search(before[-LEAD_CHARS // 2 :]))


def _is_stated(before: str, label: re.Match[str], figure: _Figure, word: str, *, plural: bool) -> bool:
    """Whether label and figure together say "this is the score", rather than use both words in a sentence."""
    separator, gap = label["separator"] or "", label["gap"] or ""
    strict = not separator or "\n" in gap or label["number"].isalpha() or word in words.WEAK_WORDS
    # "score one point for each source" has label and figure, and states no score.
    if strict and not figure.complete:
        return False
    if not separator and words.SCALE_ENTRY.match(label.string, figure.end):
        return False
    # `Score:` above a numbered list: the figure is an item's number.
    if "\n" in gap and words.LIST_ITEM.match(label.string, label.end("number")):
        return False
    if "\n" in gap and not separator and not words.LABEL_LINE.match(before):
        return False
    # "it scores 3 of the goals" is a sentence, `scores 3/5` a verdict.
    if plural and not separator and not figure.has_denominator:
        return False
    clause = words.CLAUSE_END.split(before)[-1] if separator.strip(":=|- ") else ""
    if words.WEIGHED.search(clause):
        return False
    # "I lower the score to 4" decides; "sources might bring the score to 5" only suggests.
    if separator == "to" and (words.MIGHT_CHANGE.search(clause) or not words.REVISED.search(clause)):
        return False
    if word in words.WEAK_WORDS:
        own = words.LABEL_LINE.match(before) or words.OWN_VERDICT.search(before)
        return bool(own or words.SUMMED_UP.search(before)) or (figure.has_denominator and separator == "of")
    return True


def _is_ascribed(text: str, start: int, before: str) -> bool:
    """Whether the words that lead to the mention, on its line or on the one announcing it, name the response."""
    if words.MARKS_ONLY.match(before):
        # Alone on its line, a statement belongs to the line that announces it with a colon, if there is one.
        previous = _plain(text[max(0, start - WINDOW_CHARS) : start]).rstrip(" \n().,-|")
        before = previous.rpartition("\n")[2] if previous.endswith(":") else ""
    return bool(words.ASCRIBED.search(before[-LEAD_CHARS:])) and not words.ANNOUNCED.search(before)


def _figure(window: str, label: re.Match[str], scale: Scale) -> _Figure | None:
    """The figure that the label's digits and the text after them give; None if they are not a figure."""
    value, end = _value(label["number"]), label.end("number")
    if label["sign"] == "-":
        value = -value
    if total := words.SUM.match(window, end):
        value, end = _value(total["number"]), total.end()
    # Before the unit is read: `3-4 points` and `4, 5` are undecided, whatever follows.
    if words.MALFORMED.match(window, end) or words.RANGE.match(window, end):
        return _Figure("no_score", value, end, True, False)
    if half := words.HALF.match(window, end):
        value, end = value + 0.5, half.end()
    unit = words.UNIT.match(window, end)
    after_unit = unit.end() if unit else end
    if over := words.OVER.match(window, after_unit):
        # `4/5/24` is a date. Another scale is never converted: the judge did not follow the rubric.
        same_scale = _value(over["over"]) == scale.maximum and not over["more"]
        status: Status = _status(value, scale) if same_scale else "out_of_range"
        if words.RANGE.match(window, over.end()):
            return _Figure("no_score", value, over.end(), True, False)
        complete = words.AFTER_OVER.match(window, over.end()) is not None
        return _Figure(status, value, over.end(), complete, same_scale)
    if words.PERCENT.match(window, end) or _names_other_scale(label, scale):
        return _Figure("out_of_range", value, end, True, False)
    # `4th`, `3x`: an ordinal or a factor.
    if window[end : end + 1].isalpha() and not unit:
        return None
    status = _status(value, scale)
    complete = unit is not None or words.CLOSED.match(window, end) is not None
    return _Figure(status, value, after_unit, complete, False)


def _names_other_scale(label: re.Match[str], scale: Scale) -> bool:
    """`Score out of 10: 4` is on another scale than the range's."""
    named = words.SCALE.search(label.string, label.start(), label.end("separator"))
    return named is not None and float(named["number"] or named["points"]) != scale.maximum


def _status(value: float, scale: Scale) -> Status:
    return "ok" if scale.minimum <= value <= scale.maximum else "out_of_range"


def _value(number: str) -> float:
    """`4`, `４`, `4.5`, `4,5`, `4½` or `four` as a number."""
    if number in words.NUMBER_WORDS:
        return float(words.NUMBER_WORDS.index(number))
    fraction = words.FRACTIONS.get(number[-1], 0.0)
    digits = number[:-1] if fraction else number
    return float(digits.replace(",", ".") or 0) + fraction


def _plain(window: str) -> str:
    """Marks as blanks and full-width signs as ASCII, one character for one, so that positions stay valid."""
    window = window.translate(words.PLAIN)
    return words.LONE_APOSTROPHE.sub(" ", window) if "'" in window else window


def _before(text: str, start: int) -> str:
    """The line up to the mention, `WINDOW_CHARS` at most."""
    return _plain(text[max(0, start - WINDOW_CHARS) : start].rpartition("\n")[2])


def _after(text: str, end: int) -> str:
    return _plain(text[end : end + WINDOW_CHARS])
