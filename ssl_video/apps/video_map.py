"""A map of the videos of an index: those that look alike to its network lie near each other."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ssl_video.apps.index_rows import Entry
from ssl_video.apps.index_stored import Stored
from ssl_video.apps.options import MapMethod, MapOptions
from ssl_video.apps.picking import indexed_path
from ssl_video.apps.search import Index
from ssl_video.datasets.base import ListedVideo, VideoList
from ssl_video.datasets.spec import scanned
from ssl_video.errors import UserError
from ssl_video.eval.knn import unit
from ssl_video.progress import announce
from ssl_video.train.data import read_video
from ssl_video.video.augment import resize_frame
from ssl_video.video.reader import VideoError

LEAST = 3
"""Videos of which a map can be made."""
NEIGHBOURS = 5
BLOCK = 1024
SIDE = 72
"""Pixels of a thumbnail's shorter side."""
LONG_MAP = 1000
"""Videos from which on their places take more than a few seconds."""
METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


@dataclass(frozen=True)
class VideoMap:
    """Videos by their paths, a place of each in the square from 0 to 1, and which are nearest to each.

    ``labels`` are names of classes, "" where there is none. ``neighbours_NK`` are numbers of videos, nearest first, and
    ``cosines_NK`` say how near, by the means over clips. ``total`` counts the videos of the index.
    """

    method: MapMethod
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    places_N2: np.ndarray
    neighbours_NK: np.ndarray
    cosines_NK: np.ndarray
    total: int

    @property
    def said(self) -> str:
        """What is shown, in a sentence or two."""
        count = f"{len(self.paths)} videos" + (f" of {self.total}" if self.total > len(self.paths) else "")
        return f"{count}, placed by {METHODS[self.method]}: near each other lie videos that look alike to the network."


def map_videos(index: Index, options: MapOptions = MapOptions(), data: VideoList | None = None) -> VideoMap:
    """The map of an index; of one with more videos than ``options.at_most``, of as many, evenly spaced.

    ``data``: where labels come from, instead of the index.

    Raises:
        UserError: if there are fewer than three videos, ``data`` has none of them, or UMAP is not installed.
    """
    stored = index.stored
    if len(stored.entries) < LEAST:
        raise UserError(
            f"A map takes {LEAST} videos or more, and {stored.folder} holds {len(stored.entries)}; add some by "
            "'ssl-video index'."
        )
    count = min(len(stored.entries), max(LEAST, options.at_most))
    chosen = np.unique(np.linspace(0, len(stored.entries) - 1, count).round().astype(int))
    entries = [stored.entries[n] for n in chosen.tolist()]
    vectors_ND = mean_vectors(stored, entries)
    labels = [", ".join(e.labels) for e in entries] if data is None else _labels_of(entries, data, stored.folder)
    numbers, cosines = nearest_of(vectors_ND)
    paths = tuple(e.path for e in entries)
    places_N2 = places_of(vectors_ND, options.method, options.seed)
    return VideoMap(options.method, paths, tuple(labels), places_N2, numbers, cosines, len(stored.entries))


def mean_vectors(stored: Stored, entries: list[Entry]) -> np.ndarray:
    """(N, D) the mean over each video's clips, of length 1."""
    means = [stored.vectors_RD[e.first : e.end].mean(0, dtype=np.float32) for e in entries]
    return unit(np.stack(means))


def _labels_of(entries: list[Entry], data: VideoList, folder: Path) -> list[str]:
    named: dict[str, str] = {}
    for video in data.videos:
        label = ", ".join(data.classes[n] for n in video.labels) if data.classes else ""
        named[os.path.realpath(indexed_path(video))] = label
    real = [os.path.realpath(e.path) for e in entries]
    if not any(path in named for path in real):
        raise UserError(f"{data.name} lists no video of {folder}; name by --data the videos that were indexed.")
    return [named.get(path, "") for path in real]


