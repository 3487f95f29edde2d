"""LeVJEPA: the numbers of its regulariser, its views, and what is dropped."""

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Pretext, Progress, Sample, build_pretext
from ssl_video.pretexts.levjepa import sigreg
from tests.nets import tiny_backbone, video_set

OPTIONS = {"frames": 4, "fps": 25.0, "short_side": 36, "size": 32, "view_size": 16, "views": 2, "hidden": 16}
OPTIONS |= {"embedding": 6, "directions": 10, "drop": 0.75}

PAPER = ("AdamW", 0.9, 0.04, False, 3072, 1, {1_200: 4e-4, 60_000: 4e-4, 119_999: 4e-4})
"""The optimiser of the authors' code, for ``test_papers``."""


def make(**options) -> Pretext:
    torch.manual_seed(0)
    network = build_backbone("vivit_tiny", frames=4, side=32, tubelet=(2, 8, 8), depth=1)
    return build_pretext("levjepa", network, OPTIONS | options)


def context(seed: int = 0, **more) -> Context:
    return Context(Progress(0, 10), torch.Generator().manual_seed(seed), **more)


def batch(B: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"clip_THWC": (B, 4, 32, 32, 3), "views_VTHWC": (B, 2, 4, 16, 16, 3)}
    return {name: torch.randint(0, 256, shape, generator=generator).byte() for name, shape in shapes.items()}


def filled() -> tuple[torch.Tensor, torch.Tensor]:
    """z_VBK and unit directions without a generator, of which the published code's numbers are known."""
    v, b, k = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (3, 8, 6)), indexing="ij")
    K, M = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (6, 10)), indexing="ij")
    directions_KM = torch.cos(1.1 * (10 * K + M) + 0.2)
    return 1.2 * torch.sin(0.7 * (48 * v + 6 * b + k) + 0.3 * v), directions_KM / directions_KM.norm(dim=0)


def test_the_regulariser_and_its_gradient_are_those_of_the_published_code():
    z_VBK, directions_KM = filled()
    z_VBK.requires_grad_()
    number = sigreg(z_VBK, directions_KM)
    number.backward()
    assert number.item() == pytest.approx(2.036673870227117, rel=1e-12)
    assert z_VBK.grad is not None
    assert z_VBK.grad.abs().sum().item() == pytest.approx(8.951769274431578, rel=1e-12)
    assert z_VBK.grad[1, 2, 3].item() == pytest.approx(-0.047239102005222106, rel=1e-12)


def test_the_loss_is_the_views_distance_and_the_weighted_regulariser(monkeypatch):
    z_VBK, directions_KM = filled()
    pretext = make(views=2, weight=0.02).double()
    rows_NK = torch.cat([z_VBK[0], z_VBK[1:].transpose(0, 1).flatten(0, 1)])
    monkeypatch.setattr(pretext.projector, "forward", lambda _x: rows_NK)
    monkeypatch.setattr(torch, "randn", lambda *_a, **_k: directions_KM * 3)  # of any length
    output = pretext(batch(8), context())
    assert output.metrics["alike"].item() == pytest.approx(1.2124375686515247, rel=1e-12)
    assert output.metrics["normal"].item() == pytest.approx(2.036673870227117, rel=1e-12)
    assert output.loss.item() == pytest.approx(1.253171046056067, rel=1e-12)


def test_the_regulariser_is_small_for_normal_numbers_and_grows_with_the_batch_for_one_point():
    generator = torch.Generator().manual_seed(0)
    directions_KM = torch.nn.functional.normalize(torch.randn(8, 64, generator=generator), dim=0)
    normal = [sigreg(torch.randn(1, B, 8, generator=generator), directions_KM).item() for B in (64, 1024)]
    point = [sigreg(torch.full((1, B, 8), 0.0), directions_KM).item() for B in (64, 1024)]
    assert max(normal) < 2 < min(point) and point[1] == pytest.approx(16 * point[0], rel=1e-5)
    assert normal[1] < 4 * normal[0]


def test_directions_are_drawn_anew_each_step_and_are_the_same_on_every_rank(monkeypatch):
    drawn = []
    monkeypatch.setattr("ssl_video.pretexts.levjepa.sigreg", lambda z, d: drawn.append(d) or z.sum() * 0)
    for seed, rank in ((0, 0), (0, 0), (1, 0)):
        make().eval()(batch(), context(seed, rank=rank))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert drawn[0].norm(dim=0).sub(1).abs().max() < 1e-6


def test_of_each_view_a_share_of_the_patches_is_embedded_in_training_and_all_at_test():
    pretext, seen = make(), []
    pretext.backbone.stages["block1"].norm.register_forward_hook(lambda _m, args, _y: seen.append(args[0].shape[:2]))
    pretext.train()(batch(), context())
    pretext.eval()(batch(), context())
    assert seen == [(3, 8), (6, 2), (3, 32), (6, 8)]


def test_at_least_one_patch_is_kept():
    pretext, seen = make(drop=0.99), []
    pretext.backbone.stages["block1"].norm.register_forward_hook(lambda _m, args, _y: seen.append(args[0].shape[1]))
    pretext.train()(batch(), context())
    assert seen == [1, 1]


def test_views_are_of_the_same_frames_each_with_a_crop_of_its_own():
    pretext = make()
    sample = pretext.sample(video_set(1).videos[0], {}, np.random.default_rng(0))
    assert isinstance(sample, Sample)
    ramp = np.arange(36)[None, :, None, None] * 5 + np.arange(4)[:, None, None, None] * 20
    frames_THWC = np.broadcast_to(ramp, (4, 36, 36, 3)).astype(np.uint8)
    made = pretext.transform(frames_THWC, sample, np.random.default_rng(0))
    assert made["clip_THWC"].shape == (4, 32, 32, 3) and made["views_VTHWC"].shape == (2, 4, 16, 16, 3)
    for clip in (made["clip_THWC"], *made["views_VTHWC"]):
        steps = np.diff(clip[..., 0].astype(int).mean((1, 2)))
        assert np.allclose(steps, 20, atol=1.5)  # frames follow each other as they did
    assert not np.array_equal(*made["views_VTHWC"])


def test_gray_views_have_equal_channels_relative_to_the_mean(monkeypatch):
    pretext = make(gray=1.0, jitter=0.0, hue=0.0)
    clip_BCTHW = pretext.backbone.normalise(batch()["clip_THWC"], **pretext._colours(3, context()))
    assert (clip_BCTHW - clip_BCTHW[:, :1]).abs().max() < 1e-5


def test_what_cannot_be_is_one_sentence():
    with pytest.raises(UserError, match="do not fit into frames of 36"):
        make(size=64)
    with pytest.raises(UserError, match="do not fill clips of 4 frames of 12 pixels"):
        make(view_size=12)
    with pytest.raises(UserError, match="reads any choice of a clip's patches, which tiny does not; choose"):
        build_pretext("levjepa", tiny_backbone(), OPTIONS)
