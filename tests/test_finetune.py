import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError
from ssl_video.eval import features as features_module
from ssl_video.eval import finetune as finetune_module
from ssl_video.eval.base import EVALUATIONS, Task, evaluate
from ssl_video.eval.classification import Classification, ClassificationConfig, clip_loss
from ssl_video.eval.finetune import FinetuneConfig
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import Context, Progress, View
from ssl_video.run import Run
from ssl_video.train.loop import Interrupted
from tests.nets import drawn_frames, video_set

VIEW = View(4, 2, 12, 8)
FAST = {"epochs": 3, "batch_size": 8, "clips": 2, "validate_every": 1, "held_out": 0.25, "lr": 0.01}


@pytest.fixture
def task(monkeypatch, tmp_path):
    for module in (features_module, finetune_module):
        monkeypatch.setattr(module, "read_video", drawn_frames)
    whole = video_set(24)
    train, test = (VideoSet(n, whole.videos[a:b], whole.classes) for n, a, b in (("train", 0, 16), ("test", 16, 24)))
    return Task("drawn", 1, train, test, workers=0, folder=tmp_path / "run")


def small_model():
    model = load_model("random:r2plus1d_4?width=4&strides_t=1,1")
    model.backbone.clip = replace(model.backbone.clip, min_size=8)
    return replace(model, view=VIEW)


@pytest.fixture
def model(monkeypatch):
    from ssl_video.model import loading as model_module

    whole = model_module.build_backbone

    def build(name, **options):
        backbone = whole(name, **options)
        backbone.clip = replace(backbone.clip, min_size=8)
        return backbone

    monkeypatch.setattr(model_module, "build_backbone", build)
    torch.manual_seed(0)
    return small_model()


def classification(model, multi_label=False, **options):
    torch.manual_seed(1)
    return Classification(ClassificationConfig(**options), model.backbone, VIEW, ("a", "b"), multi_label)


def bright_or_dark(video, frames, each=None):
    return drawn_frames(video, frames) // 4 + np.uint8(150 * video.label)


def test_it_learns_what_the_training_videos_show_and_leaves_a_model(task, model, monkeypatch):
    for module in (features_module, finetune_module):
        monkeypatch.setattr(module, "read_video", bright_or_dark)
    options = FAST | {"epochs": 10, "held_out": 0.0, "dropout": 0.0, "colour": 0.0, "flip": 0.0}
    result = evaluate("finetune", model, task, options=options)
    assert result.metrics["top1"] > 0.8
    assert np.sum(result.confusion) == result.counts["test"] == 8
    again = load_model(str(task.folder))
    assert again.classifier is not None and again.classifier.classes == task.train.classes
    assert {"config.yaml", "metrics.jsonl", "report.md"} <= {p.name for p in task.folder.iterdir()}
    assert evaluate("knn", again, replace(task, test=task.train)).transductive


def test_the_model_that_was_given_is_not_changed(task, model):
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    evaluate("finetune", model, task, options=FAST)
    assert all(torch.equal(before[k], v) for k, v in model.backbone.state_dict().items())


def test_an_interrupted_fine_tuning_ends_bit_for_bit_as_a_whole_one(task, model, tmp_path):
    options = FAST | {"epochs": 4}
    whole = evaluate("finetune", model, replace(task, folder=tmp_path / "whole"), options=options)
    seen = []

    def after_step(self, progress):
        step = progress.step - 1
        seen.append(step)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classification, "after_step", after_step)
        with pytest.raises(Interrupted):
            evaluate("finetune", model, task, options=options)
        resumed = evaluate("finetune", model, task, options=options)
    assert resumed.metrics == whole.metrics
    one, two = ((folder / "backbone.safetensors").read_bytes() for folder in (task.folder, tmp_path / "whole"))
    assert one == two


def test_with_a_moving_average_it_is_this_that_is_tested_and_left(task, model, monkeypatch):
    found = []
    whole = finetune_module.train
    monkeypatch.setattr(finetune_module, "train", lambda *words: found.append((words[0], whole(*words))) or found[0][1])
    evaluate("finetune", model, task, options=FAST | {"optim.ema": 0.9})
    left = load_model(str(task.folder)).backbone.state_dict()
    trained, average = (one.backbone.state_dict() for one in found[0])
    assert all(torch.equal(left[name], average[name]) for name in left)
    assert not all(torch.equal(left[name], trained[name]) for name in left)