def nearest_of(vectors_ND: np.ndarray, count: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) the numbers of the K nearest other vectors, nearest first, and their (N, K) cosines."""
    total = len(vectors_ND)
    count = min(count, total - 1)
    numbers, cosines = np.empty((total, count), int), np.empty((total, count), np.float32)
    for start in range(0, total, BLOCK):
        cosine_BN = vectors_ND[start : start + BLOCK] @ vectors_ND.T
        own = np.arange(len(cosine_BN))
        cosine_BN[own, start + own] = -np.inf
        near = np.argpartition(-cosine_BN, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(cosine_BN, near, 1), axis=1, kind="stable")
        numbers[start : start + BLOCK] = np.take_along_axis(near, order, 1)
        cosines[start : start + BLOCK] = np.take_along_axis(cosine_BN, numbers[start : start + BLOCK], 1)
    return numbers, cosines


def places_of(vectors_ND: np.ndarray, method: MapMethod, seed: int = 0) -> np.ndarray:
    """(N, 2) places in the square from 0 to 1, both axes on one scale.

    Raises:
        UserError: if ``umap`` is asked for and not installed.
    """
    from sklearn.decomposition import PCA

    total = len(vectors_ND)
    if np.ptp(vectors_ND, axis=0).max() < 1e-6:  # all the same: no direction is better than another
        return np.full((total, 2), 0.5, np.float32)
    if total >= LONG_MAP and method != "pca":
        announce(f"map: {METHODS[method]} of {total} videos")
    if method == "umap":
        places = _umap(vectors_ND, seed)
    else:
        wanted = 2 if method == "pca" else min(50, *vectors_ND.shape)
        places = PCA(min(wanted, *vectors_ND.shape), random_state=seed).fit_transform(vectors_ND)
        if method == "tsne":
            from sklearn.manifold import TSNE

            perplexity = float(min(30, max(1, (total - 1) / 3)))
            places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(places)
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    low, high = places.min(0), places.max(0)
    return (0.5 + (places - (low + high) / 2) / max((high - low).max(), 1e-12)).astype(np.float32)


def _umap(vectors_ND: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("UMAP is not installed: pip install umap-learn, or choose --method tsne.") from None
    return np.asarray(UMAP(n_neighbors=min(15, len(vectors_ND) - 1), random_state=seed).fit_transform(vectors_ND))


def spread(places_N2: np.ndarray, count: int) -> list[int]:
    """``count`` of the videos, such that every region of the map has some, in an order that spreads likewise."""
    cells = np.floor(places_N2 * max(1, np.sqrt(count))).astype(int)
    seen: dict[tuple[int, ...], int] = {}
    rank = []
    for cell in map(tuple, cells.tolist()):
        rank.append(seen.get(cell, 0))
        seen[cell] = rank[-1] + 1
    return np.argsort(rank, kind="stable")[:count].tolist()


def middle_frames(paths: Mapping[int, str]) -> dict[int, np.ndarray]:
    """Number -> the middle frame of its video, small, uint8 (H, W, 3); those that cannot be read are left out."""
    listed = VideoList("map", tuple(ListedVideo(path) for path in paths.values()))
    videos = {v.source: v for v in scanned(listed, none_usable_is_an_error=False).videos}
    frames: dict[int, np.ndarray] = {}
    for number, path in paths.items():
        if path not in videos:
            continue
        try:
            frames[number] = read_video(
                videos[path], [videos[path].frames // 2], each=partial(resize_frame, short_side=SIDE)
            )[0]
        except VideoError:
            continue
    return frames


def colours_of(labels: tuple[str, ...]) -> dict[str, str]:
    """Class -> a colour (#rrggbb) that can be seen on light and on dark ground, in the order of the alphabet."""
    import colorsys

    names = sorted(set(labels) - {""}, key=str.casefold)
    first = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b59f00", "#8c6bb1")  # Okabe and Ito
    if len(names) <= len(first):
        return dict(zip(names, first, strict=False))
    turned = (colorsys.hls_to_rgb(0.61803 * n % 1, 0.42 + 0.14 * (n % 2), 0.65) for n in range(len(names)))
    return {name: "#" + "".join(f"{round(255 * c):02x}" for c in rgb) for name, rgb in zip(names, turned, strict=True)}
