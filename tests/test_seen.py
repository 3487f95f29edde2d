"""What a network has seen: what weights note, what data sets say, and how results tell which test videos are of it."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from torchvision.models import resnet18

from ssl_video.apps.export import export
from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.weights import WEIGHTS, Entry
from ssl_video.cli import main
from ssl_video.cli.evaluate_command import show
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.manifest import manifest_rows, write_manifest
from ssl_video.datasets.prepare import copy_videos
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.eval import features as features_module
from ssl_video.eval import finetune as finetune_module
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task, evaluate
from ssl_video.eval.results import Result, read_results, write_results
from ssl_video.eval.takes import Videos
from ssl_video.model import Model, digest, load_model, seen_among
from ssl_video.model.seen import digest_of_name, same_list
from ssl_video.pretrain_config import Choice, PretrainConfig
from ssl_video.pretraining import pretrain
from ssl_video.run import Run
from ssl_video.train.config import DataConfig, TrainingConfig
from ssl_video.video.info import VideoInfo
from ssl_video.video.view import View
from tests.listings import put, write
from tests.nets import drawn_frames, tiny_backbone, video_set

INFO = VideoInfo(40, 25.0, 12, 12, 1.6, "h264")
OPTIONS = {"frames": 4, "short_side": 18, "crop": 16, "min_size": 16, "max_size": 16}
SMALL = Choice("r2plus1d_4", {"width": 2, "strides_t": (1, 1, 2, 1)})


def video(path: str, content: str = "", published: str = "") -> Video:
    return Video(path, (0,), published=published, info=replace(INFO, content=content))


# ---- a video and what is known of a network


def test_videos_of_one_name_in_two_sets_are_two_videos():
    one, other = video("/a/setA/videos/0001.mp4", "1" * 16), video("/b/other/videos/0001.mp4", "2" * 16)
    assert digest(one) != digest(other) and digest_of_name(one) == digest_of_name(other)
    assert seen_among([other], {digest(one)}) == {}


def test_a_video_is_seen_by_its_content_whatever_it_is_called():
    trained_on = {digest(video("/a/train/x.mp4", "1" * 16))}
    test = [video("/b/test/y.mp4", "1" * 16), video("/b/test/x.mp4", "2" * 16)]
    assert seen_among(test, trained_on) == {"/b/test/y.mp4": "content"}
    copy = replace(test[0], path="/cache/y-0a.npy", copy_of="/b/test/y.mp4")
    assert seen_among([copy], trained_on) == {"/b/test/y.mp4": "content"}


def test_what_version_0_1_noted_is_compared_by_name_and_that_is_said():
    trained_on = {"515acc18"}  # of class0/0.mp4, as it wrote it
    test = [video("/elsewhere/class0/0.mp4", "1" * 16), video("/elsewhere/class0/1.mp4", "2" * 16)]
    assert seen_among(test, trained_on) == {"/elsewhere/class0/0.mp4": "name"}


def test_a_name_that_is_not_utf8_has_a_digest():
    assert len(digest(video("/v/a\udce9.mp4"))) == 8


@pytest.mark.parametrize(
    ("published", "lists", "seen"),
    [
        ("kinetics400:train", {"kinetics400:train"}, True),
        ("kinetics:train", {"kinetics400:train", "imagenet22k:train"}, True),  # a part of an edition that is not known
        ("kinetics400:val", {"kinetics400:train"}, False),
        ("kinetics600:train", {"kinetics400:train"}, False),
        ("ucf101:test1", {"imagenet1k:train"}, False),
        ("", {"kinetics400:train"}, False),
    ],
)
def test_a_published_list_is_seen_by_weights_that_were_trained_on_it(published, lists, seen):
    found = seen_among([video("/v/a.mp4", "1" * 16, published)], lists)
    assert found == ({"/v/a.mp4": f"list {published}"} if seen else {})
    assert any(same_list(published, name) == same_list(name, published) for name in lists)


def test_kinetics_says_which_edition_its_lists_are_of_by_its_classes(tmp_path):
    header = "label,youtube_id,time_start,time_end,split\n"
    for classes, edition in ((400, "kinetics400"), (600, "kinetics600"), (7, "kinetics")):
        root = tmp_path / str(classes)
        write(root / "train.csv", header + "".join(f"{n},v{n},0,10,train\n" for n in range(classes)))
        write(root / "val.csv", header + "0,w,0,10,val\n")
        put(root, "v0.mp4", "w.mp4")
        splits = load_splits(f"kinetics:{root}")
        assert splits.test is not None
        assert [v.published for v in splits.train.videos + splits.test.videos] == [f"{edition}:train", f"{edition}:val"]
    write_manifest(tmp_path / "m.csv", manifest_rows(splits.train))
    assert load_splits(str(tmp_path / "m.csv")).train.videos[0].published == "kinetics:train"


# ---- weights


@pytest.fixture
def published(tmp_path, monkeypatch) -> str:
    """The name of weights, trained on a published list, of a small network."""
    torch.save(build_backbone("r2plus1d_4", **SMALL.options).state_dict(), tmp_path / "theirs.pth")
    WEIGHTS.names()
    entry = Entry(str(tmp_path / "theirs.pth"), SMALL.options, trained_on="Kinetics-400", lists=("kinetics400:train",))
    monkeypatch.setitem(WEIGHTS._members, "r2plus1d_4/theirs", entry)
    return "theirs"


def test_published_weights_say_which_lists_they_have_seen_and_their_untrained_twin_none(published):
    assert load_model(f"net:r2plus1d_4?weights={published}").trained_on == {"kinetics400:train"}
    assert load_model(f"random:net:r2plus1d_4?weights={published}").trained_on == frozenset()


def test_networks_made_of_a_published_one_have_seen_what_it_has(monkeypatch, tmp_path):
    entry = WEIGHTS["resnet18/torchvision:IMAGENET1K_V1"]
    torch.save(resnet18().state_dict(), tmp_path / "theirs.pth")
    local = replace(entry, source=str(tmp_path / "theirs.pth"), sha256="")
    monkeypatch.setitem(WEIGHTS._members, "resnet18/torchvision:IMAGENET1K_V1", local)
    started = build_backbone("i3d_resnet18", weights="torchvision:IMAGENET1K_V1")
    assert started.provenance.trained_on == {"imagenet1k:train"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    return synthesize(root, SyntheticConfig(size=32, frames=24, train=6, test=4), workers=1).parent


def config(data: Path | str, **backbone) -> PretrainConfig:
    chosen = Choice(SMALL.name, SMALL.options | backbone)
    training = TrainingConfig(steps=2, batch_size=2, workers=0, device="cpu", checkpoint_every=1)
    return PretrainConfig(Choice("speediness", OPTIONS), chosen, DataConfig(str(data), held_out=0.0), training)


def contents(data: Path | str, part: str = "train") -> set[str]:
    videos = getattr(load_splits(str(data)), part)
    return {v.info.content for v in scanned(videos).videos}


def test_training_export_and_a_new_start_carry_videos_and_lists_on(drawn, published, tmp_path):
    first = pretrain(config(drawn, weights=published), tmp_path / "first")
    assert (set(first.header()["videos"]), first.header()["lists"]) == (contents(drawn), ["kinetics400:train"])
    export(load_model(first), tmp_path / "exported", "safetensors")
    known = contents(drawn) | {"kinetics400:train"}
    assert load_model(tmp_path / "exported").trained_on == known
    weights = str(tmp_path / "exported" / "model.safetensors")
    second = pretrain(config(drawn, weights=weights), tmp_path / "second")
    assert load_model(second).trained_on == known


def test_a_resumed_training_has_seen_what_its_start_had_when_that_is_gone(drawn, tmp_path):
    first = pretrain(config(drawn), tmp_path / "first")
    (tmp_path / "other").mkdir()
    for n, path in enumerate(sorted((drawn / "videos").rglob("*.mp4"))[-4:]):
        (tmp_path / "other" / f"{n}.mp4").write_bytes(path.read_bytes() + b"\0")
    weights = shutil.copy(first.backbone_file, tmp_path / "start.safetensors")
    made = config(tmp_path / "other", weights=str(weights))
    second = pretrain(made, tmp_path / "second")
    whole = second.header()["videos"]
    assert set(whole) == contents(drawn) | contents(tmp_path / "other")
    second.backbone_file.unlink()  # as if it had been killed before its end
    Path(weights).unlink()
    assert pretrain(made, second.folder, resume=True).header()["videos"] == whole


def test_fine_tuning_adds_its_videos_to_what_the_start_has_seen(tmp_path, monkeypatch):
    for module in (features_module, finetune_module):
        monkeypatch.setattr(module, "read_video", drawn_frames)
    whole = video_set(12)
    train, test = (VideoSet("drawn", whole.videos[a:b], whole.classes) for a, b in ((0, 8), (8, 12)))
    train = replace(train, videos=tuple(v.with_content(f"{n:016x}") for n, v in enumerate(train.videos)))
    model = Model("tiny", build_backbone("r2plus1d_4", **SMALL.options), View(4, 2, 18, 16), {}, torch.device("cpu"))
    model.backbone.provenance = replace(model.backbone.provenance, trained_on=frozenset({"kinetics400:train"}))
    options = {"epochs": 1, "batch_size": 8, "clips": 1}
    evaluate("finetune", model, Task("drawn", 1, train, test, workers=0, folder=tmp_path / "run"), options=options)
    tuned = load_model(Run(tmp_path / "run"))
    assert tuned.trained_on == {v.info.content for v in train.videos} | {"kinetics400:train"}


# ---- results


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(features_module, "read_video", drawn_frames)
    whole = video_set(12)
    known = tuple(v.with_content(f"{n:016x}") for n, v in enumerate(whole.videos))
    train, test = (VideoSet("drawn", known[a:b], whole.classes) for a, b in ((0, 6), (6, 12)))
    return Task("drawn", 1, train, test, workers=0)


def tiny(*seen: str) -> Model:
    backbone = tiny_backbone().eval()
    backbone.provenance = replace(backbone.provenance, trained_on=frozenset(seen))
    return Model("tiny", backbone, View(4, 2, 12, 8), {}, torch.device("cpu"))


def test_a_result_names_the_test_videos_that_were_seen_and_says_how_that_is_known(task, tmp_path):
    test = task.test.videos
    listed = replace(test[2], published="kinetics400:train")
    task = replace(task, test=replace(task.test, videos=(*test[:2], listed, *test[3:])))
    result = evaluate("knn", tiny(test[0].info.content, digest_of_name(test[1]), "kinetics400:train"), task)
    assert result.transductive
    assert result.seen == {test[0].path: "content", test[1].path: "name", listed.path: "list kinetics400:train"}
    assert result.row()["seen"] == 3
    write_results(tmp_path / "r.json", [result])
    assert json.loads((tmp_path / "r.json").read_text())[0]["seen"] == result.seen
    assert read_results(tmp_path / "r.json")[0].seen == result.seen
    said = result.seen_in_words
    assert "3 of the test videos" in said and "1 by content" in said and "1 by the list kinetics400:train" in said
    assert "1 by folder and name, as version 0.1 noted them, which may be chance" in said and test[0].path in said


def test_a_result_says_what_the_model_learned_from_beside_videos(task, tmp_path, capsys):
    model = tiny()
    assert evaluate("knn", model, task).supervision == ""
    model.run = {"supervision": "captions"}
    result = evaluate("knn", model, task)
    assert result.row()["supervision"] == "captions"
    write_results(tmp_path / "r.json", [result])
    assert read_results(tmp_path / "r.json")[0].supervision == "captions"
    show(result)
    assert "was pretrained with captions, which are supervision" in capsys.readouterr().out


def test_a_seen_training_list_alone_is_not_transductive(task):
    result = evaluate("knn", tiny(*(v.info.content for v in task.train.videos)), task)
    assert (result.transductive, result.seen, result.seen_in_words) == (False, {}, "")


def test_many_videos_are_counted_and_a_few_are_named(task):
    said = evaluate("knn", tiny(*(v.info.content for v in task.test.videos)), task).seen_in_words
    assert said.startswith("6 of the test videos") and said.count(".mp4") == 3 and said.endswith(", ...")


def test_a_result_of_version_0_1_named_none():
    old = Result.from_dict({"protocol": "knn", "metrics": {"top1": 0.5}, "transductive": True})
    assert old.transductive and old.seen == {}
    assert old.seen_in_words == "test videos were among the pretraining videos"


def test_a_command_recognises_what_it_trained_on_through_a_manifest_of_copies(drawn, tmp_path, capsys):
    run = pretrain(config(drawn), tmp_path / "run")
    sources = sorted((drawn / "videos").rglob("*.mp4"))
    for part in ("train", "test"):
        (tmp_path / "set" / part / "a").mkdir(parents=True)
        (tmp_path / "set" / part / "b").mkdir(parents=True)
    for n, source in enumerate(sources):  # under other names: all of them as test videos
        for part in ("train", "test"):
            shutil.copy(source, tmp_path / "set" / part / "ab"[n % 2] / f"{part}{n}.mp4")
    copy_videos(str(tmp_path / "set"), tmp_path / "copies", "raw", 24, workers=1)
    out = tmp_path / "r.json"
    words = ["--model", str(run), "--data", str(tmp_path / "copies"), "--workers", "0", "--out", str(out)]
    assert main(["evaluate", "knn", *words]) == 0
    (result,) = json.loads(out.read_text())
    assert len(result["seen"]) == 6 and set(result["seen"].values()) == {"content"}
    assert all(Path(path).parent.parent == tmp_path / "set" / "test" for path in result["seen"])
    assert "warning: 6 of the test videos were among the pretraining videos (6 by content)" in capsys.readouterr().out


def test_without_a_test_list_the_videos_of_the_only_list_count(task, monkeypatch):
    @dataclass(frozen=True)
    class NoOptions:
        pass

    class Watched(Evaluation[NoOptions]):
        Config, presets, takes = NoOptions, MappingProxyType({"default": NoOptions()}), Videos()

        def measure(self, model, task, config, seed):
            return Outcome({"watched": 1.0}, {"videos": len(task.train.videos)})

    EVALUATIONS.names()
    monkeypatch.setitem(EVALUATIONS._members, "watched", Watched)
    first = task.train.videos[0]
    assert evaluate("watched", tiny(digest(first)), replace(task, test=None)).seen == {first.path: "content"}
    assert evaluate("watched", tiny(digest(first)), task).seen == {}
