"""A lineage tree for a terminal: a line per row with its shortened texts below, then the versions of the rows."""

from __future__ import annotations

from collections.abc import Iterator

from selfreward.sql.lineage import Node
from selfreward.text import printable, shorten

_SHOWN = 100
_FACT = 40
_TEXTS = ("prompt", "response", "judgement", "target", "output")


def format_lineage(node: Node) -> str:
    """The tree, as text."""
    lines = list(_lines(node, "", ""))
    made = [
        f"  {v['name']}@{v['version']}  made by {v['builder']} from {', '.join(v['inputs']) or 'nothing'}"
        for v in node.versions
    ]
    return printable("\n".join([*lines, "", "versions", *made]))


def _lines(node: Node, first: str, rest: str) -> Iterator[str]:
    # Short facts share the line of the id; long texts get a line each below it.
    numbers = {k: v for k, v in node.facts.items() if k not in _TEXTS}
    facts = ", ".join(f"{name} {shorten(value, _FACT)}" for name, value in numbers.items())
    note = f"  ({node.note})" if node.note else ""
    relation = f"{node.relation}: " if node.relation else ""
    yield f"{first}{relation}{node.id}  {node.dataset}{'  ' + facts if facts else ''}{note}"
    for name, value in node.facts.items():
        if name in _TEXTS:
            yield f"{rest}{'│ ' if node.children else '  '}{name}: {shorten(value, _SHOWN)}"
    for number, child in enumerate(node.children, 1):
        last = number == len(node.children)
        yield from _lines(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
