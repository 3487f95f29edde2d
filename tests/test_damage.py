"""Damage inside a file: what a decoder refuses is passed over, by the scan and by every reader alike."""

import errno
import struct
import zlib

import av
import numpy as np
import pytest

from ssl_video.video import reader
from ssl_video.video.info import VideoError
from ssl_video.video.reader import iterate_frames, of_the_machine, opened, read_frames
from ssl_video.video.scan import scan_one
from tests import videos


def plainly(path) -> list[np.ndarray]:
    """FFmpeg's frames: every packet that the decoder takes, by PyAV alone."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        for packet in container.demux(stream):
            try:
                frames += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.error.FFmpegError:
                continue
    return frames


def check_agrees(path, count: int) -> None:
    """The scan and the readers find these frames, whichever are asked for."""
    info, right = scan_one(str(path)), plainly(path)
    assert info.frames == len(right) == count and info.pts_step == 0
    assert np.array_equal(list(iterate_frames(str(path))), right)
    for wanted in ([count - 1, 0], [count // 2]):
        assert np.array_equal(read_frames(str(path), wanted, info), [right[n] for n in wanted])
    with pytest.raises(VideoError, match=f"there is no frame {count}"):
        read_frames(str(path), [count], info)


@pytest.mark.parametrize("numbers", [{3}, {0}, {11}, {2, 3, 6, 7}])
def test_one_packet_that_a_decoder_refuses_costs_one_frame(tmp_path, numbers):
    whole = videos.special(tmp_path / "whole.mov", "png", "rgb24", count=12)
    broken = videos.remade(
        whole, tmp_path / "v.mov", lambda n, data: data[:60] + bytes(len(data) - 60) if n in numbers else data
    )
    check_agrees(broken, 12 - len(numbers))


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("v.avi", "mjpeg", "yuvj420p"), ("v.mkv", "mjpeg", "yuvj420p"), ("v.mov", "png", "rgb24")],
)
def test_packets_of_no_use_are_passed_over(tmp_path, name, codec, pixels):
    whole = videos.special(tmp_path / f"whole-{name}", codec, pixels, count=12)
    broken = videos.remade(whole, tmp_path / name, lambda n, data: b"\xff" * 9 if n in (1, 5) else data)
    check_agrees(broken, 10)


@pytest.mark.parametrize("numbers", [{4}, {2, 4, 11}])
def test_an_empty_packet_is_no_damage_to_the_others(tmp_path, numbers):
    """As Theora has them, where a frame is repeated; a decoder answers "invalid argument" to them."""
    whole = videos.special(tmp_path / "whole.mov", "mjpeg", "yuvj420p", count=12)
    path = videos.remade(whole, tmp_path / "v.mov", lambda n, data: b"\xff" if n in numbers else data)
    data = bytearray(path.read_bytes())
    sizes = data.index(b"stsz") + 16
    for n in numbers:  # its one byte belongs to the packet before
        before = struct.unpack_from(">I", data, sizes + 4 * n - 4)[0]
        struct.pack_into(">2I", data, sizes + 4 * n - 4, before + 1, 0)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert sum(packet.size == 0 for packet in container.demux(video=0)) == len(numbers) + 1  # and the end
    check_agrees(path, 12 - len(numbers))


@pytest.mark.parametrize("at", [0.8, 0.9, 0.99])
@pytest.mark.parametrize("name", ["v.avi", "v.ts", "v.mkv", "v.flv"])
def test_a_file_that_breaks_off_has_the_frames_before(tmp_path, name, at):
    path = videos.special(tmp_path / name, "flv" if name == "v.flv" else "mpeg4", "yuv420p", count=30)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * at)])
    right = plainly(path)
    assert 0 < len(right) <= 30 and scan_one(str(path)).frames == len(right)
    assert np.array_equal(list(iterate_frames(str(path))), right)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOSPC, errno.EMFILE])
def test_memory_and_disk_that_end_are_no_damage(tmp_path, monkeypatch, number):
    path = str(videos.special(tmp_path / "v.mkv", "ffv1", "yuv420p", count=6))
    frames_of = reader._frames_of

    def fails(context, packet, strict=False):
        monkeypatch.setattr(reader, "_frames_of", frames_of)
        av.error.err_check(-number)

    monkeypatch.setattr(reader, "_frames_of", fails)
    with pytest.raises(VideoError) as caught:
        scan_one(path)
    assert of_the_machine(caught.value.__cause__)
    assert scan_one(path).frames == 6


def test_an_error_of_the_disk_is_told_from_a_file_that_says_so(tmp_path):
    """FFmpeg answers "Input/output error" to some damaged files, too: then the file can be read."""
    path = tmp_path / "v.mkv"
    path.write_bytes(videos.special(tmp_path / "whole.mkv", "ffv1", "yuv420p").read_bytes())
    assert not of_the_machine(OSError(errno.EIO, "Input/output error"), str(path))
    assert of_the_machine(OSError(errno.EIO, "Input/output error"), str(tmp_path))
    with pytest.raises(VideoError) as caught, opened(str(path)):
        raise OSError(errno.EIO, "Input/output error")
    assert caught.value.__cause__ is None


CONTAINERS = {
    "v.mp4": ("libx264", "yuv420p"), "v.avi": ("mpeg4", "yuv420p"), "v.webm": ("libvpx-vp9", "yuv420p"),
    "v.mkv": ("libx265", "yuv420p"), "v.mov": ("png", "rgb24"), "v.ts": ("mpeg2video", "yuv420p"),
    "v.gif": ("gif", "rgb8"), "v.flv": ("flv", "yuv420p"), "v.wmv": ("wmv2", "yuv420p"), "v.ogv": ("libvpx", "yuv420p"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_scan_and_the_readers_agree_on_whatever_is_left_of_a_file(tmp_path, name):
    data = videos.special(tmp_path / name, *CONTAINERS[name], count=8).read_bytes()
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    used = 0
    for _ in range(30):
        changed = bytearray(data[: rng.integers(len(data) // 2, len(data)) if rng.random() < 0.2 else None])
        for place in rng.integers(0, len(changed), rng.integers(1, 12)):
            changed[place] = rng.integers(256)
        path = tmp_path / f"changed-{name}"
        path.write_bytes(changed)
        try:
            info = scan_one(str(path))
        except VideoError:
            with pytest.raises(VideoError):
                read_frames(str(path), [0])
            continue
        frames = list(iterate_frames(str(path)))
        assert len(frames) == info.frames and 0 < info.fps <= 1000
        assert {frame.shape for frame in frames} == {(info.height, info.width, 3)}
        assert np.array_equal(read_frames(str(path), range(info.frames), info), frames)
        assert read_frames(str(path), [info.frames - 1], info).shape[1:] == frames[0].shape
        used += 1
    assert used
