"""Reading exactly the frames asked for, numbered in the order in which a full sequential decode puts them out.

Presentation times are no such numbers: in AVI files with B-frames, which most files of UCF101 and HMDB51 are, they are
missing or wrong, and seeking by them returns neighbours of the frame asked for. So frames are counted from the first
one, unless the scan has shown for the file that times and numbers agree and that seeking is exact (``VideoInfo``).

Containers are opened and closed inside one call and decode with one thread: a decoder with threads that is inherited
by a forked worker hangs.
"""

import bisect
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ssl_video.errors import UserError, nearest
from ssl_video.video.info import VideoInfo

SEEK_GAP = 8
"""A gap of fewer frames than this is decoded through without looking for a key frame."""


class VideoError(Exception):
    """A file that cannot be read as asked; the message is a phrase that says why."""


class Reader(Protocol):
    """What decodes: exactly the frames asked for, as (T, H, W, 3) uint8 RGB."""

    def __call__(self, path: str, frames: Sequence[int], info: VideoInfo | None = None) -> np.ndarray:
        """Raises VideoError."""
        ...


def read_frames(path: str, frames: Sequence[int], info: VideoInfo | None = None) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB: the frames with these numbers, in the order asked for; repeats are allowed.

    Rotation is applied. With ``info`` from the scan, decoding starts at a key frame near the first frame asked for
    where that is exact. A path that ends in ``.npy`` is an array (T, H, W, 3), read through a memory map.

    Raises:
        VideoError: if the file cannot be decoded, or has no frame of that number.
    """
    if not len(frames):
        raise VideoError("no frame was asked for")
    if path.endswith(".npy"):
        return _from_array(path, frames)
    if min(frames) < 0:
        raise VideoError(f"there is no frame {min(frames)}")
    with _opened(path) as (container, stream):
        if info is not None and info.pts_step:
            with contextlib.suppress(_Misfit):
                return _gather(_by_time(container, stream, sorted(set(frames)), info), frames)
    with _opened(path) as (container, stream):
        return _gather(enumerate(decoded(container, stream)), frames)


def _gather(numbered: Iterable[tuple[int, VideoFrame]], frames: Sequence[int]) -> np.ndarray:
    """The wanted ones of ``numbered`` frames as one array. Raises VideoError if one does not come."""
    places: dict[int, list[int]] = {}
    for place, number in enumerate(frames):
        places.setdefault(number, []).append(place)
    convert = _Converter()
    out: np.ndarray | None = None
    for number, frame in numbered:
        if number not in places:
            continue
        picture_HWC = convert(frame)
        if out is None:
            out = np.empty((len(frames), *picture_HWC.shape), np.uint8)
        for place in places.pop(number):
            out[place] = picture_HWC
        if not places:
            return out
    raise VideoError(f"there is no frame {min(places)}: the file ends before it")


def iterate_frames(path: str, start: int = 0) -> Iterator[np.ndarray]:
    """All frames from number ``start`` on, (H, W, 3) uint8 RGB, one at a time. Raises VideoError."""
    if path.endswith(".npy"):
        yield from np.load(path, mmap_mode="r", allow_pickle=False)[start:]
        return
    with _opened(path) as (container, stream):
        convert = _Converter()
        for number, frame in enumerate(decoded(container, stream)):
            if number >= start:
                yield convert(frame).copy()


def decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames in the order in which the decoder puts them out; packets that it refuses are passed over."""
    for packet in container.demux(stream):
        yield from _frames_of(packet)


