"""Super-resolution: what it is shown, and what it makes of videos of any length."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.stunet_stages import Enlarged
from ssl_video.capabilities import Condition, Sampling, Upscales
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, build_pretext
from ssl_video.pretexts.diffusion_core import RIGHT, mixed
from ssl_video.pretexts.video_upscaling import VideoUpscaling, enlarged, lowered
from tests.nets import tiny_backbone

OPTIONS = {"frames": 4, "stride": 1, "short_side": 16, "size": 16, "factor": 2}
FAST = Sampling(steps=2)


def make(network: dict | None = None, **options) -> VideoUpscaling:
    torch.manual_seed(0)
    own = {"channels": (8, 16), "patch": 4, "frames": 4, "low_resolution": True, **(network or {})}
    pretext = build_pretext("video_upscaling", build_backbone("stunet", **own), OPTIONS | options)
    assert isinstance(pretext, VideoUpscaling)
    return pretext


def woken(pretext: VideoUpscaling) -> VideoUpscaling:
    torch.manual_seed(1)
    for tensor in pretext.parameters():
        if not tensor.any():
            nn.init.normal_(tensor, std=0.1)
    return pretext.eval()


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def batch(B: int = 4) -> dict[str, Tensor]:
    return {"clip_THWC": torch.randint(0, 256, (B, 4, 16, 16, 3), generator=seed(1), dtype=torch.uint8)}


def context(number: int = 0) -> Context:
    return Context(Progress(0, 1), seed(number))


def told_to(pretext: VideoUpscaling) -> list[Condition]:
    """What its network is told from now on."""
    told: list[Condition] = []
    network = pretext.backbone.network
    denoise = network.denoise
    network.denoise = lambda x, c: told.append(c) or denoise(x, c)
    return told


def test_a_pixel_of_the_low_resolution_is_the_mean_of_its_square():
    clip = torch.arange(16.0).view(1, 1, 1, 4, 4)
    assert lowered(clip, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(lowered(enlarged(clip, 3), 3), clip)


def test_the_network_is_shown_the_low_resolution_with_the_noise_that_it_is_told():
    pretext = make(most_noise=0.3)
    told = told_to(pretext)
    for number in range(10):
        pretext(batch(), context(number))
    theta = torch.cat([c.low_theta_B for c in told]) / RIGHT
    assert theta.min() >= 0 and theta.max() <= 0.3 and theta.std() > 0.05
    clean = enlarged(lowered(pretext.backbone.normalise(batch()["clip_THWC"]), 2), 2)
    a = (theta * RIGHT).cos()[:, None, None, None, None]
    noise = torch.cat([c.low_BCTHW for c in told]) - a * clean.repeat(10, 1, 1, 1, 1)
    for found, angle in zip(noise.flatten(1).std(1), theta * RIGHT, strict=True):
        assert found.item() == pytest.approx(angle.sin().item(), abs=0.02)


@pytest.mark.parametrize("low", [0.0, 0.3])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.9, 1.0])
def test_an_untrained_network_is_as_good_as_whoever_knows_what_is_enlarged_and_how_much_is_white(low, fraction):
    network, details = make().backbone.network, Enlarged.DETAILS
    known, noise, e, more = (torch.randn(8, 3, 4, 16, 16, generator=seed(n)) for n in range(4))
    theta, low_theta = torch.full((8,), fraction * RIGHT), torch.full((8,), low * RIGHT)
    x = known + details * more
    x_t, v = mixed(x, e, theta)
    with torch.no_grad():
        told = Condition(theta, low_BCTHW=mixed(known, noise, low_theta)[0], low_theta_B=low_theta)
        found = (network.denoise(x_t, told)[0] - v).square().mean()
    cos, sin = theta[0].cos(), theta[0].sin()
    variance = details**2 + low_theta[0].tan() ** 2
    assert found.item() == pytest.approx((variance / (variance * cos**2 + sin**2)).item(), rel=0.02)


def test_at_test_there_is_as_much_noise_as_in_use():
    pretext = make(noise=0.2).eval()
    told = told_to(pretext)
    pretext(batch(), context())
    pretext.upscale(torch.zeros(2, 4, 8, 8, 3, dtype=torch.uint8), FAST, seed())
    assert all(c.low_theta_B.numpy() == pytest.approx(0.2 * RIGHT) for c in told)


def test_large_frames_are_trained_with_more_noise():
    pretext = make(shift=2.0)
    told = told_to(pretext)
    pretext(batch(64), context())
    even = told_to(other := make(shift=1.0))
    other(batch(64), context())
    torch.testing.assert_close(told[0].theta_B.tan(), 2 * even[0].theta_B.tan(), rtol=1e-3, atol=1e-4)


def test_twenty_steps_lower_the_loss():
    pretext, losses = make(), []
    optimizer = torch.optim.AdamW(pretext.parameters(), 3e-3)
    for step in range(20):
        loss = pretext(batch(), context(step)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_videos_of_any_length_and_size_become_larger_in_windows_by_one_seed_alike():
    pretext, low = woken(make()), torch.randint(0, 256, (1, 7, 8, 12, 3), generator=seed(2), dtype=torch.uint8)
    assert isinstance(pretext, Upscales) and pretext.factor == 2
    told = told_to(pretext)
    one = pretext.upscale(low, FAST, seed())
    assert one.shape == (1, 7, 16, 24, 3) and one.dtype == torch.uint8
    assert {tuple(c.low_BCTHW.shape[2:]) for c in told} == {(4, 16, 16)}
    assert torch.equal(one, pretext.upscale(low, FAST, seed()))
    assert not torch.equal(one, pretext.upscale(low, FAST, seed(1)))
    assert not torch.equal(one, pretext.upscale(255 - low, FAST, seed()))


def test_windows_of_a_network_that_sees_single_frames_leave_no_seam():
    pretext = woken(make({"temporal": False}))
    low = torch.randint(0, 256, (1, 7, 8, 8, 3), generator=seed(2), dtype=torch.uint8)
    in_windows = pretext.upscale(low, replace(FAST, overlap=2), seed())
    at_once = woken(make({"temporal": False}, frames=7)).upscale(low, FAST, seed())
    assert (in_windows.int() - at_once.int()).abs().max() <= 1


def test_what_cannot_be_is_one_sentence():
    with pytest.raises(UserError, match=r"use --backbone\.low-resolution"):
        make({"low_resolution": False})
    with pytest.raises(UserError, match="no multiple of factor 3"):
        make(factor=3)
    with pytest.raises(UserError, match="needs a backbone that tells a clip from noise"):
        build_pretext("video_upscaling", tiny_backbone(), OPTIONS)
