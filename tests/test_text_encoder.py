"""A text encoder from a folder: a tiny one of random weights, and what is said where there is none."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.capabilities import Conditions, Sampling
from ssl_video.errors import UserError
from ssl_video.pretexts.base import build_pretext
from ssl_video.pretexts.text_encoder import TextEncoder
from tests.test_video_diffusion import OPTIONS, batch_of, captioned, context

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A BERT of two layers of 16 channels, as transformers writes it."""
    transformers = pytest.importorskip("transformers")
    out = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "dot", "fast", ","]
    (out / "vocab.txt").write_text("\n".join(words) + "\n")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(words), **sizes)
    transformers.BertModel(config).save_pretrained(out)
    transformers.BertTokenizer(str(out / "vocab.txt")).save_pretrained(out)
    return out


def pretext_with(folder: Path, text_dim: int = 16):
    torch.manual_seed(0)
    backbone = build_backbone("stunet", channels=(8, 16), frames=4, text_dim=text_dim)
    return build_pretext("video_diffusion", backbone, OPTIONS | {"captions": True, "encoder": str(folder)})


def test_each_text_has_the_states_of_its_tokens_and_is_read_alike_alone_and_in_company(folder):
    encoder = TextEncoder(str(folder))
    assert encoder.dim == 16
    pair = encoder.states(["a red dot", "blue"], CPU)
    assert pair.known_BL.sum(1).tolist() == [5, 3] and pair.states_BLE is not None  # with the two of its ends
    alone = encoder.states(["blue"], CPU)
    torch.testing.assert_close(pair.states_BLE[1:, :3], alone.states_BLE)
    assert not pair.states_BLE.requires_grad


def test_long_texts_are_cut_at_what_the_network_reads(folder):
    assert TextEncoder(str(folder)).states(["red " * 200], CPU).known_BL.shape == (1, 64)


def test_a_pretext_trains_on_the_states_and_keeps_the_encoder_out_of_its_weights(folder):
    pretext = pretext_with(folder)
    batch = batch_of(pretext, captioned())
    pretext.fit([{"caption_L": np.zeros(512, np.uint8)}], np.random.default_rng(0))
    pretext(batch, context()).loss.backward()
    assert all(p.grad is not None for p in pretext.parameters())
    assert all("backbone." in name for name in pretext.state_dict())
    assert pretext.takes_text and pretext.vocabulary == ()


def test_any_word_can_be_asked_for_and_other_words_draw_another_video(folder):
    pretext = pretext_with(folder)
    for tensor in pretext.parameters():
        if not tensor.any():
            torch.nn.init.normal_(tensor, std=0.1)
    one, other = (
        pretext.generate((1, 4, 16, 16), Conditions((text,)), Sampling(steps=2), torch.Generator().manual_seed(0))
        for text in ("a red dot", "zebra")
    )
    assert not torch.equal(one, other)


def test_a_network_for_other_states_is_told_which_it_needs(folder):
    with pytest.raises(UserError, match=r"states of 16 channels; use --backbone\.text-dim 16"):
        pretext_with(folder, text_dim=8)


def test_a_folder_that_is_missing_or_no_encoder_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="There is no folder nowhere with a text encoder"):
        TextEncoder("nowhere")
    pytest.importorskip("transformers")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="is no text encoder that transformers reads") as error:
        _ = TextEncoder(str(tmp_path)).dim
    assert "\n" not in str(error.value)


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"A text encoder needs the package transformers: .*\[text\]"):
        _ = TextEncoder(str(tmp_path)).dim
