"""Training on a tuple in all its orders at once."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Pretext, Progress, Sample, build_pretext
from ssl_video.pretexts.orders import in_every_order
from tests.nets import tiny_backbone, video_set

MOTION = {"frame_difference": np.linspace(1, 3, 40, dtype=np.float32)}
COMMON = {"dropout": 0.0, "width": 6}
OPTIONS = {
    "clip_order": {"frames": 4, "gap": 2, "short_side": 12, "crop": 8, "every_order": True},
    "cubic_puzzles": {"frames": 4, "cell_frames": 4, "crop": 8, "cell": 8, "short_side": 16, "every_order": True},
    "order_prediction": {"interval": (1, 2), "motion": "difference", "grid": 1, "every_order": True}
    | {"short_side": 16, "window": 12, "crop": 8, "jitter": 1},
    "tuple_verification": {"tau_max": 6, "tau_min": 1, "motion": "difference", "min_difference": 0.0, "grid": 1}
    | {"size": 12, "every_tuple": True},
}
PERMUTATIONS = {
    "clip_order": tuple({"class": c} for c in range(6)),
    "cubic_puzzles": tuple({"class": c} for c in range(24)),
    "order_prediction": tuple(
        {"class": c, "shown": order[::way]}
        for way in (1, -1)
        for c, order in enumerate(o for o in itertools.permutations(range(4)) if o[0] < o[-1])
    ),
}


def make(name: str) -> Pretext:
    backbone = tiny_backbone()
    backbone.clip = replace(backbone.clip, min_frames=1)
    return build_pretext(name, backbone, OPTIONS[name] | COMMON)


def drawn(pretext: Pretext, changes=None):
    """A batch of three videos of noise, with single facts of the samples changed."""
    samples = []
    for seed, video in enumerate(video_set(3, frames=40).videos):
        sample = pretext.sample(video, MOTION, np.random.default_rng(seed))
        assert isinstance(sample, Sample)
        noise = np.random.default_rng(seed).integers(0, 256, (len(sample.frames), 16, 16, 3), dtype=np.uint8)
        changed = Sample(sample.frames, {**sample.data, **(changes or {})})
        samples.append(pretext.transform(noise, changed, np.random.default_rng(seed)))
    return default_collate(samples)


def loss_of(pretext: Pretext, batch) -> torch.Tensor:
    return pretext(batch, Context(Progress(0, 1), torch.Generator(), 0, 1)).loss


def test_features_are_put_into_their_true_order_first_and_then_into_every_other():
    orders = tuple(itertools.permutations(range(3)))
    true_BVD = torch.arange(6.0).reshape(2, 3, 1)
    order_BV = torch.tensor([[2, 0, 1], [1, 0, 2]])
    tuples, classes = in_every_order(torch.take_along_dim(true_BVD, order_BV[..., None], 1), order_BV, orders, range(6))
    assert classes.tolist() == 2 * list(range(6))
    expected = [[3 * b + v for v in orders[c]] for b in range(2) for c in range(6)]
    assert tuples[..., 0].tolist() == expected


@pytest.mark.parametrize("name", PERMUTATIONS)
def test_the_loss_of_every_order_is_the_mean_of_the_losses_of_all_orders(name):
    pretext = make(name).double()
    pretext.get_submodule("head").eval()  # its batch norm would see one order at a time below
    whole = loss_of(pretext, drawn(pretext))
    pretext.config = replace(pretext.config, every_order=False)
    single = [loss_of(pretext, drawn(pretext, changes)) for changes in PERMUTATIONS[name]]
    torch.testing.assert_close(whole, torch.stack(single).mean())
    assert torch.stack(single).std() > 1e-4  # or any of them would do


def test_the_loss_of_every_tuple_counts_a_tuple_as_often_as_it_would_be_drawn():
    pretext = make("tuple_verification").double()
    pretext.get_submodule("head").eval()
    pretext.backbone.eval()  # five frames give other batch statistics than three
    whole = loss_of(pretext, drawn(pretext))
    pretext.config = replace(pretext.config, every_tuple=False)
    chances = {((1, 2, 3), 1): 0.25, ((1, 0, 3), 0): 0.375, ((1, 4, 3), 0): 0.375}
    expected = sum(
        chance / 2 * loss_of(pretext, drawn(pretext, {"shown": shown[::way], "label": label}))
        for (shown, label), chance in chances.items()
        for way in (1, -1)
    )
    torch.testing.assert_close(whole, expected)


@pytest.mark.parametrize("name", OPTIONS)
def test_at_test_one_order_is_shown(name):
    pretext = make(name).eval()
    batch = drawn(pretext)
    option = {"tuple_verification": "every_tuple"}.get(name, "every_order")
    before = loss_of(pretext, batch)
    pretext.config = replace(pretext.config, **{option: False})
    assert loss_of(pretext, batch) == before


def test_a_clip_is_shown_forward_and_backward_in_one_batch():
    options = {"frames": 4, "short_side": 16, "crop": 8, "stabilise": False, "colour": 0.0}
    pretext = build_pretext("arrow_of_time", tiny_backbone(), options | {"both_directions": True}).double()
    pretext.backbone.eval()
    batch = drawn(pretext)
    both = loss_of(pretext, batch)
    pretext.config = replace(pretext.config, both_directions=False)
    mirrored = {"clip_THWC": batch["clip_THWC"].flip(1), "label": 1 - batch["label"]}
    torch.testing.assert_close(both, (loss_of(pretext, batch) + loss_of(pretext, mirrored)) / 2)


def test_the_flow_of_both_directions_is_refused_in_one_sentence():
    backbone = tiny_backbone()
    backbone.clip = replace(backbone.clip, modality="flow", channels=2)
    with pytest.raises(UserError, match="both_directions is for networks of RGB"):
        build_pretext("arrow_of_time", backbone, {"frames": 4, "crop": 8, "both_directions": True})
