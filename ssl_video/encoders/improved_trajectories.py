"""Improved trajectories: descriptors along dense tracks, as Fisher vectors.

H. Wang, C. Schmid: "Action Recognition with Improved Trajectories", ICCV 2013. ``tracks`` follows points and removes
the camera's motion, ``descriptors`` describes their surroundings, ``fisher`` makes one vector of all that a video has.
"""

import hashlib
import json
import sys
import warnings
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, ClassVar
from zipfile import BadZipFile

import numpy as np

from ssl_video.bounds import Bounds, Count, Seed
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.encoders.base import ENCODERS, Encoded, Encoder
from ssl_video.encoders.fisher import Mixture, fisher_vector, fit_mixture, normalise
from ssl_video.encoders.tracks import TrackConfig
from ssl_video.errors import UserError
from ssl_video.files import cache_dir
from ssl_video.readback import DAMAGE
from ssl_video.video.children import Children, OutputError
from ssl_video.video.content import state_of
from ssl_video.video.flow import opencv
from ssl_video.video.info import Problem, reason_of

VERSION = 1
"""Raised when what is computed for a video changes, so that what older versions kept is not used."""
ROWS_A_GAUSSIAN = 100
"""Descriptors that a Gaussian of the mixture needs at least; with fewer, the mixture has fewer Gaussians."""

Descriptors = Mapping[str, np.ndarray]


@ENCODERS.register("improved-trajectories")
def improved_trajectories(
    *,
    gmm: Count = 256,
    samples: Count = 100_000,
    short_side: Count = 160,
    scales: Count = 8,
    step: Count = 5,
    length: Annotated[int, Bounds(least=3)] = 15,
    camera: bool = True,
    at_most: Count = 10_000,
    seed: Seed = 0,
) -> Encoder:
    """Improved trajectories as Fisher vectors (Wang and Schmid, ICCV 2013).

    Args:
        gmm: Gaussians of the mixture; fewer where there are less than 100 descriptors for each.
        samples: descriptors of the training list to which PCA and mixture are fitted (the paper: 256,000).
        short_side: of the frames, in pixels; smaller ones keep their size (the paper keeps all sizes).
        scales: at most, each 1 / sqrt(2) of the one before.
        step: pixels between points.
        length: frames of a track.
        camera: remove the camera's motion.
        at_most: tracks of a video, chosen at random (the paper: all).
        seed: of the choice of samples and of the fitting.
    """
    return ImprovedTrajectories(TrackConfig(short_side, scales, step, length, camera, at_most), gmm, samples, seed)


class ImprovedTrajectories(Encoder):
    """Per type of descriptor PCA to half and a mixture of Gaussians; a vector of all types' Fisher vectors.

    What a video's tracks hold is kept in the cache folder (``trajectories/``, about 0.9 kB a track).
    """

    presets: ClassVar[Mapping[str, str]] = {"svm": "trajectories"}

    def __init__(self, config: TrackConfig, gmm: int, samples: int, seed: int):
        self.config, self.gmm, self.samples, self.seed = config, gmm, samples, seed
        self.mixtures: dict[str, Mixture] = {}

    def fit(self, train: VideoSet, workers: int) -> None:
        """Fit PCA and mixtures to a sample with the same number of descriptors of every video, as far as it has them.

        Raises:
            UserError: if the videos have fewer than two trajectories together, or OpenCV is missing.
        """
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        rng = np.random.default_rng(self.seed)
        each = -(-self.samples // len(train.videos))
        rows: dict[str, list[np.ndarray]] = {}
        for found in self._described(train, workers):
            if not isinstance(found, Problem):
                for name, x_PE in _chosen(_load(found), each, rng).items():
                    rows.setdefault(name, []).append(x_PE)
        count = sum(map(len, next(iter(rows.values()), [])))
        if count < 2:
            raise UserError(f"The videos of {train.name} have no trajectories: nothing in them moves by itself.")
        components = max(1, min(self.gmm, count // ROWS_A_GAUSSIAN))

        def fitted(parts: list[np.ndarray]) -> Mixture:
            x_NE = np.concatenate(parts).astype(np.float32)
            return fit_mixture(x_NE, min(x_NE.shape[1] // 2, count), components, self.seed)

        # one thread a type: in its many short calls, the fitting loses more by waiting for its threads than it wins
        workers = min(max(1, workers), len(rows))
        with warnings.catch_warnings(), threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.mixtures = dict(zip(rows, pool.map(fitted, rows.values()), strict=True))

    def encode(self, videos: VideoSet, workers: int) -> Encoded:
        """(N, 2 K D summed over types) float32; a video without trajectories gets zeros."""
        assert self.mixtures, "fit comes first"
        vectors, kept, problems = [], [], []
        for video, found in zip(videos.videos, self._described(videos, workers), strict=True):
            if isinstance(found, Problem):
                problems.append(Problem(video.source, found.reason))
            else:
                vectors.append(self._vector(_load(found)))
                kept.append(video)
        if not kept:
            raise UserError(f"No video of {videos.name} could be read; the first: {problems[0].reason}.")
        return Encoded(np.stack(vectors), kept, problems)

    def _vector(self, descriptors: Descriptors) -> np.ndarray:
        parts = [
            normalise(fisher_vector(mixture.project(descriptors[name].astype(np.float32)), mixture))
            for name, mixture in self.mixtures.items()
        ]
        return np.concatenate(parts).astype(np.float32)

    def _described(self, videos: VideoSet, workers: int) -> list[Path | Problem]:
        """The files of the videos' descriptors, made now where they are not in the cache."""
        opencv()  # a missing library is said once, not for every video
        command = (sys.executable, "-m", "ssl_video.encoders.tracks")
        children = Children(command, time_limit_s=600.0)

        def described(video: Video) -> Path | Problem:
            try:
                file = _file(video.path, self.config)
            except OSError as error:
                return Problem(video.path, reason_of(error), passing=True)
            if not _whole(file):
                request = {"path": video.path, "file": str(file), "config": asdict(self.config)}
                try:
                    reply = children.request(video.path, request)
                except OutputError as error:
                    where = f"{file.parent} cannot be written ({error})"
                    raise UserError(f"{where}; name another place by SSL_VIDEO_CACHE.") from None
                if isinstance(reply, Problem):
                    return reply
            return file

        what = "trajectories"
        return list(children.work(described, videos.videos, workers=max(1, workers), what=what, progress=False))


def _file(path: str, config: TrackConfig) -> Path:
    state = [VERSION, str(Path(path).absolute()), state_of(path), asdict(config)]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:24]
    return cache_dir() / "trajectories" / f"{key}.npz"


def _whole(file: Path) -> bool:
    """True if there are descriptors that can be read; the archive has a checksum for each."""
    try:
        with np.load(file, allow_pickle=False) as content:
            return all(content[name].ndim == 2 for name in content)
    except (OSError, BadZipFile, zlib.error, *DAMAGE):
        return False


def _load(file: Path) -> Descriptors:
    """What was kept of a video. Raises UserError if it is not finite."""
    with np.load(file, allow_pickle=False) as content:
        descriptors = dict(content)
    if not all(np.isfinite(x_PE).all() for x_PE in descriptors.values()):
        raise UserError(f"{file} holds descriptors that are not finite; remove it, and they are computed again.")
    return descriptors


def _chosen(descriptors: Descriptors, at_most: int, rng: np.random.Generator) -> Descriptors:
    """The same random rows of all types."""
    count = len(next(iter(descriptors.values())))
    rows = np.sort(rng.permutation(count)[:at_most])
    return {name: x_PE[rows] for name, x_PE in descriptors.items()}
