"""Options of registered things, from YAML or flags, checked against the types that their owners declare."""

import dataclasses
import inspect
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ssl_video.bounds import check, in_words, replaced
from ssl_video.errors import UserError, nearest
from ssl_video.files import write_text

T = TypeVar("T")


class Options(typing.Protocol):
    """An instance of a frozen dataclass of options."""

    __dataclass_fields__: typing.ClassVar[dict[str, Any]]


def option_type(owner: Any) -> type:
    """The dataclass of an owner's options: its ``Config``, or one made from a function's keyword parameters."""
    if dataclasses.is_dataclass(getattr(owner, "Config", None)):
        return owner.Config
    hints = typing.get_type_hints(owner, include_extras=True)
    fields = [
        (p.name, hints[p.name], dataclasses.field(default=p.default))
        for p in inspect.signature(owner).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    return dataclasses.make_dataclass("Options", fields, frozen=True)


def make_options(owner: Callable[..., Any], what: str, given: Mapping[str, object]) -> dict[str, Any]:
    """All options of ``owner`` as a dict, with the given ones converted to their declared types.

    ``what`` names the owner in messages. Raises UserError for an unknown option, or a value of another type or out of
    its bounds.
    """
    cls = option_type(owner)
    made = from_mapping(cls, given, what)
    return {f.name: getattr(made, f.name) for f in dataclasses.fields(cls)}


def with_options(config: T, given: Mapping[str, object], what: str) -> T:
    """A dataclass instance with some options changed, converted to their declared types.

    An option of a nested dataclass is named with a dot, ``optim.lr``, or by its last word alone where only one has it.
    A former name (``former_names``) is understood, with a warning. What is given takes the place of what the instance
    has in another unit (``ssl_video.bounds.Bounded``).
    Raises UserError for an unknown option, or a value of another type or out of its bounds.
    """
    whole = {_whole_name(type(config), name, what): (f"{what}: {name}", value) for name, value in given.items()}
    return _with_options(config, whole)


def _with_options(config: T, given: Mapping[str, tuple[str, object]]) -> T:
    """``given``: whole names of options to what messages call each, and its value."""
    cls = type(config)
    values: dict[str, Any] = {}
    inner: dict[str, dict[str, tuple[str, object]]] = {}
    for name, (said, value) in given.items():
        head, _, rest = name.partition(".")
        if rest:
            inner.setdefault(head, {})[rest] = (said, value)
        else:
            values[head] = option_of(cls, head, value, said)
    values |= {head: _with_options(getattr(config, head), options) for head, options in inner.items()}
    return dataclasses.replace(typing.cast(Any, config), **{**replaced(cls, values), **values})


def _whole_name(cls: type, name: str, what: str) -> str:
    known, former = option_names(cls), former_names(cls)
    names = [*known, *former]
    found = [k for k in names if k == name] or [k for k in names if k.rpartition(".")[2] == name]
    if len(found) != 1:
        raise UserError(f"The {what} has no option {name!r}; {nearest(name, found or known)}")
    return _now(found[0], former, what)


def former_names(cls: type) -> dict[str, str]:
    """former name -> name of each renamed option, those of nested dataclasses with a dot.

    ``field(default=1.0, metadata={"formerly": NAME})`` keeps the former name working for one more version.
    """
    found: dict[str, str] = {}
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if "formerly" in f.metadata:
            found[f.metadata["formerly"]] = f.name
        if dataclasses.is_dataclass(hints[f.name]):
            inner = former_names(typing.cast(type, hints[f.name]))
            found |= {f"{f.name}.{old}": f"{f.name}.{new}" for old, new in inner.items()}
    return found


def _now(name: str, former: Mapping[str, str], what: str) -> str:
    """The name that an option has now; a warning says so where it is another."""
    if name in former:
        warnings.warn(
            f"The option {name} of the {what} is called {former[name]} now; the former name will go.",
            FutureWarning,
            stacklevel=2,
        )
    return former.get(name, name)


def option_names(cls: type) -> list[str]:
    """The names of all options of a dataclass, those of nested ones with a dot; a nested one is no option itself."""
    names: list[str] = []
    hints = typing.get_type_hints(cls)
    for name in (f.name for f in dataclasses.fields(cls)):
        hint = hints[name]
        inner = option_names(typing.cast(type, hint)) if dataclasses.is_dataclass(hint) else []
        names += [f"{name}.{other}" for other in inner] or [name]
    return names


def from_mapping(cls: type, given: Mapping[str, object], what: str) -> Any:
    """An instance of the dataclass ``cls``; nested dataclasses take nested mappings. Raises UserError.

    A former name (``former_names``) is understood, with a warning. What is given takes the place of a default in
    another unit (``ssl_video.bounds.Bounded``).
    """
    former = former_names(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    values = {}
    for key, value in ((_now(key, former, what), value) for key, value in given.items()):
        if key not in names:
            raise UserError(f"The {what} has no option {key!r}; {nearest(str(key), names)}")
        values[key] = option_of(cls, key, value, f"{what}: {key}")
    return cls(**{**replaced(cls, values), **values})


def option_of(cls: type, name: str, value: object, what: str) -> Any:
    """A value for an option of a dataclass, converted and within its bounds; ``what`` names it. Raises UserError."""
    converted = convert(typing.get_type_hints(cls)[name], value, what)
    check(typing.get_type_hints(cls, include_extras=True)[name], converted, what)
    return converted


def convert(kind: Any, value: object, what: str) -> Any:
    """``value`` (from YAML, or text from a URL-like option string) as the type ``kind``. Raises UserError."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    wrong = UserError(f"{what} must be {in_words(kind)}, not {value!r}.")
    if kind is Any or kind is object:
        return value
    if origin in (typing.Union, types.UnionType):
        for arm in args:
            if arm is type(None):
                if value is None or value == "None":
                    return None
                continue
            try:
                return convert(arm, value, what)
            except UserError:
                continue
        raise wrong
    if origin is typing.Literal:
        for arg in args:
            if arg == value or str(arg) == value:  # a number may come as text
                return arg
        raise wrong
    if dataclasses.is_dataclass(kind):
        if dataclasses.is_dataclass(value):
            return value
        if isinstance(value, Mapping):
            return from_mapping(typing.cast(type, kind), value, what)
        raise wrong
    if origin in (tuple, list):
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise wrong
        one_type = origin is list or args[-1] is Ellipsis
        arms = [args[0]] * len(items) if one_type else list(args)
        if len(arms) != len(items):
            raise wrong
        return origin(convert(arm, item, what) for arm, item in zip(arms, items, strict=True))
    if origin in (dict, Mapping) or kind is dict:
        if isinstance(value, Mapping):
            return dict(value)
        raise wrong
    if kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise wrong
    if kind is Path:
        return Path(str(value))
    if kind is str:
        if isinstance(value, str):
            return value
        raise wrong
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise wrong
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if number != number or (kind is int and isinstance(value, float) and value != number):  # NaN is no number
        raise wrong
    return number


def save_yaml(path: Path | str, config: object) -> None:
    """Write a dataclass instance as YAML that ``load_yaml`` and ``from_mapping`` turn back into an equal one."""
    write_text(path, yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))


def plain(value: object) -> Any:
    """Dataclasses, paths and tuples as the dicts, strings and lists that YAML and JSON know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
