"""Writing video files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from ssl_video.errors import UserError
from ssl_video.files import written_aside
from ssl_video.video.fetch import create_media
from ssl_video.video.sound import CHANNELS, LAYOUT, RATE

MOST_PARTS = 1001
"""The largest denominator of a rate, which that of NTSC has: 30000/1001."""
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
"""What pictures and sound of ``write_video`` can go into."""


@dataclass(frozen=True)
class Encoding:
    """How pictures are coded."""

    options: Mapping[str, str] = field(default_factory=dict)
    """Of the codec, such as ``{"crf": "18"}``."""
    codec: str = "libx264"
    gop: int | None = None
    """Frames from a key frame to the next; by default the codec's."""
    pixel_format: str = "yuv420p"


TO_LOOK_AT = Encoding({"crf": "18"})
"""Of videos that people look at: hardly to be told from what was drawn."""
REPEATABLE = {"libx264": {"mbtree": "0"}}
"""Options without which a codec gives other bytes each time: x264's macroblock tree reads memory that nobody wrote."""


def write_video(
    path: Path | str,
    frames: Iterable[np.ndarray],
    fps: int | Fraction = 25,
    encoding: Encoding = Encoding(),
    sound: Iterable[np.ndarray] | None = None,
) -> int:
    """Encode (H, W, 3) uint8 RGB frames of one size; the file is written aside and renamed.

    Frame n has time n / fps exactly. Chroma is halved, so an odd last row or column is repeated to an even size.
    ``sound`` are blocks (2, S) as of ``video.sound``, written as AAC beside the pictures and as far as these go.

    Returns:
        The number of frames written.

    Raises:
        ValueError: if there is no frame.
    """
    count = 0
    with written_aside(path) as aside, create_media(aside) as container:
        options = {**REPEATABLE.get(encoding.codec, {}), **encoding.options}
        stream = container.add_stream(encoding.codec, rate=fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = encoding.pixel_format
        stream.thread_count = 1  # one file a process at a time; and the same bytes on every machine
        if encoding.gop is not None:
            stream.gop_size = encoding.gop
        track = None if sound is None else _Track(container, sound)
        for frame_HWC in frames:
            if count == 0:
                height, width = frame_HWC.shape[:2]
                stream.height, stream.width = height + height % 2, width + width % 2
            picture = av.VideoFrame.from_ndarray(_even(frame_HWC), format="rgb24")
            picture.pts = count
            container.mux(stream.encode(picture))
            count += 1
            if track is not None:
                track.write_until(count / fps)
        if count == 0:
            raise ValueError("there is no frame to write")
        container.mux(stream.encode())
        if track is not None:
            container.mux(track.stream.encode())
    return count


class _Track:
    """The sound of a file that is being written, in step with its pictures."""

    def __init__(self, container: OutputContainer, sound: Iterable[np.ndarray]):
        self.container, self.blocks = container, iter(sound)
        stream = container.add_stream("aac", rate=RATE, options={"b": "160k"})
        assert isinstance(stream, AudioStream)
        stream.layout = LAYOUT
        self.stream, self.samples = stream, 0
        self.held_CS = np.zeros((CHANNELS, 0), np.float32)

    def write_until(self, time_s: float | Fraction) -> None:
        """Write all samples before a time that are not written yet, as far as there are such."""
        wanted = round(time_s * RATE) - self.samples
        while self.held_CS.shape[1] < wanted and (block_CS := next(self.blocks, None)) is not None:
            self.held_CS = np.concatenate([self.held_CS, block_CS], axis=1)
        now_CS, self.held_CS = self.held_CS[:, :wanted], self.held_CS[:, wanted:]
        if now_CS.shape[1]:
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(now_CS), format="fltp", layout=LAYOUT)
            frame.sample_rate, frame.pts, frame.time_base = RATE, self.samples, Fraction(1, RATE)
            self.samples += now_CS.shape[1]
            self.container.mux(self.stream.encode(frame))


def check_writable(path: Path) -> None:
    """Raise UserError unless a video of this name can be written."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        suffixes = f"{', '.join(VIDEO_SUFFIXES[:-1])} or {VIDEO_SUFFIXES[-1]}"
        raise UserError(f"A video is written as a file that ends in {suffixes}, not as {path}.")


def rate_of(fps: float | Fraction) -> Fraction:
    """A rate that an encoder takes, near to that of a scanned video; 25 where the file states none."""
    return Fraction(fps or 25).limit_denominator(MOST_PARTS) or Fraction(1, MOST_PARTS)


def _even(frame_HWC: np.ndarray) -> np.ndarray:
    height, width = frame_HWC.shape[:2]
    if height % 2 or width % 2:
        frame_HWC = np.pad(frame_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(frame_HWC)