def _frames_of(packet: Any) -> Sequence[VideoFrame]:
    try:
        return packet.decode()
    except av.error.EOFError:
        return []
    except av.error.InvalidDataError:  # damage inside the file: go on behind it, as players do
        return []


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        with av.open(path, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoError("it has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            yield container, stream
    except FileNotFoundError:
        raise VideoError("there is no such file") from None
    except av.error.FFmpegError as error:
        raise VideoError(f"it cannot be decoded ({error.strerror or type(error).__name__})") from None
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise VideoError(f"it cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})") from None


class _Misfit(Exception):
    """The file does not behave as the scan found; frames have to be counted from the first one."""


def _by_time(
    container: InputContainer, stream: VideoStream, wanted: Sequence[int], info: VideoInfo
) -> Iterator[tuple[int, VideoFrame]]:
    """The wanted frames (ascending) and their numbers, told from their times, seeking where that saves work.

    Raises:
        _Misfit: as soon as something is not as the scan found it.
    """
    context = stream.codec_context
    may_skip = info.codec == "h264"  # its frames say whether others refer to them
    keys = _key_frames(stream, info)
    for run, key in _runs(wanted, keys):
        if key:
            container.seek(info.pts_start + key * info.pts_step, stream=stream, backward=True, any_frame=False)
        chosen, first = set(run), True
        for packet in container.demux(stream):
            if may_skip and packet.pts is not None:
                unwanted = (packet.pts - info.pts_start) // info.pts_step not in chosen
                context.skip_frame = "NONREF" if unwanted else "DEFAULT"
            for frame in _frames_of(packet):
                if frame.pts is None or (frame.pts - info.pts_start) % info.pts_step:
                    raise _Misfit
                number = (frame.pts - info.pts_start) // info.pts_step
                if first and number > run[0]:  # the seek went too far
                    raise _Misfit
                first = False
                if number in chosen:
                    chosen.discard(number)
                    yield number, frame
            if not chosen:
                break
        if chosen:
            raise _Misfit


def _key_frames(stream: VideoStream, info: VideoInfo) -> list[int]:
    """Numbers of the frames where decoding can start, by the index of the container; a guess that is checked."""
    entries = stream.index_entries
    if len(entries) == info.frames:  # one entry a frame, in the order of decoding; before a key frame the orders agree
        return [number for number, entry in enumerate(entries) if entry.is_keyframe]
    times = (e.timestamp for e in entries if e.is_keyframe)
    return [round((time - info.pts_start) / info.pts_step) for time in times if time >= info.pts_start]


def _runs(wanted: Sequence[int], keys: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Cut ascending numbers into runs, each with the key frame to seek before it, 0 for none.

    A new run starts where a key frame lies in a gap, so that seeking to it saves decoding.
    """
    run: list[int] = []
    run_key, before = 0, 0
    for number in wanted:
        at = bisect.bisect_right(keys, number)
        key = keys[at - 1] if at else 0
        if key > before and number - before >= SEEK_GAP:
            if run:
                yield run, run_key
            run, run_key = [], key
        run.append(number)
        before = number
    yield run, run_key


class _Converter:
    """Frames to (H, W, 3) uint8 RGB, turned upright, all of the first frame's size. The array is reused: copy it."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.size: tuple[int, int] | None = None

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        width, height = self.size or (frame.width, frame.height)
        self.size = width, height
        # one thread: swscale's own threads cost more than they bring at these sizes
        rgb = self.reformatter.reformat(frame, width, height, "rgb24", threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8)  # pyright: ignore[reportArgumentType]
        rows = rows.reshape(height, plane.line_size)
        picture_HWC = rows[:, : width * 3].reshape(height, width, 3)
        return np.rot90(picture_HWC, frame.rotation // 90 % 4) if frame.rotation else picture_HWC


def _from_array(path: str, frames: Sequence[int]) -> np.ndarray:
    try:
        array_THWC = np.load(path, mmap_mode="r", allow_pickle=False)
        return array_THWC[np.asarray(frames)]
    except (OSError, ValueError) as error:
        raise VideoError(f"it cannot be read ({' '.join(str(error).split())})") from None
    except IndexError:
        raise VideoError(f"there is no frame {max(frames)}: the file ends before it") from None


def _torchcodec(path: str, frames: Sequence[int], info: VideoInfo | None = None) -> np.ndarray:
    """torchcodec behind the same protocol, for files whose times are regular; the others are read by PyAV."""
    if path.endswith(".npy") or info is None or not info.pts_step:
        return read_frames(path, frames, info)
    try:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore

        decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    except (ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "libtorchcodec" not in str(error):
            raise VideoError(f"it cannot be decoded ({' '.join(str(error).split())[:100]})") from None
        raise UserError(
            "The torchcodec reader needs torchcodec and the FFmpeg libraries: pip install 'ssl-video[torchcodec]' and "
            "install FFmpeg, or use the reader 'pyav'."
        ) from None
    if len(decoder) != info.frames:
        return read_frames(path, frames, info)
    return decoder.get_frames_at(list(frames)).data.numpy()


READERS: dict[str, Reader] = {"pyav": read_frames, "torchcodec": _torchcodec}


def get_reader(name: str) -> Reader:
    """A reader by name. Raises UserError."""
    if name not in READERS:
        raise UserError(f"There is no reader {name!r}; {nearest(name, READERS)}")
    return READERS[name]
