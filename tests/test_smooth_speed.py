import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, minimize

from ssl_video.apps.smooth_speed import of_duration, of_mean, within_bounds

ALPHAS = st.floats(0, 1000)
SPEEDS = st.lists(st.floats(1, 4), min_size=1, max_size=9).map(np.array)


def differences(count):
    return np.diff(np.eye(count), axis=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=20).map(np.array), ALPHAS)
def test_a_problem_with_bounds_is_solved_as_by_a_generic_solver(target_N, alpha):
    rows = np.vstack([np.eye(len(target_N)), np.sqrt(alpha) * differences(len(target_N))])
    right = np.concatenate([target_N, np.zeros(len(target_N) - 1)])
    generic = lsq_linear(rows, right, (-0.5, 0.7), method="bvls", tol=1e-14)
    np.testing.assert_allclose(within_bounds(target_N, alpha, -0.5, 0.7), generic.x, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(SPEEDS, st.floats(1.05, 3.9), st.floats(0, 100))
def test_a_duration_is_distributed_as_by_a_generic_solver(allowed_N, factor, alpha):
    def cost(u_N):
        return ((u_N - 1 / allowed_N) ** 2).sum() + alpha * (np.diff(u_N) ** 2).sum()

    count = len(allowed_N)
    generic = minimize(
        cost,
        np.full(count, 1 / factor),
        jac=lambda u_N: 2 * (u_N - 1 / allowed_N + alpha * differences(count).T @ np.diff(u_N)),
        bounds=[(1 / 4, 1)] * count,
        constraints={"type": "eq", "fun": lambda u_N: u_N.sum() - count / factor, "jac": lambda _: np.ones(count)},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    ours = of_duration(allowed_N, factor, 4.0, alpha)
    assert cost(ours) <= cost(np.clip(generic.x, 1 / 4, 1)) + 1e-7
    np.testing.assert_allclose(ours, generic.x, atol=2e-3)


@settings(max_examples=60, deadline=None)
@given(SPEEDS, st.floats(1, 4), ALPHAS)
def test_the_shares_sum_to_the_duration_and_keep_their_bounds(allowed_N, factor, alpha):
    u_N = of_duration(allowed_N, factor, 4.0, alpha)
    assert u_N.sum() == pytest.approx(len(allowed_N) / factor, abs=1e-9)
    assert u_N.min() >= 1 / 4 and u_N.max() <= 1


def test_frames_exactly_at_a_bound_do_not_change_sides_for_ever():
    allowed_N = np.repeat(1.25 ** np.arange(8), 40)
    for factor in (1.0, 1.5, 2.0, 4.999, 5.0):
        assert of_duration(allowed_N, factor, 5.0, 1.0).sum() == pytest.approx(320 / factor)


def test_a_long_video_is_planned_too():
    allowed_N = np.repeat(1.0 + np.random.default_rng(0).integers(0, 4, 200), 90)
    u_N = of_duration(allowed_N, 2.0, 4.0, 225.0)
    assert u_N.sum() == pytest.approx(9000) and np.corrcoef(1 / u_N, allowed_N)[0, 1] > 0.5


@settings(max_examples=40, deadline=None)
@given(SPEEDS, st.floats(1, 4), ALPHAS, st.floats(0, 100))
def test_the_papers_form_is_its_minimum_before_it_is_cut(allowed_N, factor, alpha, beta):
    count = len(allowed_N)
    matrix = np.eye(count) + alpha * differences(count).T @ differences(count) + beta / count
    exact = np.linalg.solve(matrix, allowed_N + beta * factor)
    np.testing.assert_allclose(of_mean(allowed_N, factor, 4.0, alpha, beta), np.clip(exact, 1, 4), atol=1e-6)


def test_the_papers_form_fixes_the_mean_of_the_speed_and_misses_the_duration():
    allowed_N = np.repeat([1.0, 3.0], 50)
    speed_N = of_mean(allowed_N, 2.0, 4.0, 0.0, 1e6)
    assert speed_N.mean() == pytest.approx(2, abs=1e-4)
    assert (1 / speed_N).sum() == pytest.approx(100 * 2 / 3, abs=0.1)
