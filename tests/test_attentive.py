"""The attentive probe: its head, the maps that it is shown, what it knows of time, how one of several is chosen."""

import logging
import math
import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssl_video.backbones.base import ClipSpec, chain
from ssl_video.backbones.vit_blocks import JointBlock
from ssl_video.errors import UserError
from ssl_video.eval import attentive as attentive_module
from ssl_video.eval import features as features_module
from ssl_video.eval.attentive import AttentiveConfig
from ssl_video.eval.attentive_head import AttentiveHead, heads_of
from ssl_video.eval.base import EVALUATIONS, evaluate
from ssl_video.eval.features import ClipsOfVideos, Extraction
from ssl_video.eval.token_maps import Preparation, packed, sees_single_frames, train_and_test_maps, unpacked
from ssl_video.model import load_model
from ssl_video.video.view import View
from tests.nets import drawn_task, tiny_backbone, tiny_model

QUICK = {"clips": 3, "epochs": 3, "batch_size": 4}


@pytest.fixture
def task(monkeypatch):
    return drawn_task(monkeypatch)


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def squares(task, monkeypatch):
    """The task with noise in which a small square is red or blue, somewhere, as the video's label says."""

    def read(video, frames, each=None):
        number = int(video.path.rsplit("/", 1)[1].split(".")[0])
        out = np.random.default_rng(number).integers(0, 100, (len(frames), 12, 12, 3), dtype=np.uint8)
        y, x = 2 + number % 5, 2 + number // 5 % 5
        out[:, y : y + 4, x : x + 4, 2 * video.label] = 255
        return out

    monkeypatch.setattr(features_module, "read_video", read)
    return task


@pytest.fixture
def frame_model():
    """It sees each frame by itself."""
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv3d(3, 8, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.ReLU())
    clip = ClipSpec(frames=4, size=8, min_size=4)
    return tiny_model(chain({"stem": conv}, feature_dim=8, strides=(1, 2, 2), clip=clip))


def scores(result) -> np.ndarray:
    return np.array([p.score for p in result.predictions])


