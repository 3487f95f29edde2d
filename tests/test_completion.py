"""Shells complete commands, actions, flags and choices, by the script that a user sources."""

import shutil
import subprocess

import pytest
import tyro

from ssl_video.cli import COMMANDS, main
from ssl_video.cli.completion_command import completed, configurations, script


@pytest.fixture(scope="module")
def sourced(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "ssl-video"
    path.write_text(script())
    return path


def completions(sourced, line: str, shell: str = "bash") -> set[str]:
    """What the shell offers after ``line``, whose last word is being typed."""
    words = line.split(" ")
    head = "autoload -U compinit && compinit -D -u; autoload -U bashcompinit && bashcompinit; emulate sh; "
    head = head if shell == "zsh" else ""
    code = f'{head}source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ssl_video; '
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    options = ["-f"] if shell == "zsh" else ["--norc"]
    command = [shell, *options, "-c", code, shell, str(sourced), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {word for word in done.stdout.split() if word.startswith(words[-1])}  # zsh chooses by itself


@pytest.fixture(params=["bash", "zsh"])
def shell(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param}")
    return request.param


def test_the_commands_are_completed(sourced, shell):
    assert completions(sourced, "ssl-video ", shell) == set(COMMANDS)
    assert completions(sourced, "ssl-video ex", shell) == {"extract", "explain", "export"}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("data ", {"scan", "cache", "pack", "flow", "synthesize"}),
        ("data cache --k", {"--kind"}),
        ("data cache --kind ", {"h264", "raw"}),
        ("explain cam --fl", {"--flow"}),
        ("extract --format ", {"npy", "parquet"}),
        ("extract --crops ", {"1", "3", "10"}),
        ("export --format p", {"projector"}),
        ("pretrain --optim.n", {"--optim.name", "--optim.no-decay-all"}),
        ("pretrain --optim.name a", {"adam", "adamw"}),
        ("pretrain --pretext cubic", {"cubic_puzzles"}),
        ("pretrain --data folder --no-res", {"--no-resume"}),
        ("evaluate l", {"linear"}),
        ("list w", {"weights"}),
        ("completion ", {"bash", "zsh"}),
        ("nonsense --", set()),
        ("query index ", set()),
    ],
)
def test_what_may_follow_is_completed(sourced, shell, line, offered):
    assert completions(sourced, f"ssl-video {line}", shell) == offered


def test_the_flags_of_every_command_are_those_that_tyro_takes(capsys):
    assert {name.split()[0] for name, _ in configurations()} == set(COMMANDS)
    for name, cls in configurations():
        with pytest.raises(SystemExit):
            tyro.cli(cls, args=["--help"], prog=name)
        help_of = capsys.readouterr().out
        ours = {"--help-all", "--plugin"}
        assert [flag for flag in completed(name, cls).flags if flag not in help_of and flag not in ours] == [], name


def test_the_command_prints_the_script_with_what_zsh_needs_before_it(capsys):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == script()
    assert main(["completion", "zsh"]) == 0
    said = capsys.readouterr().out
    assert "bashcompinit" in said and said.endswith(script())
