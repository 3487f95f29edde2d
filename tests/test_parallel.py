"""Networks that are divided among processes, activations that are computed again, and parts that are compiled."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.errors import UserError
from ssl_video.run import Run
from ssl_video.tensors import load_tensors
from ssl_video.train import parts as parts_module
from ssl_video.train.config import TrainingConfig
from ssl_video.train.data import ClipDataset
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import train
from ssl_video.train.parallel import check
from ssl_video.train.parts import named_parts, parts_of, set_passes
from tests import warm
from tests.nets import drawn_frames, tiny_backbone, video_set
from tests.parallel_script import CUT, STEPS, config_for, pretext_called, weights_after
from tests.train_script import config_for as small_config
from tests.train_script import make_pretext

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What one process and two make of the same training, and the folder of the runs."""
    folder = tmp_path_factory.mktemp("parallel")
    weights_after(folder / "one", config_for(STEPS), Ranks(), stop=CUT)
    warm.run_together([str(ROOT / "tests" / "parallel_script.py"), str(folder)])
    found = torch.load(folder / "found.pt", weights_only=True)
    found["one"] = weights_after(folder / "whole", config_for(STEPS), Ranks())
    return folder, found


def assert_alike(one, other, atol: float) -> None:
    for part in ("pretext", "counts"):
        assert one[part].keys() == other[part].keys()
        for name, x in one[part].items():
            assert torch.allclose(x, other[part][name], rtol=0, atol=atol), f"{part} {name}"


def test_two_processes_with_shards_learn_what_one_process_learns(trained):
    folder, found = trained
    assert_alike(found["one"], found["sharded"], 1e-6)
    one, two = ([r["loss"] for r in Run(folder / name).records()] for name in ("whole", "sharded"))
    assert one == pytest.approx(two, rel=1e-6) and len(one) == STEPS


def test_a_process_holds_about_half_of_weights_average_and_optimiser(trained):
    for rank in (0, 1):
        here, everywhere = json.loads((trained[0] / f"said-{rank}.json").read_text())["held"]
        assert 0.3 * everywhere < here <= 0.6 * everywhere


def test_monitors_see_all_of_the_network_on_every_process(trained):
    folder, found = trained
    seen = [json.loads((folder / f"said-{rank}.json").read_text())["seen"] for rank in (0, 1)]
    assert seen[0] == seen[1] == pytest.approx(found["one"]["seen"]["sums"].tolist(), rel=1e-6)


def test_a_sharded_training_is_resumed_bit_for_bit(trained):
    _, found = trained
    assert_alike(found["sharded"], found["resumed"], 0.0)


def test_checkpoints_of_two_processes_are_resumed_by_one_and_the_other_way_round(trained):
    folder, found = trained
    assert json.loads((folder / "said-0.json").read_text())["kept"] == ["step_00000002", "step_00000004"]
    assert_alike(found["one"], found["from one"], 1e-6)
    assert_alike(found["one"], weights_after(folder / "for_one", config_for(STEPS), Ranks()), 1e-6)


def test_the_first_process_alone_reads_a_file(trained):
    said = [json.loads((trained[0] / f"said-{rank}.json").read_text())["files read"] for rank in (0, 1)]
    assert said == [1, 0]


def test_what_is_exported_are_the_weights_of_a_run_without_shards(trained):
    one, sharded = (Run(trained[0] / name) for name in ("whole", "sharded"))
    for file, other in ((one.backbone_file, sharded.backbone_file), (one.pretext_file, sharded.pretext_file)):
        a, b = load_tensors(file)[0], load_tensors(other)[0]
        assert a.keys() == b.keys()
        assert all(torch.allclose(a[name], b[name], rtol=0, atol=1e-6) for name in a)


def test_batch_norms_and_accumulated_gradients_are_with_shards_what_they_are_without(trained):
    _, found = trained
    assert_alike(found["copies"], found["shards"], 1e-9)
    assert any(name.endswith("running_var") for name in found["copies"]["pretext"])


def test_gradients_of_bf16_are_rounded(trained):
    _, found = trained
    assert_alike(found["copies"], found["bf16"], 1e-2)
    weights = [found[name]["pretext"]["projector.0.weight"] for name in ("copies", "bf16")]
    assert not torch.equal(*weights)


