"""What the how-tos promise: one screen each, commands and flags that are there, the papers' settings by name."""

import contextlib
import functools
import io
import re
from pathlib import Path

import numpy as np
import pytest

from ssl_video.cli import COMMANDS, main
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.pretrain_config import PretrainConfig
from ssl_video.pretraining import untrained
from ssl_video.recipes import load_recipe

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
HOWTOS = sorted(page for page in (DOCS / "howto").glob("*.md") if page.name != "README.md")
USE = re.compile(r"(?:ssl-video|-m ssl_video) +([a-z]+)((?: [a-z]+)?)([^\n`]*(?:\n(?!\n)[^`\n]*`)?)")
OURS = sorted(name for name in PRETEXTS.names() if PRETEXTS[name].__module__.startswith("ssl_video.pretexts."))


@functools.cache
def help_of(command: str) -> str:
    """All options of a command, as it prints them."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*command.split(), "--help-all"])
    return said.getvalue()


def commands_of(text: str) -> list[tuple[str, set[str]]]:
    """Commands that a page shows, with the flags that it gives them, but for options of a pretext or a backbone."""
    found = []
    for name, second, rest in USE.findall(text.replace("\\\n", " ")):
        words = re.split(r"ssl-video| #|&&", second + rest)[0]
        flags = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", words))
        chosen = {flag for flag in flags if flag.startswith(("--pretext.", "--backbone.", "--help", "--plugin"))}
        found.append((name + second if name in ("data", "explain") else name, flags - chosen))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_and_flags_that_a_page_shows_are_there(page):
    for command, flags in commands_of(page.read_text("utf-8")):
        assert command.split()[0] in COMMANDS, command
        missing = [flag for flag in flags if not re.search(re.escape(flag) + r"(?![\w-])", help_of(command))]
        assert missing == [], f"{command} in {page.name}"


def test_a_flag_that_is_gone_is_found():
    page = "`ssl-video data cache --out DIR --gone`, and\n```\nssl-video list --json && ls --all\n```"
    assert commands_of(page) == [("data cache", {"--out", "--gone"}), ("list", {"--json"})]
    assert "--out" in help_of("data cache") and "--gone" not in help_of("data cache")


def test_the_whole_help_says_whose_defaults_it_shows():
    bare, named = (" ".join(help_of(command).split()) for command in ("pretrain", "pretrain --pretext clip_order"))
    assert "Defaults shown are those of speediness:small; others have their own (--config RECIPE --help)." in bare
    assert "--batch-size INT Samples in a batch, over all processes together. (default: 16)" in named


def test_a_howto_is_one_screen_under_a_title():
    assert len(HOWTOS) == 9
    for page in HOWTOS:
        lines = page.read_text("utf-8").splitlines()
        assert lines[0].startswith("# ") and len(lines) <= 90, page.name


@pytest.mark.parametrize("name", OURS)
def test_the_pages_to_choose_by_know_every_pretext_and_its_paper_is_taken_by_name(name):
    chosen, papers = (
        (DOCS / "howto" / f"{page}.md").read_text("utf-8") for page in ("choose_a_pretext", "reproduce_a_paper")
    )
    row = re.search(rf"^\| `{name}` \| `(\w+)`", papers, re.M)
    assert f"\n| `{name}` |" in chosen and row is not None
    assert row[1] == load_recipe(f"{name}:paper")["backbone"]["name"]
    own = (DOCS / "pretexts" / f"{name}.md").read_text("utf-8")
    assert f"ssl-video pretrain --pretext {name} --data SPEC [--config paper]" in own


@pytest.mark.parametrize("name", OURS)
def test_the_page_to_choose_by_has_the_numbers_of_the_small_recipe(name):
    page = (DOCS / "howto" / "choose_a_pretext.md").read_text("utf-8")
    row = re.search(rf"^\| `{name}` \| (.*)$", page, re.M)
    assert row is not None
    frames, _, parameters, budget, *_ = (cell.strip() for cell in row[1].split("|"))
    recipe = load_recipe(f"{name}:small")
    pretext = untrained(PretrainConfig.from_mapping(recipe))
    least_N = pretext.least_frames(np.array([25.0]))
    assert least_N is None or int(frames.partition(",")[0]) == least_N[0]
    assert parameters == f"{sum(p.numel() for p in pretext.parameters() if p.requires_grad) / 1e6:.2f} M"
    assert budget == f"{recipe['steps']} x {recipe['batch_size']}"
