"""``ssl-video weights FILE``: which published file a file is, and what would become of it."""

import json

import pytest
import torch

from ssl_video.apps.catalogue import lines_of
from ssl_video.apps.weights_file import identify
from ssl_video.backbones.base import build_backbone
from ssl_video.cli import main
from ssl_video.errors import UserError
from ssl_video.model.loading import load_model
from ssl_video.tensors import save_tensors
from tests import published
from tests.published import drawn, wide


@pytest.fixture
def file(tmp_path):
    """MAE-ST's, tiny."""
    torch.save({"model_state": drawn(wide(published.mae_st()))}, tmp_path / "mae & st.pth")
    return tmp_path / "mae & st.pth"


def test_a_file_is_recognised_and_its_command_names_a_model_that_loads(file):
    (fit,) = identify(file).fits
    assert fit.key == "vit/mae_st-k400" and fit.usable and fit.options["frames"] == 8
    assert set(fit.left_out) == {"decoder_embed.weight", "mask_token", "decoder_pos_embed_class"}
    model = load_model(fit.model)
    assert len(fit.loaded) == len(model.backbone.state_dict()) and model.trained_on == {"kinetics400:train"}
    assert fit.model in fit.command and fit.command.startswith("ssl-video evaluate")


def test_the_command_prints_entry_licence_what_is_left_out_and_what_to_type(file, capsys):
    assert main(["weights", str(file)]) == 0
    said = capsys.readouterr().out
    for words in ("vit/mae_st-k400: trained on Kinetics-400", "CC-BY-NC-4.0", "left out   ", "missing    none"):
        assert words in said
    assert "use it     ssl-video evaluate knn --model 'net:vit?weights=mae_st-k400:" in said
    assert main(["weights", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"][0]["entry"] == "vit/mae_st-k400"


def test_what_is_missing_or_too_much_is_said_before_anything_is_loaded(tmp_path, capsys):
    weights = drawn(wide(published.mae_st()))
    del weights["blocks.1.mlp.fc2.bias"]
    torch.save(weights | {"stranger": torch.ones(3)}, tmp_path / "w.pth")
    (fit,) = identify(tmp_path / "w.pth").fits
    assert not fit.usable
    assert fit.missing == ("network.stack.1.mlp.3.bias",) and fit.unexpected == ("stranger",)
    assert main(["weights", str(tmp_path / "w.pth")]) == 0
    assert "refused    tensors are missing" in capsys.readouterr().out


def test_heads_that_no_tensor_tells_are_asked_for(tmp_path):
    torch.save(drawn(published.mae_st()), tmp_path / "w.pth")
    (fit,) = identify(tmp_path / "w.pth").fits
    assert not fit.usable and "No tensor tells the heads of a network of width 48" in fit.problem
    with pytest.raises(UserError, match=r"width 48; give them \(weights=FILE&heads=N\)"):
        build_backbone("vit", weights=str(tmp_path / "w.pth"))
    assert build_backbone("vit", weights=str(tmp_path / "w.pth"), heads="3").provenance.options["heads"] == 3


def test_all_entries_that_a_file_may_be_of_are_said(tmp_path):
    torch.save(drawn(wide(published.videomae())), tmp_path / "w.pth")
    assert [fit.key for fit in identify(tmp_path / "w.pth").fits] == [
        "vit/videomae-k400",
        "vit/videomae-ssv2",
        "vit/videomae-ucf101",
    ]


def test_a_file_of_ours_is_said_to_be_a_model_and_an_unknown_one_to_be_unknown(tmp_path, capsys):
    backbone = build_backbone("r3d_10", width=4)
    save_tensors(tmp_path / "b.safetensors", backbone.state_dict(), {"architecture": "r3d_10"})
    assert identify(tmp_path / "b.safetensors").ours == "r3d_10"
    torch.save({"conv.weight": torch.ones(2)}, tmp_path / "w.pth")
    assert main(["weights", str(tmp_path / "w.pth")]) == 0
    assert "no published file that is known here" in capsys.readouterr().out


def test_what_is_no_file_of_weights_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="is a folder; name the file"):
        identify(tmp_path)
    with pytest.raises(UserError, match="There is no file of weights"):
        identify(tmp_path / "none.pth")
    torch.save(drawn(published.vjepa() | {"blocks.0.attn.scale": (3,)}), tmp_path / "w.pth")
    with pytest.raises(UserError, match="cosine attention"):
        identify(tmp_path / "w.pth")


def test_the_list_of_weights_says_clips_pixels_licence_and_what_is_unchecked():
    lines = lines_of("weights")
    pixels = "mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
    assert f"16 frames, stride 4; {pixels}; CC-BY-NC-4.0" in lines["vit/videomae-k400"]
    assert "; unchecked; of a file that you have" in lines["slow_r50/pyslowfast-k400"]
    assert "checked: parity with transformers' VJEPA2Model" in lines["vit/vjepa2"]
