"""Flags to dataclasses, by tyro, with errors of one sentence."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from ssl_video.errors import UserError, nearest

T = TypeVar("T")


def parse(cls: type[T], argv: Sequence[str], command: str, description: str, default: T | None = None) -> T:
    """An instance of the dataclass ``cls`` from flags, over the values of ``default``.

    ``--help`` prints the flags and raises SystemExit(0). Raises UserError for anything else that tyro refuses.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    said = io.StringIO()
    asks_help = any(a in ("-h", "--help") for a in argv)
    try:
        with contextlib.nullcontext() if asks_help else contextlib.redirect_stderr(said):
            value, unknown = tyro.cli(
                cls,
                args=list(argv),
                prog=f"ssl-video {command}",
                description=description,
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
            raise UserError(f"'ssl-video {command}' does not know what to do with {flag!r}.")
        raise UserError(f"'ssl-video {command}' has no option {flag}; {nearest(flag.split('=')[0], flags_of(cls))}")
    return value


def flags_of(cls: type, prefix: str = "--") -> list[str]:
    """All flags that a dataclass gives, nested ones dotted."""
    flags = []
    for f in dataclasses.fields(cls):
        name = f"{prefix}{f.name.replace('_', '-')}"
        kind = f.type if isinstance(f.type, type) else None
        flags += flags_of(kind, f"{name}.") if kind is not None and dataclasses.is_dataclass(kind) else [name]
    return flags


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
