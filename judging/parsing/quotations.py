"""Which parts of a judge's reply are the judge's own verdict: not its reasoning block, not words it quotes.

Promises: linear time for any text; works on lower-cased text; when in doubt a passage counts as quoted: an unscored
judgement is counted and resampled, a wrong score is trained on.

- A reasoning block (`<think>`, `<reasoning>`, `[THINK]`, a harmony channel that is not the final one: see
  `REASONING_TAGS`) never counts. Left open, it runs to the end. A closing tag without
  an opening one means that the chat template had opened the block: all before it is reasoning.
- `<response>…</response>` and `<blockquote>…</blockquote>` are quotations. Left open, they run to the end,
  unless the tag is only mentioned in a sentence ("the <response> is short"). A closing tag alone is ignored.
- Lines that start with `>` are quotations.
- A statement between quotation marks is the judge's own if its line holds nothing else, if the judge
  announces it ("I conclude with “Score: 4”"), or if the marks enclose the whole reply; otherwise it is quoted.

Not covered: quotations without any mark, or whose marks lie in different paragraphs.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from selfreward.chats import REASONING_TAGS
from selfreward.judging.parsing.words import ANNOUNCED

QUOTATION_TAGS = (("<response>", "</response>"), ("<blockquote>", "</blockquote>"))

MAX_BLOCKS = 500
"""Blocks of one kind that are read, from the end; the rest counts as hidden. Bounds hostile text."""

PARAGRAPH_CHARS = 2000
"""How far to either side the marks of a quotation are searched, within its paragraph."""

EDGE_CHARS = 40
"""Room for white space and marks at either end of a reply that is quoted as a whole."""

LEAD_CHARS = 160
"""How much of the line before a quotation is read to find the speaker."""

_QUOTE_PAIRS = (('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"), ("「", "」"))
_CLOSING_MARK = re.compile("[\"'`”’“»」]")
_LABEL_ONLY = re.compile(r"[\s*_#(\[]*(?:(?:the|my|final|total|overall|rating|score|점수|평점)[\s:*_]+)*$")
_SENTENCE_END = re.compile(r"[.!?:;]\s+")


class HiddenSpans:
    """The reasoning blocks and tagged quotations of one lower-cased text."""

    def __init__(self, text: str) -> None:
        spans: list[tuple[int, int]] = []
        if ">" in text or "]" in text:
            for opener, closer in REASONING_TAGS:
                spans += _blocks(text, opener, closer, reasoning=True)
            for opener, closer in QUOTATION_TAGS:
                spans += _blocks(text, opener, closer, reasoning=False)
        self._spans = _merged(spans)
        self._starts = [start for start, _ in self._spans]

    def cut_from(self, text: str) -> str:
        """`text` without the spans; the closing tags stay."""
        edges = [0, *(edge for span in self._spans for edge in span), len(text)]
        return "".join(text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))

    def start_of_block_at(self, position: int) -> int | None:
        """Start of the block that hides `position`; None if the position is visible."""
        index = bisect_right(self._starts, position) - 1
        if index >= 0 and position < self._spans[index][1]:
            return self._starts[index]
        return None


def is_quoted(text: str, start: int, number: int, end: int) -> bool:
    """Whether the statement `text[start:end]`, its figure beginning at `number`, quotes someone else.

    >>> reply = 'it says "score: 5" but is wrong'
    >>> is_quoted(reply, reply.index("score"), reply.index("5"), reply.index("5") + 1)
    True
    """
    before = text[max(0, start - PARAGRAPH_CHARS) : start].rpartition("\n\n")[2]
    if before.rpartition("\n")[2].lstrip().startswith(">"):
        return True
    after = text[end : end + PARAGRAPH_CHARS].partition("\n\n")[0]
    opening = _opening_mark(before, text[start:number], after)
    if opening is None:
        return _closes_earlier_quotation(text, before + text[start:number], after)
    if _wraps_whole_reply(text, start - len(before) + opening, end):
        return False
    if not _LABEL_ONLY.match(before, opening + 1):
        return True
    lead = before[max(0, opening - LEAD_CHARS) : opening].rpartition("\n")[2]
    clause = _SENTENCE_END.split(lead)[-1]
    # A quotation alone on its line is a way to set off the verdict; in a sentence it reports one.
    rest_of_line = _CLOSING_MARK.split(after, maxsplit=1)[-1].partition("\n")[0]
    alone = not any(map(str.isalnum, clause)) and not any(map(str.isalnum, rest_of_line))
    return not (alone or ANNOUNCED.search(lead.replace("’", "'")))


def _opening_mark(before: str, inside: str, after: str) -> int | None:
    """Index in `before` of the quotation mark that is still open at the statement, and closes after it."""
    for opening, closing in _QUOTE_PAIRS:
        if closing in inside or closing not in after:
            # Closed before the figure, as in `"score": 4`: a key, not a quotation.
            continue
        index = before.rfind(opening)
        if opening == closing:
            # A straight mark opens and closes alike: after an odd number one is open.
            if before.count(opening) % 2:
                return index
        elif index > before.rfind(closing):
            return index
    adjacent = before.rstrip("*_ ")
    if adjacent.endswith(("'", "‘", '"', "“")) and after.lstrip("*_./5 ")[:1] in {"'", "’", '"', "”"}:
        return len(adjacent) - 1
    return None


def _closes_earlier_quotation(text: str, before: str, after: str) -> bool:
    """A closing mark right after the statement whose opening mark is in an earlier paragraph."""
    if after.lstrip("*_./5 )")[:1] not in {'"', "”"} or before.count('"') % 2:
        return False
    if any(mark in before.rpartition("\n")[2] for mark in '"“'):
        return False
    return text[:EDGE_CHARS].lstrip()[:1] not in {'"', "“"}


def _wraps_whole_reply(text: str, opening: int, end: int) -> bool:
    """A reply enclosed in one pair of quotation marks quotes nobody."""
    if opening > EDGE_CHARS or len(text) - end > EDGE_CHARS or text[:opening].strip():
        return False
    return bool(_CLOSING_MARK.match(text[end:].strip(" \n.*_")[-1:]))


def _blocks(text: str, opener: str, closer: str, *, reasoning: bool) -> Iterator[tuple[int, int]]:
    """The spans of one kind of block, last first; each step looks only at text that no other step looks at."""
    # `think>` ends both tags, so in most replies one search rules both out.
    if opener[1:] not in text and (opener[1:] in closer or closer[1:] not in text):
        return
    close = text.rfind(closer)
    opening = _unclosed(text, opener, close + 1, reasoning=reasoning)
    if opening >= 0:
        yield opening, len(text)
    for _ in range(MAX_BLOCKS):
        if close < 0:
            return
        previous = text.rfind(closer, 0, close)
        opening = text.find(opener, previous + 1, close)
        if opening >= 0:
            yield opening, close
        elif reasoning:
            # The chat template opened the block: all text before the closing tag is reasoning.
            yield 0, close
            return
        close = previous
    # More blocks than are read: hiding the rest may lose a score, but cannot invent one.
    if close >= 0:
        yield 0, close


def _unclosed(text: str, opener: str, start: int, *, reasoning: bool) -> int:
    """Start of a block that is never closed; -1 if there is no such block."""
    opening = text.find(opener, start)
    if reasoning:
        return opening
    for _ in range(MAX_BLOCKS):
        if opening < 0 or not _is_mention(text, opening, opening + len(opener)):
            return opening
        opening = text.find(opener, opening + 1)
    return opening


def _is_mention(text: str, start: int, end: int) -> bool:
    """A tag used as a word, in backquotes or inside a sentence, rather than opened."""
    if text[start - 1 : start] == "`" and text[end : end + 1] == "`":
        return True
    word_before = start >= 2 and text[start - 1] == " " and text[start - 2].isalpha()
    return word_before and text[end : end + 1] in set(" ,.;") and text[end + 1 : end + 2].islower()


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
