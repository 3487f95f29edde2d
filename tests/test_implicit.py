"""Networks that learn one video, part by part: encodings, points and flow, losses and training, without files."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_video.datasets.synthetic import draw
from ssl_video.implicit import atlas_losses as losses
from ssl_video.implicit import numbers
from ssl_video.implicit.atlas import LayeredAtlas
from ssl_video.implicit.coordinates import CoordinateNetwork
from ssl_video.implicit.encodings import Fourier, HashGrid, at_hashes, hashed, resolutions
from ssl_video.implicit.footage import (
    FlowPair,
    Footage,
    agreeing,
    along_flow,
    colours_at,
    draw_between,
    draw_matches,
    draw_pixels,
    flow_between,
    footage_of,
    lattice,
    learned_of,
    resized_flow,
)
from ssl_video.implicit.motion import camera_path, moving_masks, object_path, start_of
from ssl_video.implicit.numbers import consistency, overlap, psnr
from ssl_video.implicit.rendering import atlas_picture, boxes_of, frames_of, painted_at
from ssl_video.implicit.training import keyed, train

H, W = 24, 32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture with detail everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3)).astype(np.float32)
    fine = torch.nn.functional.interpolate(torch.tensor(coarse).permute(2, 0, 1)[None], (height, width), mode="bicubic")
    return fine[0].permute(1, 2, 0).clamp(0, 255).numpy().astype(np.uint8)


def panned(frames: int, shift: int) -> np.ndarray:
    """Frames of a camera that goes ``shift`` pixels to the right each time."""
    wide = texture(H, W + shift * frames)
    return np.stack([wide[:, shift * t : shift * t + W] for t in range(frames)])


def footage(frames_THWC: np.ndarray, kept_out: int = 0) -> Footage:
    learned = learned_of(len(frames_THWC), kept_out)
    pairs = [
        flow_between(frames_THWC[a], frames_THWC[b], frames_THWC.shape[1:3]) for a, b in itertools.pairwise(learned)
    ]
    return footage_of(frames_THWC, learned, pairs)


def moving(shift: float, frames: int = 3) -> Footage:
    """Frames of one texture whose flow is said to be ``shift`` pixels to the right a frame."""
    there = np.zeros((H, W, 2), np.float32)
    there[..., 0] = shift
    pair = FlowPair(there, np.ones((H, W), bool), -there, np.ones((H, W), bool))
    return footage_of(np.stack([texture(H, W)] * frames), range(frames), [pair] * (frames - 1))


def opaque(atlas: LayeredAtlas, raw: float) -> None:
    """Put the opacity, before it is squeezed, to about ``raw`` everywhere."""
    bias = atlas.opacity[-1].bias
    assert isinstance(bias, torch.Tensor)
    bias.data.fill_(raw)


# encodings


def slow_grid(table: np.ndarray, x: list[float], cells: tuple[int, ...], entry) -> np.ndarray:
    """The sum over the vertices around a point, one by one."""
    low = [min(int(v * n), n - 1) for v, n in zip(x, cells, strict=True)]
    total = np.zeros(table.shape[1])
    for corner in itertools.product((0, 1), repeat=len(x)):
        share = [v * n - a for v, n, a in zip(x, cells, low, strict=True)]
        weight = math.prod(s if c else 1 - s for s, c in zip(share, corner, strict=True))
        total += weight * table[entry([a + c for a, c in zip(low, corner, strict=True)])]
    return total


@pytest.mark.parametrize("cells", [(4, 3), (4, 3, 2)])
def test_a_level_that_has_room_interpolates_between_all_its_vertices(cells):
    grid = HashGrid([cells], features=2).double()
    points = torch.rand(20, len(cells), generator=generator(), dtype=torch.float64)
    table = grid.tables[0].detach()[0].flatten(1).T.numpy()
    strides = np.cumprod([1, *(n + 1 for n in cells[:-1])])
    expected = [slow_grid(table, p, cells, lambda v: int(np.dot(v, strides))) for p in points.tolist()]
    assert np.allclose(grid(points).detach().numpy(), expected, atol=1e-12)


def test_a_level_without_room_shares_entries_by_the_hash_of_the_paper():
    def entry(vertex):
        return ((vertex[0] * 1) ^ (vertex[1] * 2654435761) ^ (vertex[2] * 805459861)) % 64

    grid = HashGrid([(9, 8, 7)], features=2, table=64).double()
    assert grid.dense == [False] and grid.tables[0].shape == (64, 2)
    points = torch.rand(20, 3, generator=generator(), dtype=torch.float64)
    expected = [slow_grid(grid.tables[0].detach().numpy(), p, (9, 8, 7), entry) for p in points.tolist()]
    assert np.allclose(grid(points).detach().numpy(), expected, atol=1e-12)


def test_hashing_without_collisions_is_the_dense_grid():
    cells, points = (5, 4, 3), torch.rand(50, 3, generator=generator(), dtype=torch.float64)
    dense = HashGrid([cells], features=2, table=1 << 10).double()
    vertices = torch.cartesian_prod(*(torch.arange(n + 1) for n in cells[::-1])).flip(1)
    size = next(n for n in range(1 << 10, 1 << 15) if len(hashed(vertices, n).unique()) == len(vertices))
    table = torch.zeros(size, 2, dtype=torch.float64)
    table[hashed(vertices, size)] = dense.tables[0].detach()[0].flatten(1).T
    assert torch.allclose(at_hashes(table, points, cells), dense(points), atol=1e-12)


def test_points_outside_are_those_of_the_border():
    grid = HashGrid([(4, 3)])
    assert torch.equal(grid(torch.tensor([[-1.0, 2.0]])), grid(torch.tensor([[0.0, 1.0]])))


def test_levels_are_a_geometric_row():
    assert resolutions((8, 8, 4), (128, 32, 4), 5) == [(8, 8, 4), (16, 11, 4), (32, 16, 4), (64, 23, 4), (128, 32, 4)]
    assert resolutions((8,), (64,), 1) == [(8,)]


def test_waves_are_sines_and_cosines_of_the_place():
    waves = Fourier((3.0, 2.0), waves=5, generator=generator())
    x = torch.rand(4, 2, generator=generator(1))
    turns = 2 * math.pi * x @ waves.frequencies_DW
    assert torch.allclose(waves(x), torch.cat([x, turns.sin(), turns.cos()], 1), atol=1e-5)
    assert waves(x).shape[1] == waves.width


# points and flow


def test_frames_that_are_kept_out_have_both_neighbours():
    assert learned_of(9, 4) == [0, 1, 3, 4, 5, 7, 8]
    assert learned_of(5, 0) == [0, 1, 2, 3, 4]
    assert learned_of(3, 4) == [0, 1, 2] and learned_of(1, 4) == [0]
    out = set(range(30)) - set(learned_of(30, 2))
    assert out == set(range(2, 29, 2))


def test_flow_that_leads_home_agrees_and_what_leaves_the_frame_does_not():
    there = np.zeros((H, W, 2), np.float32)
    there[..., 0] = 3
    agree = agreeing(there, -there)
    assert agree[:, : W - 3].all() and not agree[:, W - 3 :].any()
    back = -there
    back[:, 10:14] = 0  # covered meanwhile: the way back from there leads elsewhere
    agree = agreeing(there, back)
    assert not agree[:, 7:11].any() and agree[:, :7].all()


def test_the_way_back_is_read_where_the_pixel_lands():
    there, back = np.zeros((H, W, 2), np.float32), np.zeros((H, W, 2), np.float32)
    there[5, 5], back[5, 9] = (4, 0), (-4, 0)
    agree = agreeing(there, back)
    assert agree[5, 5] and not agree[5, 9]


def test_flow_of_smaller_frames_is_in_their_pixels():
    flow = np.full((H, W, 2), (4.0, 6.0), np.float32)
    small = resized_flow(flow, (H // 2, W // 4))
    assert small.shape == (H // 2, W // 4, 2) and np.allclose(small, (1.0, 3.0))


def test_colours_between_pixels_are_interpolated_and_outside_those_of_the_border():
    frames = torch.tensor([[[[0], [100]], [[50], [250]]]], dtype=torch.uint8)
    xy = torch.tensor([[0.5, 0.0], [0.5, 0.5], [-3.0, 9.0], [1.0, 1.0]])
    assert torch.allclose(
        colours_at(frames, xy, torch.zeros(4, dtype=torch.long))[:, 0] * 255, torch.tensor([50.0, 100, 50, 250])
    )


def test_between_frames_colours_go_along_the_flow():
    frames = panned(2, 2)  # what was at x is at x - 2 in the next frame
    there = np.full((H, W, 2), (-2.0, 0.0), np.float32)
    one = footage_of(frames, [0, 1], [FlowPair(there, np.ones((H, W), bool), -there, np.ones((H, W), bool))])
    x = torch.arange(2, W - 2)
    xy = torch.stack([x, torch.full_like(x, 7)], 1)
    half = along_flow(one, torch.zeros(len(x), dtype=torch.long), xy, torch.full((len(x), 1), 0.5))
    assert torch.allclose(half * 255, torch.from_numpy(frames[0][7, 3 : W - 1]).float(), atol=1e-3)


def test_points_between_frames_lie_in_time_where_nothing_was_learned():
    one = footage(panned(4, 1), kept_out=4)
    points, colours = draw_between(one, 500, generator())
    assert one.trained_S.tolist() == [0, 1, 3] and colours.shape == (500, 3)
    gap = ((points[:, 2] > 1) & (points[:, 2] < 3)).float().mean()
    assert 0.55 < gap < 0.78  # two thirds of the time


def test_matches_are_where_the_flow_leads_and_count_only_where_there_is_a_frame():
    one = moving(2.0)
    s, points = draw_pixels(one, 400, generator())
    match, weight = draw_matches(one, s, points, generator(1))
    steps = (match - points)[weight > 0]
    assert set(map(tuple, steps.tolist())) == {(2.0, 0.0, 1.0), (-2.0, 0.0, -1.0)}
    assert ((match[:, 2] >= 0) & (match[:, 2] <= 2)).all()
    assert 0.4 < weight[s == 0].mean() < 0.6 and weight[s == 1].min() == 1


def test_a_picture_of_another_size_shows_the_same_part_of_the_frame():
    assert lattice((2, 2), (2, 2), 3.0).tolist() == [[0, 0, 3], [1, 0, 3], [0, 1, 3], [1, 1, 3]]
    large = lattice((4, 4), (2, 2), 0.0)
    assert large[:, 0].unique().tolist() == [-0.25, 0.25, 0.75, 1.25]


# where an atlas starts


def test_the_camera_is_followed_back_to_the_first_frame():
    path = camera_path(footage(panned(6, 2), kept_out=4))
    assert path.shape == (6, 2, 3)
    assert np.allclose(path[:, :, 2], np.outer(np.arange(6), (2, 0)), atol=0.6)  # pixels


def square_over_texture(frames: int = 6, step: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A textured square that goes to the right over a still texture, and its masks."""
    video, masks = np.stack([texture(H, W)] * frames), np.zeros((frames, H, W), np.float32)
    patch = 255 - texture(10, 10, 5) // 2
    for t in range(frames):
        video[t, 7:17, 3 + step * t : 13 + step * t] = patch
        masks[t, 7:17, 3 + step * t : 13 + step * t] = 1
    return video, masks


