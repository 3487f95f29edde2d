"""``ssl-video index`` and ``query`` on real files, and the report that they write."""

import base64
import io
import json
import os
import re
import shutil
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import av
import pytest

from ssl_video.apps.picking import Neighbour
from ssl_video.apps.rendering import render
from ssl_video.apps.search_report import figures
from ssl_video.cli import main
from tests import videos
from tests.test_cli import said

MODEL = "random:r2plus1d_4?width=4"
HOSTILE = "<img src=x onerror=alert('1')>&amp;\".mp4"


class Tags(HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("videos")
    for n, name in enumerate((HOSTILE, "b.mp4", "c.mp4")):
        videos.mp4(out / name, count=24 + 8 * n)
    (out / "damaged.mp4").write_text("no video")
    return out


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "i"
    words = ["index", "--model", MODEL, "--data", str(folder), "--out", str(out), "--clips", "2", "--workers", "0"]
    assert main(words) == 0
    return out


@pytest.fixture
def index(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "i"))


def test_a_damaged_video_is_counted_and_listed(built, folder, tmp_path, capsys):
    words = ["index", "--model", MODEL, "--data", folder, "--out", tmp_path / "j", "--clips", "1", "--workers", "0"]
    assert main([str(w) for w in words]) == 0
    said = capsys.readouterr().out
    assert f"left out: {folder / 'damaged.mp4'}: " in said
    assert "3 videos are in" in said and "(3 added, 0 refreshed, 0 removed), 1 were left out." in said


def test_an_index_is_brought_up_to_date_by_its_own_model(index, tmp_path, capsys):
    more = tmp_path / "more"
    more.mkdir()
    videos.mp4(more / "d.mp4", count=30)
    words = ["index", "--out", str(index), "--workers", "0"]
    assert main([*words, "--data", str(more)]) == 0
    assert "4 videos are in" in capsys.readouterr().out
    assert main([*words, "--remove", str(more)]) == 0
    said = capsys.readouterr().out
    assert f"removed: {more / 'd.mp4'}\n" in said and "3 videos are in" in said


