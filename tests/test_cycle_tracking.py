"""Cycle tracking: its formulas against slow, obvious versions; its sampler; its traps."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video.backbones.base import build_backbone
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.cycle_tracking import (
    CycleTrackingConfig,
    Localiser,
    affinity,
    cut,
    draw_pose,
    inliers,
    likeness,
    long_cycles,
    matrices,
    moved,
    place_error,
    skip_cycles,
)
from tests.nets import tiny_backbone, video_set

SMALL = {"frames": 3, "gap": 3, "short_side": 24, "size": 24, "patch": 8, "stage": "stem", "embedding": 16}
CONFIG = CycleTrackingConfig(**SMALL)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make(**options):
    return build_pretext("cycle_tracking", tiny_backbone(), SMALL | options)


def context(step: int = 0) -> Context:
    return Context(Progress(step, 1), torch.Generator().manual_seed(step))


def batch_of(pretext, count: int = 2) -> dict[str, torch.Tensor]:
    out = []
    for n in range(count):
        rng = np.random.default_rng(n)
        sample = pretext.sample(video_set().videos[0], {}, rng)
        frames = rng.integers(0, 256, (len(sample.frames), 26, 30, 3), dtype=np.uint8)
        out.append(pretext.transform(frames, sample, rng))
    return {key: torch.from_numpy(np.stack([x[key] for x in out])) for key in out[0]}


def poses(count: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor([[0.5, 0.5, 0.8]]) * random(count, 3, seed=seed).clamp(-1, 1)


# the functions of plain tensors


def test_the_affinity_is_a_softmax_over_the_cells_of_the_frame():
    frame, query = random(2, 5, 4, 4), random(2, 5, 3, 3, seed=1)
    found = affinity(frame, query, 0.3)
    assert found.shape == (2, 16, 3, 3)
    for n in range(2):
        for y in range(3):
            for x in range(3):
                q = query[n, :, y, x] / query[n, :, y, x].norm()
                scores = [
                    math.exp(float(q @ frame[n, :, i, j] / frame[n, :, i, j].norm()) / 0.3)
                    for i in range(4)
                    for j in range(4)
                ]
                assert found[n, :, y, x].tolist() == pytest.approx([s / sum(scores) for s in scores], rel=1e-9)


def test_the_error_of_a_place_is_the_mean_over_a_grid_of_20_by_20_points():
    a, b = matrices(poses(3), 0.4), matrices(poses(3, seed=1), 0.3)
    for n in range(3):
        errors = []
        for x in np.linspace(-1, 1, 20):
            for y in np.linspace(-1, 1, 20):
                p = torch.tensor([x, y, 1.0], dtype=torch.float64)
                errors.append(float((a[n] @ p - b[n] @ p).square().sum()))
        assert place_error(a, b)[n].item() == pytest.approx(np.mean(errors), rel=1e-9)


def bilinear(map_Dhw: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """The map at a point, in cells from the centre of the first; outside of it is zero."""
    value = torch.zeros(len(map_Dhw), dtype=map_Dhw.dtype)
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < map_Dhw.shape[1] and 0 <= j < map_Dhw.shape[2]:
                value += (1 - abs(y - i)) * (1 - abs(x - j)) * map_Dhw[:, i, j]
    return value


def test_the_sampler_is_bilinear_with_the_edges_at_one_and_zeros_outside():
    frame, theta = random(2, 3, 6, 6), matrices(1.5 * poses(2), 0.5)  # some of it lies outside
    found = cut(frame, theta, 4)
    for n in range(2):
        for i in range(4):
            for j in range(4):
                u, v = (2 * j + 1) / 4 - 1, (2 * i + 1) / 4 - 1  # the centre of cell j of 4, edges at -1 and 1
                x, y = (theta[n] @ torch.tensor([u, v, 1.0], dtype=torch.float64)).tolist()
                expected = bilinear(frame[n], (x + 1) / 2 * 6 - 0.5, (y + 1) / 2 * 6 - 0.5)
                assert found[n, :, i, j].tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_a_patch_that_is_not_turned_and_starts_at_a_pixel_is_cut_out_exactly():
    frame = random(1, 3, 24, 24)
    for top, left in ((0, 0), (5, 16), (9, 3)):
        centre = torch.tensor([[2 * (left + 4) / 24 - 1, 2 * (top + 4) / 24 - 1, 0.0]], dtype=torch.float64)
        patch = cut(frame, matrices(centre, 1 / 3), 8)
        assert torch.allclose(patch, frame[..., top : top + 8, left : left + 8], atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, math.pi / 2, -math.pi / 2])
def test_a_place_means_the_same_for_pixels_and_for_cells(angle):
    frame = random(1, 3, 48, 48)
    pose = torch.tensor([[2 * 20 / 48 - 1, 2 * 32 / 48 - 1, angle]], dtype=torch.float64)  # whole cells of 4 pixels
    theta = matrices(pose, 1 / 3)
    of_patch = F.avg_pool2d(cut(frame, theta, 16), 4)
    of_frame = cut(F.avg_pool2d(frame, 4), theta, 4)
    assert torch.allclose(of_patch, of_frame, atol=1e-12)


def test_the_angle_turns_from_x_to_y():
    theta = matrices(torch.tensor([[0.1, 0.2, math.pi / 2]], dtype=torch.float64), 0.5)[0]
    right_end = theta @ torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    assert right_end.tolist() == pytest.approx([0.1, 0.7])  # y points down


@pytest.mark.parametrize("away", [0.0, 0.9, 1.3])
def test_inliers_are_the_affinity_within_an_identity_mask_that_is_cut_at_the_place(away):
    scores = random(3, 25, 4, 4)
    given, theta = scores.softmax(1), matrices(1.5 * poses(3), 0.6)
    theta[0, 0, 2] += away
    expected = []
    for n in range(3):
        mask_1Phw = torch.eye(25, dtype=torch.float64).view(1, 25, 5, 5)
        grid = F.affine_grid(theta[n : n + 1], [1, 1, 4, 4], align_corners=False)
        mask_Pss = F.grid_sample(mask_1Phw, grid, "bilinear", "zeros", align_corners=False)[0]
        entries = [value + 1e-5 for value in mask_Pss.flatten().tolist()]
        expected.append(float((mask_Pss * given[n]).sum()) / math.fsum(entries))
    assert inliers(given, theta).tolist() == pytest.approx(expected, rel=1e-9)


def test_inliers_of_certain_matches_are_nearly_1_and_less_where_the_patch_leaves_the_frame():
    given = torch.ones(2, 900, 10, 10, dtype=torch.float64)  # as if every match were certain, wherever it is sought
    pose = torch.tensor([[0.0, 0.0, 0.0], [1.33, 0.0, 0.0]], dtype=torch.float64)
    # in the second, ten cells of the hundred are seen, each 0.05 of a cell before the centres of the outer cells end
    expected = [100 / (100 + 0.9), 10 * 0.05 / (10 * 0.05 + 0.9)]
    assert inliers(given, matrices(pose, 1 / 3)).tolist() == pytest.approx(expected, rel=1e-9)


def test_likeness_is_one_for_maps_that_differ_in_length_only():
    a, b = random(2, 5, 3, 3), random(2, 5, 3, 3, seed=1)
    assert likeness(a, 3 * a).tolist() == pytest.approx([1, 1])
    cosines = [
        [
            float(a[n, :, i, j] @ b[n, :, i, j] / a[n, :, i, j].norm() / b[n, :, i, j].norm())
            for i in range(3)
            for j in range(3)
        ]
        for n in range(2)
    ]
    assert likeness(a, b).tolist() == pytest.approx(np.mean(cosines, 1).tolist(), rel=1e-9)


class Tracker:
    """A localiser with weights, which counts what it is asked for."""

    def __init__(self, cells: int = 6, side: int = 3):
        torch.manual_seed(0)
        self.localiser = Localiser(cells, side).double()
        torch.nn.init.normal_(self.localiser.linear.weight, 0, 3.0)  # answers that differ
        self.scale, self.rows = side / cells, []

    def __call__(self, frame, query):
        self.rows.append(len(query))
        found = affinity(frame, query, 0.2)
        return matrices(self.localiser(found), self.scale), found


def test_long_cycles_are_those_that_are_walked_one_by_one():
    past, target, patch, localise = random(2, 4, 5, 6, 6), random(2, 5, 6, 6, seed=1), random(2, 5, 3, 3), Tracker()
    found = long_cycles(past, target, patch, localise, 3)
    for length in range(1, 5):
        query = patch
        for t in [*range(3, 3 - length, -1), *range(4 - length + 1, 4)]:  # back, and forward from where it turned
            query = cut(past[:, t], localise(past[:, t], query)[0], 3)
        assert torch.allclose(found[length - 1], localise(target, query)[0], atol=1e-9)
    assert found.std(0).max() > 1e-4  # cycles differ


def test_tracking_backward_once_serves_the_cycles_of_all_lengths():
    localise, T, B = Tracker(), 4, 2
    long_cycles(random(B, T, 5, 6, 6), random(B, 5, 6, 6), random(B, 5, 3, 3), localise, 3)
    back, forward = localise.rows[:T], localise.rows[T:]
    assert back == [B] * T
    assert forward == [B * n for n in range(1, T + 1)]  # the cycles under way, in one call a frame


def test_skip_cycles_go_to_each_frame_and_straight_back():
    past, target, patch, localise = random(2, 3, 5, 6, 6), random(2, 5, 6, 6, seed=1), random(2, 5, 3, 3), Tracker()
    found = skip_cycles(past, target, patch, localise, 3)
    for t in range(3):
        theta, expected = localise(past[:, t], patch)
        crop = cut(past[:, t], theta, 3)
        assert torch.allclose(found.theta_N23[2 * t : 2 * t + 2], theta, atol=1e-9)
        assert torch.allclose(found.affinity_NPhw[2 * t : 2 * t + 2], expected, atol=1e-9)
        assert torch.allclose(found.crops_TBDhw[t], crop, atol=1e-9)
        assert torch.allclose(found.back_TB23[t], localise(target, crop)[0], atol=1e-9)


def test_cycles_of_an_exact_tracker_close():
    cells, side = 9, 3
    still = F.one_hot(torch.arange(81)).double().T.reshape(1, 81, 9, 9)  # no two cells are alike
    centres = (2 * torch.arange(cells, dtype=torch.float64) + 1) / cells - 1

    def localise(frame, query):
        found = affinity(frame, query, 0.01)
        middle = found[..., side // 2, side // 2].view(-1, cells, cells)
        pose = torch.stack([middle.sum(1) @ centres, middle.sum(2) @ centres, torch.zeros(len(query))], 1)
        return matrices(pose, side / cells), found

    theta = matrices(torch.tensor([[centres[5], centres[2], 0.0]], dtype=torch.float64), side / cells)
    patch = cut(still, theta, side)
    past = still.unsqueeze(1).repeat(1, 3, 1, 1, 1)
    assert torch.allclose(long_cycles(past, still, patch, localise, side), theta, atol=1e-6)
    found = skip_cycles(past, still, patch, localise, side)
    assert torch.allclose(found.back_TB23, theta, atol=1e-6)
    assert inliers(found.affinity_NPhw, found.theta_N23).tolist() == pytest.approx([9 / (9 + 81 * 9e-5)] * 3, abs=1e-6)
    assert likeness(found.crops_TBDhw, patch).flatten().tolist() == pytest.approx([1, 1, 1], abs=1e-6)


# the choice of frames and of a patch


def test_frames_are_as_far_apart_as_asked_for():
    pretext = make(frames=4, stride=2, gap=9)
    drawn = {pretext.sample(video_set().videos[0], {}, np.random.default_rng(s)).frames for s in range(300)}
    assert {tuple(np.diff(frames)) for frames in drawn} == {(2, 2, 2, 9, 2)}
    assert {frames[0] for frames in drawn} == set(range(40 - 17))  # all that fit into the video


def test_a_video_that_is_shorter_than_a_cycle_is_skipped_with_the_reason():
    video = video_set().videos[0]
    for frames, kind in ((9, Skip), (10, Sample)):
        shorter = replace(video, info=replace(video.info, frames=frames))
        outcome = make().sample(shorter, {}, np.random.default_rng(0))
        assert isinstance(outcome, kind)
    outcome = make().sample(replace(video, info=replace(video.info, frames=9)), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "10 frames" in outcome.reason


def test_patches_are_where_something_moves_in_the_mirrored_clip_too():
    pretext = make(grid=4, busiest=1, size=24)
    noise = np.random.default_rng(0).integers(0, 200, (24, 24, 3), dtype=np.uint8)
    frames = np.repeat(noise[None], 5, 0)
    frames[-1, 2:6, 17:22] = 255  # to the right, at the top
    sides = set()
    for seed in range(40):
        sample = pretext.sample(video_set().videos[0], {}, np.random.default_rng(seed))
        out = pretext.transform(frames, sample, np.random.default_rng(seed))
        mirrored = bool((out["frames_THWC"][0] == noise[:, ::-1]).all())
        tx, ty, _ = out["pose_3"]
        assert (tx < 0) == mirrored and ty < 0
        sides.add(mirrored)
    assert sides == {True, False}


def test_all_of_the_busiest_places_serve_and_no_others():
    config = replace(CONFIG, grid=3, busiest=2, rotation=0.0)
    moved_HW = np.zeros((24, 24))
    moved_HW[4, 4], moved_HW[20, 20], moved_HW[4, 20] = 3, 2, 1
    drawn = np.array([draw_pose(moved_HW, config, np.random.default_rng(s)) for s in range(200)])
    cells = {tuple(np.rint(pose[:2] * 1.5).astype(int)) for pose in drawn}  # in steps of the grid around the middle
    assert cells <= {(-1, -1), (1, 1)} and len(cells) == 2


def test_in_a_still_clip_all_places_are_drawn():
    config = replace(CONFIG, grid=3, busiest=1, rotation=0.0)
    drawn = np.array([draw_pose(np.zeros((24, 24)), config, np.random.default_rng(s)) for s in range(300)])
    assert drawn[:, :2].min() < -0.6 and drawn[:, :2].max() > 0.6
    assert np.allclose(drawn[:, :2].mean(0), 0, atol=0.08)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), patch=st.integers(1, 23), grid=st.integers(2, 9), rotation=st.floats(0, 180))
def test_patches_lie_within_the_frame_and_turn_no_further_than_asked_for(seed, patch, grid, rotation):
    config = replace(CONFIG, patch=patch, grid=grid, busiest=min(grid**2, 10), rotation=rotation)
    rng = np.random.default_rng(seed)
    tx, ty, angle = draw_pose(rng.random((24, 24)), config, rng)
    assert max(abs(tx), abs(ty)) <= 1 - patch / 24 + 1e-9
    assert abs(angle) <= math.radians(rotation)


def test_motion_is_the_difference_of_gray_values():
    a, b = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    a[0, 0], b[0, 1] = (30, 0, 0), (0, 255, 255)
    assert moved(a, b).tolist() == [[10, 170], [0, 0]]


# the pretext as a whole


@pytest.mark.parametrize("similarity", ["feature", "inliers"])
def test_the_loss_is_the_weighted_sum_of_its_parts(similarity):
    weights = {"similarity_weight": 0.7, "skip_weight": 0.3, "long_weight": 0.2, "direct_weight": 0.1}
    pretext = make(similarity=similarity, **weights).double().eval()
    output = pretext(batch_of(pretext), context())
    numbers = output.metrics
    places = 0.3 * numbers["skip_loss"] + 0.2 * numbers["long_loss"] + 0.1 * numbers["direct_loss"]
    assert output.loss.item() == pytest.approx((places - 0.7 * numbers["similarity"]).item(), rel=1e-12)


def test_the_parts_are_those_of_the_functions_on_the_features_of_frames_and_patch():
    pretext = make(similarity="inliers").double().eval()
    batch = batch_of(pretext, 3)
    numbers = pretext(batch, context()).metrics
    spec = pretext.backbone.clip
    pixels = batch["frames_THWC"].double() / 255
    x = ((pixels - torch.tensor(spec.mean)) / torch.tensor(spec.std)).permute(0, 1, 4, 2, 3)
    theta = matrices(batch["pose_3"].double(), 1 / 3)
    past = torch.stack([pretext.embed(x[:, t]) for t in range(3)], 1)
    target, patch = pretext.embed(x[:, 3]), pretext.embed(cut(x[:, 3], theta, 8))
    found = long_cycles(past, target, patch, pretext.localise, 4)
    skip = skip_cycles(past, target, patch, pretext.localise, 4)
    assert numbers["long_loss"].item() == pytest.approx(place_error(found, theta).mean().item(), rel=1e-5)
    assert numbers["skip_loss"].item() == pytest.approx(place_error(skip.back_TB23, theta).mean().item(), rel=1e-5)
    expected = inliers(skip.affinity_NPhw, skip.theta_N23).mean().item()
    assert numbers["similarity"].item() == pytest.approx(expected, rel=1e-5)
    direct = place_error(pretext.localise(target, patch)[0], theta).mean().item()
    assert numbers["direct_loss"].item() == pytest.approx(direct, rel=1e-5)
    for n in range(3):
        pixels_away = 12 * (found[n] - theta)[..., 2].norm(dim=-1).mean().item()
        assert numbers[f"pixels_{n + 1}"].item() == pytest.approx(pixels_away, rel=1e-5)


def test_places_are_not_rounded_when_the_network_computes_in_bf16(monkeypatch):
    pretext = make().eval()
    batch, embedded = batch_of(pretext), []
    network = pretext.embed
    monkeypatch.setattr(pretext, "embed", lambda x, frozen: (embedded.append(x), network(x, frozen))[1])
    with torch.autocast("cpu", torch.bfloat16):
        found = pretext(batch, context()).metrics
    frames, patch = embedded
    target = frames.unflatten(0, (2, 4))[:, -1]
    assert torch.allclose(patch, cut(target, matrices(batch["pose_3"], 1 / 3), 8), atol=1e-6)
    assert all(value.dtype == torch.float32 for value in found.values())


def test_a_tracker_that_always_says_the_middle_scores_what_the_metric_middle_says():
    pretext = make().double().eval()
    torch.nn.init.zeros_(pretext.localiser.linear.weight)
    numbers = pretext(batch_of(pretext, 12), context()).metrics
    assert 0 < numbers["middle"] < 1
    assert numbers["accuracy"] == numbers["direct"] == numbers["middle"]


@pytest.mark.parametrize("part", ["similarity_weight", "skip_weight", "long_weight", "direct_weight"])
def test_each_part_of_the_loss_alone_teaches_the_backbone(part):
    pretext = make(**({"similarity_weight": 0, "skip_weight": 0, "long_weight": 0} | {part: 1.0})).double()
    pretext(batch_of(pretext), context()).loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in pretext.parameters())
    assert pretext.backbone.stages["stem"][0].weight.grad.any()


def test_the_backbone_is_not_trained_in_the_first_steps_if_so_asked():
    grads = {}
    for step in (4, 5):
        pretext = make(detach_steps=5).double()
        pretext(batch_of(pretext), context(step)).loss.backward()
        grads[step] = [p.grad.any().item() for p in pretext.backbone.parameters()]
        assert pretext.project.weight.grad.any()
    assert not any(grads[4]) and all(grads[5])


def test_the_localiser_has_the_papers_sizes_at_the_papers_sizes():
    localiser = Localiser(30, 10)
    shapes = [tuple(layer.weight.shape) for layer in (localiser.conv1, localiser.conv2, localiser.linear)]
    assert shapes == [(128, 900, 4, 4), (64, 128, 4, 4), (3, 64 * 4 * 4)]
    assert localiser(torch.rand(2, 900, 10, 10)).shape == (2, 3)


@pytest.mark.parametrize("side", range(1, 16))
def test_the_localiser_takes_patches_of_any_size(side):
    assert Localiser(16, side)(torch.rand(1, 256, side, side)).shape == (1, 3)


def test_the_temperature_is_one_over_the_root_of_the_channels_unless_given():
    assert make().temperature == 0.25
    assert make(temperature=0.1).temperature == 0.1


def test_stages_behind_the_compared_one_are_frozen():
    backbone = tiny_backbone(behind=torch.nn.Conv3d(8, 8, 1))
    pretext = build_pretext("cycle_tracking", backbone, SMALL)
    trained = {name for name, p in pretext.backbone.named_parameters() if p.requires_grad}
    assert trained == {"network.stem.0.weight", "network.stem.1.weight", "network.stem.1.bias"}


def test_evaluations_see_single_frames():
    view = make().view
    assert (view.frames, view.short_side, view.size) == (1, 24, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "layer9"}, "no stage 'layer9'.*: stem"),
        ({"frames": 0}, "1 or more"),
        ({"busiest": 50}, "busiest cannot be 50"),
        ({"patch": 24}, "smaller than the crop"),
        ({"size": 26}, "no larger than the short side"),
        ({"patch": 7}, "multiples of 2"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def test_a_backbone_with_a_coarse_map_or_of_whole_clips_is_refused():
    with pytest.raises(UserError, match="spatial stride of at most 8"):
        build_pretext("cycle_tracking", build_backbone("resnet18"), {})
    with pytest.raises(UserError, match="temporal stride of at most 1"):
        build_pretext("cycle_tracking", build_backbone("r2plus1d_4"), {})


def test_a_resnet_with_a_dense_map_serves_at_the_papers_sizes():
    pretext = build_pretext("cycle_tracking", build_backbone("resnet18", output_stride=8), {})
    assert pretext.localiser.conv1.weight.shape == (128, 900, 4, 4)
    assert pretext.project.weight.shape == (512, 256, 1, 1)
    assert pretext.temperature == pytest.approx(0.0442, abs=1e-4)
