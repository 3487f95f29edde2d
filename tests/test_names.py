"""Names of files are bytes, and what is shown of them can be seen."""

import os
import subprocess

import pytest

from ssl_video.cli import main
from ssl_video.datasets.base import ListedVideo, VideoList
from ssl_video.files import as_word, cut, readable, shown
from ssl_video.video.cache import copy_path

HOSTILE = {
    "not UTF-8": b"caf\xe9.mp4",
    "a line end": b"two\nlines.mp4",
    "a carriage return": b"over\rwritten.mp4",
    "an escape sequence": b"\x1b[31mred\x1b[0m.mp4",
    "quotes": b'it\'s "quoted".mp4',
    "commas": b"a,b;c.mp4",
    "a leading dash": b"-rf.mp4",
    "blanks at its ends": b" blank .mp4",
    "80 characters of three bytes": ("映像" * 40 + ".mp4").encode(),
    "250 bytes": b"n" * 246 + b".mp4",
    "emoji": "👩\u200d🔬🎬.mp4".encode(),
    "NFC": "é.mp4".encode(),
    "NFD": "e\u0301.mp4".encode(),
    "a colon": b"12:30.mp4",
    "a percent sign": b"%03d.mp4",
    "a tilde": b"~",
    "a change of direction": "txt\u202e4pm.mp4".encode(),
    "markup": b"<b>&amp;`x`|$a$.mp4",
}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"caf\xe9\r\x1b[31m\n\t", r"caf\xe9\r\x1b[31m\n\t"),
        ("\u202eab\u2066\u2028\u200b\ufeff".encode(), r"\u202eab\u2066\u2028\u200b\ufeff"),
        ("日本 👩\u200d🔬 é e\u0301 \xa0".encode(), "日本 👩\u200d🔬 é e\u0301 \xa0"),
        (b"\x00\x7f\x9b", r"\x00\x7f\x9b"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(name, said):
    assert shown(os.fsdecode(name)) == said


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_what_is_shown_of_a_name_is_one_line_of_utf8(name):
    text = shown(os.fsdecode(name))
    assert text.encode() and len(text.splitlines()) == 1 and readable(os.fsdecode(name)).encode()


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_printed_command_can_be_pasted_into_a_shell(name, tmp_path):
    word = as_word(os.fsdecode(name))
    echoed = subprocess.run(["bash", "-c", f"printf '%s\\0' {word}"], capture_output=True, check=True).stdout
    assert echoed.removesuffix(b"\0").removeprefix(b"./") == name and "\n" not in word and "\x1b" not in word


def test_names_are_cut_by_bytes_and_between_characters():
    assert cut("映像" * 40, 80) == "映像" * 13 and cut("short", 80) == "short"
    assert cut(os.fsdecode(b"\xe9" * 100), 80) == os.fsdecode(b"\xe9" * 80)


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_the_copy_of_any_video_has_a_name_that_a_file_system_takes(name, tmp_path):
    copy = copy_path(str(tmp_path / os.fsdecode(name)), tmp_path, "h264", 128)
    assert len(os.fsencode(copy.name)) <= 120
    copy.write_bytes(b"")


def test_a_sentence_about_a_name_is_one_line(tmp_path, capsys):
    assert main(["data", "scan", str(tmp_path / "no\r\x1b[2Jsuch\nfolder")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "\r" not in said and "\x1b" not in said


def test_hashes_of_lists_take_any_name():
    videos = tuple(ListedVideo(os.fsdecode(name)) for name in HOSTILE.values())
    assert len(VideoList("all", videos).hash) == 16
