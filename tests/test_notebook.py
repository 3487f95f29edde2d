"""The notebook of examples/ runs from end to end, and again, and is stored without outputs."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(path, "code"))
    ids = [cell["id"] for kind in ("code", "markdown") for cell in cells(path, kind)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_end_to_end_and_again(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for _ in range(2):
        names: dict = {"__name__": "__main__"}
        for number, cell in enumerate(cells(path, "code")):
            exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), names)
        said = capsys.readouterr().out
        assert said.count("top1") == 2 and "points.csv" in said
    assert [path.name for path in tmp_path.iterdir()] == ["tour"]


def test_the_notebook_uses_every_verb_that_it_names():
    code = "".join("".join(cell["source"]) for cell in cells(ROOT / "examples" / "tour.ipynb", "code"))
    verbs = ("pretrain", "evaluate", "embed", "index", "search", "track")
    assert [verb for verb in verbs if f"sv.{verb}(" not in code] == []