def test_what_moves_otherwise_than_the_rest_is_found():
    scene = draw("tracks", 4, frames=12, sprites=1)
    found = moving_masks(footage(scene.frames_THWC[::2]))
    assert overlap(list(found), scene.masks_THW[::2] > 0) > 0.7
    assert moving_masks(footage(panned(6, 2))).mean() < 0.1


def test_where_colours_do_not_part_an_object_its_motion_does():
    video, masks = square_over_texture()
    assert overlap(list(moving_masks(footage(video))), masks) > 0.3


def test_the_middle_of_an_object_is_followed_over_frames_without_it():
    video, masks = square_over_texture()
    masks[2] = 0
    path, reach = object_path(footage(video), masks)
    assert np.allclose(path[:, 0], 7.5 + 2 * np.arange(6), atol=1.0) and np.allclose(path[:, 1], 11.5, atol=0.1)
    assert reach == pytest.approx(4.5, abs=0.6)
    path, reach = object_path(footage(video), 0 * masks)
    assert (path == ((W - 1) / 2, (H - 1) / 2)).all() and reach == W / 2


def test_all_frames_lie_on_the_background_atlas():
    one = footage(panned(8, 4))
    start = start_of(one, np.zeros((8, H, W)))
    atlas = LayeredAtlas(one.size, start)
    places = torch.cat([atlas.layers_at(lattice((H, W), (H, W), t)).back_N2 for t in range(8)]).detach()
    assert float(start.scales_2[1]) < 0.8 and 0.85 < places.abs().max() < 0.95


