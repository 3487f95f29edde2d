"""Messages of the library name options that there are."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import ssl_video
from ssl_video.apps.catalogue import KINDS
from ssl_video.backbones.base import unloaded_backbone
from ssl_video.cli import COMMANDS
from ssl_video.cli.parsing import RENAMED
from ssl_video.cli.pretrain_command import configure
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.recipes import load_recipe, serving
from tests.test_help import OURS, PAGES, page

ROOT = Path(ssl_video.__file__).resolve().parent
OTHERS = {"--plugin", "--help", "--help-all", "--version", "--quiet", "--verbose", "--no-", "--shm-size", *RENAMED}
"""Of every command, of docker, and former ones."""
ELSEWHERE = {"--logdir", "--name", "--dataset-dir", "--type"}
"""Of tensorboard and fiftyone, which 'ssl-video export' names as what to do next."""


@cache
def texts() -> list[tuple[str, str]]:
    """Place and text of every constant in the library that is no docstring."""
    found = []
    for path in sorted({p.resolve() for p in ROOT.rglob("*.py")}):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docs = {id(n.value) for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                found.append((f"{path.name}:{node.lineno}", node.value))
    return found


def test_every_flag_that_a_message_names_is_one_of_some_command(capsys):
    words = [*PAGES, "pretrain --pretext cubic_puzzles --backbone r3d_10"]
    pages = [page(capsys, w, "--help-all") for w in words]
    known = {*OTHERS, *ELSEWHERE, *(flag for text in pages for flag in re.findall(r"--[a-z][a-z0-9.-]*", text))}
    named = [(place, flag) for place, text in texts() for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)]
    assert len(named) > 100
    assert [
        (place, flag) for place, flag in named if not any(k == flag or k.startswith(f"{flag}.") for k in known)
    ] == []


def test_every_command_that_a_message_names_is_there():
    named = [(place, c) for place, text in texts() for c in re.findall(r"'ssl-video ([a-z]+)", text)]
    assert [(place, c) for place, c in named if c not in COMMANDS] == []
    lists = [(place, c) for place, text in texts() for c in re.findall(r"ssl-video list ([a-z]+)", text)]
    assert [(place, c) for place, c in lists if c not in KINDS] == []


def test_no_message_names_an_extra_as_if_the_project_were_on_an_index():
    assert [place for place, text in texts() if "ssl-video[" in text] == []


@pytest.mark.parametrize("name", OURS)
def test_the_network_that_a_message_names_serves_the_pretext(name):
    flags, _, recipe = serving(name).rpartition(", or --config ")
    config = configure([*flags.split(), "--pretext", name, "--data", "x", "--config", f"{name}:small"]).config
    PRETEXTS[name].needs.check(name, unloaded_backbone(config.backbone.name, **config.backbone.options))
    assert serving(PRETEXTS[name].__name__) == serving(name)
    assert load_recipe(recipe)["pretext"]["name"] == name


def test_a_network_that_is_too_coarse_is_refused_with_one_that_is_not():
    with pytest.raises(UserError, match=r"choose --backbone dense_resnet_8, or --config colorization:small\.$"):
        PRETEXTS["colorization"].needs.check("colorization", unloaded_backbone("r3d_18"))
