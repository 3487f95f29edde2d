"""What ``--help`` shows, and examples that the parser takes."""

import json
import shlex
import sys

import pytest

from ssl_video.backbones.base import BACKBONES
from ssl_video.cli import COMMANDS, main, parsing, pretrain_command
from ssl_video.cli.help_page import names_in
from ssl_video.eval.base import EVALUATIONS
from ssl_video.model.readout import MAP_READOUTS
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.recipes import load_recipe

ACTIONS = {"data": ("scan", "cache", "pack", "flow", "synthesize"), "explain": ("flow", "affinity", "cam")}
PAGES = [f"{c} {action}".strip() for c in COMMANDS for action in ACTIONS.get(c, ("",))]


OURS = [name for name in PRETEXTS.names() if PRETEXTS[name].__module__.startswith("ssl_video.")]


class Parsed(Exception):
    """The parser took the words."""


def page(capsys, words: str, flag: str = "--help") -> str:
    try:
        main([*words.split(), flag])
    except SystemExit as end:
        assert end.code == 0
    return capsys.readouterr().out


def examples(text: str) -> list[str]:
    lines = text.partition("examples:\n")[2].splitlines()
    return [line.strip() for line in lines if line.startswith("  ")]


@pytest.mark.parametrize("words", [*PAGES, *ACTIONS])
def test_every_command_shows_three_examples_which_its_parser_takes(words, capsys, monkeypatch):
    given = examples(page(capsys, words))
    assert len(given) == 3 and len(set(given)) == 3
    whole = parsing.tyro.cli

    def parse(*args, **options):
        _value, unknown = whole(*args, **options)
        assert not unknown
        raise Parsed

    monkeypatch.setattr(parsing.tyro, "cli", parse)
    monkeypatch.setattr("ssl_video.registry.load_plugin", lambda _path: None)
    for line in given:
        program, *argv = shlex.split(line.partition(" > ")[0])
        assert program == "ssl-video" and line.startswith(f"ssl-video {words}")
        with pytest.raises(Parsed):
            main(argv)


@pytest.mark.parametrize("words", PAGES)
def test_no_page_of_help_shows_types_of_python_or_more_than_a_screen(words, capsys):
    short, whole = page(capsys, words), page(capsys, words, "--help-all")
    for text in (short, whole):
        assert not any(word in text for word in ("{None}", "None|", "STR", "PATH", "(default: None)"))
    assert len(short.splitlines()) <= 50
    if short != whole:
        assert "--help-all" in short and len(whole.splitlines()) > len(short.splitlines())


def test_the_five_usual_options_of_a_training_come_first_and_the_others_when_asked_for(capsys):
    short = page(capsys, "pretrain")
    assert [line.split()[0] for line in short.splitlines() if line.startswith("  --")] == [
        "--data", "--out", "--config", "--pretext", "--backbone",
    ]  # fmt: skip
    whole = page(capsys, "pretrain", "--help-all")
    assert "--optim.ema NUMBER" in whole and "--held-out" in whole


def test_help_with_a_pretext_shows_its_own_options(capsys):
    text = page(capsys, "pretrain --pretext clip_order")
    assert "--pretext.gap INT" in text and "--pretext PRETEXT" in text and "(default: clip_order)" in text
    assert "--backbone.width" not in text and "--pretext.name" not in text


def test_choices_are_shown(capsys):
    training, measuring = page(capsys, "pretrain"), page(capsys, "evaluate", "--help-all")
    assert all(name in training for name in OURS)
    assert all(name in measuring for name in names_in("ssl_video.eval", "EVALUATIONS"))
    assert "{none,raw,h264}" in measuring and "cuda:N" in measuring
    readouts = page(capsys, "extract")
    assert all(name in readouts for name in (*MAP_READOUTS, "cls"))
    assert pretrain_command.NETWORKS <= len(BACKBONES.names()) < pretrain_command.NETWORKS + 40
    assert f"more than {pretrain_command.NETWORKS} networks" in training


