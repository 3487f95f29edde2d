"""V-JEPA: masks that lose nothing, a teacher that follows, and numbers that fall with a collapse."""

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Pretext, Progress, build_pretext
from ssl_video.pretexts.tokens import of_ids
from ssl_video.pretexts.vjepa import VJEPA, block_size, union
from ssl_video.pretrain_config import Choice, PretrainConfig
from ssl_video.pretrain_plan import plan_of
from ssl_video.run import Lists
from ssl_video.tensors import save_tensors
from ssl_video.train.config import TrainingConfig
from ssl_video.train.data import ClipDataset
from tests.filled import filled
from tests.nets import drawn_frames, tiny_backbone, video_set

OPTIONS = {"frames": 4, "stride": 1, "short_side": 36, "size": 32, "predictor_width": 12, "predictor_heads": 2}
OPTIONS |= {"predictor_depth": 1, "momentum": 0.9}

PAPER = ("AdamW", 0.9, 0.04, False, 3072, 1, {12_000: 6.25e-4, 51_000: 3.13e-4, 89_999: 1e-6})
"""The optimiser of the authors' code, for ``test_papers``."""


def network(depth: int = 1):
    torch.manual_seed(0)
    return build_backbone("vivit_tiny", frames=4, side=32, tubelet=(2, 8, 8), depth=depth)


def make(**options) -> VJEPA:
    pretext = build_pretext("vjepa", network(), OPTIONS | options)
    assert isinstance(pretext, VJEPA)
    return pretext


def context(seed: int = 0, **more) -> Context:
    return Context(Progress(0, 10), torch.Generator().manual_seed(seed), **more)


def batch(B: int = 3) -> dict[str, torch.Tensor]:
    return {"clip_THWC": torch.randint(0, 256, (B, 4, 32, 32, 3), generator=torch.Generator().manual_seed(1)).byte()}


@pytest.mark.parametrize("kind", [(8, 0.15), (2, 0.7)])
def test_every_patch_is_seen_or_predicted_and_the_blocks_are_among_the_predicted(kind):
    pretext = make()
    for seed in range(20):
        kept_BK, hidden_BM = pretext.masks(kind, 6, context(seed))
        whole_BN = torch.cat([kept_BK, hidden_BM], 1).sort(1)[0]
        assert torch.equal(whole_BN, torch.arange(32).expand(6, -1)) and kept_BK.shape[1] >= 2
        again = context(seed)
        size = block_size(kind[1], (0.75, 1.5), (4, 4), again.generator)
        again.uniform(6, 16)
        in_block_BS = union(again.uniform(6, kind[0], 2), size, (4, 4)) > 0
        in_block_BN = in_block_BS.repeat(1, 2)
        whole = in_block_BN.all(1)  # hidden whole: shown some patches nevertheless
        assert not in_block_BN.gather(1, kept_BK)[~whole].any()


def test_as_many_are_hidden_beyond_the_blocks_early_as_late():
    """Published code loses tokens of the latest rows, whose numbers are the highest."""
    pretext = make()
    counts_N = torch.zeros(32)
    for seed in range(400):
        counts_N += torch.bincount(pretext.masks((8, 0.15), 6, context(seed))[1].flatten(), minlength=32)
    early, late = counts_N[:16].sum().item(), counts_N[16:].sum().item()
    assert early == late
    left_right = counts_N.view(2, 4, 4).sum((0, 1))
    assert (left_right[0] / left_right[3]).item() == pytest.approx(1, abs=0.05)


def test_two_ranks_hide_what_one_hides():
    whole = make().masks((2, 0.7), 4, context())
    shown = []

    class Both(Context):
        def gather(self, x):
            shown.append(x)
            return torch.cat(shown)

    both = [Both(Progress(0, 10), torch.Generator().manual_seed(0), rank, 2) for rank in (0, 1)]
    halves = [make().masks((2, 0.7), 2, both[0]), make().masks((2, 0.7), 2, both[1])]
    if halves[0][0].shape == whole[0].shape:  # the first had not heard of the second
        assert torch.equal(whole[0][:2], halves[0][0])
    assert torch.equal(whole[0][2:], halves[1][0])


def test_a_block_has_about_its_share_of_the_frame():
    sizes = [block_size(0.15, (0.75, 1.5), (14, 14), torch.Generator().manual_seed(s)) for s in range(200)]
    shares = [h * w / 196 for h, w in sizes]
    assert np.mean(shares) == pytest.approx(0.15, rel=0.1) and {h > w for h, w in sizes} == {True, False}
    assert block_size(1.0, (0.75, 1.5), (4, 4), torch.Generator()) <= (4, 4)