def test_a_fine_tuning_of_a_network_that_has_changed_since_is_another_one(task, model):
    evaluate("finetune", model, task, options=FAST)
    with torch.no_grad():
        next(model.backbone.parameters()).add_(1)
    with pytest.raises(UserError, match="holds another run"):
        evaluate("finetune", model, task, options=FAST)


def test_a_finished_fine_tuning_is_only_tested_again(task, model, monkeypatch):
    first = evaluate("finetune", model, task, options=FAST)
    monkeypatch.setattr(finetune_module, "train", lambda *_a, **_o: pytest.fail("trained again"))
    assert evaluate("finetune", model, task, options=FAST).metrics == first.metrics


def test_a_fine_tuning_is_resumed_on_the_videos_that_it_began_with_only(task, model):
    def with_contents(*contents):
        videos = tuple(v.with_content(c) for v, c in zip(task.train.videos, contents, strict=True))
        return replace(task, train=replace(task.train, videos=videos))

    contents = [f"{n:016x}" for n in range(16)]
    first = evaluate("finetune", model, with_contents(*contents), options=FAST)
    assert evaluate("finetune", model, with_contents(*contents), options=FAST).metrics == first.metrics
    fewer = replace(task.train, videos=task.train.videos[:-1])
    for other in (with_contents(*contents[:-1], "f" * 16), replace(task, train=fewer)):
        with pytest.raises(UserError, match=r"begun with other training videos or labels.*bring them back"):
            evaluate("finetune", model, other, options=FAST)
    turned = with_contents(*contents)
    turned = replace(turned, train=replace(turned.train, videos=turned.train.videos[::-1]))
    assert evaluate("finetune", model, turned, options=FAST).metrics == first.metrics


def test_a_folder_of_another_run_is_refused(task, model):
    evaluate("finetune", model, task, options=FAST)
    with pytest.raises(UserError, match="another run"):
        evaluate("finetune", model, task, options=FAST | {"lr": 0.5})
    (task.folder.parent / "other").mkdir()
    (task.folder.parent / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        evaluate("finetune", model, replace(task, folder=task.folder.parent / "other"), options=FAST)


def test_a_run_that_noted_fewer_options_goes_on_with_the_defaults_of_the_others(task, model):
    first = evaluate("finetune", model, task, options=FAST)
    noted = yaml.safe_load((task.folder / "config.yaml").read_text())
    for name in ("batch_norm", "initial"):
        del noted["options"]["classification"][name]
    (task.folder / "config.yaml").write_text(yaml.safe_dump(noted))
    assert evaluate("finetune", model, task, options=FAST).metrics == first.metrics
    with pytest.raises(UserError, match="another run"):
        evaluate("finetune", model, task, options=FAST | {"batch_norm": True})


def test_a_classifier_normalises_before_it_drops_and_starts_as_asked(model):
    net = classification(model, batch_norm=True, dropout=0.5, initial="orthogonal")
    assert [type(m) for m in net.classifier.children()] == [nn.BatchNorm1d, nn.Dropout, nn.Linear]
    weight, bias = net.classifier.linear.weight, net.classifier.linear.bias
    torch.testing.assert_close(weight @ weight.T, torch.eye(2))
    assert not bias.any()
    features = 5 + 3 * torch.randn(16, weight.shape[1], 1, 2, 2, generator=torch.Generator().manual_seed(0))
    pooled = features.mean((2, 3, 4))
    scaled = (pooled - pooled.mean(0)) / (pooled.var(0, correction=0) + 1e-5).sqrt()
    net.classifier.dropout.p = 0.0
    torch.testing.assert_close(net.classifier(features), scaled @ weight.T)

    normal = classification(model, initial="normal").classifier.linear
    assert 0.005 < float(normal.weight.detach().std()) < 0.02 and not normal.bias.any()
    torch.manual_seed(1)
    as_drawn = nn.Linear(model.backbone.feature_dim, 2)
    assert torch.equal(classification(model).classifier.linear.weight, as_drawn.weight)


def test_batch_norm_of_the_classifier_is_in_the_model_that_is_left(task, model):
    evaluate("finetune", model, task, options=FAST | {"batch_norm": True, "initial": "orthogonal"})
    again = load_model(str(task.folder))
    assert again.classifier is not None and isinstance(again.classifier.norm, nn.BatchNorm1d)
    assert again.classifier.norm.running_mean.any()
    with pytest.raises(UserError, match="batch_size=2"):
        FinetuneConfig(classification=ClassificationConfig(batch_norm=True), batch_size=1)


def test_the_best_validation_is_kept_and_enough_failures_end_the_training(task, model, monkeypatch):
    course = iter([0.5, 0.75, 0.25, 0.5, 1.0])
    monkeypatch.setattr(finetune_module, "hit_at", lambda *_words: next(course))
    result = evaluate("finetune", model, task, options=FAST | {"epochs": 9, "patience": 2, "use": "best"})
    records = [json.loads(line) for line in (task.folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["held_out_accuracy"] for r in records if "held_out_accuracy" in r] == [0.5, 0.75, 0.25, 0.5]
    assert result.metrics["best_validation"] == 0.75
    best, last = (load_model(str(f)).backbone.state_dict() for f in (task.folder / "best", task.folder))
    assert any(not torch.equal(best[k], last[k]) for k in best)


def test_the_best_validation_may_be_that_of_the_lowest_loss(task, model, monkeypatch):
    accuracies, losses = iter([0.5, 0.75, 0.25, 0.5]), iter([0.9, 0.8, 0.3, 0.5])
    monkeypatch.setattr(finetune_module, "hit_at", lambda *_words: next(accuracies))
    monkeypatch.setattr(finetune_module, "clip_loss", lambda *_words: next(losses))
    saved = []
    monkeypatch.setattr(finetune_module, "save", lambda run, *_more: saved.append(run.folder.name))
    monkeypatch.setattr(finetune_module, "load_model", lambda *_words: pytest.fail("tested"))
    with pytest.raises(pytest.fail.Exception):
        evaluate("finetune", model, task, options=FAST | {"epochs": 4, "use": "best", "best_by": "loss"})
    assert saved == ["best", "best", "best", "run"]
    run = Run(task.folder)
    assert finetune_module._trained(run, FinetuneConfig(held_out=0.25, best_by="loss")) == {"best_validation": 0.25}
    assert finetune_module._trained(run, FinetuneConfig(held_out=0.25)) == {"best_validation": 0.75}


def test_the_loss_of_kept_videos_is_the_mean_over_videos_of_that_of_their_clips():
    logits = [np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]), np.array([[0.2, 0.1, -0.4]])]
    by_hand = [np.log(np.exp(x).sum(1)) - x[:, label] for x, label in zip(logits, (1, 2), strict=True)]
    targets = np.array([[False, True, False], [False, False, True]])
    assert clip_loss(logits, targets, False) == pytest.approx(np.mean([x.mean() for x in by_hand]))
    yes = [np.log1p(np.exp(-np.where(t, x, -x))).mean() for x, t in zip(logits, targets, strict=True)]
    assert clip_loss(logits, targets, True) == pytest.approx(np.mean(yes))


