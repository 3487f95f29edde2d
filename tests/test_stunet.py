"""The space-time U-Net: at its start a network of images, frame by frame, and what is told to it changes nothing."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone, build_backbone
from ssl_video.backbones.stunet import STUNet, own_noise
from ssl_video.backbones.stunet_blocks import Added, Expected, Moment, Place, Told
from ssl_video.backbones.stunet_text import TextLevel
from ssl_video.backbones.weights import load_into
from ssl_video.capabilities import Condition, Denoises, Text
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, configured
from ssl_video.eval.dense import network_features
from ssl_video.model import load_model
from tests.nets import drawn_task, tiny_model

TINY = {"channels": (8, 16, 24), "frames": 16}
N = 4
"""Frames from one that the temporal strides keep to the next."""


def network_of(backbone: Backbone) -> STUNet:
    assert isinstance(backbone.network, STUNet)
    return backbone.network


def tiny(**options) -> STUNet:
    torch.manual_seed(0)
    return network_of(build_backbone("stunet", **{**TINY, **options}))


def awake(network: STUNet) -> STUNet:
    """With numbers where the network of images begins with zeros, which would hide every difference."""
    torch.manual_seed(1)
    for name, tensor in network.named_parameters():
        if network.part_of[name] == "spatial" and not tensor.any():
            nn.init.normal_(tensor, std=0.1)
    return network


def wide_awake(network: STUNet) -> STUNet:
    """With numbers where anything begins with zeros."""
    torch.manual_seed(2)
    for tensor in network.parameters():
        if not tensor.any():
            nn.init.normal_(tensor, std=0.1)
    return network


def clip(T: int = 16, side: int = 16, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, T, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def velocity(network: STUNet, x: Tensor, **told) -> Tensor:
    return network.denoise(x, Condition(torch.full((len(x),), 0.7), **told))[0]


def image_network(network: STUNet) -> STUNet:
    images = tiny(temporal=False, stride_t=network.shape.stride_t)
    images.load_state_dict(network.state_dict())
    return images


def differences(network: STUNet, x: Tensor) -> Tensor:
    """(T,) the largest difference of each frame from what the network of images makes of it."""
    by_images = velocity(image_network(network), x)
    assert by_images.std() > 0.02  # else all would agree
    return (velocity(network, x) - by_images).abs().amax((0, 1, 3, 4))


# the start (init)


def test_at_init_every_frame_that_the_strides_keep_is_the_image_networks_and_no_other():
    found_T = differences(awake(tiny()), clip())
    kept_T = torch.arange(len(found_T)) % N == 0
    assert found_T[kept_T].max() < 1e-5
    assert found_T[~kept_T].min() > 1e-2


def test_at_init_a_still_clip_is_the_image_networks_everywhere():
    assert differences(awake(tiny()), clip(T=1).expand(-1, -1, 16, -1, -1)).max() < 1e-5


def test_at_init_without_temporal_strides_every_frame_is_the_image_networks():
    network = awake(tiny(stride_t=1))
    assert differences(network, clip()).max() < 1e-5


def test_at_init_further_blocks_of_the_coarsest_level_change_nothing_of_that():
    network = awake(tiny(blocks=3))
    images = tiny(temporal=False, blocks=3)
    images.load_state_dict(network.state_dict())
    found_T = (velocity(network, clip()) - velocity(images, clip())).abs().amax((0, 1, 3, 4))
    assert found_T[::N].max() < 1e-5 and min(found_T[t] for t in range(16) if t % N) > 1e-3
    one = awake(tiny())
    one.load_state_dict(network.state_dict(), strict=False)
    assert not torch.allclose(velocity(network, clip()), velocity(one, clip()), atol=1e-3)  # they are run


def test_at_init_the_check_sees_a_kernel_that_does_not_sum_to_one():
    network = awake(tiny())
    for down in network.downs:
        kernel = torch.tensor([0.5, 1.0, 0.5])
        down.time.conv.weight.data[..., 0] = torch.eye(len(down.time.conv.weight))[..., None] * kernel
    found_T = differences(network, clip())
    assert found_T[::N].max() > 1e-2
    assert differences(network, clip(T=1).expand(-1, -1, 16, -1, -1)).max() > 1e-2


class OverTime(nn.GroupNorm):
    """With statistics of all frames of a clip, which must not be."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return super().forward(x_NCHW.transpose(0, 1)[None])[0].transpose(0, 1)


