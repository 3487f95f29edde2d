import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.contrastive_random_walk import LOWEST_TEMPERATURE, cut_patches
from ssl_video.pretexts.walks import cells_in, kept_edges, walk, walk_elsewhere
from ssl_video.video.info import VideoInfo
from tests.nets import tiny_backbone

OPTIONS = {"short_side": 16, "crop": 16, "patch": 8, "patch_stride": 4}  # 3 x 3 patches


def make(**options):
    torch.manual_seed(0)
    return build_pretext("contrastive_random_walk", tiny_backbone(), OPTIONS | options)


def video_of(frames: int, fps: float = 25.0) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, fps, 20, 16, frames / fps, "h264"))


def context(seed=0):
    return Context(Progress(0, 1), torch.Generator().manual_seed(seed))


def batch_of(frames=4, size=16, count=2):
    noise = torch.randint(0, 256, (count, frames, size, size, 3), generator=torch.Generator().manual_seed(0))
    return {"clip_THWC": noise.byte()}


def nodes_of(B, T, N, E, dtype=torch.float64, seed=0):
    return F.normalize(torch.randn(B, T, N, E, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=3)


def slow_step(at, here, there, allowed, temperature):
    """The chance of each node of frame ``there`` after a step from ``here``, where ``at`` was that of each."""
    N = len(at)
    after = [0.0] * N
    for i in range(N):
        weights = [math.exp((here[i] @ there[j]).item() / temperature) * bool(allowed[i][j]) for j in range(N)]
        for j in range(N):
            after[j] += at[i] * weights[j] / sum(weights)
    return after


def slow_walks(nodes, temperature, kept):
    """[k][b][n][m]: the chance to be at m after k + 1 steps forward from n and as many back, walker by walker."""
    B, T, N, _ = nodes.shape

    found = []
    for k in range(1, T):
        found.append([])
        for b in range(B):
            rows = []
            for n in range(N):
                at = [float(i == n) for i in range(N)]
                for t in range(k):
                    at = slow_step(at, nodes[b, t], nodes[b, t + 1], kept[b, 0, t], temperature)
                for t in reversed(range(k)):
                    at = slow_step(at, nodes[b, t + 1], nodes[b, t], kept[b, 1, t], temperature)
                rows.append(at)
            found[-1].append(rows)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_loss_of_every_cycle_length_is_that_of_walkers_followed_one_by_one(dropout):
    nodes = nodes_of(2, 4, 5, 3)
    kept = kept_edges(torch.rand(2, 2, 3, 5, 5, generator=torch.Generator().manual_seed(1)), dropout)
    losses, returned = walk(nodes, 0.2, kept)
    ends = slow_walks(nodes, 0.2, kept)
    for k in range(3):
        home = ends[k].diagonal(dim1=1, dim2=2)
        assert losses[k].item() == pytest.approx(-home.log().mean().item(), rel=1e-12)
        assert torch.equal(returned[k], (ends[k].argmax(2) == torch.arange(5)).double())


def test_nothing_dropped_is_the_same_as_no_dropout():
    nodes = nodes_of(2, 3, 4, 3)
    all_kept = walk(nodes, 0.1, torch.ones(2, 2, 2, 4, 4, dtype=torch.bool))
    assert all(torch.equal(a, b) for a, b in zip(all_kept, walk(nodes, 0.1), strict=True))


def test_the_gradient_is_the_slope_of_the_loss():
    nodes = nodes_of(1, 4, 3, 3).requires_grad_()
    kept = kept_edges(torch.rand(1, 2, 3, 3, 3, generator=torch.Generator().manual_seed(1)), 0.2)
    assert torch.autograd.gradcheck(lambda x: walk(x, 0.3, kept)[0], (nodes,))


def test_two_equal_pairs_of_nodes_return_with_the_chance_written_on_paper():
    """Nodes at right angles, the same in both frames: a step stays with p = 1 / (1 + exp(-1 / temperature))."""
    nodes = torch.eye(2, dtype=torch.float64).expand(1, 3, 2, 2)
    p = 1 / (1 + math.exp(-1 / 0.5))
    once = p**2 + (1 - p) ** 2
    twice = once**2 + (1 - once) ** 2
    losses, returned = walk(nodes, 0.5)
    assert losses.tolist() == pytest.approx([-math.log(once), -math.log(twice)])
    assert returned.tolist() == [[[1, 1]], [[1, 1]]]


def test_nodes_all_alike_have_the_loss_of_guessing():
    losses, _ = walk(torch.ones(1, 4, 7, 1, dtype=torch.float64), 0.05)
    assert losses.tolist() == pytest.approx([math.log(7)] * 3)


def test_the_least_likely_returns_have_the_loss_and_gradient_of_double_precision():
    """At the lowest temperature, and from nodes that everybody walks away from: a chance near exp(-2 / 0.03)."""
    angles = torch.tensor([[0.0, math.pi], [0.0, math.pi], [0.0, math.pi], [math.pi, math.pi]], dtype=torch.float64)
    angles[:, 0] += 0.05  # a gradient needs a slope
    nodes = torch.stack([angles.cos(), angles.sin()], -1)[None]
    losses, gradients = [], []
    for dtype in (torch.float64, torch.float32):
        leaf = nodes.to(dtype).requires_grad_()
        loss = walk(leaf, LOWEST_TEMPERATURE)[0]
        losses.append(loss.detach().double())
        gradients.append(torch.autograd.grad(loss.sum(), leaf)[0].double())
    assert losses[0][2] > 30  # the mean of a walker who cannot but return and one who hardly can
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(dropout=st.floats(0, 0.999), nodes=st.integers(2, 9), seed=st.integers(0, 99))
def test_dropped_edges_never_leave_a_node_without_one(dropout, nodes, seed):
    uniform = torch.rand(2, 2, 3, nodes, nodes, generator=torch.Generator().manual_seed(seed))
    kept = kept_edges(uniform, dropout)
    assert kept.any(-1).all()
    assert (kept | (uniform < dropout)).all()  # what is dropped was drawn to be
    dropped_rows = ~(uniform >= dropout).any(-1)
    assert kept[dropped_rows].all()


def test_forward_and_backward_edges_are_dropped_independently():
    uniform = torch.rand(40, 2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    forward, backward = kept_edges(uniform, 0.3).double().unbind(1)
    assert forward.mean() == pytest.approx(0.7, abs=0.01)
    assert backward.mean() == pytest.approx(0.7, abs=0.01)  # 0.49, if it inherited what the way forward lost
    assert (forward * backward.transpose(2, 3)).mean() == pytest.approx(0.49, abs=0.01)


def test_a_walk_without_any_way_back_has_a_finite_loss_and_no_gradient():
    nodes = nodes_of(1, 2, 2, 3, torch.float32).requires_grad_()
    kept = torch.ones(1, 2, 1, 2, 2, dtype=torch.bool)
    kept[0, 0, 0] = torch.tensor([[True, False], [True, False]])  # forward: everybody to node 0,
    kept[0, 1, 0] = torch.tensor([[False, True], [True, True]])  # and from there to node 1
    loss = walk(nodes, 0.1, kept)[0].sum()
    (gradient,) = torch.autograd.grad(loss, nodes)
    assert torch.isfinite(loss) and not gradient.any()


def test_the_loss_is_the_mean_over_cycles_from_min_cycle_on():
    every = {}
    for least in (1, 2, 3):
        pretext = make(min_cycle=least).double().eval()
        output = pretext(batch_of(), context())
        every[least] = output.loss.item()
        lengths = [output.metrics[f"accuracy_{k}"].item() for k in (1, 2, 3)]
        assert output.metrics["accuracy"].item() == pytest.approx(np.mean(lengths[least - 1 :]))
    clip = (batch_of()["clip_THWC"].double() / 255 - torch.tensor(pretext.backbone.clip.mean)) / torch.tensor(
        pretext.backbone.clip.std
    )
    nodes = []
    for b in range(2):
        for t in range(4):
            for y in (0, 4, 8):
                for x in (0, 4, 8):
                    patch = clip[b, t, y : y + 8, x : x + 8].permute(2, 0, 1)[None, :, None]
                    nodes.append(F.normalize(pretext.head(pretext.backbone(patch).mean((0, 2, 3, 4))), dim=0))
    losses = walk(torch.stack(nodes).unflatten(0, (2, 4, 9)), 0.05)[0].tolist()
    assert every[1] == pytest.approx(np.mean(losses), rel=1e-5)
    assert every[2] == pytest.approx(np.mean(losses[1:]), rel=1e-5)
    assert every[3] == pytest.approx(losses[2], rel=1e-5)


def test_two_frames_train():
    pretext = make(frames=2).train()
    optimiser = torch.optim.Adam(pretext.parameters(), 0.01)
    still = {"clip_THWC": batch_of(1)["clip_THWC"].repeat(1, 2, 1, 1, 1)}
    losses = []
    for step in range(8):
        loss = pretext(still, context(step)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_edges_are_dropped_in_training_only():
    batch = batch_of()
    losses = {}
    for dropout in (0.0, 0.5):
        pretext = make(edge_dropout=dropout, patch_area=(1.0, 1.0)).double()
        for module in pretext.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.track_running_stats, module.running_mean, module.running_var = False, None, None
        losses[dropout] = [pretext.train(mode)(batch, context()).loss.item() for mode in (True, False)]
    assert losses[0.0][0] == losses[0.0][1] == losses[0.5][1] != losses[0.5][0]


def test_patches_overlap_and_come_row_by_row():
    frames = torch.arange(2 * 3 * 16 * 12, dtype=torch.float64).view(2, 3, 16, 12)
    patches = cut_patches(frames, 8, 4).unflatten(0, (2, 6))
    for number, (y, x) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4), (8, 0), (8, 4)]):
        assert torch.equal(patches[:, number], frames[:, :, y : y + 8, x : x + 8])


