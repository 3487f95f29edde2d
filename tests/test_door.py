"""The one door to FFmpeg: a name is the name of a file, and a file is read for what it holds itself."""

import contextlib
import os
import struct

import av
import numpy as np
import pytest

from ssl_video.apps.web_page import admitted
from ssl_video.cli import main
from ssl_video.errors import UserError
from ssl_video.video import fetch
from ssl_video.video.info import VideoError
from ssl_video.video.reader import get_reader, iterate_frames, opened, read_frames
from ssl_video.video.scan import scan_one
from ssl_video.video.sound import has_sound
from ssl_video.video.writer import Encoding, write_video
from tests import videos

NAMES = [
    "12:30.mp4", "http:x.mp4", "https:x.mp4", "concat:a|b.mp4", "file:x.mp4", "-x.mp4", "-i.mp4", "fd:.mp4",
    "pipe:0.mp4", "data:x.mp4", "subfile,,start,0,end,9,,:x.mp4", "async:x.mp4", "crypto:x.mkv", "%03d.mp4", "%d.mkv",
    "[a]*?{b}.mp4", "caf\udce9.mp4", "a\nb.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_written_and_read_as_that_of_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert write_video(name, videos.pictures(4)) == 4
    assert list(tmp_path.iterdir()) == [tmp_path / name]
    info = scan_one(name)
    assert (info.frames, info.width, info.height) == (4, 64, 48)
    assert np.array_equal(read_frames(name, [2], info)[0], list(iterate_frames(name))[2])
    assert not has_sound(name)


@pytest.mark.parametrize("name", ["a%02d.gif", "a*.gif", "a?.gif", "[ab].gif"])
def test_a_name_with_a_pattern_is_not_one_of_many_pictures(tmp_path, name):
    path = videos.special(tmp_path / "a1.gif", "gif", "rgb8", count=6).rename(tmp_path / name)
    videos.special(tmp_path / "a02.gif", "gif", "rgb8", count=2)
    assert scan_one(str(path)).frames == 6
    assert read_frames(str(path), [5]).shape == (1, 48, 64, 3)


LISTS = {
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{inner}\n#EXT-X-ENDLIST\n",
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{inner}\n#EXT-X-ENDLIST\n",
    "names.m3u": "\ufeff#EXTM3U\n{inner}\n",
    "concat.mp4": "ffconcat version 1.0\nfile {inner}\n",
    "control.mp4": "ffconcat version 1.0\n#\x01\nfile {inner}\n",
    "concat.txt.avi": "ffconcat version 1.0\nfile 'file:{inner}'\n",
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{inner}</BaseURL></MPD>',
    "smil.mp4": "<smil><body><video src='{inner}'/></body></smil>",
    "winamp.mp4": "[playlist]\nFile1={inner}\n",
    "asx.wmv": "<ASX version='3'><entry><ref href='{inner}'/></entry></ASX>",
    "xspf.mp4": "<?xml version='1.0'?><!-- a -->\n<playlist><track><location>{inner}</location></track></playlist>",
    "imf.mxf": "<?xml version='1.0'?><CompositionPlaylist xmlns='x'></CompositionPlaylist>",
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_list_of_other_files_is_no_video(tmp_path, monkeypatch, name, as_bytes):
    monkeypatch.chdir(tmp_path)
    inner = videos.special(tmp_path / "inner.ts", "mpeg2video", "yuv420p")
    data = LISTS[name].format(inner=inner.name).encode()
    (tmp_path / name).write_bytes(data)
    if as_bytes:
        monkeypatch.setattr(fetch, "fetch", lambda video: data)
    for read in (scan_one, lambda path: read_frames(path, [0]), lambda path: next(iterate_frames(path))):
        with pytest.raises(VideoError, match=r"^it is a list of other files, not a video$"):
            read(name)
    assert not has_sound(name)


def test_a_list_is_refused_by_the_page_by_scans_and_in_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    videos.special(tmp_path / "inner.ts", "mpeg2video", "yuv420p")
    (tmp_path / "evil.mp4").write_bytes(b"ffconcat version 1.0\n#\x01\nfile inner.ts\n")
    (tmp_path / "list.csv").write_text("evil.mp4\n")
    with pytest.raises(UserError, match="list of other files"):
        admitted("evil.mp4")
    for data in ("evil.mp4", "list.csv"):
        assert main(["data", "scan", data, "--out", "out.csv"]) == 2
        assert "it is a list of other files, not a video" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [b"url ", b"alis"])
def test_a_movie_whose_data_lie_in_another_file_has_no_frames(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    inner = videos.mp4(tmp_path / "inner.mp4", count=6)
    data = inner.read_bytes()
    own = struct.pack(">I4sI", 12, b"url ", 1)
    assert own in data
    name = b"inner.mp4\0"
    other = struct.pack(">I4sI", 12 + len(name), kind, 0) + name
    at = data.index(own)
    data = data[:at] + other + data[at + len(own) :]
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = data.index(box) - 4
        grown = struct.unpack_from(">I", data, place)[0] + len(other) - len(own)
        data = data[:place] + struct.pack(">I", grown) + data[place + 4 :]
    place = data.index(b"mdat")  # of its own it has nothing to show
    length = struct.unpack_from(">I", data, place - 4)[0] - 8
    (tmp_path / "outer.mov").write_bytes(data[: place + 4] + bytes(length) + data[place + 4 + length :])
    assert scan_one("inner.mp4").frames == 6
    for read in (scan_one, lambda path: list(iterate_frames(path))):
        with contextlib.suppress(VideoError):
            assert read("outer.mov") == []


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    for path in (str(tmp_path / "a.mp4"), "/dev/null"):
        with pytest.raises(VideoError, match=r"^it is no file$"), opened(path):
            pass


def test_what_is_no_video_says_so(tmp_path):
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n\n" * 9)
    with pytest.raises(VideoError, match=r"^it is of no format that holds video$"):
        scan_one(str(tmp_path / "a.srt"))


WRITTEN = {
    "a.mp4": "libx264", "a.mov": "mpeg4", "a.mkv": "libx265", "a.webm": "libvpx-vp9", "a.avi": "mpeg4", "a.flv": "flv",
    "a.ts": "libx264", "a.m2ts": "mpeg2video", "a.mpg": "mpeg2video", "a.vob": "mpeg2video", "a.wmv": "wmv2",
    "a.asf": "wmv2", "a.3gp": "mpeg4", "a.m4v": "mpeg4", "a.h264": "libx264", "a.hevc": "libx265", "a.ivf": "libvpx",
    "a.mjpg": "mjpeg", "a.nut": "ffv1", "a.mxf": "mpeg2video", "a.y4m": "rawvideo", "a.gif": "gif", "a.apng": "apng",
    "a.swf": "flv", "a.m2v": "mpeg2video", "a.f4v": "libx264", "a.wtv": "mpeg2video", "a.avif": "libsvtav1",
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_every_container_that_ffmpeg_reads_is_read(tmp_path, name):
    codec = WRITTEN[name]
    formats = {"gif": "rgb8", "apng": "rgb24", "mjpeg": "yuvj420p"}
    if name == "a.mxf":  # takes the rates of television only
        path = tmp_path / name
        write_video(path, videos.pictures(6), encoding=Encoding({}, codec))
    else:
        path = videos.special(tmp_path / name, codec, formats.get(codec, "yuv420p"))
    with av.open(str(path)) as container:
        plainly = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=-1)]  # an avif has a cover
    assert scan_one(str(path)).frames == len(plainly) > 0
    assert np.array_equal(plainly, list(iterate_frames(str(path))))


def test_torchcodec_goes_through_the_same_door(tmp_path, monkeypatch):
    pytest.importorskip("torchcodec")
    if not fetch.torchcodec_works():
        pytest.skip("torchcodec lacks FFmpeg's libraries")
    monkeypatch.chdir(tmp_path)
    videos.mp4(tmp_path / "12:30.mp4")
    info = scan_one("12:30.mp4")
    assert info.pts_step > 0
    assert get_reader("torchcodec")("12:30.mp4", [3, 30], info).shape == (2, 48, 64, 3)
    (tmp_path / "12:30.mp4").write_text("ffconcat version 1.0\nfile inner.mp4\n")
    with pytest.raises(VideoError, match="list of other files"):
        get_reader("torchcodec")("12:30.mp4", [3, 30], info)
