"""What a run is measured by when it has ended: beside its untrained network, on videos that it was not trained on."""

import pytest

from ssl_video.apps.table import load_table
from ssl_video.cli import main
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.eval.results import Result
from ssl_video.run import Run
from tests.test_cli import SMALL

OWN = ("pretext", "loss"), ("pretext", "accuracy")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Twelve videos in two folders named for their classes, and the same ones in one folder."""
    drawn, classes, flat = (tmp_path_factory.mktemp(name) for name in ("drawn", "classes", "flat"))
    synthesize(drawn, SyntheticConfig(train=12, test=0, size=40, frames=32), workers=1)
    for number, video in enumerate(sorted(drawn.rglob("*.mp4"))):
        kind = classes / ("jump", "run")[number % 2]
        kind.mkdir(exist_ok=True)
        (kind / video.name).write_bytes(video.read_bytes())
        (flat / f"{number}.mp4").write_bytes(video.read_bytes())
    return {"classes": classes, "flat": flat}


def trained(folder, tmp_path, *words) -> Run:
    given = ["pretrain", "--data", str(folder), "--out", str(tmp_path / "run"), "--steps", "2", *SMALL, *words]
    assert main(given) == 0
    return Run(tmp_path / "run")


def test_without_a_test_list_the_held_out_videos_serve_and_labels_bring_the_linear_probe(folders, tmp_path, capsys):
    run = trained(folders["classes"], tmp_path, "--probe", "--held-out", "0.34")
    held_out = {v.source for v in run.lists().held_out.videos}
    results = [Result.from_dict(r) for r in run.probe()]
    assert [(r.protocol, r.model) for r in results] == [
        (protocol, model) for protocol in ("pretext", "linear", "retrieval") for model in (str(run), f"random:{run}")
    ]
    assert all(r.counts.get("test", r.counts.get("queries", len(held_out))) == len(held_out) for r in results)
    assert results[0].metrics["loss"] != results[1].metrics["loss"] and not any(r.transductive for r in results)
    printed = capsys.readouterr().out
    assert f"on {folders['classes']} (held out)" in printed and "pretext accuracy" in printed
    assert f"chance among the 2 classes: 0.500; {len(held_out)} test videos" in printed


def test_without_labels_it_is_the_task_of_the_pretext(folders, tmp_path, capsys):
    run = trained(folders["flat"], tmp_path, "--probe", "--held-out", "0.1")
    assert {(r["protocol"], name) for r in run.probe() for name in r["metrics"]} == set(OWN)
    assert "1 test video;" in capsys.readouterr().out


def test_with_nothing_to_measure_on_that_is_said_and_the_run_is_whole(folders, tmp_path, capsys):
    run = trained(folders["flat"], tmp_path, "--probe", "--held-out", "0")
    assert run.finished and run.probe() == []
    assert "no video was held out (--held-out)" in capsys.readouterr().out


def test_what_cannot_be_measured_on_these_videos_does_not_take_the_rest(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ssl_video.pretraining.protocols_on", lambda task: ["finetune_nothing", "pretext"])
    run = trained(folders["flat"], tmp_path, "--probe")
    assert {r["protocol"] for r in run.probe()} == {"pretext"} and run.finished
    assert "finetune_nothing is not measured: " in capsys.readouterr().out


def test_a_table_measures_its_runs_itself():
    recipes = load_table("results", dict.fromkeys(("sequences", "ut", "davis", "train"), "synthetic")).recipes
    assert len(recipes) > 5 and not any("probe" in recipe for recipe in recipes.values())