def test_a_box_of_the_whole_patch_is_the_patch_itself():
    frames = torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = torch.tensor([0.0, 0.0, 8.0, 8.0]).expand(2, 6, 4)
    torch.testing.assert_close(cut_patches(frames, 8, 4, whole), cut_patches(frames, 8, 4))


def test_a_box_is_resized_to_the_whole_patch_as_torch_resizes():
    frames = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = torch.tensor([1.0, 2.0, 4.0, 5.0]).expand(1, 9, 4)
    inner = cut_patches(frames, 8, 4, boxes)[4][:, 1:-1, 1:-1]  # the border sees its neighbours, a resized box does not
    resized = F.interpolate(frames[:, :, 5:9, 6:11], size=(8, 8), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(inner, resized[:, 1:-1, 1:-1])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), low=st.floats(0.1, 1), high=st.floats(0.1, 1))
def test_boxes_lie_within_their_patch_and_have_the_size_asked_for(seed, low, high):
    low, high = sorted((low, high))
    boxes = make(patch_area=(low, high))._boxes(6, context(seed))
    top, left, height, width = boxes.unbind(2)
    assert boxes.shape == (6, 9, 4)
    for first, size in ((top, height), (left, width)):
        assert (first >= 0).all() and (first + size <= 8 + 1e-4).all()
    area = height * width / 64
    assert (area <= high + 1e-4).all()
    uncut = (height < 8) & (width < 8)
    assert (area[uncut] >= low - 1e-4).all()
    assert ((width / height)[uncut] <= 4 / 3 + 1e-4).all() and ((width / height)[uncut] >= 3 / 4 - 1e-4).all()