class Noisy(nn.Module):
    """Dropout and batch norm in two layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv3d(8, 8, 1), nn.BatchNorm3d(8), nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(self.norm(self.conv(x)).relu())


@pytest.mark.parametrize("names", ["all", "second", "stem,first"])
def test_activations_computed_again_change_no_gradient_and_no_statistic(names):
    kept = tiny_backbone(8, first=Noisy(), second=Noisy()).train()
    again = copy.deepcopy(kept)
    set_passes(again, named_parts(again, names), compiled=False)
    clip_BCTHW = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for network in (kept, again):
        torch.manual_seed(5)
        (network(clip_BCTHW).square().mean() + network(2 * clip_BCTHW).mean()).backward()
    for (name, p), q in zip(kept.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name
    assert kept.state_dict().keys() == again.state_dict().keys()
    for (name, x), y in zip(kept.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(x, y), name
    assert kept.stages["first"].norm.num_batches_tracked == 2


def saved_bytes(network: nn.Module, clip_BCTHW: torch.Tensor) -> int:
    """What autograd keeps for the gradient."""
    kept: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.update({x.data_ptr(): x.nbytes}) or x, lambda x: x):
        network(clip_BCTHW).sum()
    return sum(kept.values())


@pytest.mark.parametrize("name", ["vit", "vivit_tiny", "timesformer_tiny"])
def test_a_transformer_keeps_less_where_its_blocks_are_computed_again(name):
    network = build_backbone(name, frames=4, side=16, tubelet=(2, 8, 8), depth=2)
    clip_BCTHW = torch.zeros(1, 3, 4, 16, 16)
    before = saved_bytes(network, clip_BCTHW)
    set_passes(network, named_parts(network, "block1,block2"), compiled=False)
    assert saved_bytes(copy.deepcopy(network), clip_BCTHW) < 0.7 * before


def test_a_part_that_is_not_there_is_a_sentence():
    with pytest.raises(UserError, match=r"^--checkpoint-activations layer2: .* has no part 'layer2'; .*stem"):
        named_parts(tiny_backbone(), "layer2")


def test_teachers_and_heads_have_parts_too():
    pretext = pretext_called("vjepa")
    blocks = [*pretext.backbone.network.stack, *pretext.teacher.network.stack, pretext.predictor.block1]
    assert set(parts_of(pretext)) == set(blocks)


def test_a_compiled_training_is_resumed_without_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "BACKEND", "eager")  # what is traced, without a compiler
    parts_module._compiled.cache_clear()
    ends = []
    for folder, trainings in (("plain", [(3, False)]), ("mixed", [(1, True), (2, False), (3, True)])):
        for steps, on in trainings:
            pretext = make_pretext()
            options = {"compile": on, "checkpoint_activations": "all" if on else ""}
            config = replace(small_config(0, 3, **options), monitor_every=1)
            dataset = ClipDataset(video_set(), pretext, 0, drawn_frames)
            monitors = [lambda _counts, step, last=steps: {"stop": 1.0} if step == last else {}]
            train(pretext, dataset, config, Run(tmp_path / folder), monitors=monitors)
        ends.append(pretext.state_dict())
    assert ends[1].keys() == ends[0].keys()
    assert all(torch.allclose(x, ends[1][name], atol=1e-5) for name, x in ends[0].items())


def test_no_compiler_is_a_sentence(monkeypatch):
    monkeypatch.setattr(parts_module.shutil, "which", lambda _name: None)
    with pytest.raises(UserError, match=r"^--compile needs a C\+\+ compiler"):
        set_passes(tiny_backbone(), [], compiled=True)


def test_what_cannot_be_sharded_is_refused(monkeypatch):
    two = Ranks(0, 2)
    with pytest.raises(UserError, match="give --steps or --epochs, not --minutes"):
        check(TrainingConfig(minutes=1.0, shard=True), two)
    from ssl_video.train.sharding import check_shardable

    network = nn.Linear(2, 2)
    network.scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UserError, match="single number scale"):
        check_shardable(network)
