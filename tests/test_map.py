"""A map of an index: where videos lie, and the page and figures that show it."""

import base64
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssl_video.apps import map_page, video_map
from ssl_video.apps.index_format2 import stored_of
from ssl_video.apps.index_rows import Entry
from ssl_video.apps.index_stored import Header
from ssl_video.apps.index_update import Work, index_videos
from ssl_video.apps.map_page import page_of, write_map
from ssl_video.apps.options import IndexOptions, MapOptions
from ssl_video.apps.rendering import stylesheet
from ssl_video.apps.search import load_search_model
from ssl_video.apps.video_map import VideoMap, colours_of, map_videos, nearest_of, places_of, spread
from ssl_video.cli import main
from ssl_video.datasets.base import ListedVideo, VideoList
from ssl_video.errors import UserError
from ssl_video.eval.knn import unit
from tests import videos
from tests.test_cli import said

HOSTILE = "</script><img src=x onerror=alert(1)>$a_1$.mp4"
MODEL = "random:r2plus1d_4?width=4"


def made(total: int = 60, groups: int = 3, labels: bool = True) -> Any:
    """An index of videos that do not exist: groups in 16 dimensions, two clips a video."""
    rng = np.random.default_rng(0)
    group_N = np.arange(total) % groups
    x = (4 * rng.normal(size=(groups, 16)))[group_N] + rng.normal(size=(total, 16))
    vectors_RD = unit(x.repeat(2, 0).astype(np.float32))
    entries = [
        Entry(f"/v/{n}.mp4", 0, 0, 2 * n, ((0, 1), (1, 2)), "", (f"class {group_N[n]}",) if labels else ())
        for n in range(total)
    ]
    header = Header("m", "w", "avg", 2, "exact", 0, 16, [], [], 3, 0, 2 * total)
    return SimpleNamespace(stored=stored_of(Path("made"), header, entries, vectors_RD))


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    root = tmp_path_factory.mktemp("map")
    for label, name, count in (("a", HOSTILE.replace("/", ":"), 24), ("a", "1.mp4", 28), ("b", "2.mp4", 32)):
        (root / "v" / label).mkdir(parents=True, exist_ok=True)
        videos.mp4(root / "v" / label / name, count=count)
    return index_videos(root / "v", load_search_model(None, spec=MODEL), root / "i", IndexOptions(2), Work(workers=0))


def data_of(page: str) -> dict[str, Any]:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[0])


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_videos_of_a_group_lie_together(method):
    found = map_videos(made(), MapOptions(method))
    group = np.array([int(label[-1]) for label in found.labels])
    centres = np.stack([found.places_N2[group == g].mean(0) for g in range(3)])
    nearest = np.linalg.norm(found.places_N2[:, None] - centres, axis=2).argmin(1)
    assert (nearest == group).mean() > 0.95
    assert found.places_N2.min() >= 0 and found.places_N2.max() <= 1
    assert np.ptp(found.places_N2, axis=0).max() == pytest.approx(1)
    assert (places_of(video_map.mean_vectors(made().stored, made().stored.entries), method) == found.places_N2).all()


def test_neighbours_are_those_of_all_cosines(monkeypatch):
    monkeypatch.setattr(video_map, "BLOCK", 7)
    x = unit(np.random.default_rng(1).normal(size=(30, 8)))
    numbers, cosines = nearest_of(x, 4)
    every = x @ x.T - 9 * np.eye(30)
    assert (numbers == np.argsort(-every, axis=1)[:, :4]).all()
    assert np.allclose(cosines, -np.sort(-every, axis=1)[:, :4], atol=1e-6)


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("total", [3, 4, 10])
def test_few_videos_and_videos_that_are_all_the_same_have_places(method, total):
    x = unit(np.random.default_rng(0).normal(size=(total, 1)).repeat(1, 1) + np.ones((total, 5)) * np.arange(5))
    for vectors in (x, np.ones_like(x)):
        places = places_of(vectors.astype(np.float32), method)
        assert places.shape == (total, 2) and np.isfinite(places).all()


def test_of_many_videos_as_many_as_asked_for_are_shown_and_it_is_said():
    found = map_videos(made(100), MapOptions("pca", at_most=20))
    assert len(found.paths) == 20 and (found.paths[0], found.paths[-1]) == ("/v/0.mp4", "/v/99.mp4")
    assert found.said.startswith("20 videos of 100, placed by PCA")


def test_thumbnails_are_spread_over_the_map():
    crowd = np.concatenate([np.full((90, 2), 0.1), [[0.9, 0.9], [0.1, 0.9], [0.9, 0.1]]])
    assert {90, 91, 92} < set(spread(crowd, 6)) and len(spread(crowd, 6)) == 6


def test_colours_differ_also_for_many_classes():
    for count in (2, 8, 40):
        colours = colours_of(tuple(f"c{n}" for n in range(count)))
        assert len(set(colours.values())) == count and all(re.fullmatch("#[0-9a-f]{6}", c) for c in colours.values())


