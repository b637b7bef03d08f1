"""Text for terminals: single lines, tables and bars, without control characters.

Rows, answers and error messages contain text from models, servers and strangers. `printable` is for all text that is
shown; files that programs read (CSV, Parquet) keep it unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from selfreward.secrets import mask, mask_values

# Code points that move the cursor, change the terminal's state or the text direction, and surrogates.
CONTROL = frozenset(
    [c for c in (*range(0x20), *range(0x7F, 0xA0)) if chr(c) not in "\n\t"]
    + [0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
)
_ESCAPED = {c: f"\\u{c:04x}" for c in CONTROL}


def printable(text: str) -> str:
    r"""The text with control and bidirectional characters escaped, as JSON escapes them.

    >>> printable("red \x1b[31m, reversed \u202e")
    'red \\u001b[31m, reversed \\u202e'
    """
    # Nearly every text is plain, and the check is much faster than a translation.
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPED)


def formatted(value: Any) -> str:
    """A value for people, the same in every table and picture: four digits of a fraction, thousands separated.

    >>> [formatted(value) for value in (None, True, 12345, 1234.5, 0.12345, 2.0, float("nan"))]
    ['-', 'yes', '12,345', '1,234', '0.1235', '2', 'nan']
    """
    if value is None:
        return "-"
    # Before int: True is an int in Python.
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return value if isinstance(value, str) else _plain(value)


def inert_cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, with a `'` before it; other values as they are.

    >>> inert_cell("=1+1"), inert_cell("a=b"), inert_cell(-1)
    ("'=1+1", 'a=b', -1)
    """
    # A leading tab or return counts too: spreadsheets skip it and read the rest as a formula.
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )


def whole_characters(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot encode, joined to pairs or replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def shorten(value: Any, width: int, tail: int = 0) -> str:
    """A value on one line of at most `width` characters; `…` marks the cut, followed by the last `tail` characters.

    >>> shorten("one\\ntwo three", 8), shorten("abcdefghij", 8, tail=2)
    ('one↵two…', 'abcde…ij')
    """
    text = formatted(value) if isinstance(value, float) else _plain(value)
    # Masked before the cut, or a secret across it would show its first part.
    line = printable(mask_values(text).replace("\r\n", "\n").replace("\n", "↵"))
    if len(line) <= width:
        return line
    return line[: width - 1 - tail] + "…" + (line[-tail:] if tail else "")


def one_line(message: object, width: int = 300) -> str:
    """A library's or server's message as one line; it may span lines and quote secrets or whole rows."""
    return shorten(" ".join(mask(str(message)).split()), width, tail=min(80, width // 4))


def format_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns padded to their widest cell; numbers to the right, words to the left."""
    head = [_cell(name) for name in head]
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    right = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(head))]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join([line(head), line(["─" * w for w in widths]), *(line(row) for row in cells)])


_MOST_BARS = 24


def format_histogram(histogram: Sequence[Sequence[float]]) -> str:
    """Score counts as bars, one line per score.

    >>> print(format_histogram([[3, 10], [3.5, 5]]))
          3 ████████████████████████████████████████ 10
        3.5 ████████████████████ 5
    """
    rounded = len(histogram) > _MOST_BARS
    if rounded:
        # Expected scores are all different: a bar each would fill the screen and show nothing.
        sums: dict[float, float] = {}
        for score, n in histogram:
            sums[float(round(score))] = sums.get(float(round(score)), 0) + n
        histogram = sorted(sums.items())
    widest = max((n for _, n in histogram), default=1)
    lines = [f"  {score:>5.3g} {'█' * max(1, round(40 * n / widest))} {n:,}" for score, n in histogram]
    return "\n".join([*lines, "  (scores rounded to whole points)"] if rounded else lines)


def _cell(value: Any) -> str:
    return printable(formatted(value)).replace("\n", "↵")


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def check_pattern(pattern: str) -> None:
    """ValueError unless this is a regular expression of RE2 with a group named `score`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = (
        "expected a regular expression of RE2 with one group, named score, as in Points: (?P<score>[0-9.]+)"
    )
    try:
        names = [field.name for field in pc.extract_regex(pa.array([""]), pattern).type]
    except pa.ArrowInvalid as error:
        raise ValueError(f"{pattern!r}: {one_line(error)}; {wanted}") from error
    if names != ["score"]:
        raise ValueError(f"{pattern!r}: found the groups {', '.join(names) or 'none'}; {wanted}")


def last_match(pattern: str, text: str) -> tuple[str, int] | None:
    """What the group `score` of the pattern's last match in a text holds, and where the match ends; None without a match.

    >>> last_match("Points: (?P<score>[0-9.]+)", "Points: 3? No. Points: 17")
    ('17', 25)
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    # RE2 takes time in proportion to the text, whatever the pattern; Python's own engine may take forever.
    whole = f"(?s:(?P<before>.*))(?P<match>{pattern})"
    found = pc.extract_regex(pa.scalar(text), whole).as_py()
    return (found["score"], len(found["before"]) + len(found["match"])) if found else None
