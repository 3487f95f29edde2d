"""Reading exactly the frames asked for, numbered in the order in which a full sequential decode puts them out.

Presentation times are no such numbers: in AVI files with B-frames, which most files of UCF101 and HMDB51 are, they are
missing or wrong, and seeking by them returns neighbours of the frame asked for. So frames are counted from the first
one, unless the scan has shown for the file that times and numbers agree and that seeking is exact (``VideoInfo``).

Containers are opened and closed inside one call and decode with one thread: a decoder with threads that is inherited
by a forked worker hangs.
"""

import contextlib
import errno
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ssl_video.errors import UserError, nearest
from ssl_video.video.alive import beat
from ssl_video.video.arrays import frames_of_array, open_array
from ssl_video.video.fetch import open_decoder, open_media, torchcodec_works, video_stream
from ssl_video.video.info import VideoError, VideoInfo, behind
from ssl_video.video.pictures import LARGEST, iterate_folder, of_pictures, picture_files
from ssl_video.video.upright import Converter, Each, upright_size, way_up

SEEK_GAP = 8
"""A gap of fewer frames than this is decoded through without looking for a key frame."""

QUICK = {"skip_frame": "all", "probesize": "2048", "strict": "1"}
"""Options to open a file that was scanned: FFmpeg need not decode its first frames again to learn what it holds (a
tenth of the time of a clip). ``strict`` has the h264 decoder take the reordering delay from the stream's header, not
from those frames."""

AT_ONCE = 1 << 24
"""Pixels that are held at a time by a reader that decodes several frames at once."""

FULL = frozenset([errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC])
"""Errors that say nothing about a file."""
UNREADABLE = frozenset([errno.EACCES, errno.EINTR, errno.EIO, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT])
"""Errors of a file that cannot be read, which FFmpeg gives for damage as well."""


class Reader(Protocol):
    """What decodes: exactly the frames asked for, as (T, H, W, 3) uint8 RGB."""

    def __call__(
        self, path: str, frames: Sequence[int], info: VideoInfo | None = None, each: Each | None = None
    ) -> np.ndarray:
        """Raises VideoError."""
        ...


