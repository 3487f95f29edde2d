"""The sound of a video, read as blocks and stretched in time without a change of pitch (FFmpeg's atempo)."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.video.stream import VideoStream

from ssl_video.video.fetch import open_media, video_stream
from ssl_video.video.info import VideoError

RATE = 48000
"""Samples a second of all sound here; every encoder takes it."""
CHANNELS = 2
LAYOUT = "stereo"
SEAM = RATE // 50
"""Samples over which one piece is faded into the next."""
CONTEXT = RATE // 20
"""Samples of the result behind a piece that the filter is given the source of, since it keeps its last window back."""
SHORTEST_S, LONGEST_S = 0.2, 10.0
"""Of a piece: the shortest in the result (the filter needs some windows), the longest in the source (it is held)."""


def has_sound(path: str) -> bool:
    """True if there is a stream of sound of which something decodes."""
    return next(iter(read_sound(path)), None) is not None


def read_sound(path: str) -> Iterator[np.ndarray]:
    """Blocks (2, S) float32 of the first stream of sound, from the time of the first picture on.

    Sound that starts later is preceded by silence. What does not decode is passed over; nothing raises.
    """
    with contextlib.suppress(av.error.FFmpegError, OSError, ValueError, VideoError), open_media(path) as container:
        if not container.streams.audio:
            return
        stream = container.streams.audio[0]
        missing = round((_start_s(stream) - _start_s(video_stream(container))) * RATE)
        if missing > 0:
            yield np.zeros((CHANNELS, min(missing, 3600 * RATE)), np.float32)
        resampler = av.AudioResampler("fltp", LAYOUT, RATE)
        for packet in container.demux(stream):
            with contextlib.suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    assert isinstance(frame, AudioFrame)
                    frame.pts = None  # times may jump; the blocks follow each other
                    for block in resampler.resample(frame):
                        block_CS = block.to_ndarray()[:, max(0, -missing) :]
                        missing = min(0, missing + block.samples) if missing < 0 else 0
                        yield block_CS


def _start_s(stream: AudioStream | VideoStream) -> float:
    return float((stream.start_time or 0) * (stream.time_base or 0))


def pieces(source_s_K: np.ndarray, result_s_K: np.ndarray, tolerance_s: float = 0.02) -> list[int]:
    """Indices at which to cut, so that one tempo in each piece keeps every moment within ``tolerance_s`` of its time.

    ``source_s_K`` and ``result_s_K`` are times of the same moments, both ascending. The tolerance gives way to the
    shortest length that the filter needs.
    """
    last = len(source_s_K) - 1
    cuts = [0]
    while cuts[-1] < last:
        a = cuts[-1]
        end = a + 1
        for b in range(a + 1, last + 1):
            at = slice(a, b + 1)
            line = np.interp(source_s_K[at], source_s_K[[a, b]], result_s_K[[a, b]])
            far = np.abs(line - result_s_K[at]).max() > tolerance_s or source_s_K[b] - source_s_K[a] > LONGEST_S
            if far and result_s_K[end] - result_s_K[a] >= SHORTEST_S:
                break
            end = b
        cuts.append(end)
    if len(cuts) > 2 and result_s_K[last] - result_s_K[cuts[-2]] < SHORTEST_S:
        del cuts[-2]
    return cuts


def stretched(blocks: Iterable[np.ndarray], source_s_K: np.ndarray, result_s_K: np.ndarray) -> Iterator[np.ndarray]:
    """Sound whose moments ``source_s_K`` come at ``result_s_K``, in blocks (2, S): exactly as long as these say.

    A filter of its own stretches each of the ``pieces``, which are faded into each other. Its tempo cannot be changed
    while it runs: what it puts out then drifts by seconds. Source that is missing at the end is silence.
    """
    source = _Held(blocks)
    before: np.ndarray | None = None
    cuts = pieces(source_s_K, result_s_K)
    from_K, to_K = (np.rint(t_K[cuts] * RATE).astype(int) for t_K in (source_s_K, result_s_K))
    for (a, b), (c, d) in zip(itertools.pairwise(from_K.tolist()), itertools.pairwise(to_K.tolist()), strict=True):
        if c == d:
            continue
        wanted, tempo = d - c + SEAM, (b - a) / (d - c)
        out = np.zeros((CHANNELS, wanted), np.float32)
        stretched_CS = _at_tempo(source.between(a, b + round(CONTEXT * tempo)), tempo)[:, :wanted]
        out[:, : stretched_CS.shape[1]] = stretched_CS
        if before is not None:
            ramp_S = np.linspace(0, 1, SEAM, dtype=np.float32)
            seam = min(SEAM, wanted)
            out[:, :seam] = out[:, :seam] * ramp_S[:seam] + before[:, :seam] * (1 - ramp_S[:seam])
        before = out[:, d - c :]
        yield out[:, : d - c]


class _Held:
    """The samples of a stream that are still needed."""

    def __init__(self, blocks: Iterable[np.ndarray]):
        self.blocks = iter(blocks)
        self.parts: list[np.ndarray] = []
        self.first, self.end = 0, 0

    def between(self, a: int, b: int) -> np.ndarray:
        """(2, b - a) samples, silence behind the end of the stream; what is before ``a`` is let go."""
        while self.end < b:
            block_CS = next(self.blocks, None)
            if block_CS is None:
                block_CS = np.zeros((CHANNELS, b - self.end), np.float32)
            self.parts.append(block_CS)
            self.end += block_CS.shape[1]
        held_CS = np.concatenate(self.parts, axis=1)[:, a - self.first :]
        self.parts, self.first = [held_CS], a
        return held_CS[:, : b - a]


def _at_tempo(source_CS: np.ndarray, tempo: float) -> np.ndarray:
    """A piece of sound at ``tempo`` times its speed, 0.5 to 100, through FFmpeg's filter atempo."""
    graph = Graph()
    graph.threads = 1
    time_base = Fraction(1, RATE)
    chain = [
        graph.add_abuffer(format="fltp", sample_rate=RATE, layout=LAYOUT, time_base=time_base),
        graph.add("atempo", f"{tempo:.9f}"),
        graph.add("abuffersink"),
    ]
    for one, following in itertools.pairwise(chain):
        one.link_to(following)
    graph.configure()
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(source_CS), format="fltp", layout=LAYOUT)
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, time_base
    graph.push(frame)
    graph.push(None)
    out: list[np.ndarray] = []
    with contextlib.suppress(av.error.EOFError, av.error.BlockingIOError):
        while True:
            found = graph.pull()
            assert isinstance(found, AudioFrame)
            samples = found.to_ndarray()
            out.append(samples.reshape(-1, CHANNELS).T if found.format.is_packed else samples)
    return np.concatenate(out, axis=1) if out else np.zeros((CHANNELS, 0), np.float32)
