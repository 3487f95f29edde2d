"""Videos whose names are any bytes go through every command, and what is noted of them is read in any folder."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from ssl_video.apps.index_folder import open_index
from ssl_video.cli import main
from tests import videos
from tests.speed_run import save
from tests.test_cli import SMALL, said
from tests.test_names import HOSTILE

ODD_CLASS = os.fsdecode(b"cl\xe9\r\x1b[1m'\"\n, |ass")
"""The name of a folder of videos."""
WORST = (os.fsdecode(b'-it\'s \xe9\r\n\x1b[31m "%03d" ~,;.mp4'), "\u202e" + "映像" * 40 + ".mp4")
TABLES = ("manifest.csv", "header.json", "config.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two classes, half of the hostile names in each, train and test alike."""
    root = tmp_path_factory.mktemp("videos") / os.fsdecode(b"h\xe9re %s")
    made = [videos.mp4(tmp_path_factory.mktemp("one") / f"{n}.mp4", count=24 + n) for n in range(4)]
    for n, name in enumerate(HOSTILE.values()):
        if name == b"~":
            continue
        for split in ("train", "test"):
            place = root / split / ("plain", ODD_CLASS)[n % 2]
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(made[n % 4], place / os.fsdecode(name))
    return root


@pytest.fixture(scope="module")
def work(folder, tmp_path_factory):
    """The folder in which commands run with names relative to it."""
    place = tmp_path_factory.mktemp("work")
    before = Path.cwd()
    os.chdir(place)
    yield place
    os.chdir(before)


@pytest.fixture
def run(capfd, work):
    """Runs a command; what it prints can be seen, and is UTF-8."""

    def command(*words: object) -> str:
        assert main([str(w) for w in words]) == 0
        told = capfd.readouterr()
        for text in (told.out, told.err):
            assert not any(c in text for c in "\r\x1b\u202e") and text.encode() is not None
        return told.out

    return command


MODEL = "random:r2plus1d_4?width=4"


@pytest.fixture(scope="module")
def model(work) -> Path:
    return save(work / "speedy")