# losses


def test_colour_gradient_and_sparsity_are_the_sums_that_the_paper_writes():
    rng = np.random.default_rng(0)
    ours, true, weight, alpha = rng.random((3, 5, 3)), rng.random((3, 5, 3)), rng.integers(0, 2, 5), rng.random(5)
    colour = sum(sum((ours[0, n, c] - true[0, n, c]) ** 2 for c in range(3)) for n in range(5)) / 5
    gradient = 0.0
    for n, c, k in itertools.product(range(5), range(3), (1, 2)):
        gradient += weight[n] * ((ours[k, n, c] - ours[0, n, c]) - (true[k, n, c] - true[0, n, c])) ** 2 / 5
    sparse = sum(((1 - alpha[n]) * ours[0, n, c]) ** 2 for n in range(5) for c in range(3)) / 5
    ours, true, weight, alpha = map(torch.from_numpy, (ours, true, weight, alpha))
    assert losses.colour_loss(ours[0], true[0]).item() == pytest.approx(colour)
    assert losses.gradient_loss(ours, true, weight).item() == pytest.approx(gradient)
    assert losses.sparsity_loss(ours[0], alpha).item() == pytest.approx(sparse)


def slow_rigidity(j_22: np.ndarray) -> float:
    square = j_22.T @ j_22
    return np.linalg.norm(square) + np.linalg.norm(np.linalg.inv(square + 0.001 * np.eye(2)))


