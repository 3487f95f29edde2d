import ast
from pathlib import Path

import pytest

from ssl_video.errors import UserError
from ssl_video.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    ["errors", "_version", "files", "registry", "config", "capabilities", "tensors"],
    ["video"],
    ["datasets"],
    ["backbones", "encoders"],
    ["run"],
    ["train"],
    ["pretexts"],
    ["model"],
    ["eval"],
    ["pretraining"],
    ["apps"],
    ["api"],
    ["cli"],
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
