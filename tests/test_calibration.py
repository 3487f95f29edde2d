import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ssl_video.backbones.base import ClipSpec, build_backbone, chain
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.many import in_fixed_order
from ssl_video.eval import calibration, features
from ssl_video.eval.calibration import batch_norms, calibrate_batch_norm, links_of, settle
from ssl_video.eval.features import Extraction, extract
from ssl_video.eval.frames import calibrate_on_frames
from ssl_video.model import Model
from ssl_video.pretexts.base import build_pretext
from ssl_video.video.info import VideoInfo
from ssl_video.video.scan import scan_one
from ssl_video.video.view import View
from ssl_video.video.writer import write_video
from tests.nets import drawn_frames, tiny_backbone, video_set

CPU = torch.device("cpu")


def deep_network() -> nn.Module:
    """Layers in a chain, in a branch, and one that runs twice."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
            self.beside = nn.BatchNorm2d(4)

        def forward(self, x):
            return self.inside(x) + self.inside(self.beside(x).flip(-1))

    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    return nn.Sequential(first, nn.Conv2d(4, 4, 3), Twice(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)).eval()


def settled_slowly(network: nn.Module, batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The statistics, all values of a layer together in float64, one whole pass of everything for each layer."""
    network = copy.deepcopy(network).double()
    order: list[nn.Module] = []
    hooks = [n.register_forward_pre_hook(lambda m, _: order.append(m)) for n in batch_norms(network)]
    whole = torch.cat(batches).double()
    network(whole)
    for hook in hooks:
        hook.remove()
    for norm in dict.fromkeys(order):
        given: list[torch.Tensor] = []
        with norm.register_forward_pre_hook(lambda _, x, given=given: given.append(x[0].transpose(0, 1).flatten(1))):
            network(whole)
        values = torch.cat(given, 1)
        norm.running_mean.copy_(values.mean(1))
        norm.running_var.copy_(values.var(1))
    return {k: v for k, v in network.state_dict().items() if "running" in k}


@pytest.mark.parametrize("held", [0, 1 << 30])
def test_statistics_are_those_of_all_clips_together_layer_after_layer(held, monkeypatch):
    monkeypatch.setattr(calibration, "BYTES", held)
    network, batches = deep_network(), list(torch.randn(11, 3, 12, 12).mul(5).add(100).split(4))
    with torch.no_grad():
        expected = settled_slowly(network, batches)
        settle(network, links_of(network), batches)
    found = network.state_dict()
    assert len(expected) == 8
    for name, value in expected.items():
        assert torch.allclose(found[name].double(), value, rtol=1e-5, atol=1e-5), name


def test_how_clips_are_batched_changes_nothing_that_features_show():
    clips, features_of = torch.randn(24, 3, 12, 12), []
    for size in (1, 5, 24):
        network = deep_network()
        settle(network, links_of(network), list(clips.split(size)))
        features_of.append(network(clips))
    assert torch.allclose(features_of[0], features_of[1], atol=1e-5)
    assert torch.allclose(features_of[0], features_of[2], atol=1e-5)


def test_a_layer_that_does_not_run_keeps_its_statistics():
    network = nn.ModuleDict({"used": nn.BatchNorm1d(2), "left": nn.BatchNorm1d(2)}).eval()
    network["left"].running_mean += 7
    settle(network, [network["used"]], [torch.randn(5, 2)])
    assert network["left"].running_mean.eq(7).all() and network["used"].running_mean.ne(0).all()


def test_an_input_that_is_longer_than_the_first_counts_whole():
    norm = nn.BatchNorm1d(2).eval()
    inputs = [torch.randn(2, 2), torch.randn(9, 2)]
    settle(norm, [lambda x_TC: torch.cat([norm(part) for part in x_TC.split(2)])], inputs, cut=False)
    assert torch.allclose(norm.running_mean, torch.cat(inputs).mean(0))


def test_a_chain_of_chains_is_run_link_by_link():
    network = build_backbone("r2plus1d_4", width=2).eval()
    clip = torch.randn(1, 3, 8, 32, 32)
    x = clip
    for link in links_of(network):
        x = link(x)
    assert len(links_of(network)) > len(network.stages)
    assert torch.equal(x, network(clip))


