"""The examples of docs/python.md and of the how-tos run, and what a notebook trained is of use elsewhere."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import ssl_video as sv
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.pretexts.base import PRETEXTS
from tests import warm

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def examples_of(text: str) -> list[str]:
    """What a page shows as Python."""
    return re.findall(r"```python\n(.*?)```", text, re.S)


EXAMPLES = examples_of(PAGE)
HOWTOS = [page for page in sorted((ROOT / "docs" / "howto").glob("*.md")) if examples_of(page.read_text("utf-8"))]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which all examples were run, and their names."""
    folder = tmp_path_factory.mktemp("page")
    synthesize(folder / "videos", SyntheticConfig(train=8, test=8, size=48, frames=100))
    names: dict = {"__name__": "notebook"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(PRETEXTS, "_members", {name: PRETEXTS[name] for name in PRETEXTS.names()})
        for example in EXAMPLES:
            exec(compile(example, "docs/python.md", "exec"), names)
        yield folder, names


def test_there_are_ten_examples_and_all_of_them_run(ran):
    _, names = ran
    assert len(re.findall(r"^## \d+\. ", PAGE, re.M)) == 10
    assert names["run"].finished and names["own"].finished and len(names["moments"]) == 3
    assert names["z_ND"].shape == (3, 32) and names["rows"][0]["protocol"] == "knn"


@pytest.mark.parametrize("page", HOWTOS, ids=lambda page: page.stem)
def test_the_examples_of_a_howto_run_in_their_order(ran, monkeypatch, page):
    folder, _ = ran
    monkeypatch.chdir(folder)
    monkeypatch.setattr(PRETEXTS, "_members", dict(PRETEXTS._members))
    names: dict = {"__name__": "notebook"}
    for example in examples_of(page.read_text("utf-8")):
        exec(compile(example, str(page), "exec"), names)
    assert "sv" in names


def test_every_public_verb_is_typed_and_shows_its_use():
    for name in set(sv.__all__) - {"PretrainConfig", "Run", "UserError", "__version__"}:
        verb = getattr(sv, name)
        parameters = inspect.signature(verb).parameters.values()
        assert all(p.annotation is not inspect.Parameter.empty for p in parameters), name
        assert f"{name}(" in (verb.__doc__ or ""), name


def test_the_weights_of_a_pretext_from_a_notebook_are_indexed_by_a_process_that_does_not_know_it(ran):
    folder, _ = ran
    code = (
        "import sys, warnings\n"
        "import ssl_video as sv\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        "    index = sv.index('videos', model='own', out='of-own', progress=False)\n"
        "print(len(index), [str(w.message) for w in said if 'brightness' in str(w.message)])\n"
    )
    done = warm.run(["-c", code], cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    count, warned = done.stdout.split(" ", 1)
    assert int(count) == 16 and "its pretext is left out, its backbone is loaded" in warned


@pytest.mark.parametrize(
    ("frames", "answer"),
    [
        (np.zeros((4, 8, 8), np.uint8), "arrays of shape"),
        (np.zeros((1, 3, 4, 8, 8), np.uint8), "movedim"),
        (np.full((4, 48, 48, 3), 1.5), "RGB in 0 to 1, but these go from 1.5 to 1.5"),
        (np.full((4, 48, 48, 3), -0.1), "before they were normalised"),
        (np.full((4, 48, 48, 3), np.nan), "finite"),
        (np.zeros((4, 48, 48, 3), np.int64), "not int64"),
        ([], "one or more frames"),
        ([np.zeros((48, 48, 3), np.uint8), np.zeros((48, 40, 3), np.uint8)], "all of one size"),
        (["a.mp4", np.zeros((4, 48, 48, 3), np.uint8)], "arrays of shape"),
        ([[1, 2], [3]], "arrays of shape"),
    ],
)
def test_frames_that_cannot_be_meant_are_refused(frames, answer):
    with pytest.raises(sv.UserError, match=answer):
        sv.embed(frames, model="random:r2plus1d_4?width=4")


def test_bytes_and_floats_of_the_same_frames_have_the_same_vector():
    frames = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 3), dtype=np.uint8)
    model = sv.load_model("random:r2plus1d_4?width=4")
    of_bytes, of_floats = sv.embed(frames, model=model), sv.embed(frames / np.float32(255), model=model)
    assert (of_bytes == of_floats).all() and of_bytes.shape == (1, 32)


def test_videos_of_different_lengths_are_embedded_as_each_by_itself():
    frames_THWC = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 3), dtype=np.uint8)
    model = sv.load_model("random:r2plus1d_4?width=4")
    several = [frames_THWC, torch.from_numpy(frames_THWC[:11, :40])]
    alone = [sv.embed(x, model=model)[0] for x in several]
    assert (sv.embed(several, model=model) == np.stack(alone)).all()
    assert (sv.embed(list(torch.from_numpy(frames_THWC)), model=model)[0] == alone[0]).all()
