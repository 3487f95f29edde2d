import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_video.cli import main
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval import features as features_module
from ssl_video.eval import shards as shards_module
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.features import Extraction, FeatureStore, extract
from ssl_video.eval.shards import FeatureFolder, extract_to, fingerprint, made_by, shard_size
from ssl_video.model import Model, load_model
from ssl_video.train.data import read_video
from ssl_video.video.reader import VideoError
from ssl_video.video.view import View
from tests import warm
from tests.nets import drawn_frames, tiny_backbone, video_set

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def model():
    return Model("tiny", tiny_backbone().eval(), View(4, 2, 12, 8), {}, torch.device("cpu"))


@pytest.fixture(autouse=True)
def reads(monkeypatch):
    """Reads of drawn videos, of which number 5 is damaged; shards of four videos."""
    seen: list[str] = []

    def read(video, frames, each=None):
        if not video.path.startswith("/v/"):
            return read_video(video, frames)
        seen.append(video.path)
        if video.path.endswith("/5.mp4"):
            raise VideoError("damaged")
        return drawn_frames(video, frames)

    monkeypatch.setattr(features_module, "read_video", read)
    monkeypatch.setattr(shards_module, "SHARD", 4)
    return seen


def kept(folder, model):
    return FeatureFolder(folder / "f", fingerprint(model))


def test_kept_features_are_those_of_a_plain_extraction(tmp_path, model):
    found = extract_to(kept(tmp_path, model), model, video_set(10), Extraction(3), workers=0)
    plain = extract(model, video_set(10), Extraction(3), workers=0)
    assert [v.path for v in found.videos] == [v.path for v in plain.videos] and len(found.videos) == 9
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(found.clips_KD, plain.clips_KD, strict=True))
    assert found.problems == plain.problems
    assert str(tmp_path / "f" / "00001.npy") in Path("/proc/self/maps").read_text()  # mapped, not read
    with pytest.raises(ValueError, match="read-only"):
        found.clips_KD[0][0] = 1


def test_an_interrupted_extraction_is_resumed_where_it_was(tmp_path, model, reads):
    whole = extract_to(kept(tmp_path, model), model, video_set(10), Extraction(1), workers=0).mean_ND
    (tmp_path / "f" / "00001.json").unlink()  # as if it had been killed before
    reads.clear()
    again = extract_to(kept(tmp_path, model), model, video_set(10), Extraction(1), workers=0).mean_ND
    assert sorted(reads) == [f"/v/class{n % 2}/{n}.mp4" for n in (4, 6, 5, 7)] and (again == whole).all()


def test_features_of_another_model_or_of_other_videos_are_refused(tmp_path, model):
    extract_to(kept(tmp_path, model), model, video_set(6), Extraction(1), workers=0)
    other = replace(model, backbone=tiny_backbone(width=4).eval())
    for network, videos in ((other, video_set(6)), (model, video_set(7))):
        with pytest.raises(UserError, match="another model"):
            extract_to(kept(tmp_path, network), network, videos, Extraction(1), workers=0)


def test_kept_features_are_of_the_videos_by_their_content_wherever_these_lie(tmp_path, model, reads):
    def videos(root="/v", **contents):
        drawn = video_set(6)
        found = tuple(
            replace(v, path=v.path.replace("/v", root, 1)).with_content(contents.get(f"n{n}", f"{n:016x}"))
            for n, v in enumerate(drawn.videos)
        )
        return replace(drawn, videos=found)

    whole = extract_to(kept(tmp_path, model), model, videos(), Extraction(1), workers=0)
    reads.clear()
    moved = extract_to(kept(tmp_path, model), model, videos(root="/w/moved"), Extraction(1), workers=0)
    assert not reads and (moved.mean_ND == whole.mean_ND).all()
    assert [v.path for v in moved.videos] == [f"/w/moved/class{n % 2}/{n}.mp4" for n in range(5)]
    with pytest.raises(UserError, match="other videos"):
        extract_to(kept(tmp_path, model), model, videos(n2="f" * 16), Extraction(1), workers=0)


def test_features_that_version_0_1_kept_are_used(tmp_path, model, reads):
    whole = extract_to(kept(tmp_path, model), model, video_set(6), Extraction(1), workers=0)
    for shard in (tmp_path / "f").glob("0*.json"):
        note = json.loads(shard.read_text())
        note["rows"] = [{k: v for k, v in row.items() if k != "number"} for row in note["rows"]]
        shard.write_text(json.dumps(note))
    reads.clear()
    known = replace(video_set(6), videos=tuple(v.with_content("f" * 16) for v in video_set(6).videos))
    assert (extract_to(kept(tmp_path, model), model, known, Extraction(1), workers=0).mean_ND == whole.mean_ND).all()
    moved = replace(known, videos=tuple(replace(v, path=f"/w{v.path}") for v in known.videos))
    with pytest.raises(UserError, match="which has moved"):
        extract_to(kept(tmp_path, model), model, moved, Extraction(1), workers=0)
    assert not reads


def test_a_shard_without_one_readable_video_is_whole(tmp_path, model, monkeypatch):
    monkeypatch.setattr(shards_module, "SHARD", 1)
    assert len(extract_to(kept(tmp_path, model), model, video_set(7), Extraction(1), workers=0).videos) == 6


def test_a_video_that_the_machine_kept_from_being_read_is_extracted_later(tmp_path, model, monkeypatch, reads):
    def denied(video, frames, each=None):
        try:
            raise PermissionError(13, "Permission denied")
        except OSError:
            raise VideoError("it cannot be decoded")  # noqa: B904

    with monkeypatch.context() as patched:
        patched.setattr(features_module, "read_video", denied)
        found = extract_to(kept(tmp_path, model), model, video_set(4), Extraction(1), workers=0)
    assert not found.videos and {p.reason for p in found.problems} == {"permission denied"}
    again = extract_to(kept(tmp_path, model), model, video_set(4), Extraction(1), workers=0)
    assert len(again.videos) == 4 and not again.problems


@pytest.mark.parametrize(("videos", "ranks"), [(84, 2), (84, 8), (300, 2), (1000, 3), (3, 8), (260_352, 64)])
def test_every_rank_gets_as_many_videos_as_the_others_give_or_take_a_shard(videos, ranks, monkeypatch):
    monkeypatch.setattr(shards_module, "SHARD", 256)
    shard = shard_size(videos, ranks)
    shards = [min(shard, videos - first) for first in range(0, videos, shard)]
    of_ranks = [sum(shards[rank::ranks]) for rank in range(ranks)]
    assert shard <= 256 and max(of_ranks) <= 1.02 * videos / ranks + 1


def test_a_list_of_any_length_has_no_more_shards_than_can_be_mapped():
    assert all(20_000_000 / shard_size(20_000_000, ranks) <= 30_000 for ranks in (1, 64))


def test_an_extraction_that_one_rank_began_keeps_its_shards(tmp_path, model, monkeypatch):
    whole = extract_to(kept(tmp_path, model), model, video_set(10), Extraction(1), workers=0).mean_ND
    monkeypatch.setattr(shards_module, "SHARD", 3)
    assert (extract_to(kept(tmp_path, model), model, video_set(10), Extraction(1), workers=0).mean_ND == whole).all()


MANY = """
import os, resource, sys
from pathlib import Path
import numpy as np
import ssl_video.eval.shards as shards
from ssl_video.eval.features import Extraction, Features
from ssl_video.eval.shard_files import FeatureFolder
from tests.nets import tiny_model, video_set

def extracted(model, part, *_args, **_more):
    clips_KD = np.full((1, 2), float(Path(part.videos[0].path).stem), np.float32)
    return Features(list(part.videos), [clips_KD], [np.zeros(1, int)], [])

os.fsync = lambda _file: None
shards.SHARD, shards.extract = 1, extracted
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
found = shards.extract_to(FeatureFolder(Path(sys.argv[1]), "w"), tiny_model(), video_set(2000), Extraction(1))
assert found.mean_ND[:, 0].tolist() == list(range(2000))
"""


def test_features_in_more_files_than_a_process_may_open_are_read(tmp_path):
    done = warm.run(["-c", MANY, str(tmp_path / "f")])
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "f").glob("*.npy"))) == 2000


def test_a_probe_resumes_from_kept_features(tmp_path, model, reads):
    whole = video_set(16)
    train, test = (replace(whole, videos=whole.videos[a:b]) for a, b in ((0, 10), (10, 16)))
    task = Task("drawn", 1, train, test, workers=0, folder=tmp_path)
    first = evaluate("linear", model, task)
    reads.clear()
    again = evaluate("linear", model, replace(task, features=FeatureStore()), options={"classifier": "ridge"})
    assert again.metrics == first.metrics
    calibration = len(train.videos)
    assert len(reads) <= calibration


def test_the_command_shares_the_work_of_two_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "SHARD", 256)
    synthesize(tmp_path / "drawn", SyntheticConfig(train=6, test=4, size=40, frames=16))
    words = ["extract", "--model", "random:r2plus1d_4?width=4", "--data", "drawn", "--clips", "1", "--workers", "0"]
    said = warm.run_together(["-m", "ssl_video", *words, "--out", "two"], cwd=tmp_path)
    assert "6 videos, 0 were left out" in said and "4 videos" in said
    assert main([*words[:3], *("--data", str(tmp_path / "drawn")), *words[5:], "--out", str(tmp_path / "one")]) == 0
    one = np.load(tmp_path / "one" / "train" / "00000.npy")
    parts = [np.load(tmp_path / "two" / "train" / f"0000{rank}.npy") for rank in (0, 1)]
    assert one.shape == (6, 32) and [len(part) for part in parts] == [3, 3]  # each rank has extracted half
    assert np.allclose(one, np.concatenate(parts), atol=1e-5)
    note = json.loads((tmp_path / "one" / "train" / "00000.json").read_text())
    assert len(note["rows"]) == 6 and note["rows"][0]["labels"] == [0]


def test_networks_of_the_same_weights_and_other_options_are_not_one():
    def of(spec: str) -> Model:
        torch.manual_seed(0)
        return load_model(spec)

    usual, finer = of("random:resnet18"), of("random:resnet18?output_stride=8")
    assert fingerprint(usual) == fingerprint(of("random:resnet18?output_stride=32")) != fingerprint(finer)
    assert made_by(usual, fingerprint(usual)) and not made_by(finer, fingerprint(usual))


def test_what_was_noted_before_options_counted_is_recognised():
    torch.manual_seed(0)
    model = load_model("random:r2plus1d_4?width=4")
    assert made_by(model, "afd080ac265e2819")