def test_what_needs_validation_says_so_before_it_trains(task, model):
    for options in ({"use": "best"}, {"patience": 2}):
        with pytest.raises(UserError, match=r"held_out=0\.1"):
            evaluate("finetune", model, task, options=FAST | {"held_out": 0.0} | options)
    assert not task.folder.exists()


def test_the_report_names_the_split_and_no_command_of_pretraining(task, model):
    evaluate("finetune", model, replace(task, split=3), options=FAST)
    report = (task.folder / "report.md").read_text()
    assert "`drawn` (split 3" in report and "ssl-video pretrain" not in report


def test_only_the_last_stages_are_trained_when_asked(task, model):
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    for top, changed in ((0, set()), (1, {"stage2"})):
        folder = task.folder.with_name(f"top{top}")
        evaluate("finetune", model, replace(task, folder=folder), options=FAST | {"top": top})
        after = load_model(str(folder)).backbone.state_dict()
        assert {k.split(".")[1] for k in before if not torch.equal(before[k], after[k])} == changed
    with pytest.raises(UserError, match="2 stages"):
        evaluate("finetune", model, replace(task, folder=task.folder.with_name("3")), options=FAST | {"top": 3})


def test_the_loss_is_cross_entropy_or_with_several_labels_one_for_each_class(model):
    one, several = (classification(model, dropout=0.0, multi_label=s).double().eval() for s in (False, True))
    clip = torch.randint(0, 255, (2, 4, 8, 8, 3), dtype=torch.uint8)
    ctx = Context(Progress(0, 1), torch.Generator().manual_seed(0))
    logits = one.classifier(model.backbone(_normalised(clip, model)))
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = -logits.log_softmax(1).gather(1, target.argmax(1, keepdim=True)).mean()
    assert torch.allclose(one({"clip_THWC": clip, "target_K": target}, ctx).loss, expected)
    target, p = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), logits.sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    assert torch.allclose(several({"clip_THWC": clip, "target_K": target}, ctx).loss, expected)


