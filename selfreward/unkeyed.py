"""Sections of the configuration, and the marks of their fields that `keyed()` leaves out of a step's key.

    batch_size: Count = 16                    part of the key: another value makes other rows
    max_in_flight: Unkeyed[Count] = 64        speed, place, records or refusals: another value rebuilds nothing
    template: KeyedApart[str] = "additive"    names a model, a file or a rule, whose content is in the key instead
    min_scored: Arm[Count] = 1                in the key unless it has its default, so that older keys stay as they are

A mark is the only place that says so: `keyed()`, the comments that `selfreward init` writes and the names of answer
folders all read it.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class _Mark(Enum):
    UNKEYED = "Not keyed."
    APART = ""
    ARM = "arm"


Unkeyed = Annotated[T, _Mark.UNKEYED]
KeyedApart = Annotated[T, _Mark.APART]
"""Also for what another step has in its key: the step that refuses by it."""
Arm = Annotated[T, _Mark.ARM]
"""A departure from the paper's method that was added later (docs/arms.md)."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Frozen, strict about unknown keys, documented by the strings under its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def keyed(self) -> dict[str, Any]:
        """The values that can change what is made, as they enter a key."""
        unchanged = {
            name
            for name in _marked(type(self), _Mark.ARM)
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True)
        }
        return self.model_dump(mode="json", exclude=set(marks(type(self))) | unchanged)


def marks(cls: type) -> dict[str, str]:
    """The fields of a class that are left out of keys, with what to tell the user about each.

    >>> class Example(Section):
    ...     seed: int = 0
    ...     timeout_s: Unkeyed[float] = 1.0
    >>> marks(Example)
    {'timeout_s': 'Not keyed.'}
    """
    return _marked(cls, _Mark.UNKEYED) | _marked(cls, _Mark.APART)


def _marked(cls: type, *wanted: _Mark) -> dict[str, str]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: mark.value for name, hint in hints.items() for mark in get_args(hint) if mark in wanted}


MONEY = ("max_cost", "spent", "price_per_million_in", "price_per_million_out")
"""Keys of `engine.extra` about money; they change no row and are no part of a key."""
