"""``ssl-video app``: what is taken and what is refused, what is served, and the page in a browser."""

import contextlib
import importlib.util
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import types
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from markupsafe import escape

from ssl_video.apps import web_page
from ssl_video.apps.offers import offers_below
from ssl_video.apps.options import Limits
from ssl_video.apps.picking import Neighbour
from ssl_video.apps.search import Index
from ssl_video.apps.search_report import figures
from ssl_video.apps.web_page import App, admitted
from ssl_video.cli import main
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.model import load_model
from tests import speed_run, videos

HOSTILE = "<img src=x onerror=alert('1')>.mp4"
needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return speed_run.save(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def index(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("indexed")
    for n, name in enumerate(("a.mp4", "b.mp4", HOSTILE)):
        videos.mp4(folder / "videos" / name, count=20 + n)
    made = folder / "index"
    argv = ["index", "--model", str(run), "--data", str(folder / "videos"), "--out", str(made), "--workers", "0"]
    assert main(argv) == 0
    return made


def test_a_video_is_known_by_its_content_whatever_its_name_says(tmp_path):
    path = videos.mp4(tmp_path / "a.mp4").rename(tmp_path / "a.txt")
    assert admitted(str(path)).frames == 40


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile a.mp4\n",
        "é".encode() * 400,
    ],
)
def test_text_named_like_a_video_is_refused(content, tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^x.mp4 is no video: it holds text, whatever its name says\.$"):
        admitted(str(path))


@pytest.mark.parametrize("content", [b"", b"\0\1\2\3" * 300])
def test_what_cannot_be_decoded_is_refused(content, tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^x.mp4 cannot be used as a video: "):
        admitted(str(path))


def test_a_file_above_the_limit_of_size_is_refused_unread(tmp_path):
    path = tmp_path / "x.mp4"
    with path.open("wb") as file:
        file.truncate(4_000_000_000)
    with pytest.raises(UserError, match=r"^x.mp4 has 4000.0 MB, and at most 200 MB are taken; cut it"):
        admitted(str(path))


def test_a_video_above_the_limit_of_duration_is_refused(tmp_path):
    path = videos.mp4(tmp_path / "x.mp4")
    with pytest.raises(UserError, match=r"^x.mp4 lasts .* minutes, and at most 0.001 are taken"):
        admitted(str(path), Limits(max_minutes=0.001))


def test_nothing_dropped_is_one_sentence():
    with pytest.raises(UserError, match="Drop a video first"):
        admitted(None)


def test_names_with_html_are_shown_as_text(tmp_path, run):
    shown = figures([Neighbour(str(tmp_path / HOSTILE), 0, 1, 0.5)])
    app = App(load_model(str(run)), None, Limits(), tmp_path)
    shown += app.dropped(str(videos.mp4(tmp_path / HOSTILE)))[1]
    assert shown.count("&lt;img src=x onerror=alert(&#39;1&#39;)&gt;.mp4") == 2
    assert "<img" not in shown


def test_what_a_run_cannot_do_is_said_in_one_sentence(tmp_path, run):
    said = App(load_model(str(run)), None, Limits(), tmp_path).refusals()
    assert {name for name, sentence in said.items() if sentence} == {"neighbours"}  # net:dense tracks for it
    said = App(load_model("random:dense_resnet_8?width=4"), None, Limits(), tmp_path).refusals()
    assert {name for name, sentence in said.items() if sentence} == {"neighbours", "speediness", "cam"}
    assert all(sentence.endswith(".") for sentence in said.values() if sentence)


def test_a_fine_tuned_model_has_a_map_but_no_curve(tmp_path):
    said = App(load_model(str(speed_run.save_finetuned(tmp_path / "tuned"))), None, Limits(), tmp_path).refusals()
    assert said["speediness"]
    assert not said["cam"]


def test_every_tab_gives_files_that_are_there(tmp_path, run):
    app = App(load_model(str(run)), None, Limits(), tmp_path)
    video = str(videos.mp4(tmp_path / "$x_1$.mp4", count=12))
    for written in (app.speediness(video), app.cam(video), app.align(video, video)):
        assert all(Path(path).stat().st_size for path in written)
        assert all(Path(path).is_relative_to(tmp_path) for path in written)
    follower = App(load_model("random:dense_resnet_8?width=4"), None, Limits(), tmp_path)
    video_shown, said = follower.track(video, (20, 10))
    assert Path(video_shown).stat().st_size
    assert said == "<p>The point 20,10 was last seen in frame 11; the last is 11.</p>"


def test_a_dropped_video_and_a_neighbour_that_is_chosen_play_whatever_their_format(tmp_path, run, index):
    opened = Index(index, load_model(str(run)))
    app = App(opened.model, opened, Limits(), tmp_path / "out")
    video = str(videos.mp4(tmp_path / "x.mp4", count=12))
    played, said = app.dropped(video)
    shown, found = app.neighbours(video)
    assert "x.mp4: 12 frames of " in said and shown.count('<button type="button" class="open"') == len(found) == 3
    neighbour, said = app.open(found, 2)
    assert escape(found[1].path) in said
    for path in (played, neighbour):
        assert Path(path).is_relative_to(tmp_path / "out")
        assert one_video(Path(path)).info.codec == "h264"


@pytest.mark.parametrize("number", [0, -1, 4])
def test_what_is_no_neighbour_is_not_opened(tmp_path, run, number):
    found = [Neighbour("/etc/passwd", 0, 1, 0.5)] * 3
    with pytest.raises(UserError, match="choose one of them"):
        App(load_model(str(run)), None, Limits(), tmp_path).open(found, number)


def test_of_a_long_neighbour_the_part_that_matches_is_shown(tmp_path, run, monkeypatch):
    monkeypatch.setattr(web_page, "PLAYED_S", 0.4)
    path = videos.mp4(tmp_path / "x.mp4", count=40)
    app = App(load_model(str(run)), None, Limits(), tmp_path / "out")
    played, said = app.open([Neighbour(str(path), 0.8, 1.0, 0.5)], 1)
    assert one_video(Path(played)).info.duration_s == pytest.approx(0.4, abs=0.05)
    assert "Shown are 0.4 s, from 0.70 s on." in said
    assert "Shown are 0.4 s of it, the first." in app.dropped(str(path))[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "no_run"], "no_run"),
        (["--model", "random:r2plus1d_4", "--index", "INDEX"], "was built by another model than"),
        (["--model", "RUN", "--index", "no_index"], "no_index"),
        (["--model", "RUN", "--max-megabytes", "0"], "--max-megabytes must be a number above 0 and up to 1000000"),
        (["--model", "RUN", "--port", "70000"], "--port must be a whole number from 0 to 65535"),
    ],
)
def test_a_wrong_command_is_one_sentence(words, sentence, run, index, capsys, monkeypatch):
    monkeypatch.setattr("ssl_video.apps.web_page.check_gradio", lambda: None)
    assert main(["app", *({"RUN": str(run), "INDEX": str(index)}.get(w, w) for w in words)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.fixture
def here(run, tmp_path, monkeypatch):
    """A folder with two runs, one of them with an index; gradio seems to be there, and what is served is noted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ssl_video.apps.web_page.check_gradio", lambda: None)
    for name in ("runs/old", "runs/new one"):
        shutil.copytree(run, tmp_path / name)
    videos.mp4(tmp_path / "videos" / "a.mp4", count=20)
    words = ["--model", "runs/old", "--data", "videos", "--out", "indices/i", "--workers", "0"]
    assert main(["index", *words]) == 0
    served = []
    monkeypatch.setattr("ssl_video.apps.web_layout.serve", lambda model, index, *_: served.append((model, index)))
    return served


def test_without_a_name_the_runs_and_indices_below_the_folder_are_offered(here, capsys, monkeypatch):
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["app"]) == 2
    said = capsys.readouterr()
    assert {line.split(maxsplit=1)[1] for line in said.out.splitlines()} == {
        "ssl-video app --model runs/old --index indices/i",
        "ssl-video app --model 'runs/new one'",
    }
    assert said.err == "ssl-video: Name a run, and an index that it made; these lie below this folder.\n"


def test_on_a_terminal_one_of_them_is_chosen_by_its_number(here, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: True))
    wanted = next(n for n, offer in enumerate(offers_below(Path()), 1) if offer.index is not None)
    monkeypatch.setattr("builtins.input", lambda asked: str(wanted))
    assert main(["app", "--device", "cpu"]) == 0
    [(model, index)] = here
    assert model.name == "runs/old" and len(index) == 1
    monkeypatch.setattr("builtins.input", lambda asked: "3")
    assert main(["app"]) == 2
    assert "'3' is none of these; type a number from 1 to 2" in capsys.readouterr().err


def test_without_a_run_below_the_folder_the_page_is_on_the_network_that_comes_with_the_package(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ssl_video.apps.web_page.check_gradio", lambda: None)
    served = []
    monkeypatch.setattr("ssl_video.apps.web_layout.serve", lambda model, index, *_: served.append((model.name, index)))
    assert main(["app", "--device", "cpu"]) == 0
    assert served == [("net:clips", None)]
    assert "No model was named: net:clips is used, " in capsys.readouterr().out


def test_where_a_run_cannot_track_the_packaged_network_does_and_the_page_says_so(run, tmp_path):
    app = App(load_model(str(run)), None, Limits(), tmp_path)
    _, said = app.track(str(videos.mp4(tmp_path / "a.mp4", count=4)), (20, 10))
    assert "The run itself cannot, so net:dense does: dense_resnet_8 trained on " in said
    assert App(load_model("random:dense_resnet_8?width=4"), None, Limits(), tmp_path).tracked_by == ""


def test_without_gradio_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setattr(web_page.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install gradio, or from a checkout pip install '\.\[app\]'"):
        web_page.check_gradio()


@pytest.fixture(scope="module")
def page(run, index):
    """The address of a page that is served by a process of its own, at a free port."""
    command = [
        sys.executable,
        "-m",
        "ssl_video",
        "app",
        "--model",
        str(run),
        "--index",
        str(index),
        "--max-megabytes",
        "1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as served:
        try:
            assert served.stdout is not None
            said = served.stdout.readline()
            match = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert match, said
            yield match[0]
        finally:
            served.terminate()


def status(url: str | urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return error.code


@needs_gradio
def test_no_file_but_its_own_is_served(page, run):
    assert status(page) == 200
    for path in ("/etc/passwd", str(run / "backbone.safetensors"), str(Path("setup.cfg").resolve())):
        assert status(f"{page}/gradio_api/file={urllib.parse.quote(path)}") in (403, 404)


def test_a_port_that_is_taken_is_one_sentence(run, monkeypatch, capsys):
    monkeypatch.setattr("ssl_video.apps.web_page.check_gradio", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["app", "--model", str(run), "--port", str(port)]) == 2
    sentence = f"The page cannot listen at port {port} of 127.0.0.1; choose another --port or --host."
    assert capsys.readouterr().err == f"ssl-video: {sentence}\n"


@needs_gradio
def test_an_upload_above_the_limit_is_broken_off(page):
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.mp4"\r\n\r\n'
    for size, answer in ((1000, 200), (1_100_000, 413)):
        content = head + b"\0" * size + b"\r\n--b--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        assert status(urllib.request.Request(f"{page}/gradio_api/upload", content, kind)) == answer


@needs_gradio
def test_a_video_dropped_in_a_browser_brings_its_neighbours(page, browser, tmp_path):
    view = browser.new_page()
    errors, fetched = [], set()
    view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.on("request", lambda request: fetched.add(urllib.parse.urlsplit(request.url).hostname))
    view.goto(page)
    view.locator("#video input[type=file]").set_input_files(videos.mp4(tmp_path / "asked.mp4", count=30))
    view.locator("#dropped video").wait_for(timeout=60_000)
    view.locator("#neighbours video").nth(2).wait_for(timeout=60_000)
    assert view.locator("#neighbours figure").count() == 3
    assert view.locator("#neighbours img").count() == 0  # the name that holds HTML is text
    view.locator("#neighbours button.open").nth(1).focus()
    view.keyboard.press("Enter")
    view.locator("#neighbour video").wait_for(timeout=60_000)
    for name in ("Speediness", "Activation maps"):  # filled without a click
        view.get_by_role("tab", name=name).click()
        view.locator("[role=tabpanel]:visible video").wait_for(timeout=60_000)
    assert errors == []
    assert fetched <= {"127.0.0.1", None}  # None: data:
    view.get_by_role("tab", name="Track a point").click()
    assert "so net:dense does" in view.locator("[role=tabpanel]:visible").inner_text()
    view.close()
