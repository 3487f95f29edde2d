"""Difficult video files, made with PyAV where a test needs them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ssl_video.video.writer import Encoding, write_video


def pictures(count: int = 40, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames that differ from each other: their number is drawn as bright columns over a fixed texture."""
    texture = np.random.default_rng(0).integers(0, 120, (height, width, 3), dtype=np.uint8)
    texture = texture.repeat(4, 0)[:height].repeat(4, 1)[:, :width]
    frames = []
    for n in range(count):
        frame = texture.copy()
        for bit in range(8):
            if n >> bit & 1:
                frame[:, bit * width // 8 : (bit + 1) * width // 8] //= 2
                frame[: height // 2, bit * width // 8 : (bit + 1) * width // 8] += 120
        frames.append(frame)
    return frames


def mp4(path: Path, count: int = 40, gop: int = 12, **options) -> Path:
    """h264 with B-frames, in the container that the name asks for."""
    write_video(path, pictures(count), encoding=Encoding({"bf": "2", "preset": "fast"}, gop=gop), **options)
    return path


def avi_with_b_frames(path: Path, count: int = 40) -> Path:
    """MPEG-4 with B-frames in AVI, which has no presentation times."""
    write_video(path, pictures(count), encoding=Encoding({"bf": "2"}, "mpeg4", gop=12))
    return path


def variable_rate(path: Path, count: int = 40) -> Path:
    """mp4 whose frames last unequally long."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        time = 0
        for n, picture in enumerate(pictures(count)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 30)
            time += 1 + n % 3
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def special(path: Path, codec: str, pixel_format: str, height: int = 48, width: int = 64, count: int = 6) -> Path:
    """A file of another codec or pixel format."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        for n, picture in enumerate(pictures(count, height, width)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            frame.pts = n
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