def test_every_frame_has_a_crop_of_its_own_in_training_and_the_centre_in_the_test():
    picture = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    frames = np.repeat(picture[None], 4, 0)
    sample = Sample((0, 3, 6, 9))
    trained = make().train().transform(frames, sample, np.random.default_rng(0))["clip_THWC"]
    assert trained.shape == (4, 16, 16, 3)
    assert len(np.unique(trained.reshape(4, -1), axis=0)) == 4
    tested = make().eval().transform(frames, sample, np.random.default_rng(0))["clip_THWC"]
    assert (tested == picture[:, 2:18]).all()
    together = make(crop_area=(1.0, 1.0)).train().transform(frames, sample, np.random.default_rng(0))["clip_THWC"]
    assert (together == together[:1]).all()


def test_frames_are_chosen_by_the_rate_of_the_file_or_by_stride():
    for fps, steps in ((24.0, {3}), (8.0, {1}), (25.0, {3}), (60.0, {7, 8})):
        sample = make().sample(video_of(60, fps), {}, np.random.default_rng(0))
        assert isinstance(sample, Sample) and set(np.diff(sample.frames)) == steps
    sample = make(fps=None, stride=5).sample(video_of(60), {}, np.random.default_rng(0))
    assert isinstance(sample, Sample) and set(np.diff(sample.frames)) == {5}