def normed(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * layer.weight.numpy() + layer.bias.numpy()


def mlp_of(x, layers):
    hidden = normed(x, layers[0]) @ layers[1].weight.numpy().T + layers[1].bias.numpy()
    erf = np.vectorize(math.erf)
    return hidden * (1 + erf(hidden / np.sqrt(2))) / 2 @ layers[3].weight.numpy().T + layers[3].bias.numpy()


def attention_of(q_ND, k_ND, v_ND, heads):
    out = np.zeros_like(q_ND)
    each = q_ND.shape[1] // heads
    for head in range(heads):
        here = slice(head * each, (head + 1) * each)
        for n in range(len(q_ND)):
            weight_N = np.exp([float(q_ND[n, here] @ k_D[here]) / math.sqrt(each) for k_D in k_ND])
            out[n, here] = weight_N / weight_N.sum() @ v_ND[:, here]
    return out


def linear(layer, x):
    return x @ layer.weight.numpy().T + layer.bias.numpy()


def slow_logits(head: AttentiveHead, x_ND: np.ndarray) -> np.ndarray:
    """With keys and values of every token, by loops."""
    for block in head.blocks:
        assert isinstance(block, JointBlock)
        q, k, v = np.split(linear(block.attention.qkv, normed(x_ND, block.norm)), 3, axis=1)
        x_ND = x_ND + linear(block.attention.projection, attention_of(q, k, v, block.attention.heads))
        x_ND = x_ND + mlp_of(x_ND, block.mlp)
    query, seen = head.query_1D.numpy(), normed(x_ND, head.norm)
    a = head.attention
    y = query + attention_of(linear(a.query, query), linear(a.key, seen), linear(a.value, seen), a.heads)
    return linear(head.linear, y + mlp_of(y, head.mlp))[0]


def filled(module: nn.Module, names: list[str]) -> None:
    """Numbers that need no generator: those of the parameter that comes n-th by name, 1 more for weights of norms."""
    of = dict(module.named_parameters())
    for n, name in enumerate(names):
        wave = 0.05 * torch.sin(0.7 * torch.arange(of[name].numel(), dtype=torch.float64) + 1.3 * n)
        of[name].data = (wave + (name.endswith("weight") and of[name].ndim == 1)).view_as(of[name])


@pytest.mark.parametrize("blocks", [0, 2])
@torch.no_grad()
def test_the_head_is_v_jepas_as_computed_slowly_with_keys_and_values_of_every_token(blocks):
    head = AttentiveHead(12, 5, heads=3, blocks=blocks).double()
    filled(head, [name for name, _ in head.named_parameters()])
    x_BND = torch.sin(0.37 * torch.arange(2 * 7 * 12, dtype=torch.float64)).view(2, 7, 12)
    slow = np.stack([slow_logits(head, x_ND.numpy()) for x_ND in x_BND])
    assert np.allclose(head(x_BND).numpy(), slow, rtol=0, atol=1e-12)


def names_of_transformers(blocks: int) -> dict[str, str]:
    """The parts of VJEPA2AttentivePooler, by theirs: ours. Query, key and value of a block are one of ours."""
    layers = {"layer_norm1": "norm", "layer_norm2": "mlp.0", "mlp.fc1": "mlp.1", "mlp.fc2": "mlp.3"}
    found = {f"cross_attention_layer.{theirs}": ours for theirs, ours in layers.items()}
    found |= {f"cross_attention_layer.cross_attn.{n[0]}_proj": f"attention.{n}" for n in ("query", "key", "value")}
    for b in range(blocks):
        found |= {f"self_attention_layers.{b}.{theirs}": f"blocks.{b}.{ours}" for theirs, ours in layers.items()}
        found[f"self_attention_layers.{b}.self_attn.out_proj"] = f"blocks.{b}.attention.projection"
        found |= {f"self_attention_layers.{b}.self_attn.{n}_proj": f"blocks.{b}.attention.qkv.{n}" for n in "qkv"}
    return found


@torch.no_grad()
def test_the_head_pools_as_the_attentive_pooler_of_transformers():
    # VJEPA2AttentivePooler of transformers 5.24.0, 48 channels, 2 heads, 3 layers, each parameter filled by its name's
    # place among theirs; its eager softmax computes in single precision
    head = AttentiveHead(48, 1, heads=2, blocks=3).double()
    named, ours = names_of_transformers(3), dict(head.named_parameters())
    theirs = sorted([f"{name}.{part}" for name in named for part in ("weight", "bias")] + ["query_tokens"])
    for n, name in enumerate(theirs):
        stem, _, part = name.rpartition(".")
        own = named.get(stem, "")
        third = "qkv".find(own[-1]) if ".qkv." in own else None
        place = ours["query_1D" if name == "query_tokens" else f"{own[:-2] if third is not None else own}.{part}"]
        place = place if third is None else place.unflatten(0, (3, -1))[third]
        wave = 0.05 * torch.sin(0.7 * torch.arange(place.numel(), dtype=torch.float64) + 1.3 * n)
        place.copy_((wave + ("norm" in name and part == "weight")).view_as(place))
    x_BND = torch.sin(0.37 * torch.arange(2 * 20 * 48, dtype=torch.float64)).view(2, 20, 48)
    y_BD = head.pooled(x_BND)
    expected = [-0.211648235302, 0.150714905753, -0.143558995507, 0.072791968148, 0.164745471925]
    assert y_BD[0, :5].tolist() == pytest.approx(expected, abs=1e-7)
    assert float(y_BD.abs().mean()) == pytest.approx(0.11507977557, abs=1e-7)


def test_the_presets_have_the_papers_settings():
    vjepa, vjepa2 = EVALUATIONS["attentive"].presets["vjepa"], EVALUATIONS["attentive"].presets["vjepa2"]
    assert (vjepa.blocks, vjepa.pairs, vjepa.clip_gradient, vjepa.heads) == (0, [(1e-3, 0.01)], 1.0, None)
    assert (vjepa2.blocks, vjepa2.heads, len(vjepa2.pairs), vjepa2.clip_gradient) == (3, 16, 20, None)
    assert max(vjepa2.lr) == 5e-3 and min(vjepa2.lr) == 1e-4 and vjepa2.weight_decay == (0.01, 0.1, 0.4, 0.8)
    for preset in (vjepa, vjepa2):
        assert (preset.epochs, preset.batch_size, preset.clips, preset.crops, preset.pool) == (20, 256, 8, 3, 7)
        assert not preset.standardise and not preset.calibrate


@pytest.mark.parametrize("preset", ["vjepa", "vjepa2"])
def test_the_presets_of_papers_measure_and_repeat(preset, task, model):
    options = {"clips": 2, "epochs": 1, "heads": 2}
    first, again = (evaluate("attentive", model, task, preset=preset, options=options) for _ in range(2))
    assert first.metrics == again.metrics and np.array_equal(scores(first), scores(again))
    assert ("chosen_lr" in first.metrics) == (preset == "vjepa2")


def test_heads_are_those_of_the_network_or_one_for_each_64_channels():
    assert heads_of(load_model("random:vivit_tiny?depth=1").backbone, 192) == 3
    assert heads_of(tiny_backbone(), 8) == 1 and heads_of(tiny_backbone(), 512) == 8


@pytest.mark.parametrize("scale", [1e-14, 1e-3, 1.0, 1e14])
def test_maps_keep_eleven_bits_of_a_token_at_any_scale(scale):
    x_KND = scale * torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    error = (unpacked(packed(x_KND).numpy()) - x_KND).abs() / x_KND.abs().amax(-1, keepdim=True)
    assert float(error.max()) <= 2**-11
    assert not unpacked(packed(torch.zeros(1, 1, 8)).numpy()).any()


def test_tokens_are_the_cells_of_the_maps_averaged_to_the_size_of_the_pool(task, model):
    what = Extraction(3, crops=3)
    train, test = train_and_test_maps(model, task, what, pool=2, calibrate=False, test_crops=True)
    assert train.grid == test.grid == (4, 2, 2) and train.rows[0].shape == (1, 3) and test.rows[0].shape == (3, 3)
    plain = Preparation(torch.zeros(8), torch.ones(8), 0.0)
    for number, video in enumerate(task.test.videos):
        ((_, _, clips_KTHWC),) = ClipsOfVideos([video], model.view, what).of_video(0)
        maps = F.adaptive_avg_pool3d(model.dense_map(clips_KTHWC), (4, 2, 2)).unflatten(0, (3, 3))
        for crop in range(3):
            expected_ND = maps[crop].flatten(2).transpose(1, 2).flatten(0, 1)
            found_ND = plain.tokens(test, [number], 3, crop)[0]
            assert torch.allclose(found_ND, expected_ND, atol=2**-11 * float(expected_ND.abs().max()))


def test_channels_are_standardised_over_the_tokens_of_the_training_list(task, model):
    train, test = train_and_test_maps(model, task, Extraction(3), pool=7, calibrate=False, test_crops=True)
    prepared = Preparation.of(train, standardise=True, time=False)
    x_ND = prepared.tokens(train, range(16), 3).flatten(0, 1)
    assert torch.allclose(x_ND.mean(0), torch.zeros(8), atol=1e-5)
    assert torch.allclose(x_ND.std(0, correction=0), torch.ones(8), atol=1e-5)
    assert prepared.tokens(test, [0], 3).mean().abs() > 1e-3


def test_a_video_of_fewer_clips_shows_some_of_them_more_than_once(task, model):
    short = replace(task.train.videos[0], info=replace(task.train.videos[0].info, frames=8))  # two clips
    task = replace(task, train=replace(task.train, videos=(short, *task.train.videos[1:])))
    train, _ = train_and_test_maps(model, task, Extraction(4), pool=7, calibrate=False, test_crops=True)
    rows, starts = train.clips(0, 4)
    assert rows.tolist() == [0, 0, 1, 1] and starts.tolist() == [0, 0, 1, 1]


def test_the_size_of_the_maps_is_announced(task, model, caplog):
    with caplog.at_level(logging.INFO, "ssl_video"):
        evaluate("attentive", model, replace(task, batch=4), options=QUICK)
    # 16 videos of 3 clips, each 4 rows of 4x4 cells of 8 channels and an exponent, 2 bytes each
    assert f"Writing maps of 48 clips, {48 * 64 * 9 * 2 / 1000:.3g} kB, to " in caplog.text


def test_a_disk_without_room_for_the_maps_is_a_sentence(task, model, monkeypatch):
    usage = namedtuple("usage", "total used free")  # as shutil's
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10, 10, 1000))
    with pytest.raises(UserError, match=r"^[^\n]* has 1 kB free, the maps need 55.3 kB: [^\n]*--run[^\n]*$"):
        evaluate("attentive", model, task, options=QUICK)


