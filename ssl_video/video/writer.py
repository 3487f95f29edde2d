"""Writing video files."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from ssl_video.files import written_aside


def write_video(
    path: Path | str,
    frames: Iterable[np.ndarray],
    fps: int | Fraction = 25,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    gop: int | None = None,
    pixel_format: str = "yuv420p",
) -> int:
    """Encode (H, W, 3) uint8 RGB frames of one size; the file is written aside and renamed.

    Frame n has time n / fps exactly. Chroma is halved, so an odd last row or column is repeated to an even size.

    Returns:
        The number of frames written.

    Raises:
        ValueError: if there is no frame.
    """
    count = 0
    with written_aside(path) as aside, av.open(str(aside), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=dict(options or {}))
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = pixel_format
        stream.thread_count = 1  # one file a process at a time; and the same bytes on every machine
        if gop is not None:
            stream.gop_size = gop
        for frame_HWC in frames:
            if count == 0:
                height, width = frame_HWC.shape[:2]
                stream.height, stream.width = height + height % 2, width + width % 2
            picture = av.VideoFrame.from_ndarray(_even(frame_HWC), format="rgb24")
            picture.pts = count
            container.mux(stream.encode(picture))
            count += 1
        if count == 0:
            raise ValueError("there is no frame to write")
        container.mux(stream.encode())
    return count


def _even(frame_HWC: np.ndarray) -> np.ndarray:
    height, width = frame_HWC.shape[:2]
    if height % 2 or width % 2:
        frame_HWC = np.pad(frame_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(frame_HWC)
