"""``ssl-video completion``: the script by which a shell completes commands, flags and their choices."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import tyro

from ssl_video.apps.catalogue import KINDS, Kind, lines_of
from ssl_video.cli import COMMANDS
from ssl_video.cli.help_page import choices_of, rows_of
from ssl_video.cli.parsing import parse

NAMES: dict[str, Kind] = {
    "pretext": "pretexts",
    "backbone": "backbones",
    "config": "recipes",
    "protocol": "protocols",
}
"""Options whose value is a name, and what 'ssl-video list' calls those."""
SCRIPT = """\
_ssl_video() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} key=${{COMP_WORDS[1]}} words=
    COMPREPLY=()
    case $key in {groups}) [ "$COMP_CWORD" -gt 2 ] && key="$key ${{COMP_WORDS[2]}}" ;; esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        words={commands}
    else
        case "$key $prev" in
{values}
        esac
        case $words$cur in -*)
            case $key in
{flags}
            esac ;;
        esac
    fi
    [ -z "$words" ] || COMPREPLY=( $(compgen -W "$words" -- "$cur") )
}}
complete -o default -F _ssl_video ssl-video
"""


@dataclass(frozen=True)
class CompletionConfig:
    """Which shell."""

    examples: ClassVar = (
        "ssl-video completion bash > ~/.local/share/bash-completion/completions/ssl-video",
        "ssl-video completion zsh > ~/.ssl-video.zsh",
        "ssl-video completion bash > ssl-video.bash",
    )

    shell: tyro.conf.Positional[Literal["bash", "zsh"]]
    """The shell that is to complete."""


@dataclass(frozen=True)
class Completed:
    """What follows a command: its flags, and the choices of what has some, by the word before."""

    flags: list[str]
    choices: dict[str, list[str]]


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(CompletionConfig, argv, "completion", "Print the script by which a shell completes ssl-video.")
    if config.shell == "zsh":
        print("autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit")
    print(script(), end="")
    return 0


def script() -> str:
    """The functions for bash; zsh takes them after ``bashcompinit``."""
    found = {name: completed(name, cls) for name, cls in configurations()}
    groups: dict[str, list[str]] = {}
    for name in found:
        if " " in name:
            groups.setdefault(name.split()[0], []).append(name.split()[1])
    choices = {f"{group} {group}": actions for group, actions in groups.items()}
    for name, here in found.items():
        choices |= {f"{name} {before}": words for before, words in here.choices.items()}
    values = [f'            "{before}") words={_quoted(words)} ;;' for before, words in choices.items()]
    flags = [f'                "{name}") words={_quoted(here.flags)} ;;' for name, here in found.items()]
    return SCRIPT.format(
        groups="|".join(groups), commands=_quoted([*COMMANDS]), values="\n".join(values), flags="\n".join(flags)
    )


def configurations() -> Iterator[tuple[str, type]]:
    """Each command, or ``COMMAND ACTION``, and the dataclass of its flags; those of actions are called after them."""
    for command in COMMANDS:
        module = importlib.import_module(f"ssl_video.cli.{command}_command")
        own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
        named = {c.__name__: c for c in own if c.__name__.endswith("Config")}
        if command == "pretrain":
            yield command, module.Choices
        elif len(named) == 1:
            yield command, next(iter(named.values()))
        else:
            yield from ((f"{command} {n.removesuffix('Config').lower()}", c) for n, c in named.items())


def completed(name: str, cls: type) -> Completed:
    """The flags and choices of a command's dataclass; its first word has choices after the command's own name."""
    flags, choices = ["--help", "--help-all", "--plugin"], {}
    for row in rows_of(cls):
        named = [row.flag] if row.flag else []
        if row.kind is bool:
            group, dot, last = row.flag.removeprefix("--").rpartition(".")
            named += [f"--{group}{dot}no-{last}"]
        option = row.flag.removeprefix("--") or row.field
        words = KINDS if option == "what" else choices_of(row.kind)
        words = lines_of(NAMES[option]) if option in NAMES else words
        if words:
            choices |= {before: [*words] for before in named or [name.split()[-1]]}
        flags += named
    return Completed(flags, choices)


def _quoted(words: Sequence[str]) -> str:
    return f"'{' '.join(words)}'"