def count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def test_scan_cache_and_flow_take_every_video(run, folder, work):
    out = run("data", "scan", folder, "--out", "scan.csv", "--workers", "2")
    assert f"{count(folder)} of {count(folder)} files can be used" in out
    out = run("data", "cache", "--data", "scan.csv", "--out", "copies", "--short-side", "32", "--workers", "2")
    assert f"{count(folder)} copies are in copies, 0 left out" in out
    assert "Next: ssl-video pretrain --data copies/manifest.csv" in out
    assert f"The flow of {count(folder)} videos" in run("data", "flow", "--data", "scan.csv", "--out", "flow")
    with (work / "copies" / "manifest.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["copy_of"] for row in rows} == set(map(str, folder.glob("*/*/*")))


def test_a_training_its_report_and_its_evaluations_take_every_name(run, folder, work, capfd):
    run("pretrain", "--data", folder, "--out", "run", *SMALL, "--tensorboard", "--held-out", "0.2")
    run("pretrain", "--data", "copies/manifest.csv", "--out", "of_copies", *SMALL)
    run("pretrain", "--out", "run", "--resume")
    few = ["--samples", "2", "--queries", "2", "--neighbours", "3", "--workers", "0"]
    run("report", "run", *few)
    for page in work.glob("run/report*.html"):
        assert "\\r\\x1b[1m" in page.read_text("utf-8") or "映像" in page.read_text("utf-8")
    for protocol in ("knn", "linear", "retrieval"):
        words = ["--model", "run", "--data", folder, "--workers", "0", "--predictions", "--out", f"{protocol}.json"]
        run("evaluate", protocol, *words)
    assert len(json.loads((work / "knn.json").read_text())[0]["predictions"]) == count(folder) / 2


def test_an_index_is_made_searched_and_drawn(run, folder, work):
    run("index", "--model", MODEL, "--data", folder, "--out", "i", "--clips", "1", "--workers", "0")
    assert {os.fsencode(path) for path in open_index(work / "i").paths()} == {
        os.fsencode(path) for path in folder.glob("*/*/*")
    }
    for path in sorted(folder.glob("train/*/*"))[:3]:
        out = run("query", "i", path, "--html", "q.html", "--top-k", "2")
        assert "(identical)" in out and len(out.splitlines()) <= 6
    found = run("query", "i", folder / "train", "--json", "--top-k", "1")
    assert {os.fsencode(json.loads(line)["query"]) for line in found.splitlines()} == {
        os.fsencode(path) for path in folder.glob("train/*/*")
    }
    assert (work / "q.html").read_text("utf-8")
    run("map", "i", "--out", "map.html", "--method", "pca")
    run("map", "i", "--out", "map.png", "--method", "pca")
    run("export", "--model", "i", "--format", "projector", "--out", "projector")
    run("export", "--model", "i", "--format", "fiftyone", "--out", "fifty")
    gone = next(iter(sorted(folder.glob("test/*/*"))))
    assert "1 removed" in run("index", "--out", "i", "--remove", gone)


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_features_are_extracted(run, folder, work, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    run("extract", "--model", MODEL, "--data", folder, "--out", format, "--format", format, "--workers", "0")
    run("export", "--model", format, "--format", "projector", "--out", f"projector-{format}")
    rows = (work / f"projector-{format}" / "metadata.tsv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + count(folder)


@pytest.mark.parametrize("name", WORST, ids=["bytes", "long"])
def test_one_video_of_any_name_is_tracked_aligned_sped_up_and_explained(run, folder, work, model, name, tmp_path):
    path = shutil.copy(next(folder.glob("train/plain/*")), tmp_path / name)
    dense = "random:dense_resnet_8?width=4"
    run("track", path, "--points", "4,4", "--model", dense, "--out", tmp_path / "t")
    run("align", path, path, "--model", MODEL, "--out", tmp_path / "aligned.mp4")
    run("explain", "flow", path, "--out", tmp_path / "f")
    run("explain", "affinity", path, "--point", "4,4", "--model", dense, "--out", tmp_path / "a")
    run("speediness", path, "--model", model, "--out", tmp_path / "s")
    run("speedup", path, "--model", model, "--out", tmp_path / "fast.mp4", "--factor", "1.5")
    assert {"t", "aligned.mp4", "f", "a", "s", "fast.mp4"} <= {made.name for made in tmp_path.iterdir()}


def test_what_is_noted_is_read_from_another_folder(run, folder, work, monkeypatch, tmp_path):
    shutil.copytree(folder, work / "near")
    run("pretrain", "--data", "near", "--out", "near_run", *SMALL)
    run("index", "--model", "near_run", "--data", "near", "--out", "near_index", "--clips", "1", "--workers", "0")
    weights = "net:r2plus1d_4?width=4&weights=near_run/backbone.safetensors"
    run("index", "--model", weights, "--data", "near", "--out", "of_weights", "--clips", "1", "--workers", "0")
    run("index", "--model", "random:near_run", "--data", "near", "--out", "of_twin", "--clips", "1", "--workers", "0")
    run("data", "scan", "near", "--out", "lists/near.csv")
    monkeypatch.chdir(tmp_path)
    for name in ("near_index", "of_weights", "of_twin"):
        assert "(identical)" in run("query", work / name, next(folder.glob("train/*/*")), "--top-k", "1")
    assert f"{count(folder)} of {count(folder)}" in run("data", "scan", work / "lists" / "near.csv", "--out", "a.csv")
    run("pretrain", "--out", work / "near_run", "--resume")
    again = run("pretrain", "--config", work / "near_run", "--out", "again", *SMALL[-6:])
    assert again
    few = ["--samples", "2", "--queries", "2", "--neighbours", "3", "--workers", "0"]
    run("report", work / "near_run", *few, "--out", "page")


def test_a_folder_moves_with_its_manifest(run, folder, work):
    shutil.copytree(folder, work / "moving")
    run("data", "scan", "moving", "--out", "moving/manifest.csv")
    shutil.move(work / "moving", work / "moved")
    assert f"{count(folder)} of" in run("data", "scan", "moved/manifest.csv", "--out", "again.csv")


def test_a_name_that_begins_with_a_dash_says_how_to_name_it(work, capfd):
    videos.mp4(work / "-v1.mp4")
    assert "./-v1.mp4" in said(capfd, "speediness", "-v1.mp4", "--model", "run")
