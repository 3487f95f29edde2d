"""Names to models: runs, files, published weights, fresh ones; and what loads when parts of a run do not."""

import json
import warnings
from dataclasses import dataclass, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ssl_video.backbones.base import Backbone, ClipSpec, Tap, build_backbone
from ssl_video.backbones.weights import WEIGHTS, Entry
from ssl_video.capabilities import TokenNetwork, Tokens
from ssl_video.cli.pretrain_command import configure
from ssl_video.errors import UserError
from ssl_video.eval.base import Task, evaluate
from ssl_video.model import Model, load_backbone, load_model, untrained_twin
from ssl_video.model.loading import anywhere
from ssl_video.pretexts.base import PRETEXTS, Output, Pretext, View, build_pretext
from ssl_video.pretrain_config import Choice, PretrainConfig
from ssl_video.pretraining import write_weights
from ssl_video.run import Run
from ssl_video.tensors import load_tensors, save_tensors
from tests import speed_run
from tests.nets import video_set

NET = "r2plus1d_4?width=2"


@pytest.fixture
def run(tmp_path):
    return speed_run.save(tmp_path / "run")


@pytest.fixture
def weights(tmp_path):
    """A file of tensors that says nothing of itself."""
    torch.manual_seed(5)
    torch.save(build_backbone("r2plus1d_4", width=2).state_dict(), tmp_path / "their+own.pth")
    return tmp_path / "their+own.pth"