def test_the_loss_is_that_of_a_slow_computation():
    pretext = make().double().eval()
    output = pretext(batch(), context())
    ctx, losses = context(), []
    clip_BCTHW = pretext.backbone.normalise(batch()["clip_THWC"])
    with torch.no_grad():
        target_BND = pretext.teacher(clip_BCTHW).flatten(2).transpose(1, 2)
        target_BND = (target_BND - target_BND.mean(2, keepdim=True)) / (
            target_BND.var(2, keepdim=True, unbiased=False) + 1e-5
        ).sqrt()
        for number, kind in enumerate(pretext.kinds):
            kept_BK, hidden_BM = pretext.masks(kind, 3, ctx)
            predicted_BMD = pretext._predict(clip_BCTHW, kept_BK, hidden_BM, number)
            for b in range(3):
                for m, place in enumerate(hidden_BM[b].tolist()):
                    losses.append((number, (predicted_BMD[b, m] - target_BND[b, place]).abs().mean().item()))
    expected = np.mean([np.mean([loss for kind, loss in losses if kind == number]) for number in (0, 1)])
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)


def stack_shapes(blocks: str, width: int, depth: int, last: str) -> dict[str, tuple[int, ...]]:
    """Of the blocks and the last norm of V-JEPA's networks."""
    shapes: dict[str, tuple[int, ...]] = {f"{last}.weight": (width,), f"{last}.bias": (width,)}
    for n in range(depth):
        name = f"{blocks}.{n}"
        for layer, out, into in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            shapes |= {f"{name}.{layer}.weight": (out * width, into * width), f"{name}.{layer}.bias": (out * width,)}
        for number in (1, 2):
            shapes |= {f"{name}.norm{number}.weight": (width,), f"{name}.norm{number}.bias": (width,)}
    return shapes


def of_stack(theirs: dict[str, torch.Tensor], blocks: str, ours: list[str]) -> dict[str, torch.Tensor]:
    """The same under our names of the blocks."""
    layers = {"norm": "norm1", "attention.qkv": "attn.qkv", "attention.projection": "attn.proj", "mlp.0": "norm2"}
    layers |= {"mlp.1": "mlp.fc1", "mlp.3": "mlp.fc2"}
    return {
        f"{block}.{our}.{kind}": theirs[f"{blocks}.{n}.{their}.{kind}"]
        for n, block in enumerate(ours)
        for our, their in layers.items()
        for kind in ("weight", "bias")
    }


def load_published(pretext: VJEPA) -> None:
    kinds = ("weight", "bias")
    encoder = {"pos_embed": (1,), "patch_embed.proj.weight": (48, 3 * 2 * 16 * 16), "patch_embed.proj.bias": (48,)}
    theirs = filled(encoder | stack_shapes("blocks", 48, 2, "norm"))
    names = {"tubelets.projection": "patch_embed.proj", "norm": "norm"}
    own = {f"{our}.{kind}": theirs[f"{their}.{kind}"] for our, their in names.items() for kind in kinds}
    for network in (pretext.backbone.network, pretext.teacher.network):
        network.load_state_dict(own | of_stack(theirs, "blocks", ["stack.0", "stack.1"]))
    predictor = {"predictor_pos_embed": (1,), "mask_tokens.0": (24,), "mask_tokens.1": (24,)}
    predictor |= {"predictor_embed.weight": (24, 48), "predictor_embed.bias": (24,)}
    predictor |= {"predictor_proj.weight": (48, 24), "predictor_proj.bias": (48,)}
    theirs = filled(predictor | stack_shapes("predictor_blocks", 24, 2, "predictor_norm"))
    last = {f"norm.{kind}": theirs[f"predictor_norm.{kind}"] for kind in kinds}
    pretext.predictor.load_state_dict(last | of_stack(theirs, "predictor_blocks", ["block1", "block2"]))
    pretext.to_predictor.load_state_dict({kind: theirs[f"predictor_embed.{kind}"] for kind in kinds})
    pretext.from_predictor.load_state_dict({kind: theirs[f"predictor_proj.{kind}"] for kind in kinds})
    with torch.no_grad():
        pretext.mask_tokens[0].copy_(theirs["mask_tokens.0"])


def test_what_is_predicted_and_the_loss_are_those_of_the_published_code():
    size = {"width": 48, "depth": 2, "heads": 3, "frames": 8, "tubelet": (2, 16, 16)}
    more = {"frames": 8, "size": 64, "short_side": 64, "predictor_width": 24, "predictor_heads": 3}
    pretext = build_pretext("vjepa", build_backbone("vit", **size), OPTIONS | more | {"predictor_depth": 2})
    assert isinstance(pretext, VJEPA)
    pretext.double().eval()
    load_published(pretext)
    clip_BTCHW = torch.sin(0.37 * torch.arange(2 * 8 * 3 * 64 * 64, dtype=torch.float64)).view(2, 8, 3, 64, 64)
    inside = [16 * t + 4 * y + x for t in range(4) for y in (0, 1) for x in (0, 1, 2)]
    hidden_BM = torch.tensor([inside] * 2)
    kept_BK = torch.tensor([[n for n in range(64) if n not in inside]] * 2)
    with torch.no_grad():
        predicted_BMD = pretext._predict(clip_BTCHW.transpose(1, 2), kept_BK, hidden_BM, 0)
        wanted_BMD = of_ids(pretext._teach(clip_BTCHW.transpose(1, 2)), hidden_BM)
    assert predicted_BMD.abs().mean().item() == pytest.approx(0.4062762976393851, abs=1e-7)
    assert (predicted_BMD - wanted_BMD).abs().mean().item() == pytest.approx(0.9434606624929742, abs=1e-7)


