"""Dense trajectories with the camera's motion removed.

H. Wang, A. Kläser, C. Schmid, C.-L. Liu: "Action Recognition by Dense Trajectories", CVPR 2011; H. Wang, C. Schmid:
"Action Recognition with Improved Trajectories", ICCV 2013.

``python -m ssl_video.encoders.tracks`` is the child process that describes the tracks of one video after the other.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ssl_video.encoders.descriptors import BINS, CELLS, PATCH, SLICES, describe, integral
from ssl_video.files import written_aside
from ssl_video.video.children import answer_requests, to_disk
from ssl_video.video.content import state_of
from ssl_video.video.flow import farneback, opencv
from ssl_video.video.info import FileChanged
from ssl_video.video.reader import iterate_frames

REFERENCE = 240
"""Short side for which the thresholds below are, in pixels; they scale with the frames."""
STATIC, WANDERING, JUMP, CAMERA = 3**0.5, 50.0, 20.0, 1.0
"""Pixels: least and largest standard deviation of a track, largest single step, least step without the camera's."""


@dataclass(frozen=True)
class TrackConfig:
    """Options of tracking, with the papers' values; only the size of the frames is ours."""

    short_side: int = 160
    """Of the frames, in pixels; smaller ones keep their size."""
    scales: int = 8
    """At most; each is 1 / sqrt(2) of the one before, and as large as the volume."""
    step: int = 5
    """Pixels between points."""
    length: int = 15
    """Frames of a track."""
    camera: bool = True
    """Remove the camera's motion."""
    at_most: int = 10_000
    """Tracks kept of a video, chosen at random."""


@dataclass(frozen=True)
class Trajectories:
    """P tracks of a video.

    ``points_PL2`` are (x, y) in the resized frames, one more than steps; ``starts_P`` the numbers of their first
    frames; ``descriptors`` name -> (P, D): trajectory 30, hog 96, hof 108, mbhx 96, mbhy 96 for tracks of 15 frames.
    """

    points_PL2: np.ndarray
    starts_P: np.ndarray
    descriptors: dict[str, np.ndarray]


def track(frames: Iterable[np.ndarray], config: TrackConfig) -> Trajectories:
    """The trajectories of consecutive uint8 RGB frames_HWC of one size, of which two are held at a time."""
    kept = _Kept(config)
    scales: list[_Scale] = []
    before: np.ndarray | None = None
    for number, frame_HWC in enumerate(_resized(frames, config.short_side)):
        if before is not None:
            cv2 = opencv()
            flow_HW2 = farneback(np.stack([before, frame_HWC]))[0]
            flow_HW2 = np.stack([cv2.medianBlur(np.ascontiguousarray(flow_HW2[..., a]), 3) for a in (0, 1)], -1)
            gray_HW = cv2.cvtColor(before, cv2.COLOR_RGB2GRAY)
            own_HW2 = without_camera(gray_HW, flow_HW2) if config.camera else flow_HW2
            scales = scales or _scales(*gray_HW.shape, config)
            for scale in scales:
                kept.add(scale.step(number - 1, gray_HW, flow_HW2, own_HW2))
        before = frame_HWC
    return kept.all()


def without_camera(gray_HW: np.ndarray, flow_HW2: np.ndarray) -> np.ndarray:
    """The flow to the next frame as it would be if that were seen from this frame's camera.

    A homography from corners to where the flow takes them, found by RANSAC, stands for the camera's motion; its inverse
    moves the ends of the flow back. Without enough corners that agree, the flow is returned as it is.
    """
    cv2 = opencv()
    corners = cv2.goodFeaturesToTrack(gray_HW, 600, 0.001, 5)
    if corners is None or len(corners) < 20:
        return flow_HW2
    here_N2 = corners[:, 0]
    x, y = np.rint(here_N2).astype(int).T
    homography, agree = cv2.findHomography(here_N2, here_N2 + flow_HW2[y, x], cv2.RANSAC, 1.0)
    if homography is None or agree.sum() < 20 or abs(np.linalg.det(homography)) < 1e-3:
        return flow_HW2
    h, w = gray_HW.shape
    grid_HW2 = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float32)
    return cv2.perspectiveTransform(grid_HW2 + flow_HW2, np.linalg.inv(homography)) - grid_HW2