def rewritten(path, change):
    """Change the tensors of a file and keep its header, but for the digest, which version 0.1 did not write."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["ssl_video"])
    del header["sha256"]
    save_file(change(load_file(path)), path, {"ssl_video": json.dumps(header)})


def of_version_01(tensors):
    """The names that version 0.1 gave them; it wrote of a pretext the heads alone."""
    return {k.replace("network.", "stages.", 1): v for k, v in tensors.items() if not k.startswith("backbone.")}


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_net_has_the_weights_of_the_file_and_random_has_fresh_ones(weights):
    model = load_model(f"net:{NET}&weights={weights}")
    assert torch.equal(next(model.backbone.parameters()), next(iter(torch.load(weights).values())))
    assert not torch.equal(next(load_model(f"random:{NET}").backbone.parameters()), next(model.backbone.parameters()))


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("random:r2plus1d_4?width=2&weights=W", "write net:r2plus1d_4?width=2&weights=W"),
        ("net:r2plus1d_4?width=2", "names no weights; write net:r2plus1d_4?weights=FILE, or random:r2plus1d_4"),
        ("net:r2plus1d_4?weights=nowhere.pth", "There is no file of weights nowhere.pth"),
        ("net:r3d_10?weights=k400", "No published weights of r3d_10 are known"),
        ("net:r2plus1d_4?weights=k400", "There are no weights 'k400' of r2plus1d_4; "),
        ("net:r2plus1d4?weights=k400", "did you mean 'r2plus1d_4'"),
    ],
)
def test_a_name_that_means_nothing_is_answered_with_what_to_write(spec, answer):
    with pytest.raises(UserError) as error:
        load_model(spec)
    assert answer in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_does_not_name_its_network_is_answered_with_what_to_write(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=f"write net:NAME\\?weights={path}"):
        load_model(str(path))


def test_a_file_cut_off_is_not_taken_for_one_of_others(run):
    file = run / "backbone.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_model(str(run))


@pytest.mark.parametrize("kind", ["", "random:"])
@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ("widht=2", "has no option 'widht'; did you mean 'width'"),
        ("weights=other.pth", "has weights of its own; for those of another file, write net:NAME"),
    ],
)
def test_an_option_that_a_run_cannot_have_is_answered_with_what_to_write(run, kind, options, answer):
    with pytest.raises(UserError, match=answer):
        load_model(f"{kind}{run}?{options}")


def test_an_option_that_the_weights_of_a_run_do_not_allow_is_refused(run):
    with pytest.raises(UserError, match="fit"):
        load_model(f"{run}?width=4")
    assert load_model(f"random:{run}?width=4").backbone.feature_dim == 2 * load_model(str(run)).backbone.feature_dim


def test_a_run_with_a_question_mark_in_its_name_is_found(run):
    asks = run.rename(run.with_name("which?width=3"))
    assert same(load_model(str(asks)).backbone, load_model(f"{asks}?width=2").backbone)


@pytest.mark.parametrize("kind", ["", "random:"])
def test_a_run_with_options_is_known_in_any_folder(run, kind, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert anywhere(f"{kind}run?width=2") == f"{kind}{run}?width=2"


@pytest.mark.parametrize(
    ("spec", "twin"),
    [
        ("runs/a", "random:runs/a"),
        ("random:r3d_10", "random:r3d_10"),
        ("net:r2plus1d_4?weights=/a b.pth&width=4", "random:net:r2plus1d_4?weights=/a b.pth&width=4"),
    ],
)
def test_the_untrained_twin_is_the_same_network_with_fresh_weights(spec, twin):
    assert untrained_twin(spec) == twin


@pytest.fixture
def entry(weights, monkeypatch):
    """Published weights of a network with options, trained on other pixels and slower clips."""
    made = Entry(
        str(weights),
        options={"width": 2, "strides_t": (2, 2, 2, 1)},
        mean=(0.1, 0.2, 0.3),
        std=(1.0, 1.0, 2.0),
        frames=6,
        stride=3,
        licence="CC0",
        trained_on="nothing",
    )
    WEIGHTS.names()
    monkeypatch.setitem(WEIGHTS._members, "r2plus1d_4/tiny", made)
    return made


def test_an_entry_brings_options_statistics_and_clips_of_its_network(entry):
    model = load_model("net:r2plus1d_4?weights=tiny")
    assert model.backbone.provenance.entry == entry and model.backbone.provenance.options["width"] == 2
    assert (model.backbone.clip.mean, model.backbone.clip.std) == (entry.mean, entry.std)
    assert (model.view.frames, model.view.stride) == (6, 3)
    twin = untrained_twin("net:r2plus1d_4?weights=tiny")
    untrained = load_model(twin)
    assert (untrained.backbone.clip, untrained.view) == (model.backbone.clip, model.view)
    ours, theirs = untrained.backbone.state_dict(), model.backbone.state_dict()
    assert ours.keys() == theirs.keys() and not all(torch.equal(v, ours[k]) for k, v in theirs.items())


def test_the_twin_of_a_file_needs_no_file():
    assert load_model("random:net:r2plus1d_4?weights=gone.pth&width=4").backbone.feature_dim == 32


def test_a_training_starts_from_an_entry_with_its_options(entry):
    config = PretrainConfig(backbone=Choice("r2plus1d_4", {"weights": "tiny"}))
    assert config.backbone.options["width"] == 2
    assert PretrainConfig.from_mapping(config.to_mapping()) == config
    flags = configure(["--backbone", "r2plus1d_4", "--backbone.weights", "tiny", "--data", "x"])
    assert flags.config.backbone.options == config.backbone.options


def test_a_run_that_started_from_an_entry_keeps_its_statistics(entry, tmp_path):
    pretext = build_pretext("speediness", build_backbone("r2plus1d_4", weights="tiny"), {"frames": 4})
    write_weights(Run(tmp_path), pretext)
    for spec in (str(tmp_path), f"random:{tmp_path}"):
        assert load_model(spec).backbone.clip.mean == entry.mean


@pytest.mark.parametrize("spec", ["{run}", "random:{run}", "random:r2plus1d_4", "{run}/backbone.safetensors"])
def test_a_loaded_backbone_is_in_eval_mode(run, spec):
    backbone = load_backbone(spec.format(run=run))
    assert not any(m.training for m in backbone.modules())


def test_a_run_of_version_01_is_loaded_with_its_heads(run, tmp_path):
    before = load_model(str(run))
    for name in ("backbone", "pretext"):
        rewritten(run / f"{name}.safetensors", of_version_01)
    after = load_model(str(run))
    assert same(before.backbone, after.backbone) and same(before.pretext, after.pretext)
    started = build_backbone("r2plus1d_4", width=2, strides_t=(1, 1, 2, 1), weights=f"{run}/backbone.safetensors")
    assert same(before.backbone, started)


def test_a_student_that_was_exported_is_one_with_the_backbone(run):
    model = load_model(str(run))
    assert model.pretext.backbone is model.backbone


def test_a_student_beside_an_exported_teacher_has_weights_of_its_own(run):
    teacher = load_model(str(run)).backbone
    of_student = {f"backbone.{k}": v + 1 for k, v in teacher.state_dict().items()}
    rewritten(run / "pretext.safetensors", lambda whole: whole | of_student)
    model = load_model(str(run))
    assert same(model.backbone, teacher) and not model.backbone.training
    for key, value in model.pretext.backbone.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[key] + 1)


def test_heads_that_are_not_finite_are_left_out_with_a_warning_and_not_tested(run):
    rewritten(run / "pretext.safetensors", lambda whole: {k: v * float("nan") for k, v in whole.items()})
    with pytest.warns(UserWarning, match=r"left out.*pretext\.safetensors cannot be used: NaN"):
        model = load_model(str(run))
    assert model.pretext is None and all(p.isfinite().all() for p in model.backbone.parameters())
    with pytest.raises(UserError, match="the file of its pretext 'speediness' is missing, or was left out"):
        evaluate("pretext", model, Task("drawn", 1, video_set(), None))


@pytest.mark.parametrize("spoil", [lambda v: v * float("nan"), lambda v: v.int()])
def test_a_run_whose_network_is_not_finite_names_its_file(run, spoil):
    rewritten(run / "backbone.safetensors", lambda whole: {k: spoil(v) for k, v in whole.items()})
    with pytest.raises(UserError, match=r"backbone\.safetensors cannot be used: .* in \d+ of \d+ tensors \(the"):
        load_model(str(run))


@dataclass(frozen=True)
class LampConfig:
    """Options."""

    watts: int = 60
    """How bright."""


class Lamp(Pretext):
    """A pretext of a notebook."""

    Config = LampConfig

    def __init__(self, config, backbone):
        super().__init__(config, backbone)
        self.head = nn.Linear(backbone.feature_dim, 1)

    @property
    def view(self):
        return View(4, 1, 18, 16)

    def sample(self, video, stats, rng):
        raise NotImplementedError

    def transform(self, frames_THWC, sample, rng):
        raise NotImplementedError

    def forward(self, batch, ctx):
        return Output(torch.zeros(()), {}, None)


@pytest.fixture
def lamp(tmp_path, monkeypatch):
    """A run of a pretext that nobody knows any more."""
    pretext = Lamp(LampConfig(), build_backbone("r2plus1d_4", width=2))
    with monkeypatch.context() as known:
        PRETEXTS.names()
        known.setitem(PRETEXTS._members, "lamp", Lamp)
        write_weights(Run(tmp_path / "lamp"), pretext)
    return tmp_path / "lamp", pretext


def test_backbone_and_view_load_without_their_pretext(lamp):
    folder, pretext = lamp
    with pytest.warns(UserWarning, match="pretext is left out.*no pretext called 'lamp'") as warned:
        model = load_model(str(folder))
    assert len(warned) == 1
    assert model.pretext is None and model.view == pretext.view and same(model.backbone, pretext.backbone)
    with pytest.warns(UserWarning, match="lamp"):
        assert load_model(f"random:{folder}").view == pretext.view


def test_a_pretext_that_is_known_again_loads_without_a_warning(lamp, monkeypatch):
    folder, pretext = lamp
    PRETEXTS.names()
    monkeypatch.setitem(PRETEXTS._members, "lamp", Lamp)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load_model(str(folder)).pretext, pretext)


def test_options_that_a_pretext_has_no_more_leave_it_out(run):
    for name in ("backbone", "pretext"):
        tensors, header = load_tensors(run / f"{name}.safetensors")
        header["pretext"]["options"]["was_removed"] = 1
        save_tensors(run / f"{name}.safetensors", tensors, header)
    with pytest.warns(UserWarning, match="no option 'was_removed'"):
        assert load_model(str(run)).pretext is None


class Patches(nn.Module):
    """A token network with a class token, which is the mean of the tokens that it sees."""

    def __init__(self, class_token=True):
        super().__init__()
        self.projection, self.class_token = nn.Linear(3, 4), class_token

    def embed(self, clip_BCTHW, keep_BK=None):
        x_BND = self.projection(clip_BCTHW.flatten(2).transpose(1, 2))
        ids_BN = torch.arange(x_BND.shape[1]).expand(len(x_BND), -1)
        if self.class_token:
            x_BND, ids_BN = (torch.cat([t[:, :1], t], 1) for t in (x_BND, ids_BN))
            ids_BN = torch.cat([-torch.ones_like(ids_BN[:, :1]), ids_BN[:, 1:]], 1)
        return Tokens(x_BND, ids_BN, tuple(clip_BCTHW.shape[2:]))

    def blocks(self, tokens):
        mean_B1D = tokens.x_BND[:, 1:].mean(1, keepdim=True)
        return replace(tokens, x_BND=torch.cat([mean_B1D, tokens.x_BND[:, 1:]], 1))

    def forward(self, clip_BCTHW):
        return self.blocks(self.embed(clip_BCTHW)).map_BDthw()


def patches(**options):
    net = Patches(**options)
    backbone = Backbone(net, {"map": Tap(net, 4, (1, 1, 1))}, clip=ClipSpec(frames=2, size=4, min_size=4))
    return Model("patches", backbone.eval(), View(2, 1, 4, 4), {}, torch.device("cpu"))


def test_the_class_token_is_read_where_there_is_one():
    model, clips = patches(), torch.randint(0, 256, (3, 2, 4, 4, 3), dtype=torch.uint8)
    assert model.need(TokenNetwork) is model.backbone.network
    found = model.clip_features(clips, "cls")
    assert torch.allclose(found, model.clip_features(clips, "avg"), atol=1e-5) and not found.requires_grad


@pytest.mark.parametrize("model", [patches(class_token=False), None])
def test_a_network_without_a_class_token_says_so(model):
    model = model or load_model("random:r2plus1d_4")
    size = model.view.size
    clips = torch.zeros(1, model.view.frames, size, size, 3, dtype=torch.uint8)
    with pytest.raises(UserError, match="no class token to read; take one of avg, max"):
        model.clip_features(clips, "cls")


def test_a_model_that_reads_no_tokens_says_what_is_needed():
    with pytest.raises(UserError, match=r"reads any choice of a clip's patches.*and random:r2plus1d_4 does not"):
        load_model("random:r2plus1d_4").need(TokenNetwork)
