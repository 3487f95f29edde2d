"""Difficult video files, made with PyAV where a test needs them."""

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

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


def remade(path: Path, out: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """A copy of a video's stream with other bytes in its packets: ``change(number, data)``."""
    with av.open(str(path)) as source, av.open(str(out), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        number = 0
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            other = av.Packet(change(number, bytes(packet)))
            other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
            other.duration = packet.duration
            other.is_keyframe, other.stream = packet.is_keyframe, stream
            container.mux(other)
            number += 1
    return out


def of_sizes(path: Path, sizes: Sequence[tuple[int, int]], count: int = 30) -> Path:
    """MJPEG of ``count`` frames of each (width, height), one behind the other in one stream."""
    unit = Fraction(1, 25)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        (stream.width, stream.height), stream.pix_fmt = sizes[0], "yuvj420p"
        for n, (width, height) in enumerate(sizes):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuvj420p", unit
            for k, picture in enumerate(pictures(count, height, width)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
                frame.pts, frame.time_base = n * count + k, unit
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, unit
                    container.mux(packet)
    return path


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write the numbers a, b, c, d of a display matrix into the header (tkhd, version 0) of an mp4."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 44
    a, b, c, d = (65536 * n for n in matrix)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def of_streams(path: Path, streams: Sequence[tuple[str, int, tuple[int, int]]], marked: dict[int, str]) -> Path:
    """A file of video streams (codec, frames, (width, height)), some of them ``marked``, as a cover or as default."""
    formats = {"mjpeg": "yuvj420p", "png": "rgb24"}
    with av.open(str(path), "w") as container:
        made = []
        for codec, _, (width, height) in streams:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, formats.get(codec, "yuv420p")
            made.append(stream)
        for n, stream in enumerate(made):
            stream.disposition = Disposition[marked[n]] if n in marked else Disposition(0)
        packets = []
        for stream, (_, count, (width, height)) in zip(made, streams, strict=True):
            for n, picture in enumerate(pictures(count, height, width)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
                frame.pts = n
                packets += stream.encode(frame)
            packets += stream.encode()
        container.mux(packets)
    return path
