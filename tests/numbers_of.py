"""The options of dataclasses that are numbers, and wrong values for them."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest


def numeric(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The options of a dataclass that are numbers or several, those of nested ones with a dot, and their types."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from numeric(typing.cast(type, hint), f"{prefix}{field.name}.")
        elif {int, float} & {hint, *typing.get_args(hint)}:
            yield f"{prefix}{field.name}", hint


def wrong_values(hint: Any, default: Any) -> list[Any]:
    """0 and -1, as often as the option has numbers."""
    many = typing.get_origin(hint) is tuple
    return [(value,) * len(default or (1,)) if many else value for value in (0, -1)]


def cases(kinds: dict[str, type]) -> list[Any]:
    """(name, option, value) of all numeric options of some dataclasses."""
    return [
        pytest.param(name, option, value, id=f"{name}-{option}-{value}")
        for name, cls in kinds.items()
        for option, hint in numeric(cls)
        for value in wrong_values(hint, getattr(cls(), option, None))
    ]
