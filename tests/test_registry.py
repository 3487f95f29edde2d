import ast
from pathlib import Path

import pytest

from ssl_video.cli import main
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.registry import Registry, load_plugin

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    [
        *(
            "errors",
            "_version",
            "bounds",
            "processes",
            "remote",
            "members",
            "files",
            "readback",
            "figures",
            "registry",
            "yaml_files",
            "config",
            "constants",
            "digests",
        ),
        *("sampling", "capabilities", "tensors", "progress"),
    ],
    ["video"],
    ["datasets"],
    ["backbones", "encoders", "implicit"],
    ["records", "checkpoints"],
    ["run"],
    ["train"],
    ["pretexts"],
    ["model"],
    ["eval"],
    ["pretrain_config", "pretrain_plan", "pretraining"],
    ["apps"],
    ["api", "api_video"],
    ["cli", "torchrun"],
]


def test_a_name_that_is_taken_is_refused():
    registry: Registry = Registry("thing", "ssl_video.recipes")
    registry.register("a")(object())
    with pytest.raises(ValueError, match="two things are called 'a'"):
        registry.register("a")(object())


def test_a_wrong_name_is_answered_with_the_nearest():
    registry: Registry = Registry("thing", "ssl_video.recipes")
    registry.register("resnet18")(object())
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        registry["resnet81"]


PLUGIN = """
from ssl_video.pretexts.base import PRETEXTS, Pretext

@PRETEXTS.register("of_a_plug_in")
class OfAPlugIn(Pretext):
    'VERSION'
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A function that writes a plug-in; what it registers is forgotten after the test."""
    monkeypatch.setattr(PRETEXTS, "_members", {name: PRETEXTS[name] for name in PRETEXTS.names()})

    def write(version: str = "First.", name: str = "mine.py", text: str = PLUGIN) -> Path:
        path = tmp_path / name
        path.write_text(text.replace("VERSION", version))
        return path

    return write


def defined(namespace: str = "cell"):
    """A class as a cell of a notebook defines it, anew at every call."""
    return type("Thing", (), {"__module__": namespace, "__qualname__": "Thing"})


def test_what_is_defined_again_under_its_qualified_name_takes_its_own_place():
    registry: Registry = Registry("thing", "ssl_video.recipes")
    registry.register("a")(defined())
    again = registry.register("a")(defined())
    assert registry["a"] is again
    with pytest.raises(ValueError, match="two things are called 'a'"):
        registry.register("a")(defined("another_cell"))


def test_a_value_takes_its_own_place_when_its_module_runs_again():
    registry: Registry = Registry("thing", "ssl_video.recipes")
    code = compile("registry.register('a')(object())", "values", "exec")
    for _ in range(2):
        exec(code, {"__name__": "values", "registry": registry})
    with pytest.raises(ValueError, match="two things are called 'a'"):
        exec(code, {"__name__": "other_values", "registry": registry})


def test_a_plug_in_that_is_loaded_again_replaces_what_it_registered(plugin):
    load_plugin(plugin("First."))
    first = PRETEXTS["of_a_plug_in"]
    load_plugin(plugin("Second."))
    second = PRETEXTS["of_a_plug_in"]
    assert (first.__doc__, second.__doc__) == ("First.", "Second.")
    assert first.__module__ == second.__module__


def test_two_plug_ins_do_not_share_a_name(plugin):
    load_plugin(plugin())
    with pytest.raises(UserError, match=r"yours.py failed in line 4: ValueError: two pretexts are called"):
        load_plugin(plugin(name="yours.py"))


def test_a_plug_in_cannot_take_a_name_of_ours(plugin):
    text = PLUGIN.replace("of_a_plug_in", "speediness")
    with pytest.raises(UserError, match="two pretexts are called 'speediness'"):
        load_plugin(plugin(text=text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\ny = x / 0\n", "failed in line 2: ZeroDivisionError: division by zero."),
        ("x = 1\n\ndef y(:\n", "failed in line 3: SyntaxError: invalid syntax."),
        ("import no_such_module_at_all\n", "failed in line 1: ModuleNotFoundError: No module named 'no_such_module"),
        ("import json\njson.loads('{')\n", "failed in line 2: JSONDecodeError: "),
    ],
)
def test_a_plug_in_that_fails_is_one_sentence_with_its_line(plugin, text, sentence):
    with pytest.raises(UserError) as caught:
        load_plugin(plugin(text=text))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_plug_in_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="is not there, or not a Python file"):
        load_plugin(tmp_path / "none.py")


@pytest.mark.parametrize("before", [True, False])
def test_every_command_takes_plug_ins_anywhere_on_its_line(plugin, capsys, before):
    words = ["--plugin", str(plugin()), f"--plugin={plugin('Other.', 'b.py', PLUGIN.replace('of_a', 'of_b'))}"]
    command = ["list", "pretexts", "plug_in"]
    assert main([*words, *command] if before else [*command, *words]) == 0
    assert capsys.readouterr().out.split() == ["of_a_plug_in", "First.", "of_b_plug_in", "Other."]


def test_plugin_without_a_file_is_one_sentence(capsys):
    assert main(["list", "pretexts", "--plugin"]) == 2
    assert capsys.readouterr().err == "ssl-video: --plugin needs a file: --plugin FILE.py.\n"


@pytest.mark.parametrize("package", ["pretexts", "eval"])
def test_the_linked_packages_refuse_their_bare_names(package, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import importlib

    with pytest.raises(ImportError, match=f"import this package as ssl_video.{package}"):
        importlib.import_module(package)


def test_modules_import_only_from_lower_floors():
    floor_of = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for path in (
        *(ROOT / "ssl_video").rglob("*.py"),
        *(ROOT / "pretexts").rglob("*.py"),
        *(ROOT / "eval").rglob("*.py"),
    ):
        parts = path.relative_to(ROOT).with_suffix("").parts
        room = parts[0] if parts[0] != "ssl_video" else parts[1]
        if room in ("__init__", "__main__", "recipes"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                target = name.split(".")[1] if name.startswith("ssl_video.") else None
                if target in floor_of and floor_of[target] > floor_of[room]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []
