"""What version 0.1 wrote still opens: a run, its export, and (in test_search) an index, all made by it."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import ssl_video as sv
from ssl_video.eval.features import Extraction, extract
from ssl_video.pretrain_config import PretrainConfig
from ssl_video.pretraining import untrained
from ssl_video.tensors import load_tensors
from ssl_video.train.lists import lists_of
from tests.nets import video_set

MADE = Path(__file__).parent / "made_by_0_1"


@pytest.fixture
def run(tmp_path):
    return sv.Run(Path(shutil.copytree(MADE / "run", tmp_path / "run")))


def test_a_run_is_a_model_with_its_pretext(run):
    model = sv.load_model(str(run))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.pretext is not None and model.pretext.backbone is model.backbone
    weights, _ = load_tensors(run.backbone_file)
    assert sorted(x.sum().item() for x in weights.values()) == sorted(
        x.sum().item() for x in model.backbone.state_dict().values()
    )
    assert model.view.frames == 8 and model.backbone.feature_dim == 32


def test_its_export_has_the_same_network(run):
    ours, exported = (sv.load_model(str(path)).backbone.state_dict() for path in (run, MADE / "export"))
    assert all(torch.equal(ours[k], exported[k]) for k in ours)


def test_its_configuration_is_read_and_repeats_itself(run):
    config = PretrainConfig.from_mapping(run.config())
    assert config.pretext.name == "speediness" and config.backbone.options["width"] == 4
    assert (config.training.steps, config.training.optim.lr, config.data.spec) == (4, 1e-3, "drawn")
    assert PretrainConfig.from_mapping(config.to_mapping()) == config


def test_its_checkpoint_is_of_the_network_as_it_is_now(run):
    from ssl_video.train.config import TrainingConfig
    from ssl_video.train.data import ClipDataset
    from ssl_video.train.loop import train

    config = PretrainConfig.from_mapping(run.config())
    pretext = untrained(config)
    training: TrainingConfig = config.training
    before = sv.load_model(str(run)).backbone.state_dict()
    trained = train(pretext, ClipDataset(video_set(), pretext, 0), training, run)  # at its last step already
    after = trained.backbone.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_it_noted_no_lists_so_that_they_are_chosen_from_its_data(run):
    config = PretrainConfig.from_mapping(run.config())
    assert run.lists() is None
    with pytest.raises(sv.UserError, match="no file or folder 'drawn'"):
        lists_of(run, config.data, untrained(config), print)


def test_its_features_are_the_same_as_then(run, monkeypatch):
    from ssl_video.eval import features
    from tests.nets import drawn_frames

    monkeypatch.setattr(features, "read_video", drawn_frames)
    found = extract(sv.load_model(str(run)), video_set(3), Extraction(2), workers=0)
    then_N4 = [
        [0.0, 0.024548, 0.0, 0.00298],
        [0.0, 0.024532, 0.0, 0.003621],
        [0.0, 0.024292, 0.0, 0.003382],
    ]  # printed by version 0.1
    assert found.mean_ND[:, :4] == pytest.approx(np.array(then_N4), abs=1e-5)