def test_at_init_the_check_sees_statistics_over_time(monkeypatch):
    network = awake(tiny())
    images = velocity(image_network(network), clip())
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.__class__ = OverTime
    assert (velocity(network, clip()) - images)[:, :, ::N].abs().max() > 1e-2


def test_he_starts_the_temporal_resizing_otherwise():
    assert differences(awake(tiny(resize_init="he")), clip())[::N].max() > 1e-2


def test_he_and_identity_of_one_seed_differ_in_the_temporal_resizing_alone():
    identity, he = (tiny(resize_init=init).state_dict() for init in ("identity", "he"))
    other = {name for name in identity if not torch.equal(identity[name], he[name])}
    assert other == {name for name in identity if name.endswith("time.conv.weight")}
    drawn = [he[name].flatten()[:50] for name in sorted(other)]
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(drawn))


def test_at_init_what_is_given_and_said_changes_nothing():
    network, x = awake(tiny()), clip(T=5)
    text = Text(torch.ones(1, 3, dtype=torch.bool), torch.tensor([[0, 5, 7]]))
    plain = velocity(network, x)
    for told in ({"given_BCTHW": x, "mask_B1THW": torch.ones(1, 1, 5, 16, 16)}, {"text": text}):
        assert torch.equal(velocity(network, x, **told), plain)
        assert not torch.allclose(velocity(wide_awake(tiny()), x, **told), velocity(wide_awake(tiny()), x), atol=1e-3)


# sizes


