"""Two videos of one action in step: frames matched by embeddings, shown side by side, and phases carried over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_video.apps.film import Shot, film
from ssl_video.apps.options import AlignOptions, Method
from ssl_video.datasets.base import Video
from ssl_video.datasets.phases import FramePhases, of_frames, phases_of, read_csv, write_csv
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.eval.frames import embed_frames
from ssl_video.figures import figure_to, shortened
from ssl_video.files import check_not_over
from ssl_video.model import Model
from ssl_video.progress import bar
from ssl_video.video.augment import resize_height
from ssl_video.video.reader import iterate_frames, read_frames
from ssl_video.video.upright import Each
from ssl_video.video.writer import TO_LOOK_AT, check_writable, rate_of, write_video

AT_MOST = 50_000_000
"""Pairs of frames: time warping keeps a byte of each, and 8 more of at most five squares of the shorter video."""
AT_ONCE = 128
"""Frames of the second video that are held where they are not shown in its own order."""
DRAWN = 1500
"""Rows and columns of the picture of the distances at most: more than that has pixels."""


BLOCK = 1 << 20
"""Distances that are held at a time, where nothing asks for more."""


@dataclass(frozen=True)
class Distances:
    """Squared Euclidean distances (A, B) of all pairs of embeddings, computed where they are looked at."""

    a_TD: np.ndarray
    b_TD: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(A, B)."""
        return len(self.a_TD), len(self.b_TD)

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        from scipy.spatial.distance import cdist

        return cdist(self.a_TD[part[0]], self.b_TD[part[1]], "sqeuclidean")


@dataclass(frozen=True)
class Match:
    """Frames of two videos that belong together, and the distances_AB of all pairs.

    ``b_of_A`` is the frame of B for each frame of A, ``a_of_B`` the other way round. ``path_P2`` are the pairs in the
    order of A.
    """

    distances_AB: Distances
    path_P2: np.ndarray
    b_of_A: np.ndarray
    a_of_B: np.ndarray


@dataclass(frozen=True)
class Aligned:
    """Two scanned videos in step: how their frames match, A's phases and B's as they were carried over (None without
    phases), the fraction of B's frames in which those are its own (None without any to compare), and the files written.
    """

    a: Video
    b: Video
    match: Match
    phases: FramePhases | None
    carried: FramePhases | None
    agreement: float | None
    written: tuple[Path, ...]

    @property
    def rates_differ(self) -> bool:
        """Whether one plays more than a hundredth faster."""
        return abs(self.a.info.fps - self.b.info.fps) > 0.01 * self.a.info.fps


def align(
    a: Path | str,
    b: Path | str,
    model: Model,
    out: Path | str,
    options: AlignOptions = AlignOptions(),
    phases: Path | None = None,
) -> Aligned:
    """Play two videos of one action in step, side by side.

    Writes the video ``out`` in A's time, a picture of the match, and the phases of B where A has some.

    Args:
        a: the video that gives the time.
        b: the video that follows it.
        model: whose embeddings of frames are compared.
        out: .mp4, .mov or .mkv; the other files lie beside it.
        options: see ``AlignOptions``.
        phases: a csv frame,phase of A; by default the one beside A, if it is there.

    Raises:
        UserError: if a file cannot be read, or the videos are too long for this.
    """
    out = Path(out)
    check_writable(out)
    check_not_over(Path(a), out)
    check_not_over(Path(b), out)
    one, other = one_video(Path(a)), one_video(Path(b))
    own = phases_of(one) if phases is None else of_frames(read_csv(phases), one.frames)
    match = match_videos(model, one, other, options.method)
    labels = None if own is None else carried(own, match)
    written = [out, out.with_suffix(f".{options.format}")]
    write_side_by_side(out, one, other, match, options.height)
    draw_match(written[1], match, (one, other), (own, labels))
    known = None
    if labels is not None:
        written.append(out.with_name(f"{out.stem}_phases_of_B.csv"))
        write_csv(written[2], labels.names_T)
        known = phases_of(other)
    agrees = None if known is None or labels is None else agreement(labels, known)
    return Aligned(one, other, match, own, labels, agrees, tuple(written))


def match_videos(model: Model, a: Video, b: Video, method: Method = "dtw") -> Match:
    """Match the frames of two scanned videos.

    Raises:
        UserError: if they are too long for this, or cannot be read.
    """
    if a.frames * b.frames > AT_MOST:
        raise UserError(f"{a.frames} and {b.frames} frames are too many to be aligned; cut the videos.")
    embedded, problems = embed_frames(model, [a, b])
    embedded_a, embedded_b = embedded
    if embedded_a is None or embedded_b is None:
        raise UserError(f"{problems[0].path} cannot be read: {problems[0].reason}.")
    return match_embeddings(embedded_a, embedded_b, method)


