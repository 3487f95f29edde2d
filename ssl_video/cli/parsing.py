"""Flags to dataclasses, by tyro, with errors of one sentence."""

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar, cast

import tyro

from ssl_video.cli import Plain, beside, tell, terminal_width
from ssl_video.cli.help_page import help_page, rows_of
from ssl_video.errors import UserError, nearest
from ssl_video.files import there

if TYPE_CHECKING:
    import torch

    from ssl_video.model import Model
    from ssl_video.model.default import Task

T = TypeVar("T")

Device = Annotated[str, tyro.conf.arg(metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")]
"""What ``choose_device`` takes."""
Spec = Annotated[str, tyro.conf.arg(metavar="SPEC")]
"""Videos: a folder, a csv, a manifest, a data set as NAME:ROOT."""
ModelName = Annotated[str, tyro.conf.arg(metavar="RUN")]
"""What ``load_model`` takes: mostly the folder of a run."""
RunFolder = Annotated[Path, tyro.conf.arg(metavar="RUN")]
VideoFile = Annotated[Path, tyro.conf.arg(metavar="VIDEO")]
IndexFolder = Annotated[Path, tyro.conf.arg(metavar="INDEX")]
Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
Json = Annotated[bool, tyro.conf.arg(help="Print one JSON document and nothing else; messages go to stderr.")]
RENAMED = {"--batch": "--batch-size", "--topk": "--top-k"}
"""Flags of version 0.1 and what they are called now; they are understood for one more version, with a note."""


def parse(cls: type[T], argv: Sequence[str], command: str, description: str, default: T | None = None) -> T:
    """An instance of the dataclass ``cls`` from flags, over the values of ``default``.

    ``--help`` and ``--help-all`` print the flags and raise SystemExit(0). Raises UserError for anything that tyro
    refuses.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    said = io.StringIO()
    if asks_help(argv):
        print(help_page(cls, command, description, default, whole="--help-all" in argv))
        raise SystemExit(0)
    argv = _placed(list(_renamed(argv, flags_of(cls), command)), cls, command)
    try:
        with contextlib.redirect_stderr(said):
            value, unknown = tyro.cli(
                cls,
                args=argv,
                prog=f"ssl-video {command}",
                description=description,
                return_unknown_args=True,
                **given,
            )
    except SystemExit:
        _refuse_dashes(argv)
        raise UserError(f"{_sentence(said.getvalue())} ('ssl-video {command} --help' lists the options.)") from None
    if unknown:
        _refuse_dashes(unknown)
        flag = unknown[0]
        if not flag.startswith("-"):
            raise UserError(
                f"'ssl-video {command}' does not know what to do with {flag!r}; name the option that it is for "
                f"('ssl-video {command} --help' lists them)."
            )
        raise UserError(f"'ssl-video {command}' has no option {flag}; {nearest(flag.split('=')[0], flags_of(cls))}")
    return value


def _refuse_dashes(words: Sequence[str]) -> None:
    """Raise UserError if a file was meant where an option was understood."""
    file = next((word for word in words if word.startswith("-") and there(word)), None)
    if file is not None:
        raise UserError(f"{file} begins with a dash, as options do; name the file ./{file}.")


def asks_help(argv: Sequence[str]) -> bool:
    """Is help asked for?"""
    return any(word in ("-h", "--help", "--help-all") for word in argv)


def _placed(argv: list[str], cls: type, command: str) -> list[str]:
    """The words with the flags that stood by their place in version 0.1 (``placed``), which is understood still."""
    names = list(getattr(cls, "placed", ()))
    switches = {row.flag for row in rows_of(cls) if not row.value}
    free, words, before = [], [], ""
    for word in argv:
        taken = before.startswith("--") and "=" not in before and before not in switches
        (words if taken or word.startswith("-") else free if names else words).append(word)
        before = "" if taken else word
    names = [name for name in names if name_given(words, name) is None]
    for name, word in zip(names, free, strict=False):
        tell(f"ssl-video: 'ssl-video {command}' takes {name} {word} now; the place alone will go.", sys.stderr)
        words += [name, word]
    return words + free[len(names) :]


def _renamed(argv: Sequence[str], flags: Sequence[str], command: str) -> Iterator[str]:
    """The words with the new names of flags that the command has no more."""
    for word in argv:
        flag, equals, value = word.partition("=")
        new = RENAMED.get(flag)
        if new in flags and flag not in flags:
            tell(f"ssl-video: 'ssl-video {command}' calls {flag} {new} now; the old name will go.", sys.stderr)
            word = f"{new}{equals}{value}"
        yield word


def flags_of(cls: type) -> list[str]:
    """All flags that a dataclass gives."""
    return [row.flag for row in rows_of(cls) if row.flag]


def action_of(argv: Sequence[str], command: str, actions: Mapping[str, T], examples: Sequence[str]) -> T | None:
    """The action that the first word names; None if it is --help, which is printed. Raises UserError."""
    if not argv or argv[0] in ("-h", "--help", "--help-all"):
        about = {name: str(action.__doc__).partition("\n")[0] for name, action in actions.items()}
        lines = [line for name, said in about.items() for line in beside(f"  {name}", said, 15, terminal_width())]
        print(f"usage: ssl-video {command} ACTION [options]\n\n" + "\n".join(lines))
        print("\nexamples:\n" + "\n".join(f"  {example}" for example in examples))
        print(f"\n'ssl-video {command} {next(iter(actions))} --help' shows its options.")
        return None
    if argv[0] not in actions:
        raise UserError(f"'ssl-video {command}' has no action {argv[0]!r}; {nearest(argv[0], actions)}")
    return actions[argv[0]]


def model_or_default(name: str | None, task: "Task", device: "torch.device | str") -> "Model":
    """The model that --model names, or without it the one that comes with ssl-video for the task. Raises UserError."""
    from ssl_video.model import default_model, load_model

    return default_model(task, device, tell, "--model") if name is None else load_model(name, device)


@contextlib.contextmanager
def messages_aside(wanted: bool) -> Iterator[None]:
    """What is printed goes to stderr, if ``wanted``: a document is printed to stdout afterwards (``document``)."""
    with contextlib.redirect_stdout(cast(TextIO, Plain(sys.stderr))) if wanted else contextlib.nullcontext():
        yield


def document(content: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(content, indent=1, ensure_ascii=True))


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
    text = re.sub(r"[╭╮╰╯│─]+|[+-]{3,}", "\n", boxed)  # it draws with + and - where a terminal has no lines
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    body = " ".join(lines[1:]) if len(lines) > 1 else " ".join(lines)
    body = re.split(r"Got errors:|Argument helptext:|For full helptext|Perhaps you meant", body)[0].strip()
    return body[0].upper() + body[1:] if body else "These options cannot be understood."
