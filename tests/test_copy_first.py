"""A copy of an indexed video is found first, with a score of 1, in an index of every type, changed or not."""

import numpy as np
import pytest

from ssl_video.apps import search as search_module
from ssl_video.apps.index_build import Extracted, change
from ssl_video.apps.index_folder import open_index
from ssl_video.apps.index_stored import Stored
from ssl_video.apps.options import SearchOptions
from ssl_video.apps.queries import Query
from ssl_video.apps.search import search
from ssl_video.datasets.base import Video
from ssl_video.eval.features import Features
from ssl_video.video.info import VideoInfo
from tests import indices

DIM, CLIPS = 16, 3
TYPES = ["exact", "SQ8", "PQ4x4", "LSH", "HNSW4", "IVF8,Flat", "IVF8,SQ8", "IVF8,SQ4", "IVF8,PQ4x4", "PCA8,IVF8,SQ8"]
OPTIONS = [
    SearchOptions(5), SearchOptions(5, moments=True), SearchOptions(1, rerank=1, nprobe=1), SearchOptions(5, rerank=0),
    SearchOptions(5, moments=True, rerank=0),
]  # fmt: skip


def made(folder, index_type: str, videos: int = 120) -> None:
    """An index of videos that are much alike: codes hardly tell them from each other."""
    rng = np.random.default_rng(0)
    vectors_RD = rng.normal(size=(3, DIM)).repeat(CLIPS * videos // 3, 0) + 0.05 * rng.normal(
        size=(CLIPS * videos, DIM)
    )
    vectors_RD = (vectors_RD / np.linalg.norm(vectors_RD, axis=1, keepdims=True)).astype(np.float32)
    indices.made(folder, indices.entries_of(0, videos, CLIPS), vectors_RD, index_type)


def check(stored: Stored, monkeypatch) -> None:
    for entry in stored.entries[::9]:
        clips_QD = np.array(stored.vectors_RD[entry.first : entry.first + CLIPS])
        monkeypatch.setattr(search_module, "_vectors_of", lambda *_, clips_QD=clips_QD: clips_QD)
        info = VideoInfo(30, 25.0, 8, 8, 1.2, "h264", content=entry.content)
        for options in OPTIONS:
            first = search(stored, None, Query(Video("/elsewhere/copy.mp4", info=info)), options)[0]  # pyright: ignore
            assert (first.path, first.identical) == (entry.path, True) and first.score == pytest.approx(1, abs=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("index_type", TYPES)
def test_a_copy_is_found_first_before_and_after_videos_are_taken_out(tmp_path, monkeypatch, index_type):
    made(tmp_path, index_type)
    check(open_index(tmp_path), monkeypatch)
    none = Extracted(None, Features([], [], [], []), {})
    for every in (10, 2):  # a few stay in the files; many leave them
        stored = open_index(tmp_path)
        change(stored, none, set(stored.numbers_at(np.arange(0, len(stored.entries), every)).tolist()), {})
        check(open_index(tmp_path), monkeypatch)
