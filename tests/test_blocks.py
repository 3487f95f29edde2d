"""Features by blocks: the numbers of the plain formulas, and memory that the pairs of two lists do not fill."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video.eval import blocks as blocks_module
from ssl_video.eval.blocks import Blocks, Rows, Standard
from ssl_video.eval.knn import knn_scores, unit
from ssl_video.eval.linear import logistic_scores
from ssl_video.eval.retrieval import neighbours
from ssl_video.eval.ridge import ridge_scores, standardise


def drawn(rows: int, width: int = 6, seed: int = 0, kind: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(kind) * 3 + 1


@pytest.fixture
def small(monkeypatch):
    """Blocks of some rows."""
    monkeypatch.setattr(blocks_module, "NUMBERS", 100)


def plain_standardise(train_ND, test_ND):
    mean, std = train_ND.mean(0), train_ND.std(0)
    scale = np.where(std > 1e-6 * max(1e-12, float(np.abs(train_ND).max())), 1 / np.maximum(std, 1e-30), 0.0)
    return (train_ND - mean) * scale, (test_ND - mean) * scale


def plain_knn(x_ND, labels_N, x_test_MD, classes, k, temperature):
    """The votes from an array of all pairs."""
    similarity_MN = unit(x_test_MD) @ unit(x_ND).T
    nearest_Mk = np.argsort(-similarity_MN, axis=1, kind="stable")[:, :k]
    votes_Mk = np.exp(np.take_along_axis(similarity_MN, nearest_Mk, 1).astype(np.float64) / temperature)
    scores = np.zeros((len(x_test_MD), classes))
    np.add.at(scores, (np.arange(len(x_test_MD))[:, None], labels_N[nearest_Mk]), votes_Mk)
    return scores


def plain_ridge(x_ND, labels_N, x_test_ND, classes):
    """The classifier from arrays of all rows."""
    x, x_test = plain_standardise(x_ND.astype(np.float64), x_test_ND.astype(np.float64))
    y = np.where(np.arange(classes) == labels_N[:, None], 1.0, -1.0)
    offset = y.mean(0)
    squares, axes_DR = np.linalg.eigh(x.T @ x)
    axes_DR = axes_DR[:, squares > 1e-12 * max(float(squares[-1]), 1e-300)]
    z_NR = x @ axes_DR
    squares_R, projected_RK = (z_NR**2).sum(0), z_NR.T @ (y - offset)
    best, best_penalty = (-1.0, 0.0), 0.01
    for penalty in (10.0**p for p in range(-2, 6)):
        shrink_R = 1 / (squares_R + penalty)
        leverage = z_NR**2 @ shrink_R + 1 / len(x)
        residual = (y - offset - z_NR @ (shrink_R[:, None] * projected_RK)) / np.maximum(1 - leverage, 1e-9)[:, None]
        quality = float(((y - residual).argmax(1) == labels_N).mean()), -float((residual**2).mean())
        if quality > best:
            best, best_penalty = quality, penalty
    return x_test @ axes_DR @ (projected_RK / (squares_R + best_penalty)[:, None]) + offset


def test_rows_of_several_arrays_are_those_of_their_concatenation():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 3)) for n in (4, 1, 0, 5)]
    rows, whole = Rows(parts), np.concatenate(parts)
    assert rows.shape == whole.shape and (rows[:] == whole).all()
    for wanted in (np.array([9, 0, 4, 4]), slice(3, 7), np.array([], int)):
        assert (rows[wanted] == whole[wanted]).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_fits_into_one_block_is_standardised_to_the_last_bit_as_numpy_does(kind):
    x, x_test = drawn(50, kind=kind), drawn(20, seed=1, kind=kind)
    x[:, 2] = 5
    for one, other in zip(standardise(x, x_test), plain_standardise(x, x_test), strict=True):
        assert one.dtype == kind and (one == other).all()


def test_several_blocks_are_standardised_as_one(small):
    x = drawn(300, kind=np.float64)
    x[:, 2] = 5
    assert np.allclose(Standard.of(x)(x), plain_standardise(x, x)[0], rtol=1e-12, atol=1e-12)


def test_ridge_gives_the_last_bit_of_the_plain_formula_in_one_block_and_twelve_digits_in_several(monkeypatch):
    x, labels, x_test = drawn(90), np.arange(90) % 3, drawn(40, seed=1)
    x[:, 0] += labels
    plain = plain_ridge(x, labels, x_test, 3)
    assert (ridge_scores(x, labels, x_test, 3) == plain).all()
    monkeypatch.setattr(blocks_module, "NUMBERS", 100)
    several = ridge_scores(Rows([x[:41], x[41:]]), labels, Rows([x_test]), 3)
    assert np.allclose(several, plain, rtol=1e-11, atol=1e-12)


def test_ridge_takes_fewer_rows_than_columns(small):
    x, labels = drawn(30, width=50), np.arange(30) % 2
    monkey = ridge_scores(x, labels, x, 2)
    assert monkey.shape == (30, 2) and (monkey.argmax(1) == labels).all()


def test_logistic_regression_is_the_same_of_one_block_and_of_several(monkeypatch):
    x, labels, x_test = drawn(90), np.arange(90) % 3, drawn(40, seed=1)
    x[:, 0] += labels
    whole = logistic_scores(x, labels, x_test, 3, seed=0)
    monkeypatch.setattr(blocks_module, "NUMBERS", 100)
    assert np.allclose(logistic_scores(x, labels, x_test, 3, seed=0), whole, atol=1e-3)


@pytest.mark.parametrize("numbers", [60, 1 << 25])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), rows=st.integers(1, 90), k=st.integers(1, 40), repeated=st.booleans())
def test_votes_are_those_of_a_stable_sort_of_all_pairs(numbers, seed, rows, k, repeated):
    x, x_test = drawn(rows, 4, seed, np.float64), drawn(30, 4, seed + 1, np.float64)
    if repeated:  # many as near as each other: the first rows count
        x = x[np.random.default_rng(seed).integers(0, min(rows, 3), rows)]
    labels = np.random.default_rng(seed).integers(0, 5, rows)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(blocks_module, "NUMBERS", numbers)
        found = knn_scores(x, labels, x_test, 5, k, temperature=0.1)
    expected = plain_knn(x.astype(np.longdouble), labels, x_test.astype(np.longdouble), 5, k, 0.1)
    assert np.allclose(found, expected, rtol=1e-6, atol=0)


def test_votes_of_features_in_single_precision_are_those_of_all_pairs_to_a_millionth(small):
    x, x_test, labels = drawn(200), drawn(50, seed=1), np.arange(200) % 4
    found, expected = (f(x, labels, x_test, 4, 5, 0.1) for f in (knn_scores, plain_knn))
    assert np.allclose(found, expected, rtol=3e-6) and (found.argmax(1) == expected.argmax(1)).all()


def test_neighbours_of_a_querys_own_group_are_passed_over(small):
    x, x_test, rng = drawn(200), drawn(30, seed=1), np.random.default_rng(0)
    groups = rng.integers(-1, 6, 30), rng.integers(-1, 6, 200)
    banned_MN = (groups[0][:, None] == groups[1]) & (groups[0][:, None] >= 0)
    similarity_MN = np.where(banned_MN, -np.inf, x_test.astype(np.float64) @ x.T.astype(np.float64))
    for query, one in enumerate(neighbours(x_test, x, 7, groups)):
        assert one.rows_k.tolist() == np.argsort(-similarity_MN[query], kind="stable")[:7].tolist()
        assert np.allclose(one.similarities_k, similarity_MN[query, one.rows_k], rtol=1e-12)


def test_a_query_all_of_whose_gallery_is_of_its_group_has_no_neighbours():
    (one,) = neighbours(drawn(1), drawn(5), 3, (np.zeros(1, int), np.zeros(5, int)))
    assert len(one.rows_k) == 0


def peak_of(function) -> int:
    function()  # what is made once
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_the_pairs_of_two_lists_are_never_in_memory_together(monkeypatch):
    monkeypatch.setattr(blocks_module, "NUMBERS", 1 << 15)
    x, x_test = drawn(6000, 8), drawn(2000, 8, seed=1)
    labels = np.arange(6000) % 3
    pairs = 4 * len(x) * len(x_test)
    assert peak_of(lambda: knn_scores(x, labels, x_test, 3, 5, 0.1)) < pairs / 12
    assert peak_of(lambda: neighbours(x_test, x, 5)) < pairs / 12


def test_ridge_holds_a_block_and_not_the_rows(monkeypatch):
    monkeypatch.setattr(blocks_module, "NUMBERS", 1 << 12)
    x, labels = drawn(40_000, 8), np.arange(40_000) % 3
    assert peak_of(lambda: ridge_scores(x, labels, x[:100], 3)) < x.nbytes


def test_standardised_blocks_are_read_as_they_are_indexed(small):
    x = drawn(60)
    blocks = Blocks(Blocks(x, Standard.of(x)), unit)
    assert np.allclose(blocks.whole(), unit(Standard.of(x)(x))) and len(blocks) == 60
    assert (blocks[np.array([50, 3])] == blocks.whole()[[50, 3]]).all()