def test_rigidity_is_two_norms_of_frobenius_of_the_jacobian():
    jacobians = np.random.default_rng(0).normal(size=(6, 2, 2))
    uv = torch.zeros(6, 2, dtype=torch.float64)
    right, below = (torch.from_numpy(jacobians[:, :, k] * 0.02) for k in (0, 1))
    found = losses.rigidity_loss(uv, right, below, 0.02)
    assert found.item() == pytest.approx(np.mean([slow_rigidity(j) for j in jacobians]))


def test_rigidity_is_least_for_a_turn_and_grows_when_a_mapping_stretches_or_collapses():
    def loss(j_22):
        j = torch.tensor(j_22, dtype=torch.float64) * 0.1
        return losses.rigidity_loss(torch.zeros(1, 2), j[None, :, 0], j[None, :, 1], 0.1).item()

    turn = loss([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]])
    assert turn == pytest.approx(2 * math.sqrt(2), abs=2e-3)
    assert loss([[2, 0], [0, 2]]) > turn and loss([[0.5, 0], [0, 0.5]]) > turn
    assert math.isfinite(loss([[0, 0], [0, 0]])) and loss([[0, 0], [0, 0]]) == pytest.approx(1000 * math.sqrt(2))


def test_rigidity_of_a_collapsed_mapping_has_a_finite_slope():
    uv = torch.zeros(4, 2, requires_grad=True)
    losses.rigidity_loss(uv, uv * 1, uv * 1, 0.1).backward()
    assert uv.grad is not None and uv.grad.isfinite().all()


def test_flow_losses_are_weighted_means_in_pixels():
    uv, match = torch.tensor([[0.0, 0.0], [0.1, 0.1]]), torch.tensor([[0.03, 0.04], [0.9, 0.9]])
    weight = torch.tensor([1.0, 0.0])
    assert losses.flow_loss(uv, match, weight, 0.01).item() == pytest.approx(5 / 2, rel=1e-3)
    alpha, other = torch.tensor([0.2, 0.9]), torch.tensor([0.5, 0.1])
    assert losses.opacity_flow_loss(alpha, other, weight).item() == pytest.approx(0.15)


def test_the_mask_loss_is_binary_cross_entropy():
    alpha, mask = torch.tensor([0.2, 0.9, 0.4]), torch.tensor([0.0, 1.0, 1.0])
    assert torch.isclose(losses.mask_loss(alpha, mask), torch.nn.functional.binary_cross_entropy(alpha, mask))
    assert losses.mask_loss(alpha, mask, torch.zeros(3)) == 0


