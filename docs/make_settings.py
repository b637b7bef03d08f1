"""docs/settings.md, made from the classes of the configuration: `make docs-settings` (a test compares the two)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from textwrap import fill
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from selfreward.config.run import RunConfig
from selfreward.unkeyed import marks

_HEAD = """\
# Every setting

Made from the classes in `selfreward/config/` by `make docs-settings`. `selfreward init FILE` writes
the same as YAML; `selfreward show config NAME` prints the configurations that come with the
package. On the command line a setting is given as `selfreward run CONFIG --set judging.samples=1`.
After a name: its type and its default.

*Not keyed* says that another value makes no other rows: nothing is built again.
"""
_SIGNS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def page() -> str:
    """The whole page, lines of at most 100 columns."""
    return "\n".join([_HEAD, *_section(RunConfig(), "")])


def _section(section: BaseModel, name: str) -> Iterator[str]:
    yield f"## {f'`{name}`' if name else 'The run'}\n"
    yield _wrapped(type(section).__doc__ or "") + "\n"
    inner = []
    for field, info in type(section).model_fields.items():
        value = getattr(section, field)
        place = f"{name}.{field}" if name else field
        if nested := _nested(info.annotation):
            inner.append((value or nested(), place))
            told = "off by default; " if value is None else "may be null (off); "
            if isinstance(value, BaseModel) and type(None) not in get_args(info.annotation):
                continue
            yield _wrapped(f"- `{field}`: a section, {told}{info.description or 'see below.'}", "  ")
            continue
        words = [_type(info), f"default {_shown(value)}"]
        mark = "*Not keyed.*" if marks(type(section)).get(field) else ""
        about = " ".join(f"{info.description or ''} {mark}".split())
        yield _wrapped(f"- `{field}` ({', '.join(words)}){': ' if about else ''}{about}", "  ")
    yield ""
    for value, place in inner:
        yield from _section(value, place)


def _nested(annotation: Any) -> type[BaseModel] | None:
    options = (annotation, *get_args(annotation))
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _type(info: FieldInfo) -> str:
    bounds = [
        f"{words} {getattr(m, sign):g}"
        for m in info.metadata
        for sign, words in _SIGNS.items()
        if hasattr(m, sign)
    ]
    return " ".join([_name(info.annotation), " and ".join(bounds)]).strip()


def _name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_name(option) for option in get_args(annotation))
    if get_origin(annotation) in (list, tuple):
        return "list of " + _name(get_args(annotation)[0])
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    return plain.get(annotation, "keys and values")


def _shown(value: Any) -> str:
    text = yaml.safe_dump(
        list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=1000
    )
    return f"`{text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}`"


def _wrapped(text: str, indent: str = "") -> str:
    plain = re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", " ".join(text.split()))
    return fill(plain, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.stdout.write(page().rstrip("\n") + "\n")
