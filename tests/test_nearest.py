"""Nearest neighbours against every product written out, and the faiss indices beside them."""

import numpy as np
import pytest

from ssl_video.apps import nearest
from ssl_video.errors import UserError


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 16))[rng.integers(20, size=600)] + 0.5 * rng.normal(size=(600, 16))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def by_hand(vectors, queries, k):
    cosines = queries.astype(np.float64) @ vectors.astype(np.float64).T
    rows = np.argsort(-cosines, axis=1)[:, :k]
    return np.take_along_axis(cosines, rows, 1), rows


def test_exact_search_is_that_of_all_products(vectors):
    cosines, rows = nearest.search(vectors, None, vectors[:7], 5)
    expected, expected_rows = by_hand(vectors, vectors[:7], 5)
    assert np.allclose(cosines, expected, atol=1e-6) and (rows == expected_rows).all()


@pytest.mark.parametrize("index_type", ["IVF4,SQ8", "HNSW8", "IVF4,Flat", "PCA8,IVF4,SQ4"])
def test_with_all_lists_and_all_candidates_compared_an_index_finds_what_exact_search_finds(vectors, index_type):
    index = nearest.make(vectors, index_type)
    cosines, rows = nearest.search(vectors, index, vectors[:7], 5, rerank=600, nprobe=4)
    expected, expected_rows = by_hand(vectors, vectors[:7], 5)
    assert np.allclose(cosines, expected, atol=1e-6) and (rows == expected_rows).all()


def test_without_reranking_scores_are_cosines_from_the_codes(vectors):
    index = nearest.make(vectors, "IVF4,SQ8")
    cosines, rows = nearest.search(vectors, index, vectors[:7], 5, rerank=0, nprobe=4)
    assert np.allclose(cosines, np.take_along_axis(vectors[:7] @ vectors.T, rows, 1), atol=0.02)


def test_lists_that_hold_too_few_give_minus_one_and_the_lowest_score(vectors):
    index = nearest.make(vectors, "IVF64,Flat")
    cosines, rows = nearest.search(vectors, index, vectors[:3], 500, nprobe=1)
    assert (rows[:, -1] == -1).all() and np.isneginf(cosines[:, -1]).all() and (rows[:, 0] == [0, 1, 2]).all()


def test_lists_are_added_until_enough_is_found(vectors):
    index = nearest.make(vectors, "IVF64,Flat")
    found = nearest.tune(vectors, index)
    assert found is not None and found.reranked_10 >= nearest.ENOUGH and found.nprobe in (8, 16, 32, 64)
    assert f"{found.nprobe} lists" in found.sentence()


class FindsItselfOnly:
    """Stands for an index that finds each vector of an array and nothing else."""

    ntotal = 600

    def search(self, queries_QD, k):
        rows = np.full((len(queries_QD), k), -1)
        rows[:, 0] = np.arange(len(queries_QD))
        return np.zeros(rows.shape, np.float32), rows


def test_a_vector_does_not_count_as_found_by_itself(vectors):
    own = np.arange(50)
    _, truth = by_hand(vectors, vectors[:50], 11)
    found = nearest.recall_of(vectors, FindsItselfOnly(), vectors[:50], truth[:, 1:], own, nprobe=0)
    assert found.reranked_1 == found.reranked_10 == found.codes_1 == found.codes_10 == 0
    found = nearest.recall_of(vectors, FindsItselfOnly(), vectors[:50], truth[:, :10], nprobe=0)
    assert found.reranked_1 == 1 and found.reranked_10 == pytest.approx(0.1)


def test_an_exact_index_has_nothing_to_tune(vectors):
    assert nearest.make(vectors, "exact") is None and nearest.tune(vectors, None) is None


def test_ivfpq_has_a_code_of_up_to_64_bytes_and_about_as_many_lists_as_vectors_in_one():
    assert nearest.factory_string("ivfpq", 1_000_000, 512) == "IVF1024,PQ64"
    assert nearest.factory_string("ivfpq", 10_000, 100) == "IVF128,PQ25"
    assert nearest.factory_string("HNSW32", 5, 512) == "HNSW32"


def test_too_few_vectors_for_ivfpq_are_refused():
    with pytest.raises(UserError, match="ivfpq needs 9984 clips or more"):
        nearest.factory_string("ivfpq", 9983, 512)


@pytest.mark.parametrize("index_type", ["nonsense", "IVF601,Flat", "IDMap,Flat", "PQ5", ""])
def test_what_faiss_cannot_make_is_one_sentence(vectors, index_type):
    with pytest.raises(UserError, match="faiss makes no index") as error:
        nearest.make(vectors, index_type)
    assert "\n" not in str(error.value)


def test_damaged_vectors_are_noticed_when_they_are_compared(vectors):
    index = nearest.make(vectors, "IVF4,Flat")
    damaged = vectors.copy()
    damaged[0] *= 1.5
    with pytest.raises(ValueError, match="length"):
        nearest.search(damaged, index, vectors[:1], 5, nprobe=4)


def test_neither_a_query_nor_a_vector_that_is_not_finite_has_neighbours(vectors):
    wrong = vectors.copy()
    wrong[3, 0] = np.nan
    with pytest.raises(ValueError, match="a query is not finite"):
        nearest.search(vectors, None, wrong[3:4], 5)
    with pytest.raises(ValueError, match="a vector is not finite"):
        nearest.search(wrong, None, vectors[:1], len(vectors))