def test_a_still_video_on_a_still_atlas_has_no_flow_loss_and_the_least_rigidity():
    one = moving(0.0)
    terms = LayeredAtlas(one.size).losses(one, 64, generator(), 0.0)
    assert terms["flow"] < 1e-3 and terms["opacity_flow"] < 1e-3
    for name in ("rigid_front", "rigid_back"):
        assert terms[name].item() == pytest.approx(2 * math.sqrt(2), abs=2e-2)
    assert terms["rigid_front_far"].item() == pytest.approx(5 * 2 * math.sqrt(2), abs=5e-2)
    assert terms["rigid_back_far"].item() == pytest.approx(50 * 2 * math.sqrt(2), abs=5e-1)


def test_far_rigidity_and_the_coarse_mask_end_and_the_given_mask_does_not():
    masks = torch.zeros(3, H, W)
    one = replace(moving(0.0), masks_SHW=masks, given_HW=masks[0])
    atlas = LayeredAtlas(one.size)
    names = {done: set(atlas.losses(one, 16, generator(), done)) for done in (0.0, 0.06, 0.16)}
    assert names[0.0] - names[0.06] == {"rigid_front_far", "rigid_back_far"}
    assert names[0.06] - names[0.16] == {"bootstrap"} and "given" in names[0.16]


def test_an_edit_on_an_atlas_that_follows_the_motion_is_consistent_and_a_pasted_one_is_not(monkeypatch):
    one = footage(panned(6, 2))
    following = LayeredAtlas(one.size, start_of(one, np.zeros((6, H, W))))
    opaque(following, 3.0)
    path = np.stack([(W - 1) / 2 - 2 * np.arange(6), np.full(6, (H - 1) / 2)], 1)
    following.front_T2.copy_(torch.from_numpy(path))
    found = consistency(following, one)
    assert found["consistency_edit"] < 0.05 and found["consistency_pasted"] > 0.15
    monkeypatch.setattr(numbers, "AT_ONCE", 7)  # as in a video with more pixels than are looked up at a time
    assert consistency(following, one) == found
    opaque(following, -3.0)
    assert consistency(following, one) == {}  # no foreground


# networks and training


def test_opacity_lies_between_its_ends():
    atlas = LayeredAtlas((2, H, W))
    opaque(atlas, 100.0)
    assert atlas.layers_at(lattice((H, W), (H, W), 0)).opacity_N.max().item() == pytest.approx(0.991, abs=1e-6)
    opaque(atlas, -100.0)
    assert atlas.layers_at(lattice((H, W), (H, W), 0)).opacity_N.min().item() == pytest.approx(0.001, abs=1e-6)


def test_places_outside_of_an_atlas_are_clamped():
    atlas = LayeredAtlas((2, H, W))
    outside, border = torch.tensor([[-7.0, 3.0]]), torch.tensor([[-1.0, 1.0]])
    for layer in (0, 1):
        assert torch.equal(atlas.colour(layer, outside), atlas.colour(layer, border))


def test_pixels_are_square_on_an_atlas():
    atlas = LayeredAtlas((2, H, W))
    place = atlas.layers_at(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])).back_N2.detach()
    assert torch.allclose(place[1] - place[0], torch.tensor([0.8 * 2 / W, 0.0]), atol=1e-6)
    assert torch.allclose(place[2] - place[0], torch.tensor([0.0, 0.8 * 2 / W]), atol=1e-6)


@pytest.mark.parametrize("network", [CoordinateNetwork, LayeredAtlas])
def test_a_video_of_one_frame_is_reproduced(network):
    torch.manual_seed(0)
    one = footage_of(texture(H, W)[None], [0], [])
    learner = network(one.size)
    train(learner, one, 200, 256)
    (shown,) = frames_of(learner, (H, W), [0], (H, W))
    assert psnr(shown, one.frames_THWC[0].numpy()) > 25


def test_frames_that_were_not_learned_are_nearer_than_the_blend_of_their_neighbours():
    torch.manual_seed(0)
    one = footage(panned(8, 3), kept_out=4)
    learner = CoordinateNetwork(one.size)
    train(learner, one, 250, 512)
    frames = one.frames_THWC.numpy()
    for t, shown in zip(one.kept_out, frames_of(learner, (H, W), one.kept_out, (H, W)), strict=True):
        blend = frames[[t - 1, t + 1]].astype(float).mean(0)
        assert psnr(shown, frames[t]) > psnr(blend, frames[t]) + 1


