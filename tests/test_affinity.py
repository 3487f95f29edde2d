import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video.errors import UserError
from ssl_video.eval.affinity import Affinity, _Joint, counted, propagate


def features(frames, D, H, W, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(D, H, W, generator=generator, dtype=torch.float64), dim=0) for _ in range(frames)]


def labels(L, H, W, seed=1):
    return torch.rand(L, H, W, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def context_of(t, how):
    """Numbers of the frames that frame t looks at after the first one; copies of frame 0 lie before it."""
    return [max(0, t - back) for back in range(1, how.context + 1)]


def joint_by_hand(features_TDHW, labels_LHW, how):
    """Cell by cell: the affinities of all cells that may be looked at, sorted."""
    out = [labels_LHW]
    _, H, W = labels_LHW.shape
    cells = [(y, x) for y in range(H) for x in range(W)]
    for t in range(1, len(features_TDHW)):
        carried = torch.zeros_like(labels_LHW)
        for y, x in cells:
            query = features_TDHW[t][:, y, x]
            candidates = [(float(query @ features_TDHW[0][:, b, a]), out[0][:, b, a]) for b, a in cells]
            for frame in context_of(t, how):
                near = [(b, a) for b, a in cells if math.hypot(b - y, a - x) < how.radius]
                keys, soft = features_TDHW[frame], out[frame]
                candidates += [(float(query @ keys[:, b, a]), soft[:, b, a]) for b, a in near]
            best = sorted(candidates, key=lambda c: -c[0])[: how.top_k]
            weights = [math.exp(affinity / how.temperature) for affinity, _ in best]
            carried[:, y, x] = sum(w * soft for w, (_, soft) in zip(weights, best, strict=True)) / sum(weights)
        out.append(carried)
    return out


def per_frame_by_hand(features_TDHW, labels_LHW, how):
    out, N = [labels_LHW], labels_LHW[0].numel()
    for t in range(1, len(features_TDHW)):
        total = torch.zeros(len(labels_LHW), N, dtype=torch.float64)
        for frame in [0, *context_of(t, how)]:
            keys, soft = features_TDHW[frame].flatten(1), out[frame].flatten(1)
            for cell in range(N):
                weights = torch.exp(features_TDHW[t].flatten(1)[:, cell] @ keys / how.temperature)
                weights = weights / weights.sum()
                for best in weights.argsort(descending=True)[: how.top_k]:
                    total[:, cell] += weights[best] * soft[:, best] / (1 + how.context)
        low, high = total.min(1, keepdim=True).values, total.max(1, keepdim=True).values
        out.append(((total - low) / (high - low)).reshape(labels_LHW.shape))
    return out


def close(ours, theirs):
    return all(torch.allclose(a.double(), b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 11),
    context=st.integers(0, 3),
    radius=st.floats(0.5, 8),
    top_k=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_windows_give_the_labels_of_every_cell_compared_by_itself(height, width, context, radius, top_k, seed):
    how = Affinity(context, radius, top_k, 0.2)
    stream, first = features(4, 5, height, width, seed), labels(2, height, width)
    assert close(propagate([f.float() for f in stream], first, how), joint_by_hand(stream, first, how))


def test_a_map_wider_than_several_strips_and_a_long_context_agree_too():
    how = Affinity(5, 3, 10, 0.05)
    stream, first = features(7, 6, 4, 19), labels(2, 4, 19)
    assert close(propagate([f.float() for f in stream], first, how), joint_by_hand(stream, first, how))


def test_an_infinite_radius_looks_at_everything():
    stream, first = features(3, 4, 3, 10), labels(2, 3, 10)
    unlimited = propagate([f.float() for f in stream], first, Affinity(2, math.inf, 4))
    assert close(unlimited, joint_by_hand(stream, first, Affinity(2, 1e6, 4)))


def test_the_rule_per_frame_is_the_one_written_out():
    how = Affinity(3, 12, 2, 0.3, "per-frame")
    stream, first = features(6, 4, 3, 4), labels(2, 3, 4)
    assert close(propagate([f.float() for f in stream], first, how), per_frame_by_hand(stream, first, how))


def test_a_label_that_is_the_same_everywhere_stays_finite_under_the_rule_per_frame():
    first = torch.stack([torch.zeros(3, 4), torch.ones(3, 4)])
    (_, carried) = propagate([f.float() for f in features(2, 4, 3, 4)], first, Affinity(1, 12, 12, 1, "per-frame"))
    assert torch.isfinite(carried).all() and (carried[0] == 0).all()


def test_still_features_keep_the_labels():
    (frame,) = features(1, 64, 6, 9)
    first = labels(3, 6, 9)
    for carried in propagate([frame.float()] * 5, first, Affinity(4, 12, 1)):
        assert torch.allclose(carried.double(), first)


def test_features_that_move_take_their_labels_along():
    (frame,) = features(1, 64, 6, 20)
    first = labels(1, 6, 20)
    stream = [torch.roll(frame, t, 2).float() for t in range(5)]
    for t, carried in enumerate(propagate(stream, first, Affinity(4, 4, 1))):
        assert torch.allclose(carried.double(), torch.roll(first, t, 2))


def test_a_previous_frame_is_looked_at_within_the_radius_only():
    def row(**degrees):
        angles = torch.full((9,), 180.0)
        for cell, angle in degrees.items():
            angles[int(cell[1:])] = angle
        return torch.stack([angles.deg2rad().cos(), angles.deg2rad().sin()]).reshape(2, 1, 9)

    # cell 2 of frame 1 gets its label from cell 7 of frame 0. Cell 8 of frame 2 is nearer to it than to cell 3 of frame
    # 0, and six cells away from it.
    stream, first = [row(c7=0, c3=50), row(c2=20), row(c8=30)], torch.arange(9.0).reshape(1, 1, 9)
    for radius, expected in ((6, 3), (6.1, 7)):
        *_, carried = propagate(stream, first, Affinity(1, radius, 1))
        assert carried[0, 0, 8] == expected


def test_frames_are_taken_one_at_a_time():
    taken = []

    def stream():
        for t, frame in enumerate(features(5, 4, 3, 3)):
            taken.append(t)
            yield frame.float()

    carried = propagate(stream(), labels(1, 3, 3), Affinity(2))
    next(carried)
    assert taken == [0]
    next(carried)
    assert taken == [0, 1]


@pytest.mark.parametrize(
    "wrong", [{"top_k": 0}, {"context": -1}, {"temperature": 0}, {"radius": 0}, {"radius": np.nan}]
)
def test_numbers_that_make_no_sense_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"^{name} must be a (whole )?number"):
        Affinity(**wrong)


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="a map of"):
        list(propagate([*features(1, 2, 2, 2), *features(1, 2, 2, 3)], labels(1, 2, 2), Affinity()))


def test_of_a_row_of_repeated_members_the_first_k_are_counted():
    assert counted(torch.tensor([[2, 3, 4], [1, 1, 9], [5, 1, 1]]), 4).tolist() == [[2, 2, 0], [1, 1, 2], [4, 0, 0]]


def test_while_the_context_fills_each_frame_is_kept_once():
    first_DHW, how = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)), Affinity(context=3, radius=2)
    carrier, held = _Joint(first_DHW, torch.ones(1, 3, 5), how), []
    for _ in range(5):
        carrier.step(first_DHW)
        held.append(carrier.keys_HWnD.shape[2])
    assert held == [2, 3, 3, 3, 3]
