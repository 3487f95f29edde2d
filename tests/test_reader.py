import subprocess
import sys
import types
from pathlib import Path
from zlib import crc32

import av
import numpy as np
import pytest
import torch

from ssl_video.errors import UserError
from ssl_video.video import fetch, reader
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import VideoError, get_reader, iterate_frames, read_frames
from ssl_video.video.scan import scan, scan_one
from ssl_video.video.sound import RATE, read_sound
from ssl_video.video.writer import Encoding, write_video
from tests import videos

MADE = {
    "h264.mp4": videos.mp4,
    "h264.mkv": lambda p: videos.mp4(p, fps=30),
    "b-frames.avi": videos.avi_with_b_frames,
    "variable.mp4": videos.variable_rate,
    "10bit.mp4": lambda p: videos.special(p, "libx265", "yuv420p10le", count=20),
    "444.mp4": lambda p: videos.special(p, "libx264", "yuv444p"),
    "gray.mkv": lambda p: videos.special(p, "ffv1", "gray"),
    "alpha.mkv": lambda p: videos.special(p, "ffv1", "yuva420p"),
    "odd.mkv": lambda p: videos.special(p, "ffv1", "yuv444p", height=47, width=63),
    "animation.gif": lambda p: videos.special(p, "gif", "rgb8"),
}


def check_exact(path: str, info: VideoInfo, draws: int) -> None:
    """Random frames and clips of a file equal those of a full sequential decode, with and without the scan's facts."""
    checksums = [crc32(f) for f in iterate_frames(path)]
    assert info.frames == len(checksums)
    rng = np.random.default_rng(0)
    for draw in range(draws):
        start, stride = int(rng.integers(info.frames)), int(rng.integers(1, 4))
        wanted = [n for n in range(start, start + 8 * stride, stride) if n < info.frames]
        wanted += [int(rng.integers(info.frames)), wanted[0]]  # far away, and a repeat
        for facts in (info, None) if draw == 0 else (info,):
            found = read_frames(path, wanted, facts)
            assert found.dtype == np.uint8 and found.shape[1:] == (info.height, info.width, 3)
            assert [crc32(f) for f in found] == [checksums[n] for n in wanted]


@pytest.mark.parametrize("name", MADE)
def test_made_files_are_read_exactly(tmp_path, name):
    path = str(tmp_path / name)
    MADE[name](tmp_path / name)
    info = scan_one(path)
    assert info.frames in (6, 20, 40)
    check_exact(path, info, draws=6)


def test_every_decodable_real_file_is_read_exactly(shared_data):
    files = sorted((shared_data / "odd").iterdir())
    files += sorted(shared_data.glob("ucf101_clips/**/*.avi")) + sorted(shared_data.glob("hmdb51_clips/**/*.avi"))
    read = [(path, info) for path, info in scan(list(map(str, files))) if isinstance(info, VideoInfo)]
    for path, info in read:
        check_exact(path, info, draws=2 if info.width * info.height < 640 * 480 else 1)
    assert len(read) >= 65


