"""What faiss indices of clips cost and find, against exact search: made vectors, and features of real videos.

    OMP_NUM_THREADS=1 python benchmarks/search.py [--vectors 1000000] [--data SPEC ...] [--index-type ivfpq ...]

The made vectors lie in 1,000 clusters, each in 32 dimensions of its own of 512, and have length 1: isotropic noise has
no neighbours worth the name, and vectors of one plane would flatter any index. The queries are 500 more of them. With
``--data`` the features of videos are extracted, by a random network unless ``--model`` names one, and every 20th video
is taken out to search with. Times are the processor's on one thread, so that other work on the machine does not count,
with the vectors in the page cache; a query's is that of one at a time, the median of 200.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

from ssl_video.apps import nearest
from ssl_video.apps.index_update import index_videos
from ssl_video.apps.options import IndexOptions
from ssl_video.apps.search import load_search_model

CLUSTERS, DIM, WITHIN = 1000, 512, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000, help="made vectors; 0: none")
    parser.add_argument("--data", nargs="*", default=[], help="sets of real videos")
    parser.add_argument("--model", default="random:r2plus1d_4")
    parser.add_argument("--clips", type=int, default=0)
    parser.add_argument("--index-type", nargs="*", default=["ivfpq"])
    parser.add_argument("--nprobe", nargs="*", type=int, default=[1, 4, 8, 16])
    parser.add_argument("--folder", help="where the vectors are written; a temporary folder by default")
    a = parser.parse_args()
    print(f"faiss {faiss.__version__}, {faiss.omp_get_max_threads()} thread")
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        if a.vectors:
            vectors_RD, queries_QD = made(Path(folder) / "made.f32", a.vectors, 500)
            print(f"\n{len(vectors_RD)} made vectors of {DIM}, {vectors_RD.nbytes / 1e6:.0f} MB, 500 queries")
            compare(vectors_RD, queries_QD, a.index_type, a.nprobe)
        if a.data:
            vectors_RD, queries_QD = real(Path(folder) / "index", a.model, a.data, a.clips)
            print(f"\n{len(vectors_RD)} clips of real videos, {vectors_RD.shape[1]} numbers each, by {a.model}")
            compare(vectors_RD, queries_QD, a.index_type, a.nprobe)


def made(path: Path, count: int, queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count, 512), mapped from a file, and (queries, 512) of the same clusters."""
    rng = np.random.default_rng(seed)
    centres_CD = rng.standard_normal((CLUSTERS, DIM), np.float32) / DIM**0.5
    bases_CWD = rng.standard_normal((CLUSTERS, WITHIN, DIM), np.float32) / (WITHIN * DIM) ** 0.5
    vectors_RD = np.memmap(path, np.float32, "w+", shape=(count + queries, DIM))
    cluster_R = rng.integers(CLUSTERS, size=len(vectors_RD))
    for c in range(CLUSTERS):
        rows = np.flatnonzero(cluster_R == c)
        x = centres_CD[c] + rng.standard_normal((len(rows), WITHIN), np.float32) @ bases_CWD[c]
        vectors_RD[rows] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return vectors_RD[:count], np.array(vectors_RD[count:])


def real(index: Path, spec: str, data: list[str], clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features of the clips of most videos, and those of the clips of every 20th."""
    start = time.process_time()
    made = index_videos(data, load_search_model(None, spec=spec), index, IndexOptions(clips))
    print(f"\n{len(made)} videos extracted and indexed in {time.process_time() - start:.0f} s")
    stored = made.stored
    queries_R = stored.owner_R % 20 == 0
    return np.array(stored.vectors_RD[~queries_R]), np.array(stored.vectors_RD[queries_R])


def compare(vectors_RD: np.ndarray, queries_QD: np.ndarray, index_types: list[str], nprobes: list[int]) -> None:
    _, truth_QK = nearest.search(vectors_RD, None, queries_QD, 10)
    print(f"exact: {latency(vectors_RD, None, queries_QD, 0, 0):.2f} ms a query")
    for index_type in index_types:
        start = time.process_time()
        index = nearest.make(vectors_RD, index_type)
        seconds = time.process_time() - start
        size = len(faiss.serialize_index(index)) / 1e6
        text = nearest.factory_string(index_type, *vectors_RD.shape)
        print(f"{text}: built in {seconds:.0f} s, {size:.1f} MB")
        print("nprobe  1-recall@10  10-recall@10      ms   re-ranked: 1-recall@10  10-recall@10      ms")
        for nprobe in nprobes if nearest.count_lists(index) else [0]:
            found = nearest.recall_of(vectors_RD, index, queries_QD, truth_QK, nprobe=nprobe)
            plain, exact = (latency(vectors_RD, index, queries_QD, n, nprobe) for n in (0, nearest.RERANK))
            print(
                f"{nprobe:>6}{found.codes_1:>13.3f}{found.codes_10:>14.3f}{plain:>8.2f}"
                f"{found.reranked_1:>25.3f}{found.reranked_10:>14.3f}{exact:>8.2f}",
                flush=True,
            )


def latency(vectors_RD: np.ndarray, index: object, queries_QD: np.ndarray, rerank: int, nprobe: int) -> float:
    """Milliseconds that one query takes, the median of 200 (20 where all vectors are read)."""
    took = []
    for query_D in queries_QD[: 200 if index else 20]:
        start = time.process_time()
        nearest.search(vectors_RD, index, query_D[None], 10, rerank=rerank, nprobe=nprobe)
        took.append(time.process_time() - start)
    return 1e3 * statistics.median(took)


if __name__ == "__main__":
    main()