def test_videos_with_several_labels_are_learned_and_measured_as_such(task, model):
    both = [replace(v, labels=(0, 1)) if n % 3 == 0 else v for n, v in enumerate(task.train.videos)]
    result = evaluate("finetune", model, replace(task, train=replace(task.train, videos=tuple(both))), options=FAST)
    assert {"hit@1", "mAP", "GAP@20", "best_validation"} <= set(result.metrics) and not result.confusion


def _normalised(clip, model):
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (model.backbone.clip.mean, model.backbone.clip.std))
    return ((clip.double() / 255 - mean) / std).permute(0, 4, 1, 2, 3)


def test_a_short_video_shows_its_last_frame_again(model):
    (video,) = video_set(1, frames=3).videos
    sample = classification(model).sample(video, {}, np.random.default_rng(0))
    assert sample.frames == (0, 2, 2, 2)


def test_a_clip_in_frames_a_second_follows_the_rate_of_the_file():
    (video,) = video_set(1).videos  # 25 frames a second
    assert replace(VIEW, fps=10.0).offsets(video).tolist() == [0, 2, 5, 7]


def test_ten_crops_are_corners_and_centre_and_their_mirror_images():
    frames = np.arange(2 * 12 * 14 * 3, dtype=np.uint8).reshape(2, 12, 14, 3)
    crops = VIEW.crops(frames, 10)
    assert crops.shape == (10, 2, 8, 8, 3)
    assert (crops[1] == frames[:, :8, 6:]).all() and (crops[4] == frames[:, 2:10, 3:11]).all()
    assert (crops[5:] == crops[:5, :, :, ::-1]).all()
    assert (VIEW.crops(frames, 1)[0] == VIEW.prepare(frames)).all()
    with pytest.raises(UserError, match="1, 3 or 10"):
        VIEW.crops(frames, 5)


def test_every_preset_draws_clips_and_trains_a_step(task, model):
    for name, preset in EVALUATIONS["finetune"].presets.items():
        small = {"frames": 4, "size": 8, "short_side": 12, "max_steps": 1, "batch_size": 2, "clips": 1}
        if preset.classification.short_sides:
            small["short_sides"] = (8, 12, 14)
        if preset.held_out:
            small["held_out"] = 0.25
        folder = task.folder.with_name(name)
        result = evaluate("finetune", model, replace(task, folder=folder), preset=name, options=small)
        assert 0 <= result.metrics["clip_top1"] <= 1


def test_presets_are_as_published():
    coclr: FinetuneConfig = EVALUATIONS["finetune"].presets["coclr"]
    assert (coclr.epochs, coclr.optim.lr, coclr.classification.dropout) == (500, 1e-3, 0.9)
    assert coclr.optim.lr * coclr.optim.backbone_scale == 1e-4
    assert (coclr.crops, coclr.clips, coclr.optim.milestones) == (10, 0, (0.8, 0.9))


def test_options_of_its_parts_are_named_by_their_last_word_or_with_a_dot(task, model):
    options = FAST | {"max_steps": 1, "optim.weight_decay": "0.5", "dropout": 0.25}
    result = evaluate("finetune", model, task, options=options)
    assert result.options["optim"]["weight_decay"] == 0.5 and result.options["optim"]["lr"] == 0.01
    assert result.options["classification"]["dropout"] == 0.25
    with pytest.raises(UserError, match=r"did you mean 'optim\.weight_decay'"):
        evaluate("finetune", model, task, options={"weight_deca": 1})


def test_a_model_without_a_classifier_says_so(model):
    with pytest.raises(UserError, match="has no classifier"):
        Model.logits(model, torch.zeros(1, 4, 8, 8, 3, dtype=torch.uint8))


@pytest.mark.parametrize("held_out", [0.0, 0.25])
def test_a_fine_tuning_that_diverges_is_one_sentence_and_leaves_no_model(task, model, held_out):
    options = FAST | {"lr": 1e20, "held_out": held_out}
    with pytest.raises(
        UserError, match=r"^[^\n]*(became (nan|inf) at step|NaN or infinite)[^\n]*lower --optim\.lr[^\n]*$"
    ):
        evaluate("finetune", model, task, options=options)
    assert not list(task.folder.rglob("*.safetensors"))