def test_a_video_that_is_too_short_or_too_slow_is_skipped_with_the_reason():
    assert isinstance(make().sample(video_of(10), {}, np.random.default_rng(0)), Sample)
    outcome = make().sample(video_of(9), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "10 frames" in outcome.reason
    outcome = make().sample(video_of(90, 5.0), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "fewer than 8 frames a second" in outcome.reason


@pytest.mark.parametrize("nodes, count", [("patches", 9), ("cells", 64)])
def test_nodes_are_patches_or_cells_of_the_map(nodes, count):
    pretext = make(nodes=nodes)
    assert pretext(batch_of(), context()).features_ND.shape == (2 * count, pretext.backbone.feature_dim)


@pytest.mark.parametrize("nodes", ["patches", "cells"])
def test_no_frame_of_a_clip_reaches_the_nodes_of_another(nodes):
    """Even in a network that looks at several frames at once."""
    pretext = make(nodes=nodes, frames=2).eval()
    one, other = batch_of(2), batch_of(2)
    other["clip_THWC"] = other["clip_THWC"].clone()
    other["clip_THWC"][:, 1] = 0
    features = [pretext(batch, context()).features_ND for batch in (one, other)]  # those of the first frames
    assert torch.equal(*features)


def test_the_head_has_as_many_hidden_layers_as_asked_for():
    count = [sum(isinstance(m, torch.nn.Linear) for m in make(head_depth=d).head) for d in (0, 2)]
    assert count == [1, 3]
    assert make(embedding=5).head[-1].out_features == 5


def test_the_published_setting_has_49_patches():
    pretext = build_pretext("contrastive_random_walk", build_backbone("dense_resnet_8", width=4), {"frames": 2}).eval()
    assert pretext.view.size == 256
    assert pretext(batch_of(2, 256, 1), context()).features_ND.shape[0] == 49


def slow_walks_elsewhere(there, back, temperature, kept):
    """[k][b][n][m]: as ``slow_walks``, over to the other view of frame k in between."""
    B, T, N, _ = there.shape

    found = torch.zeros(T, B, N, N, dtype=torch.float64)
    for k in range(T):
        for b in range(B):
            for n in range(N):
                at = [float(i == n) for i in range(N)]
                for t in range(k):
                    at = slow_step(at, there[b, t], there[b, t + 1], kept[b, 0, t], temperature)
                at = slow_step(at, there[b, k], back[b, k], torch.ones(N, N), temperature)
                for t in reversed(range(k)):
                    at = slow_step(at, back[b, t + 1], back[b, t], kept[b, 1, t], temperature)
                found[k, b, n] = torch.tensor(at, dtype=torch.float64)
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_walks_that_end_in_another_crop_are_those_of_walkers_followed_one_by_one(dropout):
    there, back = nodes_of(2, 3, 4, 3), nodes_of(2, 3, 4, 3, seed=1)
    kept = kept_edges(torch.rand(2, 2, 2, 4, 4, generator=torch.Generator().manual_seed(1)), dropout)
    target = torch.zeros(2, 4, 4, dtype=torch.float64)
    target[0, 0, 2], target[0, 1, 1], target[0, 1, 3], target[1, 3, 0] = 1, 0.25, 0.75, 1  # the others have none
    losses, returned = walk_elsewhere(there, back, target, 0.2, kept)
    ends = slow_walks_elsewhere(there, back, 0.2, kept)
    for k in range(3):
        terms = [
            -(target[b, n] * ends[k, b, n].clamp_min(torch.finfo(torch.float64).tiny).log()).sum().item()
            for b, n in ((0, 0), (0, 1), (1, 3))
        ]
        met = [float(target[b, n, ends[k, b, n].argmax()] > 0) for b, n in ((0, 0), (0, 1), (1, 3))]
        assert losses[k].item() == pytest.approx((np.mean(terms[:2]) + terms[2]) / 2, rel=1e-12)
        assert returned[k].tolist() == pytest.approx([np.mean(met[:2]), met[2]])


def test_the_same_rectangle_twice_has_every_cell_at_its_own_place():
    box = torch.tensor([[3.0, 5.0, 10.0, 20.0]])
    torch.testing.assert_close(cells_in(box, box, 4)[0], torch.eye(16))


def test_a_cell_lies_where_its_centre_lies_in_the_other_rectangle():
    """Found pixel by pixel: a picture of the second rectangle's cell weights, read at the first one's centres."""
    first, second, side = (2.0, 4.0, 12.0, 10.0), (6.0, 1.0, 9.0, 11.0), 3
    found = cells_in(torch.tensor([first]), torch.tensor([second]), side)[0].numpy()
    for n in range(side * side):
        y = first[0] + first[2] * (n // side + 0.5) / side
        x = first[1] + first[3] * (n % side + 0.5) / side
        if not (second[0] <= y < second[0] + second[2] and second[1] <= x < second[1] + second[3]):
            assert not found[n].any()
            continue
        row, column = ((y - second[0]) / second[2] * side - 0.5, (x - second[1]) / second[3] * side - 0.5)
        row, column = (min(max(place, 0), side - 1) for place in (row, column))
        for m in range(side * side):
            weight = max(0, 1 - abs(row - m // side)) * max(0, 1 - abs(column - m % side))
            assert found[n, m] == pytest.approx(weight, abs=1e-6)
    assert {round(float(row.sum()), 6) for row in found} == {0.0, 1.0}


def test_features_of_places_close_the_same_way_back_but_not_one_that_is_cropped_anew():
    """The collapse of walks over cells, and what stops it."""
    places = torch.eye(16)[None, None].expand(1, 2, 16, 16)
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0]]), torch.tensor([[20.0, 10.0, 20.0, 20.0]])
    things = cells_in(*boxes, side=4)
    assert walk(places, 0.05)[1].all()
    _, of_places = walk_elsewhere(places, places, things, 0.05)
    assert of_places.max() <= 0.5
    other = F.normalize(things.transpose(1, 2) + 1e-3, dim=2)[:, None].expand(1, 2, 16, 16)  # told by what they show
    _, of_things = walk_elsewhere(places, other, things, 0.05)
    assert of_things.min() > 0.9


def test_both_ways_show_the_same_frames_each_through_a_crop_of_its_own():
    pretext = make(nodes="cells", way_back="cropped", min_cycle=0, crop_area=(0.3, 0.9)).train()
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 20, 3), dtype=np.uint8)
    made = pretext.transform(frames, Sample((0, 3, 6, 9)), np.random.default_rng(1))
    assert made["clip_THWC"].shape == (8, 16, 16, 3)
    ratios = [height * width / (16 * 20) for _, _, height, width in made["boxes_24"].tolist()]
    assert all(0.25 < ratio < 0.95 for ratio in ratios) and ratios[0] != ratios[1]
    mirrored = made["boxes_24"].copy()
    for clip, (top, left, height, width) in zip(np.split(made["clip_THWC"], 2), mirrored.tolist(), strict=True):
        cuts = [shown[:, top : top + height, left : left + width] for shown in (frames, frames[:, :, ::-1])]
        means = [cut.mean((1, 2, 3)) for cut in cuts]
        assert min(np.abs(clip.mean((1, 2, 3)) - mean).max() for mean in means) < 6


