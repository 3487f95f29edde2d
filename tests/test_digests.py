"""Digests of very many videos: a set like any other, in a file beside the weights that it belongs to."""

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video import digests as digests_module
from ssl_video.apps.export import export
from ssl_video.digests import FEW, Digests
from ssl_video.errors import UserError
from ssl_video.model import load_model, seen_among
from ssl_video.run import Run
from ssl_video.tensors import load_tensors, save_tensors
from ssl_video.video.view import View
from tests.nets import video_set

texts = st.sets(
    st.integers(0, 5).map("{:016x}".format) | st.integers(0, 5).map("{:08x}".format) | st.sampled_from("ab:c")
)


@settings(deadline=None, max_examples=60)
@given(texts, texts)
def test_digests_are_a_set_of_the_texts_that_they_were_made_of(one, other):
    a, b = Digests.of(one), Digests.of(other)
    assert (set(a), len(a), a == one, one == a) == (one, len(one), True, True)
    assert [(a | b), (one | b), (a | other)] == [one | other] * 3
    assert (a & b, a - b, a <= b) == (one & other, one - other, one <= other)
    assert [text in a for text in sorted(one | other)] == [text in one for text in sorted(one | other)]
    assert copy.deepcopy(a) == pickle.loads(pickle.dumps(a)) == one


@pytest.fixture
def many(monkeypatch):
    """More digests than a header holds, some of names, as version 0.1 wrote them."""
    monkeypatch.setattr(digests_module, "FEW", 3)
    return {"0" * 15 + "a", "f" * 16, "0" * 8, "515acc18", "odd", "1" * 16}


def saved(folder, videos):
    save_tensors(folder / "w.safetensors", {"x": torch.zeros(2)}, {"videos": Digests.of(videos), "lists": ["a:b"]})
    return folder / "w.safetensors"


def test_many_digests_lie_beside_the_weights_and_are_read_back(tmp_path, many):
    header = load_tensors(saved(tmp_path, many))[1]
    (file,) = tmp_path.glob("videos-*.npy")
    assert header["videos"] == many and header["lists"] == ["a:b"]
    assert np.load(file).dtype == np.uint64 and len(np.load(file)) == 5


def test_few_digests_are_texts_in_the_header(tmp_path):
    header = load_tensors(saved(tmp_path, {"f" * 16, "0" * 8}))[1]
    assert header["videos"] == ["0" * 8, "f" * 16] and not list(tmp_path.glob("*.npy"))


def test_weights_without_their_file_of_digests_serve_until_these_are_asked_for(tmp_path, many):
    path = saved(tmp_path, many)
    (file,) = tmp_path.glob("videos-*.npy")
    file.unlink()
    header = load_tensors(path)[1]
    with pytest.raises(UserError, match=rf"^There is no file .*{file.name}; bring {file.name} back: it lay beside"):
        seen_among(video_set(1).videos, header["videos"])


def test_a_file_of_digests_that_was_altered_is_refused(tmp_path, many):
    path = saved(tmp_path, many)
    (file,) = tmp_path.glob("videos-*.npy")
    np.save(file, np.load(file) + np.uint64(1))
    with pytest.raises(UserError, match=r"is damaged \(it was altered"):
        len(load_tensors(path)[1]["videos"])


@pytest.mark.parametrize("noted", [{"beside": "../videos.npy", "short": 0, "others": []}, {"beside": 1}, "all", [1]])
def test_a_header_that_names_another_file_is_damaged(tmp_path, noted):
    save_tensors(tmp_path / "w.safetensors", {"x": torch.zeros(2)}, {"videos": noted})
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_tensors(tmp_path / "w.safetensors")


def test_what_is_made_of_a_network_carries_its_digests_on(tmp_path, many):
    model = replace(load_model("random:r2plus1d_4?width=2"), view=View(4, 2, 18, 16))
    model.backbone.provenance = replace(model.backbone.provenance, trained_on=Digests.of(many))
    export(model, tmp_path / "exported", "safetensors")
    assert load_model(tmp_path / "exported").trained_on == many
    assert "videos" not in json.loads((tmp_path / "exported" / "config.json").read_text())


def test_a_run_on_more_videos_than_a_header_holds_is_written_and_read_back(tmp_path):
    seen = {f"{number:016x}" for number in range(2 * FEW)} | {"ucf101:train1"}
    run = Run(tmp_path)
    run.note_seen_before(seen)
    tensors = {"x": torch.zeros(2)}
    run.save_weights(tensors, tensors, {"videos": Digests.of(seen)})
    assert run.seen_before() == seen and run.header()["videos"] == seen
    sizes = {path.suffix: path.stat().st_size for path in tmp_path.iterdir() if path.is_file()}
    assert sizes[".npy"] < 8 * len(seen) + 200 and sizes[".safetensors"] < 1000