def test_names_are_found_in_sources_as_well_as_in_a_registry(monkeypatch):
    assert names_in("ssl_video.pretexts", "PRETEXTS") == PRETEXTS.names()
    monkeypatch.delitem(sys.modules, "ssl_video.pretexts.base")
    assert names_in("ssl_video.pretexts", "PRETEXTS") == OURS


@pytest.mark.parametrize("words", ["export random:r2plus1d_4?width=4 --out new", "export --out new random:r2plus1d_4"])
def test_a_model_named_by_its_place_is_understood_with_a_note(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 0
    assert "takes --model random:r2plus1d_4" in capsys.readouterr().err


def test_a_model_and_an_index_of_the_page_may_stand_by_their_places(monkeypatch, capsys):
    monkeypatch.setattr("ssl_video.apps.web_page.check_gradio", lambda: None)
    assert main(["app", "random:no_such_network", "--port", "8000", "no_such_index"]) == 2
    said = capsys.readouterr().err
    assert "takes --model random:no_such_network" in said and "takes --index no_such_index" in said
    assert said.splitlines()[-1].startswith("ssl-video: no_such_index is no index")


def test_a_place_beside_the_flag_is_a_mistake(capsys):
    assert main(["export", "--model", "random:r2plus1d_4", "--out", "new", "another"]) == 2
    assert "does not know what to do with 'another'" in capsys.readouterr().err


def test_list_alone_counts_what_there_is(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("pretexts", "backbones"))] == [
        ["pretexts", str(len(PRETEXTS.names()))], ["backbones", str(len(BACKBONES.names()))],
    ]  # fmt: skip
    assert main(["list", "--json"]) == 0
    assert {row["kind"]: row["count"] for row in json.loads(capsys.readouterr().out)}["protocols"] == len(
        EVALUATIONS.names()
    )


def test_data_sets_are_listed_by_titles(capsys):
    assert main(["list", "datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not any("Raises" in line or "``" in line for line in lines)
    assert any(line.split(maxsplit=1)[1].startswith("UCF101 (Soomro et al., 2012") for line in lines)


def test_lists_are_json_where_asked_for(capsys):
    assert main(["list", "backbones", "x3d_s", "--flops", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "x3d_s" and row["parameters"] > 10**6
    assert main(["list", "encoders", "--json"]) == 0
    assert [set(row) for row in json.loads(capsys.readouterr().out)] == [{"name", "about"}] * 2


def test_an_unknown_kind_of_list_names_the_nearest(capsys):
    assert main(["list", "backbone"]) == 2
    assert "did you mean 'backbones'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "source"),
    [("pretrain", "speediness:small"), ("pretrain --pretext clip_order", "clip_order:small"),
     ("pretrain --config cubic_puzzles:paper", "cubic_puzzles:paper"), ("pretrain --backbone r3d_10", "default")],
)  # fmt: skip
def test_the_defaults_of_help_are_those_of_the_recipe_that_it_names(words, source, capsys):
    lines = " ".join(page(capsys, words, "--help-all").split())
    assert f"Defaults shown are those of {source};" in lines
    recipe = load_recipe(source)
    for flag, name in (("--steps INT", "steps"), ("--batch-size INT", "batch_size")):
        if name in recipe:
            about = lines.partition(flag)[2].partition(" --batch-size" if name == "steps" else " --clips-per")[0]
            assert f"(default: {recipe[name]})" in about
    assert f"Peak learning rate. (default: {recipe['optim']['lr']})" in lines


@pytest.mark.parametrize("width", [60, 120])
@pytest.mark.parametrize("words", ["", *PAGES, "data", "explain"])
def test_help_keeps_to_the_width_of_the_terminal_but_for_lines_to_copy(words, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = page(capsys, words).splitlines()
    assert [line for line in lines if len(line) > width and not line.startswith("  ssl-video ")] == [
        line for line in lines if "{safetensors,onnx,torch-export,projector,fiftyone}" in line and width == 60
    ]
    assert not any(word in "\n".join(lines) for word in ("... ...", "(default: )", "}|{", " 1 more options"))
