"""Flags to dataclasses, by tyro, with errors of one sentence."""

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro

from ssl_video.errors import UserError, nearest

T = TypeVar("T")

Device = Annotated[str, tyro.conf.arg(help="auto, cpu, cuda or cuda:N.")]
"""What ``choose_device`` takes."""
RENAMED = {"--batch": "--batch-size", "--topk": "--top-k"}
"""Flags of version 0.1 and what they are called now; they are understood for one more version, with a note."""


def parse(cls: type[T], argv: Sequence[str], command: str, description: str, default: T | None = None) -> T:
    """An instance of the dataclass ``cls`` from flags, over the values of ``default``.

    ``--help`` prints the flags and raises SystemExit(0). Raises UserError for anything else that tyro refuses.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    said = io.StringIO()
    argv = list(_renamed(argv, flags_of(cls), command))
    asks_help = any(a in ("-h", "--help") for a in argv)
    try:
        with contextlib.nullcontext() if asks_help else contextlib.redirect_stderr(said):
            value, unknown = tyro.cli(
                cls,
                args=argv,
                prog=f"ssl-video {command}",
                description=f"{description}\n\nWith --plugin FILE.py, what a file of yours registers is known.",
                return_unknown_args=True,
                **given,
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise UserError(f"{_sentence(said.getvalue())} ('ssl-video {command} --help' lists the options.)") from None
    if unknown:
        flag = unknown[0]
        if not flag.startswith("-"):
            raise UserError(
                f"'ssl-video {command}' does not know what to do with {flag!r}; name the option that it is for "
                f"('ssl-video {command} --help' lists them)."
            )
        raise UserError(f"'ssl-video {command}' has no option {flag}; {nearest(flag.split('=')[0], flags_of(cls))}")
    return value


def _renamed(argv: Sequence[str], flags: Sequence[str], command: str) -> Iterator[str]:
    """The words with the new names of flags that the command has no more."""
    for word in argv:
        flag, equals, value = word.partition("=")
        new = RENAMED.get(flag)
        if new in flags and flag not in flags:
            print(f"ssl-video: 'ssl-video {command}' calls {flag} {new} now; the old name will go.", file=sys.stderr)
            word = f"{new}{equals}{value}"
        yield word


def flags_of(cls: type, prefix: str = "--") -> list[str]:
    """All flags that a dataclass gives; nested ones are dotted, unless their own name is left out (``name=""``)."""
    flags, hints = [], get_type_hints(cls, include_extras=True)
    for name in (f.name for f in dataclasses.fields(cls)):
        hint = hints[name]
        kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        name = next((mark.name for mark in marks if getattr(mark, "name", None)), name)
        flag = f"{prefix}{name.replace('_', '-')}"
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            bare = any(getattr(mark, "name", None) == "" for mark in marks)
            flags += flags_of(kind, prefix if bare else f"{flag}.")
        else:
            flags.append(flag)
    return flags


def action_of(argv: Sequence[str], command: str, actions: Mapping[str, T]) -> T | None:
    """The action that the first word names; None if it is --help, which is printed. Raises UserError."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: ssl-video {command} {'|'.join(actions)} [options]")
        return None
    if argv[0] not in actions:
        raise UserError(f"'ssl-video {command}' has no action {argv[0]!r}; {nearest(argv[0], actions)}")
    return actions[argv[0]]


def pair(text: str, flag: str, form: str) -> tuple[str, str]:
    """The two sides of ``name=value``. Raises UserError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{flag} takes {form}, not {text!r}.")
    return name, value


def name_given(argv: Sequence[str], flag: str) -> str | None:
    """The value of ``--flag VALUE`` or ``--flag=VALUE`` in argv, if it is there."""
    for i, word in enumerate(argv):
        if word == flag and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
    return None


def _sentence(boxed: str) -> str:
    """tyro's message without its box, cut where its details start."""
    text = re.sub(r"[╭╮╰╯│─]+", "\n", boxed)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    body = " ".join(lines[1:]) if len(lines) > 1 else " ".join(lines)
    body = re.split(r"Got errors:|Argument helptext:|For full helptext|Perhaps you meant", body)[0].strip()
    return body[0].upper() + body[1:] if body else "These options cannot be understood."
