"""Bounds of options, said in their types and checked where a dataclass of options is made.

``k: Count = 5`` is an option of 1 or more. Light to import, since flags are made of such dataclasses.
"""

import math
import numbers
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from ssl_video.errors import UserError


@dataclass(frozen=True)
class Bounds:
    """Which numbers an option takes: ``least`` and ``most`` are among them, ``above`` and ``below`` are not.

    An infinite number is taken where ``most`` is infinite, and one that is not a number nowhere.
    """

    least: float | None = None
    above: float = -math.inf
    most: float | None = None
    below: float = math.inf

    def hold(self, value: float) -> bool:
        """True if the number is within."""
        low = self.above < value if self.least is None else self.least <= value
        return low and (value < self.below if self.most is None else value <= self.most)

    def __str__(self) -> str:
        words = []
        if self.least is not None and self.most not in (None, math.inf):
            return f"from {self.least} to {self.most}"
        if self.least is not None:
            words.append(f"of {self.least} or more")
        elif self.above > -math.inf:
            words.append(f"above {self.above}")
        if self.most not in (None, math.inf):
            words.append(f"up to {self.most}")
        elif self.most is None and self.below < math.inf:
            words.append(f"below {self.below}")
        return " and ".join(words)


Count = Annotated[int, Bounds(least=1)]
Natural = Annotated[int, Bounds(least=0)]
Seed = Annotated[int, Bounds(least=0, most=2**63 - 1)]
Positive = Annotated[float, Bounds(above=0)]
NotNegative = Annotated[float, Bounds(least=0)]
Fraction = Annotated[float, Bounds(least=0, most=1)]
LessThanOne = Annotated[float, Bounds(least=0, below=1)]
"""A fraction that leaves something, of units that are dropped, say."""
Share = Annotated[int, Bounds(least=2)] | LessThanOne
"""Of videos that are kept from training: how many, or a fraction; 1 could be meant as either, and is refused."""


class Bounded:
    """Base of a dataclass of options: it checks them where it is made. Raises UserError that names the option.

    A class with a ``__post_init__`` of its own calls this one.

    ``class Options(Bounded, flags="--")`` names them as flags: ``--batch-size``. ``either`` are pairs of options that
    state one thing in two units, of which at most one is given: a given one takes the place of a recipe's other.
    """

    flags: ClassVar[str | None] = None
    either: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init_subclass__(cls, flags: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if flags is not None:
            cls.flags = flags

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            check(hint, getattr(self, name), self._named(name))
        for pair in self.either:
            if all(getattr(self, name) is not None for name in pair):
                one, other = map(self._named, pair)
                raise UserError(f"{one} and {other} say one thing in two units; give one of them, and leave the other.")

    def _named(self, name: str) -> str:
        return name if self.flags is None else f"{self.flags}{name.replace('_', '-')}"


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass that say more than Python's own."""
    hints = get_type_hints(cls, include_extras=True)
    return {name: hint for name, hint in hints.items() if get_origin(hint) not in (None, ClassVar)}


def check(hint: Any, value: object, what: str) -> None:
    """Raise UserError, which calls the option ``what``, unless the value is within the bounds of its type."""
    if not _test_of(hint)(value):
        arms = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        words = " or ".join(in_words(arm) for arm in arms if arm is not type(None))
        raise UserError(f"{what} must be {words}, not {value!r}.")


@cache
def _test_of(hint: Any) -> Callable[[Any], bool]:
    """Whether a value is within the bounds of a type. Kept, since a view is made for every clip."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [mark for mark in args[1:] if isinstance(mark, Bounds)]
        return lambda value: not bounds or (_is_number(args[0], value) and all(b.hold(value) for b in bounds))
    if origin in (Union, types.UnionType):
        tests = [_test_of(arm) for arm in args if arm is not type(None)]
        return lambda value: value is None or any(test(value) for test in tests)
    if origin is Literal:
        return lambda value: value in args
    if (origin is tuple and len(args) == 2 and args[1] is Ellipsis) or origin is Sequence:
        each = _test_of(args[0])
        return lambda values: all(map(each, values))
    if origin is tuple:
        tests = [_test_of(arm) for arm in args]
        return lambda values: len(values) == len(tests) and all(t(v) for t, v in zip(tests, values, strict=True))
    return lambda _: True


def _is_number(kind: Any, value: object) -> bool:
    if type(value) in (int, kind):
        return True
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return kind is not int or isinstance(value, numbers.Integral) or float(value).is_integer()


def in_words(hint: Any) -> str:
    """A type, with its bounds, as messages say it: ``a whole number of 1 or more``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([in_words(args[0]), *(str(mark) for mark in args[1:] if isinstance(mark, Bounds))])
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(a) for a in args)
    if origin in (tuple, list, Sequence) and (len(args) == 1 or args[1] is Ellipsis):
        return f"a list, each {in_words(args[0])}"
    if origin is tuple:
        kinds = list(dict.fromkeys(map(in_words, args)))
        return f"{len(args)} values, each {kinds[0]}" if len(kinds) == 1 else f"{len(args)} values: {', '.join(kinds)}"
    if hasattr(hint, "__dataclass_fields__"):
        return "a mapping of options"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def replaced(cls: type, given: Mapping[str, object]) -> dict[str, None]:
    """The options, each None, whose place is taken by what is given in another unit (``either``)."""
    stated = {name for name, value in given.items() if value not in (None, "None")}
    pairs = [(a, b) for pair in getattr(cls, "either", ()) for a, b in (pair, pair[::-1])]
    return {other: None for one, other in pairs if one in stated and other not in stated}


def counted(cls: type, noted: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a run noted them, whose version took both of a pair (``either``) and went by the first."""
    both = [other for one, other in getattr(cls, "either", ()) if None not in (noted.get(one), noted.get(other))]
    return {**noted, **dict.fromkeys(both)}