def test_waves_learn_too():
    torch.manual_seed(0)
    one = footage(panned(3, 1))
    learner = CoordinateNetwork(one.size, "fourier")
    before = learner.losses(one, 500, generator(), 0.0)["colour"].item()
    train(learner, one, 60, 256)
    assert learner.losses(one, 500, generator(), 0.0)["colour"].item() < before / 2


@pytest.mark.parametrize("network", [CoordinateNetwork, LayeredAtlas])
def test_a_resumed_training_equals_one_that_was_not_interrupted(network):
    one = footage(panned(4, 1), kept_out=4)
    states = {}

    def made():
        torch.manual_seed(3)
        return network(one.size)

    def save(state):
        states[state["step"]] = {k: v if k == "step" else copy.deepcopy(v) for k, v in state.items()}

    whole, resumed = made(), made()
    train(whole, one, 20, 64, save=save)
    assert sorted(states) == list(range(2, 21, 2))
    train(resumed, one, 20, 64, state=states[6])
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_what_a_step_draws_is_keyed_by_seed_and_step():
    assert torch.equal(torch.rand(3, generator=keyed(1, 2)), torch.rand(3, generator=keyed(1, 2)))
    assert not torch.equal(torch.rand(3, generator=keyed(1, 2)), torch.rand(3, generator=keyed(2, 1)))


# pictures of atlases


def test_paint_is_read_at_its_place_and_nothing_outside_of_the_picture():
    paint = torch.zeros(4, 8, 4)
    paint[1, 2] = torch.tensor([1.0, 0.5, 0.0, 0.5])
    box = (-0.5, 0.0, 0.5, 0.5)  # of 8 columns and 4 rows
    centre = torch.tensor([[-0.5 + 2.5 / 8, 0.0 + 1.5 / 8]])
    assert torch.allclose(painted_at(paint, box, centre), torch.tensor([[0.5, 0.25, 0.0, 0.5]]), atol=1e-5)
    assert painted_at(paint, box, torch.tensor([[0.9, 0.9], [-0.9, 0.1]])).abs().max() == 0


def test_the_box_of_the_foreground_leaves_single_pixels_out(monkeypatch):
    atlas = LayeredAtlas((2, H, W))
    opaque(atlas, -3.0)
    assert boxes_of(atlas, (2, H, W))[0] == (-1.0, -1.0, 1.0, 1.0)  # nothing of it is seen
    whole = atlas.layers_at

    def seen(points):
        at = whole(points)
        inside = (points[:, 0] < 10) & (points[:, 1] < 10) | ((points == torch.tensor([W - 1.0, H - 1.0, 0.0])).all(1))
        return replace(at, opacity_N=inside.float())

    monkeypatch.setattr(atlas, "layers_at", seen)
    box = boxes_of(atlas, (2, H, W))[0]
    corner = whole(torch.tensor([[9.0, 9.0, 0.0]])).front_N2[0]
    assert np.allclose(box[2:], corner.detach().numpy() + 0.8 * 2 / W, atol=0.03)


def test_the_picture_of_a_still_background_is_the_frame():
    torch.manual_seed(0)
    one = footage_of(texture(H, W)[None], [0], [])
    atlas = LayeredAtlas(one.size)
    opaque(atlas, -3.0)
    train(atlas, replace(one, masks_SHW=torch.zeros(1, H, W), given_HW=torch.zeros(H, W)), 120, 256)
    boxes = boxes_of(atlas, one.size)
    picture = atlas_picture(atlas, 1, boxes[1], one.size)
    assert picture.shape[2] == 4 and (picture[..., 3] == 255).all()
    h, w = picture.shape[:2]
    assert w / h == pytest.approx(W / H, abs=0.1)
    middle = picture[h // 4 : -h // 4, w // 4 : -w // 4, :3].mean((0, 1))
    assert np.allclose(middle, one.frames_THWC[0, H // 4 : -H // 4, W // 4 : -W // 4].numpy().mean((0, 1)), atol=12)