def deep_model() -> Model:
    torch.manual_seed(1)
    layers = [nn.Conv3d(3 if n == 0 else 6, 6, 3, padding=1) for n in range(4)]
    stages = {f"s{n}": nn.Sequential(layer, nn.BatchNorm3d(6), nn.ReLU()) for n, layer in enumerate(layers)}
    spec = ClipSpec(frames=4, size=8, min_size=4)
    backbone = chain(stages, feature_dim=6, strides=(1, 1, 1), clip=spec)
    return Model("deep", backbone.eval(), View(4, 2, 12, 8), {}, CPU)


def test_features_do_not_depend_on_the_order_of_the_list_that_they_are_calibrated_on(monkeypatch):
    monkeypatch.setattr(features, "read_video", drawn_frames)
    model, whole = deep_model(), video_set(30)
    by_class = sorted(whole.videos, key=lambda v: v.labels)
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        order = by_class if seed == 0 else [by_class[n] for n in rng.permutation(len(by_class))]
        calibrated = calibrate_batch_norm(model, VideoSet("set", tuple(order)), at_most=12, workers=2 * (seed == 1))
        found.append(extract(calibrated, whole, Extraction(2), workers=0).mean_ND)
    for other in found[1:]:
        assert np.array_equal(found[0], other)


def test_few_of_many_videos_are_of_all_classes(monkeypatch):
    monkeypatch.setattr(features, "read_video", drawn_frames)
    shown = []
    monkeypatch.setattr(calibration, "ClipsOfVideos", lambda videos, *rest: shown.extend(videos) or [])
    monkeypatch.setattr(calibration, "in_order", lambda *_: ())
    whole = video_set(200, classes=4)
    by_class = VideoSet("set", tuple(sorted(whole.videos, key=lambda v: v.labels)), whole.classes)
    calibrate_batch_norm(deep_model(), by_class, at_most=32)
    counts = np.bincount([v.label for v in shown], minlength=4)
    assert counts.sum() == 32 and counts.min() >= 4


def test_large_clips_are_fewer(monkeypatch):
    monkeypatch.setattr(features, "read_video", drawn_frames)
    monkeypatch.setattr(calibration, "BYTES", 3 * 4 * 8 * 8 * 3)
    model = deep_model()
    clips = torch.cat(list(calibration._clips(model, video_set(8), 100, 0)))
    assert clips.shape == (3, 4, 8, 8, 3)


def test_the_order_in_which_videos_are_taken_is_theirs_wherever_they_lie():
    videos = video_set(20).videos
    moved = tuple(Video(f"/elsewhere{v.path}", v.labels, info=v.info) for v in reversed(videos))
    assert [v.path for v in in_fixed_order(moved)] == [f"/elsewhere{v.path}" for v in in_fixed_order(videos)]
    known = [Video(f"/v/{n}.mp4", (), info=VideoInfo(9, 25, 8, 8, 1, "h264", content=f"{n:016x}")) for n in range(9)]
    renamed = [Video(f"/w/{9 - n}.mp4", (), info=v.info) for n, v in enumerate(known)]
    assert [v.info for v in in_fixed_order(known)] == [v.info for v in in_fixed_order(renamed)]


def test_a_network_without_batch_norm_is_left_as_it_is():
    model = Model(
        "none",
        chain({"s": nn.Conv3d(3, 4, 1)}, feature_dim=4, strides=(1, 1, 1), clip=ClipSpec()),
        View(4, 2, 12, 8),
        {},
        CPU,
    )
    assert calibrate_batch_norm(model, video_set(4)) is model


def test_a_network_none_of_whose_videos_can_be_read_is_left_as_it_is():
    model = Model("tiny", tiny_backbone().eval(), View(4, 2, 12, 8), {}, CPU)
    assert calibrate_batch_norm(model, video_set(2), workers=0) is model


def test_an_exported_teacher_is_not_taken_for_its_student(tmp_path):
    write_video(tmp_path / "v.mp4", np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8))
    video = Video(str(tmp_path / "v.mp4"), info=scan_one(str(tmp_path / "v.mp4")))
    teacher, student = deep_model().backbone, deep_model().backbone
    teacher.stages["s0"][0].weight.data += 1
    pretext = build_pretext("temporal_cycle_consistency", student, {"frames": 5, "stage": "s3", "size": 12})
    model = replace(deep_model(), backbone=teacher, pretext=pretext)
    calibrated = calibrate_on_frames(model, [video], stage="s1")
    assert torch.equal(calibrated.backbone.stages["s0"][0].weight, teacher.stages["s0"][0].weight)
    assert calibrated.pretext is not None and calibrated.pretext.backbone is not calibrated.backbone
    assert not torch.equal(calibrated.backbone.stages["s0"][1].running_mean, teacher.stages["s0"][1].running_mean)