def match_embeddings(a_TD: np.ndarray, b_TD: np.ndarray, method: Method = "dtw") -> Match:
    """Match frames by the squared Euclidean distance of their embeddings.

    ``dtw``, dynamic time warping, keeps the order of both videos and leaves no frame out. ``nearest`` takes the nearest
    frame of the other video for each frame by itself.
    """
    distances_AB = Distances(a_TD, b_TD)
    if method == "nearest":
        b_of_A, a_of_B = _nearest(distances_AB)
        return Match(distances_AB, np.stack([np.arange(len(a_TD)), b_of_A], 1), b_of_A, a_of_B)
    path_P2 = warping_path(distances_AB)
    return Match(distances_AB, path_P2, middles(path_P2), middles(path_P2[:, ::-1]))


def _nearest(distances_AB: Distances) -> tuple[np.ndarray, np.ndarray]:
    """The nearest frame of B for each of A, and of A for each of B; the first of equals."""
    A, B = distances_AB.shape
    least_A, b_of_A, a_of_B = np.full(A, np.inf), np.zeros(A, int), []
    for start in range(0, B, width := max(1, BLOCK // A)):
        block_AK = distances_AB[:, start : start + width]
        a_of_B.append(block_AK.argmin(0))
        nearer = block_AK.min(1) < least_A
        b_of_A[nearer] = start + block_AK.argmin(1)[nearer]
        least_A = np.minimum(least_A, block_AK.min(1))
    return b_of_A, np.concatenate(a_of_B)


def warping_path(costs_AB: np.ndarray | Distances) -> np.ndarray:
    """(P, 2) the cheapest path of dynamic time warping from the first to the last pair.

    A step is one further in A, in B or in both; a path costs the sum over its pairs. Of equal steps, both is taken.
    """
    A, B = costs_AB.shape
    steps = (1, 1), (1, 0), (0, 1)
    step_AB = np.zeros((A, B), np.uint8)  # the step that leads to each pair
    # what a path to the pairs of the last diagonal and of the one before it costs, by i + 1: a border lies in front
    last, before_last = np.full((2, A + 1), np.inf)
    before_last[0] = 0
    span, block, corner = 4 * min(A, B), np.empty((0, 0)), (0, 0)
    for diagonal in range(A + B - 1):  # all pairs of a diagonal at once
        if diagonal % span == 0:  # the costs of so many diagonals
            corner = max(0, diagonal - B + 1), max(0, diagonal - A + 1)
            block = costs_AB[corner[0] : diagonal + span, corner[1] : diagonal + span]
        i = np.arange(max(0, diagonal - B + 1), min(diagonal, A - 1) + 1)
        ways_3 = np.stack([before_last[i], last[i], last[i + 1]])
        step_AB[i, diagonal - i] = ways_3.argmin(0)
        now = np.full(A + 1, np.inf)
        now[i + 1] = block[i - corner[0], diagonal - i - corner[1]] + ways_3.min(0)
        before_last, last = last, now
    i, j = A - 1, B - 1
    path = [(i, j)]
    while i or j:
        down, right = steps[step_AB[i, j]]
        i, j = i - down, j - right
        path.append((i, j))
    return np.array(path[::-1])


def middles(path_P2: np.ndarray) -> np.ndarray:
    """For each number in the first column, the middle one of those beside it."""
    firsts, starts, counts = np.unique(path_P2[:, 0], return_index=True, return_counts=True)
    assert len(firsts) == firsts[-1] + 1
    return path_P2[starts + (counts - 1) // 2, 1]


def carried(phases_A: FramePhases, match: Match) -> FramePhases:
    """The phases of A's frames, each given to the frames of B that it matches."""
    return FramePhases(tuple(phases_A.names_T[n] for n in match.a_of_B))


def write_side_by_side(out: Path, a: Video, b: Video, match: Match, height: int = 360) -> None:
    """A video of A, in its time and at its rate, beside the frames of B that match; ``height`` pixels at most.

    Above both stand their names and their own times.
    """
    height = min(height, a.info.height, b.info.height)
    names = f"A: {Path(a.source).name}", f"B: {Path(b.source).name}"
    write_video(out, film(_side_by_side(a, b, match, height), names), rate_of(a.info.fps), TO_LOOK_AT)


def _side_by_side(a: Video, b: Video, match: Match, height: int) -> Iterator[Shot]:
    def small(frame_HWC: np.ndarray) -> np.ndarray:
        return resize_height(frame_HWC, height)

    pairs = zip(iterate_frames(a.path, each=small), _in_turn(b, match.b_of_A, small), strict=False)
    for n, (a_HWC, b_HWC) in enumerate(bar(pairs, "write", "frame", total=len(match.b_of_A))):
        yield Shot((a_HWC, b_HWC), (n / a.info.fps, int(match.b_of_A[n]) / b.info.fps))


def _in_turn(video: Video, numbers_N: np.ndarray, each: Each) -> Iterator[np.ndarray]:
    """Frames of a video in any order; some are held at a time, or one where the order is the video's own."""
    if (np.diff(numbers_N) >= 0).all():
        frames, at = enumerate(iterate_frames(video.path, each=each)), (-1, np.empty(0))
        for number in numbers_N.tolist():
            while at[0] < number:
                at = next(frames)
            yield at[1]
        return
    for start in range(0, len(numbers_N), AT_ONCE):
        part_N, places_N = np.unique(numbers_N[start : start + AT_ONCE], return_inverse=True)
        frames_MHWC = read_frames(video.path, part_N.tolist(), video.info, each)
        yield from (frames_MHWC[place] for place in places_N.tolist())


def draw_match(
    path: Path, match: Match, videos: tuple[Video, Video], phases: Sequence[FramePhases | None] = (None, None)
) -> None:
    """A figure of the similarities of all pairs of frames with the path, and dotted lines where phases begin.

    Both axes are times in seconds.
    """
    (A, B), (fps_a, fps_b) = match.distances_AB.shape, (v.info.fps for v in videos)
    names = [shortened(Path(v.source).name, 40) for v in videos]
    scale = 5.5 / max(A, B)
    with figure_to(path, max(3.4, scale * B) + 1.9, max(3.4, scale * A) + 0.9) as figure:
        ax = figure.subplots()
        extent = (-0.5 / fps_b, (B - 0.5) / fps_b, -0.5 / fps_a, (A - 0.5) / fps_a)
        image = ax.imshow(-_coarse(match.distances_AB), origin="lower", aspect="auto", extent=extent)
        for width, colour, label in ((2.6, "black", None), (1.2, "white", "frames that belong together")):
            ax.plot(
                match.path_P2[:, 1] / fps_b, match.path_P2[:, 0] / fps_a, color=colour, linewidth=width, label=label
            )
        ax.set_xlabel(f"time in s, {names[1]}")
        ax.set_ylabel(f"time in s, {names[0]}")
        label = "a phase begins"
        for line, fps, one in zip((ax.axhline, ax.axvline), (fps_a, fps_b), phases, strict=True):
            for frame in _changes(one):
                line((frame - 0.5) / fps, color="white", linewidth=0.9, linestyle=":", label=label)
                label = None
        figure.colorbar(image, label="similarity (minus squared distance)", aspect=30)
        figure.legend(loc="outside upper center", ncols=2, facecolor="0.6")


def _coarse(values_AB: np.ndarray | Distances) -> np.ndarray:
    """A large matrix with its rows and columns averaged in groups, to ``DRAWN`` of each at most."""
    rows, columns = (np.unique(np.linspace(0, n, min(n, DRAWN), endpoint=False).astype(int)) for n in values_AB.shape)
    ends, blocks = [*columns[1:], values_AB.shape[1]], []
    for n in range(0, len(columns), 64):
        block = values_AB[:, columns[n] : ends[min(n + 64, len(columns)) - 1]]
        for axis, starts in enumerate((rows, columns[n : n + 64] - columns[n])):
            if len(starts) < (count := block.shape[axis]):
                sizes = np.diff(starts, append=count)
                block = np.add.reduceat(block, starts, axis) / (sizes if axis else sizes[:, None])
        blocks.append(block)
    return np.concatenate(blocks, 1)


def _changes(phases: FramePhases | None) -> list[int]:
    """Frames at which another phase begins."""
    names_T = () if phases is None else phases.names_T
    return [n for n in range(1, len(names_T)) if names_T[n] != names_T[n - 1]]


def agreement(labels: FramePhases, own: FramePhases) -> float | None:
    """Fraction of the frames that have a phase in both, in which it is the same; None without any such frame."""
    both = [(x, y) for x, y in zip(labels.names_T, own.names_T, strict=True) if x and y]
    return sum(x == y for x, y in both) / len(both) if both else None
