"""The one door to FFmpeg: where the bytes of a video are, and how its container is opened.

Nothing else in the package opens media for reading (a test says so).
"""

import io
from typing import Any

import av
from av.container import InputContainer

# PyAV before 19 refuses a file whose tags are not UTF-8 unless told; from 19 on it always reads it.
LENIENT: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


def fetch(video: str) -> str | bytes:
    """What FFmpeg reads a video from: the path of its file, or its bytes. ``video`` is a local file's path."""
    return video


def open_media(video: str, options: dict[str, str] | None = None) -> InputContainer:
    """The container of a video, to be closed by the caller; ``options`` are FFmpeg's. Raises what PyAV raises."""
    source = fetch(video)
    return av.open(io.BytesIO(source) if isinstance(source, bytes) else source, options=options or {}, **LENIENT)


def open_decoder(video: str) -> Any:
    """torchcodec's decoder of a video: exact, frames (T, H, W, C), one thread. Raises what torchcodec raises."""
    from torchcodec.decoders import VideoDecoder  # pyright: ignore

    return VideoDecoder(fetch(video), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")


def torchcodec_works() -> bool:
    """True if torchcodec and FFmpeg's libraries can be loaded."""
    try:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore

        VideoDecoder(b"no video")  # FFmpeg's libraries are loaded with the first decoder only
    except Exception as error:
        return not isinstance(error, (ImportError, OSError)) and "libtorchcodec" not in str(error)
    return True