@pytest.mark.parametrize("name", ["h264.mp4", "b-frames.avi", "variable.mp4", "gray.mkv"])
def test_frames_are_numbered_as_the_decoder_puts_them_out(tmp_path, name):
    MADE[name](tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        plainly = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(plainly, list(iterate_frames(str(tmp_path / name))))


def test_seeking_is_used_where_it_was_shown_to_be_exact(tmp_path):
    assert scan_one(str(videos.mp4(tmp_path / "a.mp4"))).pts_step > 0
    # 30 frames a second in milliseconds: 0, 33, 67, 100
    assert scan_one(str(videos.mp4(tmp_path / "a.mkv", fps=30))).pts_step == pytest.approx(100 / 3, abs=0.02)
    assert scan_one(str(videos.variable_rate(tmp_path / "b.mp4"))).pts_step == 0


def test_facts_that_do_not_fit_the_file_do_not_lead_to_wrong_frames(tmp_path):
    path = str(videos.variable_rate(tmp_path / "v.mp4"))
    right = read_frames(path, [30, 35])
    wrong = VideoInfo(40, 30.0, 64, 48, 1.3, "h264", 0, 512)
    assert np.array_equal(read_frames(path, [30, 35], wrong), right)


@pytest.mark.parametrize(("angle", "quarter_turns"), [(0, 0), (90, 3), (180, 2)])
def test_rotation_is_applied(shared_data, angle, quarter_turns):
    path = str(shared_data / "odd" / f"decord__video_{angle}.mov")
    with av.open(path) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    turned = np.rot90(stored, quarter_turns)  # counter-clockwise; the pictures were looked at: the keys are upright
    assert np.abs(next(iterate_frames(path)).astype(int) - turned).max() <= 2


def test_memory_is_bounded_by_the_clip(tmp_path):
    """1200 frames of 480x640 are 1.1 GB; reading the last four may take a small part of that."""
    path = tmp_path / "long.mp4"
    frame = np.zeros((480, 640, 3), np.uint8)
    write_video(path, (frame for _ in range(1200)), encoding=Encoding({"preset": "ultrafast"}, gop=250))
    code = (
        "import resource, sys\n"
        "from ssl_video.video.reader import read_frames\n"
        f"read_frames({str(path)!r}, [0])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"read_frames({str(path)!r}, [1196, 1197, 1198, 1199])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown_kib = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown_kib < 60_000


@pytest.mark.parametrize("wanted", [[40], [-1], []])
def test_a_frame_that_is_not_there_is_an_error(tmp_path, wanted):
    with pytest.raises(VideoError, match="no frame"):
        read_frames(str(videos.mp4(tmp_path / "v.mp4")), wanted)


def test_what_is_no_video_is_refused_with_a_reason(tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(VideoError, match="cannot be decoded"):
        read_frames(str(tmp_path / "text.mp4"), [0])
    with pytest.raises(VideoError, match="no such file"):
        read_frames(str(tmp_path / "absent.mp4"), [0])


@pytest.mark.parametrize("name", MADE)
def test_torchcodec_gives_the_same_frames_behind_the_same_protocol(tmp_path, name):
    path = str(tmp_path / name)
    MADE[name](tmp_path / name)
    try:
        read = get_reader("torchcodec")
    except UserError as missing:
        pytest.skip(str(missing))
    info, wanted = scan_one(path), [3, 0, 5, 3]
    found, right = read(path, wanted, info).astype(int), read_frames(path, wanted).astype(int)
    assert found.shape == right.shape
    assert np.abs(found - right).mean() < 3  # colours are converted a little differently


def test_an_unknown_reader_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match="did you mean 'pyav'"):
        get_reader("pyva")


def test_torchcodec_without_ffmpegs_libraries_is_said_before_a_video_is_blamed(monkeypatch):
    def load(*_args, **_options):
        raise RuntimeError("Could not load libtorchcodec. Likely causes: ...")

    decoders = types.ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = load
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    with pytest.raises(UserError, match="install FFmpeg"):
        get_reader("torchcodec")


def test_decoding_on_a_gpu_where_there_is_none_is_one_sentence(monkeypatch):
    monkeypatch.setattr(reader, "torchcodec_works", lambda: True)
    monkeypatch.setattr(reader, "has_gpu", lambda: False)
    with pytest.raises(UserError, match=r"--reader torchcodec-cuda needs a GPU .*; use --reader torchcodec\."):
        get_reader("torchcodec-cuda")


def test_on_a_gpu_the_same_frames_are_asked_for_and_come_back_to_memory(tmp_path, monkeypatch):
    path, asked = str(tmp_path / "a.mp4"), []
    videos.mp4(Path(path))

    class Decoder:
        def __len__(self):
            return info.frames

        def get_frames_at(self, numbers):
            frames = torch.from_numpy(read_frames(path, numbers))
            return types.SimpleNamespace(data=frames)

    def opened(video, stream, device):
        asked.append(device)
        return Decoder()

    info = scan_one(path)
    monkeypatch.setattr(reader, "torchcodec_works", lambda: True)
    monkeypatch.setattr(reader, "has_gpu", lambda: True)
    monkeypatch.setattr(reader, "open_decoder", opened)
    np.testing.assert_array_equal(get_reader(reader.ON_GPU)(path, [5, 2], info), read_frames(path, [5, 2]))
    assert asked == ["cuda"]


def test_a_video_may_be_fetched_as_bytes(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).random((2, 2 * RATE), np.float32)
    path = str(videos.mp4(tmp_path / "a.mp4", 60, sound=[noise]))
    info, wanted = scan_one(path), [50, 3, 3]
    right, sound = read_frames(path, wanted), np.concatenate(list(read_sound(path)), axis=1)
    monkeypatch.setattr(fetch, "fetch", lambda video: Path(video).read_bytes())
    assert info.pts_step > 0 and scan_one(path) == info
    assert np.array_equal(read_frames(path, wanted, info), right)
    assert np.array_equal(np.concatenate(list(read_sound(path)), axis=1), sound)