def read_frames(
    path: str, frames: Sequence[int], info: VideoInfo | None = None, each: Each | None = None
) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB: the frames with these numbers, in the order asked for; repeats are allowed.

    Frames are turned and mirrored as the file says, and have the size of its first one: where the size changes on the
    way, the others are fitted into it, between black bars. With ``info`` from the scan, decoding starts at a key frame
    near the first frame asked for where that is exact. A path that ends in ``.npy`` is an array (T, H, W, C), read
    through a memory map; a folder is one of pictures, a frame each, and a picture a video of one frame. With ``each``
    the array is of what that makes of each frame, and one frame at a time is held as it was decoded.

    Raises:
        VideoError: if the file cannot be decoded, or has no frame of that number.
    """
    if not len(frames):
        raise VideoError("no frame is named")
    if path.endswith(".npy"):
        return frames_of_array(path, frames, each)
    if of_pictures(path):
        return np.stack(list(map(each or _same, iterate_folder(path, frames))))
    if min(frames) < 0:
        raise VideoError(f"there is no frame {min(frames)}")
    if info is not None and info.pts_step:
        try:
            with opened(path, QUICK) as (container, stream):
                return _gather(by_time(container, stream, sorted(set(frames)), info), frames, each)
        except (Misfit, VideoError) as error:
            if behind(error):
                raise
            # a file that is not as the scan found it gets its frames, or its reason, from the plain way
    with opened(path) as (container, stream):
        return _gather(enumerate(decoded(container, stream)), frames, each)


def _same(frame_HWC: np.ndarray) -> np.ndarray:
    return frame_HWC


def _gather(numbered: Iterable[tuple[int, VideoFrame]], frames: Sequence[int], each: Each | None = None) -> np.ndarray:
    """The wanted ones of ``numbered`` frames as one array. Raises VideoError if one does not come."""
    places: dict[int, list[int]] = {}
    for place, number in enumerate(frames):
        places.setdefault(number, []).append(place)
    convert = Converter(each)
    out: np.ndarray | None = None
    for number, frame in numbered:
        convert.fit(frame)
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


def iterate_frames(path: str, start: int = 0, each: Each | None = None) -> Iterator[np.ndarray]:
    """All frames from number ``start`` on, (H, W, 3) uint8 RGB or what ``each`` makes of it. Raises VideoError."""
    if path.endswith(".npy"):
        for frame_HWC in open_array(path)[start:]:
            beat()
            frame_HWC = np.array(frame_HWC)  # a map of the file cannot be written to, and torch minds
            yield each(frame_HWC) if each else frame_HWC
        return
    if of_pictures(path):
        yield from map(each or _same, iterate_folder(path, range(start, len(picture_files(path)))))
        return
    with opened(path) as (container, stream):
        convert = Converter(each)
        for number, frame in enumerate(decoded(container, stream)):
            convert.fit(frame)
            if number >= start:
                yield convert(frame).copy()


def decoded(container: InputContainer, stream: VideoStream, strict: bool = False) -> Iterator[VideoFrame]:
    """Frames in the order in which the decoder puts them out, as FFmpeg's command gives them.

    Packets that the decoder refuses are passed over, and where the container cannot be read on, the file ends. With
    ``strict`` either raises what ``opened`` turns into VideoError.
    """
    packets = container.demux(stream)
    while True:
        beat()
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            if strict or of_the_machine(error, container.name):
                raise
            packet = None
            yield from _frames_of(stream.codec_context, None)
        if packet is None:
            return
        yield from _frames_of(stream.codec_context, packet, strict)


def _frames_of(context: VideoCodecContext, packet: Packet | None, strict: bool = False) -> list[VideoFrame]:
    """What comes out for a packet; None is the end."""
    try:
        return context.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError as error:  # damage inside the file: go on behind it, as players do
        if strict or of_the_machine(error):
            raise
        return []


def of_the_machine(error: BaseException, path: str = "") -> bool:
    """Whether an error tells about the machine, its memory, disk and rights, and not about the bytes of the file."""
    number = getattr(error, "errno", None)
    if number not in UNREADABLE or not path:  # a decoder has no file: it means the bytes
        return isinstance(error, MemoryError) or number in FULL
    try:
        with Path(path).open("rb") as file:
            while file.read(1 << 20):
                pass
    except FileNotFoundError:  # bytes have no file
        return False
    except OSError:
        return True
    return False


@contextlib.contextmanager
def opened(path: str, options: dict[str, str] | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream; what FFmpeg raises inside becomes a VideoError.

    It has a cause if that is the machine or a missing file, and none if it is the bytes of the file.
    """
    try:
        with open_media(path, options) as container:
            stream = video_stream(container)
            check_size(stream.codec_context.width, stream.codec_context.height)
            # the size may change on the way
            stream.codec_context.options = stream.codec_context.options | {"max_pixels": str(LARGEST)}
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1  # decoders of other libraries look at this
            yield container, stream
    except FileNotFoundError as error:
        raise VideoError("there is no such file") from error
    except (av.error.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise VideoError(f"it cannot be decoded ({why})") from error if of_the_machine(error, path) else None


def check_size(width: int, height: int) -> None:
    """Raise VideoError if frames of so many pixels are too large to be decoded."""
    if width * height > LARGEST:
        raise VideoError(f"its frames of {width}x{height} pixels are above the limit of {LARGEST} pixels a frame")


class Misfit(Exception):
    """The file does not behave as the scan found; frames have to be counted from the first one."""


def by_time(
    container: InputContainer, stream: VideoStream, wanted: Sequence[int], info: VideoInfo
) -> Iterator[tuple[int, VideoFrame]]:
    """The wanted frames (ascending) and their numbers, told from their times, seeking where that saves work.

    Raises:
        Misfit: as soon as something is not as the scan found it.
    """
    context = stream.codec_context
    may_skip = info.codec == "h264"  # its packets say whether other frames refer to them
    context.skip_frame = "DEFAULT"
    for run in _runs(stream, wanted, info):
        if run[0]:
            container.seek(_time_after(run[0], info), stream=stream)
        missing, unsent, first = set(run), set(run), True
        for packet in container.demux(stream):
            beat()
            coming = None if packet.pts is None else _number(packet.pts, info)
            if may_skip and coming is not None:
                context.skip_frame = "DEFAULT" if coming in missing else "NONREF"
            frames = _frames_of(context, packet)
            unsent.discard(coming)
            if not unsent:  # the rest is inside the decoder: later packets would only push it out
                frames += context.decode(None)
            for frame in frames:
                number = -1 if frame.pts is None else _number(frame.pts, info)
                if number < 0 or (first and number > run[0]):  # the second: the seek went too far
                    raise Misfit
                first = False
                if upright_size(frame) != (info.width, info.height):
                    raise Misfit
                if number in missing:
                    missing.discard(number)
                    yield number, frame
            if not missing:
                break
            if not unsent:
                raise Misfit


def _runs(stream: VideoStream, wanted: Sequence[int], info: VideoInfo) -> Iterator[list[int]]:
    """Cut ascending numbers where a key frame lies in a gap, so that seeking to it saves decoding."""
    run = [wanted[0]]
    for number in wanted[1:]:
        if number - run[-1] > SEEK_GAP:
            at = stream.index_entries.search_timestamp(_time_after(number, info))
            if at >= 0 and stream.index_entries[at].timestamp > _time_after(run[-1], info):
                yield run
                run = []
        run.append(number)
    yield run


def _number(pts: int, info: VideoInfo) -> int:
    """The number of the frame of this time. Raises Misfit between two frames."""
    number, rest = divmod((pts - info.pts_start) / info.pts_step + 0.5, 1)
    if not 0.1 < rest < 0.9:
        raise Misfit
    return int(number)


def _time_after(number: int, info: VideoInfo) -> int:
    """A time, in units of the stream, shortly after the frame of this number and before the next."""
    return int(info.pts_start + (number + 0.5) * info.pts_step)


def _torchcodec(
    path: str, frames: Sequence[int], info: VideoInfo | None = None, each: Each | None = None, device: str = "cpu"
) -> np.ndarray:
    """torchcodec behind the same protocol, for files whose times are regular; the others are read by PyAV."""
    if info is None or not info.pts_step:  # nor have arrays and folders any
        return read_frames(path, frames, info, each)
    with opened(path, QUICK) as (container, stream):
        stream.codec_context.skip_frame = "DEFAULT"
        first = next(decoded(container, stream), None)
        # it turns pictures, but does not mirror them, and stretches those of another size
        plain = first is not None and way_up(first) == 1 and (first.width, first.height) == (info.width, info.height)
        index = stream.index
    try:
        decoder: Any = open_decoder(path, index, device) if plain else ()
        if len(decoder) != info.frames:
            return read_frames(path, frames, info, each)
        if each is None:
            return decoder.get_frames_at(list(frames)).data.cpu().numpy()
        at_once = max(1, AT_ONCE // (info.width * info.height))
        parts = (frames[n : n + at_once] for n in range(0, len(frames), at_once))
        return np.stack([each(f) for part in parts for f in decoder.get_frames_at(list(part)).data.cpu().numpy()])
    except UnicodeEncodeError:  # it takes no name that is not UTF-8
        return read_frames(path, frames, info, each)
    except (RuntimeError, ValueError, IndexError) as error:
        raise VideoError(f"it cannot be decoded ({' '.join(str(error).split())[:100]})") from error


ON_GPU = "torchcodec-cuda"
"""The reader that decodes on a GPU: frames may differ from those of the others by rounding."""
READERS: dict[str, Reader] = {
    "pyav": read_frames,
    "torchcodec": _torchcodec,
    ON_GPU: functools.partial(_torchcodec, device="cuda"),
}


def get_reader(name: str) -> Reader:
    """A reader by name. Raises UserError, also when what it needs is not there."""
    if name not in READERS:
        raise UserError(f"There is no reader {name!r}; {nearest(name, READERS)}")
    if name != "pyav" and not torchcodec_works():
        raise UserError(
            f"--reader {name} needs the package torchcodec and the FFmpeg libraries: pip install torchcodec "
            "and install FFmpeg, or use --reader pyav."
        )
    if name == ON_GPU and not has_gpu():
        raise UserError(f"--reader {name} needs a GPU of NVIDIA, and torch sees none; use --reader torchcodec.")
    return READERS[name]


def has_gpu() -> bool:
    """True if torch sees a CUDA device."""
    import torch  # which a reader does without otherwise

    return torch.cuda.is_available()