def test_labels_come_from_the_index_or_from_given_videos():
    assert map_videos(made(), MapOptions("pca")).labels[:2] == ("class 0", "class 1")
    data = VideoList("list.csv", (ListedVideo("/v/1.mp4", (0,)), ListedVideo("/v/2.mp4", (0, 1))), ("x", "y"))
    assert map_videos(made(labels=False), MapOptions("pca"), data).labels[:4] == ("", "x", "x, y", "")
    with pytest.raises(UserError, match=r"^other\.csv lists no video of made; name by --data"):
        map_videos(made(), MapOptions("pca"), VideoList("other.csv", (ListedVideo("/w/1.mp4"),)))


def test_videos_in_shards_and_elsewhere_have_no_links():
    paths = ("https://host/s.tar@512+9/x.mp4", "/data/s.tar@512+9/x.mp4", "/data/y.mp4")
    found = replace(map_videos(made(3, 1), MapOptions("pca")), paths=paths)
    data = data_of(page_of(found, "three", 0))
    assert data["links"] == ["", "", "file:///data/y.mp4"] and data["names"] == list(paths)


def test_the_page_is_one_file_whose_names_are_text(index, tmp_path, capsys):
    out = tmp_path / "map.html"
    assert main(["map", str(index.stored.folder), "--out", str(out), "--method", "pca"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"The map is {out}."
    page = out.read_text(encoding="utf-8")
    assert "<img src=x" not in page and page.count("</script>") == 2
    data = data_of(page)
    assert sorted(data["names"]) == sorted(["a/1.mp4", f"a/{HOSTILE.replace('/', ':')}", "b/2.mp4"])
    assert data["classes"] == ["a", "b"] and sorted(data["labels"]) == [0, 0, 1]
    assert sorted(data["links"]) == sorted(Path(path).as_uri() for path in index.videos)
    assert all(len(n) == 2 for n in data["neighbours"]) and len(data["thumbnails"]) == 3
    assert all(base64.b64decode(t).startswith(b"\xff\xd8") for t in data["thumbnails"].values())
    assert "http:" not in page and "https:" not in page and "@import" not in page and "url(" not in page
    for wanted in ("prefers-color-scheme: dark", "prefers-reduced-motion", 'name="viewport"', 'tabindex="0"'):
        assert wanted in page


def test_only_the_script_of_the_page_may_run(index):
    import hashlib

    page = page_of(map_videos(index, MapOptions("pca")), "t", 0)
    script = re.findall(r"<script>(.*?)</script>", page, re.S)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0])
    assert f"script-src 'sha256-{digest}';" in policy and "unsafe-eval" not in policy
    assert policy.startswith("default-src 'none'; img-src data:; media-src file:; style-src")


def test_the_page_has_the_colours_of_all_pages(index):
    page = page_of(map_videos(index, MapOptions("pca")), "t", 0)
    assert stylesheet().strip() in page and page.count("--ground:") == 2


def test_a_page_of_ten_thousand_videos_stays_small(monkeypatch):
    total, rng = 10_000, np.random.default_rng(0)
    monkeypatch.setattr(
        map_page, "middle_frames", lambda paths: {n: rng.integers(0, 255, (72, 96, 3), dtype=np.uint8) for n in paths}
    )
    near = rng.integers(0, total, (total, 5))
    paths = tuple(f"/videos/class/{n:05}.mp4" for n in range(total))
    places = rng.random((total, 2))
    found = VideoMap("tsne", paths, ("",) * total, places, near, rng.random((total, 5)), total)
    page = page_of(found, "t", 3000)
    assert len(page) < map_page.MOST_BYTES + 3_000_000
    assert 100 < len(data_of(page)["thumbnails"]) < 3000


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_figure_is_of_the_kind_that_its_name_says(index, tmp_path, suffix, start):
    out = tmp_path / f"map.{suffix}"
    write_map(index, out, MapOptions("pca"))
    assert out.read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["map.html", "map.png"])
def test_a_map_that_is_killed_leaves_the_old_one(index, tmp_path, monkeypatch, name):
    out = tmp_path / name
    out.write_text("old")

    def killed(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr(map_page, "middle_frames", killed)
    with pytest.raises(KeyboardInterrupt):
        write_map(index, out, MapOptions("pca"))
    assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]


def test_a_video_that_is_gone_has_no_picture(tmp_path):
    write_map(made(5), tmp_path / "m.html", MapOptions("pca"))
    assert data_of((tmp_path / "m.html").read_text())["thumbnails"] == {}


def test_umap_is_drawn_or_its_package_is_named():
    try:
        import umap  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(UserError, match="pip install umap-learn"):
            map_videos(made(), MapOptions("umap"))
    else:
        assert map_videos(made(), MapOptions("umap")).places_N2.shape == (60, 2)


def test_a_mistake_is_one_sentence(index, tmp_path, capsys):
    with pytest.raises(UserError, match=r"^A map takes 3 videos or more, and made holds 2; add some"):
        map_videos(made(2))
    folder = index.stored.folder
    assert "must end in .html, .png, .svg or .pdf, not 'map.txt'" in said(capsys, "map", folder, "--out", "map.txt")
    assert "no index" in said(capsys, "map", tmp_path, "--out", "map.html")
    assert "--at-most" in said(capsys, "map", folder, "--out", "map.html", "--at-most", "2")
    assert "There is no file or folder" in said(capsys, "map", folder, "--out", "map.html", "--data", "nowhere")