def test_jitter_keeps_gray_gray_and_changes_contrast_saturation_and_brightness_by_so_much_at_most():
    change = context().jitter(500, 0.2)
    gray_B3 = change["matrix_B33"] @ torch.ones(3)
    assert (gray_B3 - gray_B3[:, :1]).abs().max() < 1e-6
    contrast = gray_B3[:, 0]
    assert 0.8 <= contrast.min() < 0.82 and 1.18 < contrast.max() <= 1.2
    colour_B3 = change["matrix_B33"] @ torch.tensor([1.0, -0.5, -0.5])  # of no brightness
    saturation = colour_B3[:, 0] / contrast
    assert 0.8 - 1e-5 <= saturation.min() < 0.82 and 1.18 < saturation.max() <= 1.2 + 1e-5
    assert change["shift_B"].abs().max() <= 0.2 and change["shift_B"].std() > 0.1
    assert context().jitter(500, 0.0) == {}


def test_a_walk_back_through_another_crop_trains_and_is_drawn_alike_at_test():
    options = {"nodes": "cells", "way_back": "cropped", "min_cycle": 0, "crop_area": (0.4, 1.0), "jitter": 0.2}
    pretext = make(**options)
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 20, 3), dtype=np.uint8)
    made = [pretext.transform(frames, Sample((0, 3, 6, 9)), np.random.default_rng(n)) for n in range(2)]
    batch = {name: torch.stack([torch.from_numpy(one[name]) for one in made]) for name in made[0]}
    output = pretext.train()(batch, context())
    output.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in pretext.head.parameters())
    assert {"accuracy", "accuracy_0", "accuracy_3"} <= set(output.metrics)
    assert output.features_ND.shape == (2 * 64, pretext.backbone.feature_dim)
    tested = pretext.eval()
    assert torch.equal(tested(batch, context(0)).loss, tested(batch, context(1)).loss)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"frames": 1}, "frames must be a whole number of 2 or more"),
        ({"frames": 2, "min_cycle": 2}, "min_cycle cannot be 2"),
        ({"min_cycle": 0}, "min_cycle=0 and jitter are for another crop"),
        ({"jitter": 0.1}, "min_cycle=0 and jitter are for another crop"),
        ({"way_back": "cropped"}, "way_back=cropped needs nodes=cells"),
        ({"way_back": "cropped", "nodes": "cells", "crop_area": (1, 1)}, "way_back=cropped needs nodes=cells"),
        ({"stride": 0}, "stride must be a whole number of 1 or more"),
        ({"fps": 0.0}, "fps must be a number above 0"),
        ({"head_depth": -1}, "head_depth must be a whole number of 0 or more"),
        ({"edge_dropout": 1.0}, "edge_dropout must be a number of 0 or more and below 1"),
        ({"temperature": 0.001}, "temperature must be a number of 0.03 or more"),
        ({"crop_area": (0.9, 0.8)}, "crop_area"),
        ({"patch_area": (0.0, 0.8)}, "patch_area"),
        ({"crop": 20}, "cannot be cut out"),
        ({"patch": 16}, "at least 2 x 2 patches"),
        ({"patch": 3}, "at least 4 pixels"),
    ],
)
def test_options_that_make_no_walk_are_refused_in_one_sentence(options, said):
    with pytest.raises(UserError, match=said):
        make(**options)


def test_a_map_of_a_single_cell_is_refused():
    with pytest.raises(UserError, match="single cell"):
        build_pretext(
            "contrastive_random_walk",
            build_backbone("resnet18"),
            {"nodes": "cells", "crop": 32, "short_side": 32, "frames": 2},
        ).eval()(batch_of(2, 32), context())