def test_moments_and_many_queries_as_json_lines(index, folder, capsys):
    words = ["query", str(index), str(folder / "b.mp4"), f"{folder / 'c.mp4'}@0.2-0.9", "--top-k", "2", "--moments"]
    assert main([*words, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(Path(x["query"]).name, x["rank"]) for x in lines] == [
        ("b.mp4", 1), ("b.mp4", 2), ("c.mp4@0.2-0.9", 1), ("c.mp4@0.2-0.9", 2),
    ]  # fmt: skip
    assert {"path", "start_s", "end_s", "score"} < set(lines[0])
    assert main(words) == 0
    assert capsys.readouterr().out.count("rank   score") == 2


def test_a_folder_is_searched_with_and_what_is_bad_in_it_is_listed(index, folder, capsys):
    assert main(["query", str(index), str(folder), f"{folder / 'b.mp4'}@50-60", "--top-k", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("rank   score") == 3 and f"left out: {folder / 'damaged.mp4'}: " in out
    assert f"left out: {folder / 'b.mp4'}@50-60: it ends after 1.28 s\n" in out


@pytest.fixture
def report(index, folder, tmp_path) -> Path:
    page = tmp_path / "r.html"
    assert main(["query", str(index), str(folder / "b.mp4"), str(folder / HOSTILE), "--html", str(page)]) == 0
    return page


def test_the_report_plays_with_controls_and_loads_nothing(report):
    tags = Tags(report.read_text(encoding="utf-8")).seen
    played = [attributes for tag, attributes in tags if tag == "video"]
    assert len(played) == 2 + 2 + 2
    for attributes in played:
        assert {"controls", "loop", "muted", "playsinline", "aria-label"} <= set(attributes)
        assert "autoplay" not in attributes  # the script plays it, unless less motion is asked for
        assert attributes["poster"].startswith("data:image/jpeg;base64,")
        head, content = attributes["src"].split(",")
        assert head == "data:video/mp4;base64"
        with av.open(io.BytesIO(base64.b64decode(content))) as container:
            assert sum(1 for _ in container.decode(video=0)) > 10
    assert not {"link", "img", "iframe"} & {tag for tag, _ in tags}
    assert all("src" not in attributes for tag, attributes in tags if tag == "script")
    style = report.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style


def test_a_name_in_the_report_is_text_and_opens_its_file(report, folder):
    seen = Tags(report.read_text(encoding="utf-8"))
    links = [urllib.parse.urlsplit(attributes["href"]) for tag, attributes in seen.seen if tag == "a"]
    assert {link.scheme for link in links} == {"file"}
    files = {str(folder / name) for name in (HOSTILE, "b.mp4", "c.mp4")}
    assert {urllib.request.url2pathname(link.path) for link in links} == files
    assert seen.text.count(HOSTILE) == 2
    assert not any(name.startswith("on") for _, attributes in seen.seen for name in attributes)


def test_the_report_says_its_size_to_a_phone_and_runs_no_script_but_its_own(report):
    content = {
        a.get("name") or a.get("http-equiv"): a.get("content") for t, a in Tags(report.read_text()).seen if t == "meta"
    }
    assert content["viewport"] == "width=device-width, initial-scale=1"
    assert re.search(r"default-src 'none'.*script-src 'sha256-[^ ']+'; ", content["Content-Security-Policy"])


@pytest.mark.parametrize(("motion", "playing"), [("no-preference", True), ("reduce", False)])
def test_what_is_in_view_plays_unless_less_motion_is_asked_for(report, browser, motion, playing):
    view = browser.new_page(viewport={"width": 390, "height": 900}, reduced_motion=motion)
    errors = []
    view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    view.goto(report.as_uri())
    first = "document.querySelector('video')"
    if playing:
        view.wait_for_function(f"!{first}.paused")
    else:
        view.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert view.evaluate(f"{first}.paused")
    assert view.evaluate("document.documentElement.scrollWidth") <= 390
    assert errors == []
    view.close()


def test_a_neighbour_of_identical_content_has_a_mark(folder):
    copy = Neighbour(str(folder / "b.mp4"), 0, 1, 1.0)
    assert "identical content" not in figures([copy])
    object.__setattr__(copy, "identical", True)
    assert ">identical content<" in figures([copy])


def test_a_video_that_is_gone_has_no_picture_in_the_report(index, folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "damaged.mp4").unlink()
    assert main(["index", "--out", str(index), "--data", str(other), "--workers", "0"]) == 0
    for path in (other / "c.mp4", other / "b.mp4"):
        path.unlink()
    assert main(["query", str(index), str(folder / "b.mp4"), "--html", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").read_text().count(">cannot be read<") == 2


def test_a_name_that_is_no_utf8_is_shown_with_its_bytes():
    name = os.fsdecode(b"a\xff<")
    assert r"<h1>a\xff&lt;</h1>" in render("query.html", title=name, rows=[], left_out=0)


def test_a_name_that_is_no_utf8_can_be_printed(index, capsys):
    assert r"no video file n\xff.mp4" in said(capsys, "query", index, os.fsdecode(b"n\xff.mp4"))


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["index", "--out", "INDEX"], "nothing to do"),
        (["index", "--out", "new", "--prune"], "no index in new yet; name --data"),
        (["index", "--out", "INDEX", "--data", "FOLDER", "--model", "random:r3d_10"], "another model"),
        (["index", "--out", "INDEX", "--data", "FOLDER", "--clips", "3"], "--clips 2"),
        (["index", "--out", "new", "--data", "FOLDER", "--model", MODEL, "--clips", "-1"], "0 or more"),
        (["index", "--out", "new", "--data", "FOLDER", "--model", MODEL, "--index-type", "ivfpq"], "9984 clips"),
        (["index", "--out", "new", "--data", "FOLDER", "--model", MODEL, "--index-type", "IFV2"], "'IFV2'"),
        (["index", "--out", "INDEX", "--remove", "nowhere.mp4"], "holds no video"),
        (["query", "INDEX", "VIDEO", "--model", "random:r3d_10"], "another model"),
        (["query", "INDEX", "VIDEO", "--top-k", "0"], "--top-k"),
        (["query", "INDEX", "VIDEO@9-10"], "ends after 1.28 s"),
        (["query", "INDEX", "VIDEO@2-1"], "ends before it starts"),
        (["query", "INDEX", "BAD"], "can be used"),
        (["query", "FOLDER", "VIDEO"], "no index"),
    ],
)
def test_a_mistake_is_one_sentence(index, folder, tmp_path, monkeypatch, capsys, words, answer):
    monkeypatch.chdir(tmp_path)
    names = {"INDEX": index, "FOLDER": folder, "VIDEO": folder / "b.mp4", "BAD": folder / "damaged.mp4"}
    filled = [w.replace("VIDEO", str(names["VIDEO"])) if "VIDEO" in w else str(names.get(w, w)) for w in words]
    assert answer in said(capsys, *filled)


def test_an_index_whose_model_has_moved_says_so(index, folder, tmp_path, capsys):
    header = json.loads((index / "header.json").read_text())
    (index / "header.json").write_text(json.dumps(header | {"model": str(tmp_path / "gone"), "digest": ""}))
    assert "name a copy of it by --model" in said(capsys, "query", index, folder / "b.mp4")
    assert main(["query", str(index), str(folder / "b.mp4"), "--model", MODEL]) == 0
