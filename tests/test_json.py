"""``--json``: one document on stdout and nothing else there."""

import json
from pathlib import Path

import pytest

from ssl_video.cli import main
from tests import videos


@pytest.fixture
def folder(tmp_path):
    for split, names in (("train", "abcd"), ("test", "ef")):
        for number, name in enumerate(names):
            path = tmp_path / "v" / split / "xy"[number % 2] / f"{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            videos.mp4(path, count=20 + 4 * number)
    return tmp_path / "v"


def document(capfd, *words) -> list | dict:
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_a_scan_is_one_document(folder, tmp_path, capfd):
    (folder / "train" / "x" / "bad.mp4").write_text("no video")
    said = document(capfd, "data", "scan", folder, "--out", tmp_path / "m.csv", "--workers", "1")
    assert said["videos"] == 6 and said["manifest"] == str(tmp_path / "m.csv")
    assert [Path(problem["path"]).name for problem in said["bad"]] == ["bad.mp4"] and sum(said["reasons"].values()) == 1


def test_results_are_one_document(folder, capfd):
    model = "random:r2plus1d_4?width=4"
    words = ("--data", folder, "--model", model, "--workers", "0", "--option", "clips=1", "--option", "calibrate=False")
    (result,) = document(capfd, "evaluate", "retrieval", *words)
    assert result["protocol"] == "retrieval" and 0 <= result["metrics"]["recall@1"] <= 1 and result["model"] == model


def test_a_table_is_one_document(tmp_path, capfd, monkeypatch):
    class Bench:
        def __init__(self, _table, _workers, _device, say, _rows, _measured):
            say("measuring")

        def run(self, out):
            (out / "table.json").write_text('[{"row": "a"}]', encoding="utf-8")
            (out / "table.md").write_text("# Table", encoding="utf-8")
            return out / "table.md"

    monkeypatch.setattr("ssl_video.apps.benchmark.Bench", Bench)
    assert document(capfd, "benchmark", "small", "--out", tmp_path) == [{"row": "a"}]