class _Scale:
    """The tracks of one scale of the pyramid that are on their way, and the histograms of its last frames."""

    def __init__(self, size: tuple[int, int], factor: float, config: TrackConfig):
        self.height, self.width = size
        self.factor, self.config = factor, config  # factor: pixels of the resized frame in one of this scale
        self.points_PL2 = np.zeros((0, config.length + 1, 2), np.float32)
        self.own_PL2 = np.zeros((0, config.length, 2), np.float32)
        self.ages_P = np.zeros(0, int)
        self.integrals: deque[np.ndarray] = deque(maxlen=config.length)

    def step(self, number: int, gray_HW: np.ndarray, flow_HW2: np.ndarray, own_HW2: np.ndarray) -> Trajectories:
        """One frame on; returns the tracks that are complete with it and pass the tests."""
        gray_HW, flow_HW2, own_HW2 = self._shrunk(gray_HW), self._shrunk(flow_HW2), self._shrunk(own_HW2)
        if self.factor != 1:
            flow_HW2, own_HW2 = flow_HW2 / self.factor, own_HW2 / self.factor
        self.integrals.append(integral(gray_HW.astype(np.float32), own_HW2))
        self._begin(gray_HW)
        rows = np.arange(len(self.ages_P))
        here_P2 = self.points_PL2[rows, self.ages_P]
        x, y = np.rint(here_P2).astype(int).T
        there_P2 = here_P2 + flow_HW2[y, x]
        self.own_PL2[rows, self.ages_P] = own_HW2[y, x]
        self.ages_P += 1
        self.points_PL2[rows, self.ages_P] = there_P2
        self._keep(np.all((there_P2 >= 0) & (there_P2 <= (self.width - 1, self.height - 1)), axis=1))
        complete = np.equal(self.ages_P, self.config.length)
        points_PL2, own_PL2 = self.points_PL2[complete], self.own_PL2[complete]
        self._keep(~complete)
        worth = moving(points_PL2 * self.factor, own_PL2 * self.factor, min(self.height, self.width) * self.factor)
        points_PL2, own_PL2 = points_PL2[worth], own_PL2[worth]
        lengths_P11 = np.linalg.norm(own_PL2, axis=2).sum(1)[:, None, None]
        found = {"trajectory": (own_PL2 / np.maximum(lengths_P11, 1e-6)).reshape(len(own_PL2), 2 * self.config.length)}
        if len(points_PL2):
            found |= describe(self.integrals, points_PL2)
        else:
            found |= {name: np.zeros((0, SLICES * CELLS**2 * bins), np.float32) for name, bins in BINS.items()}
        starts_P = np.full(len(points_PL2), number + 1 - self.config.length)
        return Trajectories(points_PL2 * self.factor, starts_P, found)

    def _shrunk(self, image: np.ndarray) -> np.ndarray:
        if self.factor == 1:
            return image
        cv2 = opencv()
        return cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def _keep(self, which_P: np.ndarray) -> None:
        self.points_PL2, self.own_PL2 = self.points_PL2[which_P], self.own_PL2[which_P]
        self.ages_P = self.ages_P[which_P]

    def _begin(self, gray_HW: np.ndarray) -> None:
        """A new track in every cell of the grid without one, where the picture has structure to follow."""
        step, length = self.config.step, self.config.length
        rows, columns = self.height // step, self.width // step
        free = np.ones((rows, columns), bool)
        x, y = (self.points_PL2[np.arange(len(self.ages_P)), self.ages_P] / step).astype(int).T
        inside = (x < columns) & (y < rows)
        free[y[inside], x[inside]] = False
        strength_HW = opencv().cornerMinEigenVal(gray_HW, 3, ksize=3)
        middle = step // 2
        at_grid = strength_HW[middle : rows * step : step, middle : columns * step : step]
        j, i = np.nonzero(free & (at_grid > 0.001 * strength_HW.max()))
        begun_P2 = np.stack([i, j], 1).astype(np.float32) * step + middle
        points_PL2 = np.zeros((len(begun_P2), length + 1, 2), np.float32)
        points_PL2[:, 0] = begun_P2
        self.points_PL2 = np.concatenate([self.points_PL2, points_PL2])
        self.own_PL2 = np.concatenate([self.own_PL2, np.zeros((len(begun_P2), length, 2), np.float32)])
        self.ages_P = np.concatenate([self.ages_P, np.zeros(len(begun_P2), int)])