@pytest.mark.parametrize("T", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("size", [(8, 8), (15, 17), (22, 10)])
def test_any_number_of_frames_and_odd_sides_come_out_as_they_went_in(T, size):
    x = torch.randn(2, 3, T, *size)
    network = wide_awake(tiny())
    v, mid = network.denoise(x, Condition(torch.zeros(2)))
    assert v.shape == x.shape and torch.isfinite(v).all()
    assert mid.shape == (2, 24, -(-T // 4), -(-size[0] // 8), -(-size[1] // 8))


def test_a_clip_that_is_too_small_is_refused_in_one_sentence():
    with pytest.raises(UserError, match="at least 8 pixels"):
        build_backbone("stunet")(torch.zeros(1, 3, 4, 7, 7))


@pytest.mark.parametrize(
    ("name", "dim", "strides"),
    [("stem", 8, (1, 2, 2)), ("down1", 16, (2, 4, 4)), ("down2", 24, (4, 8, 8)), ("mid", 24, (4, 8, 8)),
     ("up2", 16, (2, 4, 4)), ("up1", 8, (1, 2, 2))],
)  # fmt: skip
def test_the_taps_have_the_sizes_that_they_say(name, dim, strides):
    backbone = build_backbone("stunet", **TINY)
    tap = backbone.taps[name]
    assert (tap.dim, tap.strides) == (dim, strides)
    assert backbone(clip(), until=name).shape == (1, dim, *(n // s for n, s in zip((16, 16, 16), strides, strict=True)))


def test_the_stages_hold_the_layers_that_make_their_maps_so_that_they_can_be_frozen():
    backbone = build_backbone("stunet", **TINY)
    held = {id(p) for stage in backbone.stages.values() for p in stage.parameters()}
    left = {name.split(".")[0] for name, p in network_of(backbone).named_parameters() if id(p) not in held}
    assert left == {"level", "text_level", "moment", "head"}


def test_an_image_networks_maps_have_all_frames():
    backbone = build_backbone("stunet", **TINY, temporal=False)
    assert backbone(clip(T=6), until="mid").shape == (1, 24, 6, 2, 2)


def test_more_levels_have_more_taps():
    backbone = build_backbone("stunet", channels=(8, 8, 8, 8))
    assert list(backbone.taps) == ["stem", "down1", "down2", "down3", "mid", "up3", "up2", "up1"]
    assert backbone(clip(T=9), until="mid").shape[2:] == (2, 1, 1)


def test_positions_in_time_are_stretched_for_clips_longer_than_trained():
    inflation = tiny(frames=8).mid.inflation
    assert len(inflation.position_PC) == 2
    found = inflation.positions(3)
    torch.testing.assert_close(found[[0, 2]], inflation.position_PC)
    torch.testing.assert_close(found[1], inflation.position_PC.mean(0))


def test_frames_learn_of_each_other_once_the_projections_are_not_zero():
    network, x = wide_awake(tiny()), clip()
    other = torch.cat([x[:, :, :-1], clip(T=1, seed=5)], 2)
    assert (velocity(network, x) - velocity(network, other))[:, :, 0].abs().max() > 1e-6
    images = wide_awake(tiny(temporal=False))
    assert torch.equal(velocity(images, x)[:, :, :-1], velocity(images, other)[:, :, :-1])


# what it is made of


def test_a_network_of_images_is_that_of_videos_of_the_same_seed_without_what_time_needs():
    videos, images = tiny(), tiny(temporal=False).state_dict()
    own = {name: tensor for name, tensor in videos.state_dict().items() if videos.part_of[name] != "temporal"}
    assert images.keys() == own.keys() and all(torch.equal(images[name], own[name]) for name in own)


@pytest.mark.parametrize("init", ["identity", "he"])
def test_weights_of_a_network_of_images_leave_what_was_added_as_it_begins(init):
    network, images = tiny(resize_init=init, frames=9), awake(tiny(temporal=False)).state_dict()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_into(network, images, "images")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] if network.part_of[name] == "temporal" else images[name]), name


def test_weights_with_some_of_what_was_added_are_refused():
    weights = tiny().state_dict()
    del weights["downs.0.time.conv.weight"]
    with pytest.raises(UserError, match=r"missing downs\.0\.time\.conv\.weight"):
        load_into(tiny(), weights, "some")


def test_every_tensor_is_of_one_part():
    for network, parts in ((tiny(), {"spatial", "temporal", "given", "text"}), (tiny(temporal=False), None)):
        assert set(network.part_of) == set(network.state_dict())
        assert set(network.part_of.values()) == (parts or {"spatial", "given", "text"})


def test_it_denoises_and_takes_a_condition():
    backbone = build_backbone("stunet", **TINY)
    assert isinstance(backbone.network, Denoises) and backbone.takes_condition
    condition = Condition(torch.full((1,), 0.3))
    mid = backbone(clip(), until="mid", condition=condition)
    torch.testing.assert_close(mid, backbone.network.denoise(clip(), condition)[1])


def test_added_modules_are_nothing_but_those_that_say_so():
    network = tiny()
    names = {type(m).__name__ for m in network.modules() if isinstance(m, Added)}
    assert names == {
        "AttentionInflation", "ConvInflation", "GivenStem", "Moment", "TemporalDown", "TemporalUp", "TextAttention",
        "TextLevel",
    }  # fmt: skip


# what blocks are told


def told_of(network: STUNet, T: int, seed: int = 0) -> Told:
    level_ND = torch.randn(T, network.shape.told, generator=torch.Generator().manual_seed(seed))
    return Told(level_ND, level_ND, T)


@torch.no_grad()
def test_what_is_handed_across_can_be_shut_off_and_is_let_through_at_the_start():
    network = tiny(temporal=False)
    up, told = network.ups[-1], told_of(network, 2)
    across = [torch.randn(2, 8, 8, 8) for _ in range(2)]
    below = torch.randn(2, 16, 4, 4)
    one, other = (up.run(below, a, told, told) for a in across)
    assert not torch.allclose(one, other, atol=1e-2)
    up.gate.bias[:8] = -1  # the scale is 1 more, the shift stays 0
    one, other = (up.run(below, a, told, told) for a in across)
    assert torch.equal(one, other)


@torch.no_grad()
def test_the_head_is_scaled_by_the_level_of_noise():
    head = wide_awake(tiny()).head
    x, network = torch.randn(2, 8, 8, 8), tiny()
    one, other = (head(x, told_of(network, 2, seed)) for seed in (0, 1))
    assert not torch.allclose(one, other, atol=1e-2)


@torch.no_grad()
def test_a_frame_is_told_the_same_at_every_level_and_other_frames_something_else():
    moment, level_BD = Moment(8, frames=16), torch.randn(2, 8)
    every_BTD = moment(level_BD, 16, 1).unflatten(0, (2, 16))
    torch.testing.assert_close(moment(level_BD, 16, 4).unflatten(0, (2, 4)), every_BTD[:, ::4])
    assert every_BTD.std(1).min() > 1e-3  # all the frames differ
    assert torch.cdist(every_BTD[0], every_BTD[0]).fill_diagonal_(1).min() > 1e-3
    torch.testing.assert_close(moment(level_BD, 32, 2), every_BTD.flatten(0, 1))  # a longer clip is stretched


@torch.no_grad()
def test_a_place_is_the_same_share_of_every_size_and_no_two_are_alike():
    place = Place(6)
    small, large = (place(torch.zeros(1, 6, *size))[0] for size in ((3, 5), (9, 15)))
    torch.testing.assert_close(large[:, 1::3, 1::3], small)
    rows = small.flatten(1).T
    assert torch.cdist(rows, rows).fill_diagonal_(1).min() > 1e-3


@torch.no_grad()
def test_what_is_expected_is_nothing_at_first_and_then_the_same_at_every_size():
    torch.manual_seed(0)
    expected, level_BD = Expected(3, 8), torch.randn(2, 8)
    assert not expected(level_BD, (3, 4, 5)).any()
    nn.init.normal_(expected.layer_CK)
    small, large = (expected(level_BD, size).unflatten(0, (2, -1)) for size in ((3, 1, 5), (9, 3, 15)))
    torch.testing.assert_close(large[:, 1::3, :, 1::3, 1::3], small)


def test_where_a_word_says_that_something_moves_to_is_found_in_few_steps():
    torch.manual_seed(0)
    expected, words_BD = Expected(1, 8), torch.randn(2, 8)
    t, x = torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 6)
    to_the_right = (t[:, None] * x)[:, None, None, :].expand(4, 1, 6, 6)
    said = torch.cat([to_the_right, -to_the_right])
    optimizer = torch.optim.AdamW(expected.parameters(), lr=3e-3)
    for _ in range(100):
        loss = (expected(words_BD, (4, 6, 6)) - said).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * said.square().mean()


@torch.no_grad()
def test_a_text_beside_the_noise_is_its_known_words_in_any_order():
    network = TextLevel(4, 8)
    nn.init.normal_(network.layers[-1].weight)
    x_BLD, known_BL = torch.randn(1, 3, 4), torch.tensor([[True, True, False]])
    swapped_BLD = x_BLD[:, [1, 0, 2]]
    swapped_BLD[:, 2] = 9
    torch.testing.assert_close(network(swapped_BLD, known_BL), network(x_BLD, known_BL))
    assert not torch.allclose(network(x_BLD, ~known_BL), network(x_BLD, known_BL), atol=1e-3)


# text


def test_nothing_said_is_the_learned_token_alone_whatever_stands_where_nothing_is():
    network, x = wide_awake(tiny()), clip(T=2)
    silent = Text(torch.zeros(1, 3, dtype=torch.bool), torch.tensor([[4, 5, 6]]))
    torch.testing.assert_close(velocity(network, x, text=silent), velocity(network, x))


def test_the_order_of_words_counts():
    network, x, known = wide_awake(tiny()), clip(T=2), torch.ones(1, 2, dtype=torch.bool)
    one, other = (velocity(network, x, text=Text(known, torch.tensor([ids]))) for ids in ([3, 4], [4, 3]))
    assert not torch.allclose(one, other, atol=1e-4)


def test_words_are_learned_once_and_kept_in_the_weights():
    network = tiny(words=4)
    network.mid.text.learn(("red", "circle"))
    network.mid.text.learn(("circle", "blue", "ö"))
    again = tiny(words=4)
    again.load_state_dict(network.state_dict())
    assert again.mid.text.vocabulary == ("red", "circle", "blue", "ö")
    with pytest.raises(UserError, match=r"5 words, and the network has places for 4; use --backbone\.words 5"):
        network.mid.text.learn(("green",))
    with pytest.raises(UserError, match="too long"):
        tiny().mid.text.learn(("a" * 40,))


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(UserError, match="at most 64 words"):
        velocity(
            tiny(), clip(T=1), text=Text(torch.ones(1, 65, dtype=torch.bool), torch.zeros(1, 65, dtype=torch.long))
        )


def test_states_of_an_encoder_take_the_place_of_words():
    network, x, known = wide_awake(tiny(text_dim=5)), clip(T=2), torch.ones(1, 2, dtype=torch.bool)
    one, other = (velocity(network, x, text=Text(known, states_BLE=torch.full((1, 2, 5), n))) for n in (0.0, 1.0))
    assert not torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("said", ["nothing", "words", "states"])
def test_a_gradient_reaches_everything_whatever_is_said_and_given(said):
    network, x, known = tiny(text_dim=5, low_resolution=True), clip(T=2), torch.ones(1, 2, dtype=torch.bool)
    texts = {
        "nothing": None,
        "words": Text(known, torch.tensor([[1, 2]])),
        "states": Text(known, states_BLE=torch.ones(1, 2, 5)),
    }
    theta = torch.full((1,), 0.7)
    network.denoise(x, Condition(theta, text=texts[said], low_BCTHW=x, low_theta_B=theta))[0].sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


# evaluations


def test_an_evaluation_sees_the_clean_clip_and_repeats():
    backbone = build_backbone("stunet", **TINY)
    expected = backbone(clip(), condition=Condition(torch.zeros(1)))
    assert torch.equal(backbone(clip()), backbone(clip()))
    torch.testing.assert_close(backbone(clip()), expected)


def noisy(**options) -> Backbone:
    torch.manual_seed(0)
    return build_backbone("stunet", **TINY, **options)


def test_noise_of_an_evaluation_repeats_and_is_of_the_clip_and_not_of_its_place_in_the_batch():
    backbone, pair = noisy(noise=0.4), torch.cat([clip(), clip(seed=1)])
    torch.testing.assert_close(backbone(pair)[1:], backbone(pair[1:]), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(backbone(pair), noisy()(pair), atol=1e-3)
    assert not torch.equal(own_noise(pair, 0)[0], own_noise(pair, 0)[1])
    assert not torch.equal(own_noise(pair, 0), own_noise(pair, 1))


def test_the_noise_has_the_level_that_the_option_says():
    x = clip(T=16, side=32)
    seen: list[tuple[Tensor, Tensor]] = []
    network = network_of(noisy(noise=0.25))
    network._maps = lambda clips, condition, passes: seen.append((clips, condition.theta_B)) or (clips,)
    network(x)
    (shown, theta), angle = seen[0], math.pi / 8
    assert theta.item() == pytest.approx(angle)
    assert (shown - math.cos(angle) * x).std().item() == pytest.approx(math.sin(angle), rel=0.02)


def test_an_ensemble_is_the_mean_over_its_noises_at_every_tap():
    backbone = noisy(noise=0.4, ensemble=2)
    theta = torch.full((1,), 0.4 * math.pi / 2)
    for name in backbone.taps:
        parts = [
            backbone(math.cos(theta) * clip() + math.sin(theta) * own_noise(clip(), n), name, Condition(theta))
            for n in (0, 1)
        ]
        torch.testing.assert_close(backbone(clip(), name), torch.stack(parts).mean(0), atol=1e-5, rtol=1e-4)


def test_an_ensemble_without_noise_and_a_single_level_are_refused():
    with pytest.raises(UserError, match="set noise, or ensemble=1"):
        build_backbone("stunet", ensemble=4)
    with pytest.raises(UserError, match="two levels or more"):
        build_backbone("stunet", channels=(8,))


@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_protocols_read_the_stage_that_they_are_told(protocol, monkeypatch):
    task, read = drawn_task(monkeypatch), []
    model = tiny_model(build_backbone("stunet", **TINY))
    maps = model._map
    monkeypatch.setattr(model, "_map", lambda clips, stage=None: read.append(stage) or maps(clips, stage))
    config = configured(protocol, "default", {"stage": "up2"})
    metrics = EVALUATIONS[protocol]().measure(model, task, config, 0).metrics
    assert 0 <= metrics["top1"] <= 1 and set(read) == {"up2"}


def test_maps_of_single_frames_are_read_at_a_stage_for_propagation():
    model = tiny_model(build_backbone("stunet", **TINY))
    features = network_features(model, "mid", side=16)
    frame = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    assert features(frame).shape == (24, 2, 3)


def test_a_stage_is_read_by_clips_and_by_frames():
    model = load_model("random:stunet?channels=8,16,24")
    clips = torch.zeros(2, 16, 32, 32, 3, dtype=torch.uint8)
    assert model.clip_features(clips, stage="up2").shape == (2, 16)
    assert model.dense_map(clips[:, :1], stage="mid").shape == (2, 24, 1, 4, 4)
    assert model.frame_embeddings(clips[0, :2].numpy(), stage="mid").shape == (2, 24)
