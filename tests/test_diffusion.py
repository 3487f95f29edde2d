"""The core of diffusion against closed forms: Gaussian data, whose best denoiser is known, in float64."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from ssl_video.capabilities import Sampling
from ssl_video.pretexts.diffusion_core import (
    RIGHT,
    angles_of,
    clipped,
    floors,
    guided,
    mixed,
    noisy_step,
    parts,
    sample,
    shifted,
    starts,
    step,
    stratified,
    windowed,
    windows,
)

UNCLIPPED = Sampling(clip=False)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def best_for(mean: float, std: float):
    """The velocity of the exact denoiser of white data N(mean, std^2)."""

    def velocity(x_t: Tensor, theta: float) -> Tensor:
        a, s = math.cos(theta), math.sin(theta)
        x = mean + a * std**2 / (a**2 * std**2 + s**2) * (x_t - a * mean)
        e = s / (a**2 * std**2 + s**2) * (x_t - a * mean)
        return a * e - s * x

    return velocity


def sampling(steps: int, **more) -> Sampling:
    return Sampling(steps=steps, clip=False, **more)


# the circle


def test_without_noise_the_mixture_is_the_clip_and_at_a_right_angle_the_noise():
    x, e = drawn(2, 3, 4), drawn(2, 3, 4, seed=1)
    for theta, x_t, v in ((0.0, x, e), (RIGHT, e, -x)):
        for found, expected in zip(mixed(x, e, theta), (x_t, v), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-15, rtol=0)


def test_clip_and_noise_come_back_from_mixture_and_velocity_at_any_angle():
    x, e, theta_B = drawn(5, 3, 4), drawn(5, 3, 4, seed=1), torch.linspace(0, RIGHT, 5, dtype=torch.float64)
    for found, expected in zip(parts(*mixed(x, e, theta_B), theta_B), (x, e), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)


def test_a_step_with_the_true_velocity_is_the_mixture_at_the_other_angle():
    x, e = drawn(4, 3), drawn(4, 3, seed=1)
    x_t, v = mixed(x, e, 1.1)
    torch.testing.assert_close(step(x_t, v, 1.1, 0.3), mixed(x, e, 0.3)[0])
    torch.testing.assert_close(noisy_step(x_t, v, (1.1, 0.3), drawn(4, 3, seed=2), 0.0), mixed(x, e, 0.3)[0])


def test_predicting_nothing_costs_one_on_data_of_variance_one():
    x, e, theta_B = drawn(200_000), drawn(200_000, seed=1), stratified(0.3, 200_000, 0, 200_000).double()
    assert mixed(x, e, theta_B)[1].square().mean().item() == pytest.approx(1, abs=0.01)


# angles


def test_the_angles_of_a_batch_are_one_in_each_of_as_many_strata():
    theta_B = stratified(0.77, 16, 0, 16)
    assert sorted((theta_B / RIGHT * 16).floor().int().tolist()) == list(range(16))


def test_two_processes_have_together_the_angles_of_one():
    whole = stratified(0.4, 8, 0, 8)
    assert torch.equal(torch.cat([stratified(0.4, 4, 0, 8), stratified(0.4, 4, 4, 8)]), whole)


def test_a_shift_multiplies_the_tangent_and_keeps_both_ends():
    theta_B = torch.tensor([0.0, 0.5, 1.2, RIGHT], dtype=torch.float64)
    found = shifted(theta_B, 2)
    torch.testing.assert_close(found[1:3].tan(), 2 * theta_B[1:3].tan())
    assert found[0] == 0 and found[3].item() == pytest.approx(RIGHT, abs=1e-15)


def test_a_fraction_of_the_angles_stays_even_and_the_others_are_shifted():
    theta_N = stratified(0.5, 1000, 0, 1000).double()
    found_N = shifted(theta_N, 8, even=0.4)
    expected_N = torch.cat([stratified(0.5, 400, 0, 400), shifted(stratified(0.5, 600, 0, 600), 8)]).double()
    torch.testing.assert_close(found_N.sort().values, expected_N.sort().values, atol=1e-5, rtol=0)
    assert torch.equal(shifted(theta_N, 8, even=1), theta_N)


def test_steps_lead_from_pure_noise_to_no_noise():
    angles = angles_of(7)
    assert angles[0] == RIGHT and angles[-1] == 0 and len(angles) == 8


# closed form 1: white data


@pytest.mark.parametrize(("mean", "std", "steps"), [(0.0, 1.0, 10), (0.5, 0.4, 10), (-0.2, 1.7, 50)])
def test_each_step_multiplies_white_data_by_its_known_factor(mean, std, steps):
    x_t = drawn(64)
    slope = math.prod(
        (math.cos(t) * math.cos(to) * std**2 + math.sin(t) * math.sin(to))
        / (math.cos(t) ** 2 * std**2 + math.sin(t) ** 2)
        for t, to in itertools.pairwise(angles_of(steps))
    )  # fmt: skip
    found = sample(best_for(mean, std), x_t, sampling(steps), RIGHT)
    torch.testing.assert_close(found, mean + slope * x_t, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("steps", "product"), [(10, 0.88348), (50, 0.97562), (200, 0.99385)])
def test_of_unit_data_the_product_of_all_steps_is_a_power_of_a_cosine(steps, product):
    found = sample(best_for(0, 1), torch.ones(1, dtype=torch.float64), sampling(steps), RIGHT).item()
    assert found == pytest.approx(math.cos(RIGHT / steps) ** steps, abs=1e-12)
    assert found == pytest.approx(product, abs=1e-5)


def test_heun_is_of_second_order():
    one = torch.ones(1, dtype=torch.float64)
    error = [abs(1 - sample(best_for(0, 1), one, sampling(n, solver="heun"), RIGHT).item()) for n in (50, 100)]
    assert 1 - error[0] == pytest.approx(0.99951, abs=1e-5)
    assert error[0] / error[1] == pytest.approx(4, rel=0.1)


def test_with_fresh_noise_samples_have_the_mean_and_the_spread_of_the_data():
    noises = (drawn(20_000, seed=n) for n in itertools.count(1))
    found = sample(best_for(0.5, 0.4), drawn(20_000), sampling(400, eta=1.0), RIGHT, lambda: next(noises))
    assert found.mean().item() == pytest.approx(0.5, abs=0.01)
    assert found.std().item() == pytest.approx(0.4, abs=0.01)


# closed form 2: guidance


def test_guidance_samples_a_mean_that_many_times_as_far():
    silent, told = best_for(0, 0.4), best_for(0.5, 0.4)
    for guidance in (0.0, 1.0, 3.0):
        found = sample(
            lambda x, t, g=guidance: guided(silent(x, t), told(x, t), g), drawn(20_000), sampling(400), RIGHT
        )
        assert found.mean().item() == pytest.approx(guidance * 0.5, abs=0.01)
        assert found.std().item() == pytest.approx(0.4, abs=0.01)


# closed form 3: the loss of the best network


@pytest.mark.parametrize("std", [0.3, 1.0, 1.6])
def test_the_loss_of_the_exact_denoiser_of_white_data_is_their_standard_deviation(std):
    theta_N = stratified(0.5, 400_000, 0, 400_000).double()
    x_t, v = mixed(0.2 + std * drawn(400_000), drawn(400_000, seed=1), theta_N)
    a, s = theta_N.cos(), theta_N.sin()
    error = v - (a * s * (1 - std**2) / (a**2 * std**2 + s**2) * (x_t - a * 0.2) - s * 0.2)
    assert error.square().mean().item() == pytest.approx(std, rel=0.02)


def test_the_floor_of_white_clips_is_their_deviation_by_either_count():
    pixels, spectrum = floors(0.3 * drawn(64, 3, 4, 8, 8) + 0.1)
    assert pixels.item() == pytest.approx(0.3, rel=0.01)
    assert spectrum.item() == pytest.approx(0.3, rel=0.01)


def test_the_floor_of_still_clips_is_far_lower_for_who_knows_their_spectrum():
    still = drawn(64, 3, 1, 8, 8).expand(-1, -1, 16, -1, -1)
    pixels, spectrum = floors(still)
    assert pixels.item() == pytest.approx(1, rel=0.02)
    assert spectrum.item() == pytest.approx(4 / 16, rel=0.02)  # all power is in one of 16 frequencies


# closed form 4: what is known of two pixels


def two_pixels(rho: float):
    """The velocity of the exact denoiser of two correlated pixels, and of the second one when the first is told."""
    covariance = torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64)

    def velocity(x_t: Tensor, theta: float) -> Tensor:
        a, s = math.cos(theta), math.sin(theta)
        x = x_t @ (a * covariance @ torch.linalg.inv(a**2 * covariance + s**2 * torch.eye(2).double())).T
        return (a * x_t - x) / s if s > 1e-12 else x_t * 0

    return velocity


def test_putting_known_pixels_in_at_every_step_is_biased_and_telling_the_network_is_not():
    rho, known, steps = 0.9, 1.5, 100
    told = best_for(rho * known, math.sqrt(1 - rho**2))  # what a network that is given the pixel has learned
    found = sample(told, drawn(20_000), sampling(steps), RIGHT)
    assert found.mean().item() == pytest.approx(1.35, abs=0.02) and found.std().item() == pytest.approx(0.436, abs=0.02)

    velocity, x_t = two_pixels(rho), drawn(20_000, 2)
    for number, (theta, to) in enumerate(itertools.pairwise(angles_of(steps))):
        x_t[:, 0] = math.cos(theta) * known + math.sin(theta) * drawn(20_000, seed=10 + number)
        x_t = step(x_t, velocity(x_t, theta), theta, to)
    assert x_t[:, 1].mean().item() < 1.0


# closed form 5: windows


def covered(size, window, overlap) -> Tensor:
    count = torch.zeros(size)
    for at in windows(size, window, overlap):
        count[at] += 1
    return count


@pytest.mark.parametrize("length", range(1, 40))
@pytest.mark.parametrize(("window", "overlap"), [(8, 2), (8, 0), (16, 4), (5, 4), (3, 9)])
def test_every_frame_is_covered_and_the_last_window_ends_with_the_video(length, window, overlap):
    firsts = starts(length, window, overlap)
    assert {t for first in firsts for t in range(first, min(first + window, length))} == set(range(length))
    assert firsts == sorted(set(firsts)) and firsts[-1] == max(0, length - window)


def test_windows_in_space_cover_every_pixel():
    assert covered((5, 21, 34), (8, 16, 16), (2, 4, 4)).min() == 1


def wavy(x: Tensor, theta: float) -> Tensor:
    """A network to which frames and pixels are alone."""
    return torch.sin(3 * x + theta)


def neighbours(x: Tensor, theta: float) -> Tensor:
    """A network to which they are not."""
    return torch.tanh(x + theta * x.mean((2, 3, 4), keepdim=True))


def by_windows(velocity, size, window, overlap=(2, 2, 2)):
    return windowed(lambda x, theta, _at: velocity(x, theta), list(windows(size, window, overlap)))


def test_one_window_is_none():
    x, size = drawn(2, 3, 8, 6, 6), (8, 6, 6)
    plain = sample(neighbours, x, UNCLIPPED, RIGHT)
    torch.testing.assert_close(sample(by_windows(neighbours, size, (16, 16, 16)), x, UNCLIPPED, RIGHT), plain)


def test_the_same_window_twice_is_the_window():
    x, whole = drawn(1, 3, 8, 6, 6), (slice(0, 8), slice(0, 6), slice(0, 6))
    twice = windowed(lambda x, theta, _at: neighbours(x, theta), [whole, whole])
    torch.testing.assert_close(twice(x, 0.7), neighbours(x, 0.7))


def test_a_network_of_single_pixels_does_not_notice_windows():
    x, size = drawn(2, 3, 19, 9, 9), (19, 9, 9)
    in_windows = sample(by_windows(wavy, size, (8, 4, 4)), x, sampling(20), RIGHT)
    torch.testing.assert_close(in_windows, sample(wavy, x, sampling(20), RIGHT), atol=1e-6, rtol=0)


def test_the_order_of_windows_does_not_matter():
    x, over = drawn(1, 3, 19, 9, 9), list(windows((19, 9, 9), (8, 4, 4), (2, 2, 2)))
    one, other = (windowed(lambda x, theta, _at: neighbours(x, theta), o)(x, 0.7) for o in (over, over[::-1]))
    torch.testing.assert_close(one, other)


def test_the_mean_over_windows_is_the_clip_nearest_to_all_of_them():
    x, over = drawn(1, 1, 6, 1, 1), list(windows((6, 1, 1), (4, 1, 1), (2, 0, 0)))
    asked = [drawn(1, 1, 4, 1, 1, seed=n) for n in range(len(over))]
    answers = iter(asked)
    found = windowed(lambda *_: next(answers), over)(x, 0.5).flatten()
    rows = torch.cat([torch.eye(6).double()[at[0]] for at in over])
    nearest = torch.linalg.lstsq(rows, torch.cat([a.flatten() for a in asked])[:, None]).solution.flatten()
    torch.testing.assert_close(found, nearest)


def test_fresh_noise_is_drawn_once_a_step_for_all_windows():
    sizes = []

    def fresh() -> Tensor:
        sizes.append(drawn(1, 1, 12, 1, 1).shape)
        return drawn(1, 1, 12, 1, 1, seed=len(sizes))

    velocity = by_windows(wavy, (12, 1, 1), (8, 1, 1))
    sample(velocity, drawn(1, 1, 12, 1, 1), sampling(5, eta=1.0), RIGHT, fresh)
    assert len(sizes) == 4  # the last step, to no noise, needs none


def test_overlapping_windows_keep_the_spread_of_fresh_noise():
    best = by_windows(best_for(0, 1), (12, 1, 1), (8, 1, 1))
    noises = (drawn(4000, 1, 12, 1, 1, seed=n) for n in itertools.count(1))
    found = sample(best, drawn(4000, 1, 12, 1, 1), sampling(400, eta=1.0), RIGHT, lambda: next(noises))
    assert found.std(0).min().item() > 0.95


# clipping, and starting half way


def test_a_clipped_velocity_leads_to_the_clipped_clip():
    x_t, v = drawn(100), 3 * drawn(100, seed=1)
    x = parts(x_t, v, 0.8)[0]
    assert x.abs().max() > 1
    torch.testing.assert_close(parts(x_t, clipped(x_t, v, 0.8), 0.8)[0], x.clamp(-1, 1))
    assert torch.equal(clipped(x_t, v, 0.0), v)


def test_clipping_changes_nothing_within_the_range():
    x_t, v = 0.1 * drawn(100), 0.1 * drawn(100, seed=1)
    torch.testing.assert_close(clipped(x_t, v, 0.8), v)


def test_what_was_mixed_half_way_comes_back_with_the_true_velocity():
    x, e = drawn(2, 5), drawn(2, 5, seed=1)

    def true(x_t: Tensor, theta: float) -> Tensor:
        return mixed(x, e, theta)[1]

    torch.testing.assert_close(sample(true, mixed(x, e, 0.6)[0], UNCLIPPED, 0.6), x)
    assert torch.equal(sample(true, x, UNCLIPPED, 0.0), x)


# beside another library, where it is there


def test_the_steps_are_those_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True, clip_sample=False
    )
    scheduler.set_timesteps(10)
    t = int(scheduler.timesteps[3])
    before = t - 100
    x_t, v = drawn(8), drawn(8, seed=1)
    theta, to = (math.acos(scheduler.alphas_cumprod[n] ** 0.5) for n in (t, before))
    theirs = scheduler.step(v, t, x_t).prev_sample
    torch.testing.assert_close(step(x_t, v, theta, to), theirs, atol=1e-5, rtol=0)