def moving(points_PL2: np.ndarray, own_PL2: np.ndarray, short_side: float) -> np.ndarray:
    """(P,) which tracks neither stand still, nor wander or jump as no object does, nor move with the camera alone.

    Args:
        points_PL2: (x, y) of the tracks, in pixels.
        own_PL2: their steps without the camera's motion.
        short_side: of the frames, in pixels, for which the thresholds are scaled.
    """
    unit = short_side / REFERENCE
    spread_P2 = points_PL2.std(axis=1)
    steps_PL = np.linalg.norm(np.diff(points_PL2, axis=1), axis=2)
    longest_P, length_P = steps_PL.max(1, initial=0), steps_PL.sum(1)
    static_P = (spread_P2 < STATIC * unit).all(1)
    wild_P = (spread_P2 > WANDERING * unit).any(1) | ((longest_P > JUMP * unit) & (longest_P > 0.7 * length_P))
    carried_P = np.linalg.norm(own_PL2, axis=2).max(1, initial=0) <= CAMERA * unit
    return ~(static_P | wild_P | carried_P)


def _scales(height: int, width: int, config: TrackConfig) -> list[_Scale]:
    found = []
    for number in range(config.scales):
        factor = 2 ** (number / 2)
        size = round(height / factor), round(width / factor)
        if min(size) >= PATCH:
            found.append(_Scale(size, factor, config))
    return found


def _resized(frames: Iterable[np.ndarray], short_side: int) -> Iterator[np.ndarray]:
    for frame_HWC in frames:
        h, w = frame_HWC.shape[:2]
        if min(h, w) <= short_side:
            yield np.ascontiguousarray(frame_HWC)
            continue
        cv2, scale = opencv(), short_side / min(h, w)
        yield cv2.resize(frame_HWC, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)


class _Kept:
    """A random choice of ``at_most`` tracks of all that are added: those with the smallest random numbers."""

    def __init__(self, config: TrackConfig):
        self.at_most, self.rng = config.at_most, np.random.default_rng(0)
        self.parts: list[tuple[np.ndarray, Trajectories]] = []
        self.count = 0
        sizes = {"trajectory": 2 * config.length} | {n: SLICES * CELLS**2 * bins for n, bins in BINS.items()}
        nothing = {name: np.zeros((0, size), np.float16) for name, size in sizes.items()}
        self.add(Trajectories(np.zeros((0, config.length + 1, 2), np.float32), np.zeros(0, int), nothing))

    def add(self, found: Trajectories) -> None:
        if self.parts and not len(found.starts_P):
            return
        self.parts.append((self.rng.random(len(found.starts_P)), found))
        self.count += len(found.starts_P)
        if self.count > 2 * self.at_most:
            self._join()

    def all(self) -> Trajectories:
        self._join()
        return self.parts[0][1]

    def _join(self) -> None:
        keys = np.concatenate([k for k, _ in self.parts])
        chosen = np.sort(np.argsort(keys, kind="stable")[: self.at_most])
        tracks = [t for _, t in self.parts]
        descriptors = {
            name: np.concatenate([t.descriptors[name].astype(np.float16) for t in tracks])[chosen]
            for name in tracks[0].descriptors
        }
        points_PL2 = np.concatenate([t.points_PL2 for t in tracks])[chosen]
        starts_P = np.concatenate([t.starts_P for t in tracks])[chosen]
        self.parts, self.count = [(keys[chosen], Trajectories(points_PL2, starts_P, descriptors))], len(chosen)


def _reply(request: dict) -> dict:
    opencv().setNumThreads(1)  # there is a child for each core
    path = request["path"]
    state = state_of(path)
    descriptors = track(iterate_frames(path), TrackConfig(**request["config"])).descriptors
    if state_of(path) != state:
        raise FileChanged
    with to_disk(), written_aside(request["file"]) as aside:
        np.savez(aside, **descriptors)  # pyright: ignore[reportArgumentType]
    return {"tracks": len(next(iter(descriptors.values())))}


if __name__ == "__main__":
    answer_requests(_reply)