def test_the_teacher_takes_no_gradient_and_follows_as_a_moving_average_that_slows_down():
    pretext = make()
    output = pretext(batch(), context())
    output.loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in pretext.teacher.parameters())
    first = [p.clone() for p in pretext.teacher.parameters()]
    with torch.no_grad():
        for p in pretext.backbone.parameters():
            p.add_(1)
    pretext.after_step(Progress(5, 10))
    for before, after in zip(first, pretext.teacher.parameters(), strict=True):
        torch.testing.assert_close(after, before + 0.05)  # a momentum of 0.95 half way
    assert pretext.momentum(Progress(10, 10)) == 1


def test_the_teacher_is_what_is_exported_and_is_in_no_group_of_the_optimiser():
    pretext = make()
    assert pretext.exported() is pretext.teacher
    trained = {id(p) for group in pretext.parameter_groups() for p in group.parameters}
    assert not trained & {id(p) for p in pretext.teacher.parameters()}


def test_a_frozen_teacher_has_the_weights_of_its_file_and_stays(tmp_path):
    other = network()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(0.5)
    file = tmp_path / "backbone.safetensors"
    save_tensors(file, other.state_dict(), {})
    pretext = make(teacher=f"frozen:{tmp_path}")
    pretext.fit([], np.random.default_rng(0))
    pretext.after_step(Progress(1, 10))
    for a, b in zip(pretext.teacher.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert pretext.exported() is pretext.backbone
    assert pretext(batch(), context()).loss > 0


def test_a_teacher_of_another_network_is_one_sentence(tmp_path):
    file = tmp_path / "backbone.safetensors"
    save_tensors(file, network(depth=2).state_dict(), {})
    with pytest.raises(UserError, match=r"The teacher frozen:.* cannot be used with vivit_tiny: .* does not fit"):
        make(teacher=f"frozen:{file}").fit([], np.random.default_rng(0))
    with pytest.raises(UserError, match="The teacher frozen:nowhere cannot be used"):
        make(teacher="frozen:nowhere").fit([], np.random.default_rng(0))


def test_a_training_goes_on_where_the_file_of_its_frozen_teacher_is_gone(tmp_path):
    gone = {"teacher": f"frozen:{tmp_path / 'gone'}"}
    pretext, videos, training = make(**gone), video_set(), TrainingConfig(batch_size=2, steps=40, workers=0)
    config = PretrainConfig(Choice("vjepa", gone), Choice("vivit_tiny", {}), training=training)
    given = (
        config,
        pretext,
        Lists(videos, VideoSet("none", ())),
        ClipDataset(videos, pretext, 0, drawn_frames),
        tmp_path,
    )
    with pytest.raises(UserError, match="cannot be used"):
        plan_of(*given)
    assert plan_of(*given, done=10).pace is None  # a checkpoint has it


def test_when_everything_is_one_point_the_rank_is_one(monkeypatch):
    pretext = make()
    monkeypatch.setattr(pretext, "_teach", lambda _clip: torch.randn(3, 32, 192))
    assert pretext(batch(), context()).metrics["rank"].item() > 50
    monkeypatch.setattr(pretext, "_teach", lambda _clip: torch.randn(1, 1, 192).expand(3, 32, 192))
    assert pretext(batch(), context()).metrics["rank"].item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"predictor_heads": 5}, "cannot have 5 heads"),
        ({"teacher": "other"}, "--pretext.teacher is ema or frozen:RUN, not 'other'"),
        ({"size": 30}, "do not fill clips"),
    ],
)
def test_what_cannot_be_is_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        make(**options)


def test_a_network_without_tokens_is_refused():
    with pytest.raises(UserError, match="reads any choice of a clip's patches, which tiny does not; choose"):
        build_pretext("vjepa", tiny_backbone(), OPTIONS)


def test_two_kinds_of_masks_have_a_learned_token_each():
    pretext: Pretext = make()
    output = pretext(batch(), context())
    output.loss.backward()
    assert [tuple(token.shape) for token in pretext.mask_tokens] == [(12,), (12,)]
    assert all(token.grad is not None and token.grad.any() for token in pretext.mask_tokens)