def test_no_file_is_left_of_the_maps(task, model, tmp_path):
    evaluate("attentive", model, replace(task, folder=tmp_path / "run"), options=QUICK)
    assert list((tmp_path / "run").iterdir()) == []


def test_two_protocols_on_one_store_extract_the_maps_once(task, model, monkeypatch):
    read: list[object] = []
    own = features_module.read_video
    monkeypatch.setattr(features_module, "read_video", lambda video, *a, **k: read.append(video) or own(video, *a, **k))
    counts = []
    for epochs in (2, 1):
        evaluate("attentive", model, task, options={**QUICK, "epochs": epochs})
        counts.append(len(read))
    assert counts[0] == counts[1] > 0


def test_it_repeats_bit_for_bit_and_another_seed_is_another_head(task, model):
    first, again, other = (
        scores(evaluate("attentive", model, replace(task, features=type(task.features)()), options=QUICK, seed=seed))
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.allclose(first, other)


def test_a_batch_shown_in_portions_gives_the_same_head(task, model, monkeypatch):
    whole = scores(evaluate("attentive", model, task, options=QUICK))
    monkeypatch.setattr(attentive_module, "PORTION", 2 * 3 * 64 * 9)  # two videos
    assert scores(evaluate("attentive", model, task, options=QUICK)) == pytest.approx(whole, abs=1e-4)


def test_probabilities_of_crops_are_averaged(task, model):
    model = replace(model, view=View(4, 2, 8, 8))  # of square frames, so that the three crops are one
    one, three = (evaluate("attentive", model, task, options={**QUICK, "crops": n}) for n in (1, 3))
    assert one.counts == three.counts == {"train": 16, "test": 8, "classes": 2, "tokens": 192}
    assert all(0.5 <= score <= 1 for score in (*scores(one), *scores(three)))
    assert scores(three) == pytest.approx(scores(one), abs=1e-5)


def test_the_head_learns_to_look_where_it_matters(squares, model):
    result = evaluate("attentive", model, squares, options={"epochs": 30, "lr": (3e-3,), "batch_size": 4})
    assert result.metrics["top1"] >= 0.75


def test_without_time_the_order_of_single_frames_does_not_count_and_with_it_it_does(task, frame_model):
    for time in (False, True):
        plain, shuffled = (
            evaluate("attentive", frame_model, task, options={**QUICK, "time": time, "shuffle": shuffle})
            for shuffle in (False, True)
        )
        same = np.allclose(scores(plain), scores(shuffled), rtol=0, atol=1e-4)
        assert same != time
        assert time or plain.metrics == shuffled.metrics


def test_time_is_added_by_default_for_networks_that_see_single_frames(task, model, frame_model):
    assert sees_single_frames(frame_model) and not sees_single_frames(model)
    for network, time in ((frame_model, True), (model, False)):
        default, chosen, other = (
            scores(evaluate("attentive", network, task, options={**QUICK, "time": option}))
            for option in (None, time, not time)
        )
        assert np.array_equal(default, chosen) and not np.allclose(default, other)


@pytest.mark.parametrize(
    ("network", "alone"),
    [
        ("dense_resnet_8?width=2", True),
        ("timesformer_tiny?depth=1&side=32&frames=4", True),  # as it starts: its layer after attention over time is 0
        ("vivit_tiny?depth=1&side=32&frames=4", False),
        ("r2plus1d_4?width=2&strides_t=1,1,1,1", False),
    ],
)
def test_which_networks_see_single_frames_is_tried_not_listed(network, alone):
    torch.manual_seed(0)
    assert sees_single_frames(replace(load_model(f"random:{network}"), view=View(4, 1, 32, 32))) == alone


def test_controls_show_other_frames(task, model):
    numbers = [
        scores(evaluate("attentive", model, task, options={**QUICK, **options}))
        for options in ({}, {"still": True}, {"shuffle": True}, {"reversed": True})
    ]
    assert all(not np.allclose(numbers[0], other) for other in numbers[1:])


def test_one_of_several_heads_is_chosen_by_held_out_training_videos(squares, model):
    options = {"clips": 3, "epochs": 20, "batch_size": 4, "lr": (1e-9, 3e-3), "weight_decay": (0.01, 0.1)}
    options["held_out"] = 0.25
    result = evaluate("attentive", model, squares, options=options)
    assert result.metrics["chosen_lr"] == 3e-3 and result.metrics["chosen_weight_decay"] in (0.01, 0.1)
    assert result.metrics["held_out_top1"] in (0, 0.25, 0.5, 0.75, 1)
    wrong = tuple(replace(v, labels=(1 - v.label,)) for v in squares.test.videos)
    turned = evaluate("attentive", model, replace(squares, test=replace(squares.test, videos=wrong)), options=options)
    chosen = ("chosen_lr", "chosen_weight_decay", "held_out_top1")
    assert [turned.metrics[name] for name in chosen] == [result.metrics[name] for name in chosen]
    alone = {"lr": (3e-3,), "weight_decay": (result.metrics["chosen_weight_decay"],)}
    assert np.array_equal(scores(evaluate("attentive", model, squares, options={**options, **alone})), scores(result))


def test_a_head_that_diverges_is_not_chosen_and_ends_the_probe_if_it_is_the_only_one(task, model):
    options = {**QUICK, "clip_gradient": None, "blocks": 1}
    result = evaluate("attentive", model, task, options={**options, "lr": (1e30, 1e-3)})
    assert result.metrics["chosen_lr"] == 1e-3
    with pytest.raises(UserError, match=r"^The training of the classifier diverged \([^\n]*--option lr=[^\n]*$"):
        evaluate("attentive", model, task, options={**options, "lr": (1e30,)})


def test_heads_that_do_not_divide_the_channels_are_said_before_maps_are_made(task, model, monkeypatch):
    monkeypatch.setattr(features_module, "read_video", None)
    with pytest.raises(UserError, match=r"^heads=3 does not divide the 8 channels of the map; [^\n]*heads=2, say\.$"):
        evaluate("attentive", model, task, options={"heads": 3})


class OneVector(nn.Module):
    """The mean of a clip, as a map of one cell."""

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        return x_BCTHW.mean((2, 3, 4), keepdim=True)


def test_a_network_without_a_map_of_tokens_is_refused_in_a_sentence(task):
    stages = {"stem": tiny_backbone().stages["stem"], "mean": OneVector()}
    whole = chain(stages, feature_dim=8, strides=(0, 0, 0), clip=ClipSpec(frames=4, size=8, min_size=4))
    with pytest.raises(UserError, match=r"^tiny gives one vector a clip, and attention needs a map of tokens[^\n]*$"):
        evaluate("attentive", tiny_model(whole), task)
    assert evaluate("attentive", tiny_model(whole), task, options={**QUICK, "stage": "stem"}).metrics


def test_one_video_leaves_none_to_choose_by(task, model):
    alone = replace(task, train=replace(task.train, videos=task.train.videos[:1]))
    with pytest.raises(UserError, match=r"^There is no video to hold out of 1; [^\n]*$"):
        evaluate("attentive", model, alone, options={**QUICK, "lr": (1e-3, 1e-4)})


def test_the_default_is_one_head():
    assert len(AttentiveConfig().pairs) == 1
