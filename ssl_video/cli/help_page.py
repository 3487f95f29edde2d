"""What ``--help`` prints: a command's usual options first, examples, and with ``--help-all`` all the others.

A dataclass of options says which are usual (``usual``, in that order) and shows the command in use (``examples``).
"""

import ast
import dataclasses
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from ssl_video.cli import beside, terminal_width, wrapped

COLUMN = 28
"""Where the words about an option begin."""
WORDS = {int: "INT", float: "NUMBER", str: "NAME", Path: "FILE"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One option: as help shows it, with the name of its field and its type; ``flag`` is empty where it has a place."""

    flag: str
    value: str
    about: str
    field: str
    kind: Any


def help_page(cls: type, command: str, description: str, default: Any = None, whole: bool = False) -> str:
    """The page of a command whose options are the dataclass ``cls``; ``default``: an instance with other defaults."""
    width = terminal_width()
    rows = list(rows_of(cls, default))
    placed = [row for row in rows if not row.flag.startswith("-")]
    usual = [r for name in getattr(cls, "usual", ()) for r in rows if _is(r, name) and r not in placed]
    rest = [r for r in rows if r not in placed and r not in usual]
    if not getattr(cls, "usual", ()):
        usual, rest = rest, []
    lines = [" ".join(["usage: ssl-video", command, *(row.value for row in placed), *(["[options]"] if rows else [])])]
    lines += ["", *wrapped(description, width), ""]
    shown = placed + usual
    for title, some in (("options:" if whole or not rest else "usual options:", shown), ("all others:", rest)):
        if some and (whole or some is shown):
            lines += [title, *(line for row in some for line in _lines(row, width)), ""]
    if examples := getattr(cls, "examples", ()):
        lines += ["examples:", *(f"  {example}" for example in examples), ""]
    if rest and not whole:
        more = "1 more option" if len(rest) == 1 else f"{len(rest)} more options"
        lines += wrapped(f"'ssl-video {command} --help-all' shows {more}.", width)
    lines += wrapped("With --plugin FILE.py, what a file of yours registers is known.", width)
    return "\n".join(lines)


def rows_of(
    cls: type, default: Any = None, prefix: str = "--", shown_as: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Row]:
    """All options of a dataclass; nested ones are dotted, unless their own name is left out (``name=""``).

    ``shown_as``: flags that have a shorter name too, which is shown; also an attribute of the outermost dataclass.
    """
    hints, about = get_type_hints(cls, include_extras=True), docs_of(cls)
    shown_as = shown_as or getattr(cls, "shown_as", {})
    for f in dataclasses.fields(cls):
        hint, marks = hints[f.name], _marks(hints[f.name])
        kind = _bare(hint)
        named = next((mark.name for mark in marks if getattr(mark, "name", None)), f.name)
        flag = f"{prefix}{named.replace('_', '-')}"
        given = _default(f) if default is None else getattr(default, f.name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            bare = any(getattr(mark, "name", None) == "" for mark in marks)
            yield from rows_of(
                kind if given is dataclasses.MISSING else type(given),
                None if given is dataclasses.MISSING else given,
                prefix if bare else f"{flag}.",
                shown_as,
            )
            continue
        said = next((m.help for m in marks if getattr(m, "help", None)), about.get(f.name, ""))
        value = next((m.metavar for m in marks if getattr(m, "metavar", None)), None) or metavar(hint)
        required = given is dataclasses.MISSING
        if positional(hint):
            some = f"{value} ..." if get_origin(kind) is tuple and not value.endswith("...") else value
            value = some if required else f"[{some}]"
            flag = ""
        yield Row(shown_as.get(flag, flag), value, f"{said}{_after(given)}", f.name, kind)


def metavar(hint: Any) -> str:
    """What stands for the value of an option: its choices, or a word for its type; nothing for one that is a switch."""
    kind = _bare(hint)
    arms = [arm for arm in get_args(kind) if arm is not type(None)] if _is_union(kind) else []
    if arms and all(get_origin(_bare(arm)) is Literal for arm in arms):
        return "{" + ",".join(choices_of(kind)) + "}"
    if arms:
        return "|".join(dict.fromkeys(next(_metavars(arm), None) or metavar(arm) for arm in arms))
    origin = get_origin(kind)
    if origin is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if origin in (tuple, list):
        inner = get_args(kind)[0]
        return f"{next(_metavars(inner), None) or metavar(inner)} ..."
    return "" if kind is bool else WORDS.get(kind, "VALUE")


def choices_of(kind: Any) -> list[str]:
    """The words of a Literal, or of several that are joined; none for other types."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    return [word for part in get_args(kind) for word in choices_of(part)]


@functools.cache
def docs_of(cls: type) -> dict[str, str]:
    """Field -> the docstring below it, of a dataclass and its bases; of a class without a source, that of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError):  # made by make_dataclass, or built in
            continue
        statements = getattr(body, "body", [])
        for field, below in pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _text(below) is not None:
                found[field.target.id] = " ".join(str(_text(below)).split())
    return found


def names_in(package: str, registry: str) -> list[str]:
    """Names of a registry, sorted: what it holds if it is imported already, else what the sources of a package say.

    So help shows choices without importing networks. Only names that decorators spell out are found in sources.
    """
    home = sys.modules.get(f"{package}.base")
    if home is not None:
        return getattr(home, registry).names()
    folder = Path(__file__).resolve().parent.parent / package.rpartition(".")[2]
    sources = (path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    return sorted(
        name for source in sources for name in re.findall(rf'^@{registry}\.register\("(\w+)"\)', source, re.M)
    )


def _text(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return statement.value.value if isinstance(statement.value.value, str) else None
    return None


def _is(row: Row, name: str) -> bool:
    """Is this the row of an option, or one below ``name.``?"""
    return row.flag.startswith(f"--{name}") if name.endswith(".") else name in (row.field, row.flag.lstrip("-"))


def _lines(row: Row, width: int) -> list[str]:
    head = "  " + " ".join(part for part in (row.flag, row.value) if part)
    return beside(head, row.about, COLUMN, width)


def _after(default: Any) -> str:
    if default is dataclasses.MISSING:
        return " (required)"
    if default is None or default is False or default in ("", (), Path()):
        return ""
    text = " ".join(map(str, default)) if isinstance(default, tuple | list) else str(default)
    return f" (default: {'yes; --no- turns it off' if default is True else text})"


def _default(f: "dataclasses.Field[Any]") -> Any:
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default


def _marks(hint: Any) -> Sequence[Any]:
    own = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    inner = [mark for arm in get_args(_bare(hint)) for mark in _marks(arm)] if _is_union(_bare(hint)) else []
    return [*own, *inner]


def _metavars(hint: Any) -> Iterator[str]:
    return (mark.metavar for mark in _marks(hint) if getattr(mark, "metavar", None))


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _is_union(kind: Any) -> bool:
    return type(None) in get_args(kind) or str(get_origin(kind)) in ("typing.Union", "<class 'types.UnionType'>")


def positional(hint: Any) -> bool:
    """Does the value of an option stand by its place?"""
    positional = get_args(tyro.conf.Positional[str])[1:]
    return any(mark in positional for mark in _marks(hint))
