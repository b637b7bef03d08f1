"""Jinja for Markdown: every value that is not `Markup` is shown as plain text.

A card contains text from models and third parties, so every value that a template prints has its punctuation written
as character references, unless it is `Markup`; `pre` shows a whole text verbatim.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from selfreward.text import CONTROL

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
# HTML escaping alone is not enough: `![x](http://…)` loads an image, a line of dashes makes a heading, a bar
# breaks a table, and GitHub links bare addresses
_ACTIVE = re.compile(
    r"""[\\`*_{}\[\]|~<>&"$@^] | ^[#+=-] | ^\d+[.)](?=\s|$) | :(?=//) | (?<=www)\.""", re.VERBOSE
)
"""What Markdown, its GitHub dialect or HTML acts on: anywhere, at the start of a line, or as the start of a link."""
# 13: a carriage return is dropped, not shown; texts from Windows would be full of marks
_CONTROL = dict.fromkeys(CONTROL, "\N{REPLACEMENT CHARACTER}") | {13: None}
_PLAIN_CODE = re.compile(r"[\w./@:, -]+")
_SHOWN_CHARS = 1200


def as_text(value: Any) -> Markup:
    """A value on one line, escaped for Markdown and HTML.

    >>> as_text("- <b>| http://x")
    Markup('&#45; &#60;b&#62;&#124; http&#58;//x')
    """
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup("–")
    line = " ".join(str(value).translate(_CONTROL).split())
    return Markup(_ACTIVE.sub(lambda match: "".join(f"&#{ord(c)};" for c in match[0]), line))


def pre(text: str, n_max: int = _SHOWN_CHARS) -> Markup:
    """A text verbatim, in a block that neither Markdown nor HTML interprets; a cut is shown with its length."""
    text = text.rstrip("\n")
    left_out = len(text) - n_max
    shown = text[:n_max] + (f"\n… ({left_out:,} more characters)" if left_out > 0 else "")
    return Markup("<pre>\n" + html.escape(shown.translate(_CONTROL)) + "\n</pre>")


def code(value: Any) -> Markup:
    """A name in code type."""
    text = str(value)
    return (
        Markup(f"`{text}`")
        if _PLAIN_CODE.fullmatch(text)
        else Markup("<code>") + as_text(text) + Markup("</code>")
    )


def percent(value: float | None, scale: float = 1) -> Markup:
    """A figure in percent (from a share with `scale` 100), or a dash."""
    return Markup("–") if value is None else Markup(f"{scale * value:.1f} %")


def share(value: float | None) -> Markup:
    """A share in percent, or a dash."""
    return percent(value, 100)


def span(ends: Sequence[float | None], scale: float = 1) -> Markup:
    """An interval in percent, or one dash."""
    return Markup("–") if None in ends else Markup(" to ").join(percent(end, scale) for end in ends)


def number(value: float | None, digits: int = 1) -> Markup:
    """A number with thousands separators, or a dash."""
    if value is None:
        return Markup("–")
    return Markup(f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}")


def counts(value: Mapping[str, int]) -> Markup:
    """`not_best 12, tied 3`, largest first, or a dash."""
    lost = sorted(((n, reason) for reason, n in value.items() if n), reverse=True)
    return Markup(", ").join(
        Markup("{} {}").format(as_text(reason), f"{n:,}") for n, reason in lost
    ) or Markup("–")


def code_list(values: Sequence[str]) -> Markup:
    """Names in code type, or a dash."""
    return Markup(", ").join(code(value) for value in values) or Markup("–")


@cache
def environment() -> Environment:
    """The templates of this package; an unknown name is an error, not empty text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=as_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        {filter.__name__: filter for filter in (pre, code, percent, share, span, number, counts, code_list)}
    )
    return made


def render(template: str, **values: Any) -> str:
    """A template of this package with its values."""
    return environment().get_template(template).render(**values)
