"""Fine-tuning: the whole network, or its last stages, is trained with labels; from scratch with ``random:NAME``."""

import copy
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ssl_video.config import load_yaml, plain, save_yaml
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.spec import held_out
from ssl_video.errors import UserError
from ssl_video.eval.accuracy import accuracies, average_scores, clip_accuracy, confusion
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.classification import Classification, ClassificationConfig
from ssl_video.eval.features import predict
from ssl_video.eval.multilabel import hit_at, multilabel_numbers
from ssl_video.eval.results import predictions_of
from ssl_video.eval.takes import LabelledVideos, Takes
from ssl_video.model import Model, digest, load_model, save_classifier
from ssl_video.train.checkpoint import checkpoints, step_of
from ssl_video.train.config import RunConfig
from ssl_video.train.data import ClipDataset, read_video
from ssl_video.train.loop import Monitor, train
from ssl_video.train.objective import Objective
from ssl_video.train.optim import OptimConfig
from ssl_video.train.report import read_metrics, write_report
from ssl_video.video.view import View

VALIDATION = "held_out_accuracy"


@dataclass(frozen=True)
class FinetuneConfig:
    """Options of fine-tuning. Where a clip's length or size is None, it is that of the network's own view."""

    frames: int | None = None
    """Frames of a clip."""
    stride: int | None = None
    """Every stride-th frame of the file."""
    fps: float | None = None
    """Frames a second of a clip, instead of a stride."""
    short_side: int | None = None
    """The frames' shorter side before the crop, in pixels."""
    size: int | None = None
    """Side of the crop, in pixels."""
    crop: Literal["random", "resized"] = "random"
    """random: a square at a random place; resized: a random rectangle of area, resized."""
    area: tuple[float, float] = (0.25, 1.0)
    """Part of the frame that a resized crop takes."""
    short_sides: tuple[int, ...] = ()
    """Shorter sides, one of which is drawn before a random crop."""
    flip: float = 0.5
    """Probability of mirroring a clip."""
    colour: float = 0.15
    """Standard deviation of the random colour matrix around the identity; 0 turns colour changes off."""
    colour_part: float = 1.0
    """Part of the clips whose colours are changed."""
    dropout: float = 0.5
    """Dropout before the linear layer."""
    top: int | None = None
    """Stages of the backbone that are trained, counted from the last; None: all; 0: the classifier only."""
    epochs: float = 100.0
    """Passes over the training list, of clips_per_video clips each."""
    max_steps: int | None = None
    """Fewer steps than epochs would take."""
    clips_per_video: int = 1
    """Clips of a video in an epoch."""
    batch_size: int = 16
    """Clips in a batch."""
    optimiser: Literal["sgd", "adam", "adamw"] = "adamw"
    """Optimiser."""
    lr: float = 1e-3
    """Learning rate of the classifier."""
    backbone_scale: float = 1.0
    """Learning rate of the backbone, relative to the classifier's."""
    weight_decay: float = 1e-3
    """Weight decay."""
    decay_all: bool = False
    """Weight decay for biases and normalisation layers too."""
    schedule: Literal["cosine", "constant", "steps"] = "cosine"
    """Course of the learning rate."""
    milestones: tuple[float, ...] = ()
    """Epochs after which the learning rate is multiplied by gamma (schedule steps)."""
    gamma: float = 0.1
    """Factor of the learning rate at a milestone."""
    warmup: float = 0.05
    """Part of all steps over which the learning rate rises."""
    clip_norm: float | None = None
    """Largest norm of the gradient."""
    held_out: float = 0.0
    """Part of the training list that is kept for validation while training."""
    validate_every: int = 10
    """Epochs between validations."""
    patience: int | None = None
    """Stop when so many validations in a row were no better than the best before."""
    use: Literal["last", "best"] = "last"
    """Which weights are tested: the last, or those of the best validation. Both are kept."""
    clips: int = 10
    """Clips of a test video, evenly spaced; 0: windows that overlap by half."""
    crops: int = 1
    """Crops of a test clip: 1, 3 or 10."""
    average: Literal["logits", "probabilities"] = "probabilities"
    """What is averaged over the clips and crops of a video."""


_PAPER = {"decay_all": True, "warmup": 0.0}  # what the papers' code has in common
_SGD: dict[str, Any] = {**_PAPER, "optimiser": "sgd"}
_ADAM: dict[str, Any] = {**_PAPER, "optimiser": "adam"}


@EVALUATIONS.register("finetune")
class Finetune(Evaluation):
    """Accuracy after fine-tuning all of the network, or its last stages, on the training list.

    ``default`` suits small sets and small networks. The others follow published protocols, with their clips, sizes,
    epochs, optimisers and ways to test.

    ``vcop``: Xu et al., CVPR 2019. ``ctp``: Wang et al., "Unsupervised Visual Representation Learning by Tracking
    Patches in Video", CVPR 2021. ``coclr``: Han et al., NeurIPS 2020. ``dpc``: Han et al., "Video Representation
    Learning by Dense Predictive Coding", 2019; its eight blocks of five frames are one clip of 40 here, and its
    learning rate, whose schedule we do not know, stays constant. ``rspnet`` (UCF101) and ``rspnet-hmdb``: Chen et al.,
    AAAI 2021. ``severe``: Thoker et al., ECCV 2022.

    Changes of brightness, contrast, saturation and hue are one random matrix of colours in all of them.
    """

    Config = FinetuneConfig
    takes: ClassVar[Takes] = LabelledVideos(several=True)
    trains = True
    presets: ClassVar = {
        "default": FinetuneConfig(),
        "vcop": FinetuneConfig(
            frames=16, stride=1, short_side=128, size=112, flip=0.0, colour=0.0, epochs=150, batch_size=8, lr=1e-3,
            weight_decay=5e-4, schedule="constant", clips=10, average="logits", **_SGD,
        ),
        "ctp": FinetuneConfig(
            frames=16, stride=2, short_side=128, size=112, short_sides=(112, 128, 144), flip=0.35, colour_part=0.2,
            epochs=150, batch_size=32, lr=0.01, weight_decay=5e-4, schedule="steps", milestones=(60, 120),
            clip_norm=40.0, clips=10, **_SGD,
        ),
        "coclr": FinetuneConfig(
            frames=32, stride=1, short_side=128, size=128, crop="resized", area=(0.2, 1.0), colour_part=0.3,
            dropout=0.9, epochs=500, batch_size=32, lr=1e-3, backbone_scale=0.1, weight_decay=1e-3, schedule="steps",
            milestones=(400, 450), clips=0, crops=10, **_ADAM,
        ),
        "dpc": FinetuneConfig(
            frames=40, stride=3, short_side=128, size=128, crop="resized", area=(0.5, 1.0), colour_part=0.3, epochs=300,
            batch_size=128, lr=1e-3, backbone_scale=0.1, weight_decay=1e-3, schedule="constant", clips=0, **_ADAM,
        ),
        "rspnet": FinetuneConfig(
            frames=16, fps=25.0, short_side=128, size=112, crop="resized", colour=0.0, epochs=30, batch_size=32, lr=0.1,
            weight_decay=1e-4, schedule="cosine", clips=10, **_SGD,
        ),
        "rspnet-hmdb": FinetuneConfig(
            frames=16, fps=25.0, short_side=128, size=112, crop="resized", colour=0.0, epochs=100, batch_size=32,
            lr=0.01, weight_decay=1e-4, schedule="steps", milestones=(50, 70, 90), clips=3, **_SGD,
        ),
        "severe": FinetuneConfig(
            frames=32, fps=16.0, short_side=128, size=112, crop="resized", area=(0.08, 1.0), epochs=16,
            clips_per_video=10, batch_size=32, lr=1e-4, weight_decay=0.0, schedule="steps", milestones=(6, 10, 14),
            gamma=0.3, clips=10, **_ADAM,
        ),
    }  # fmt: skip

    def run(self, model: Model, task: Task, config: FinetuneConfig, seed: int) -> Outcome:
        """Train, or go on training, in ``task.folder``; then test. Raises Interrupted after a signal."""
        assert task.test is not None and task.folder is not None
        folder = task.folder
        if not config.held_out and (config.use == "best" or config.patience is not None):
            raise UserError(
                "use=best and patience need validation; keep a part for it, with --option held_out=0.1, say."
            )
        notes = {"model": model.name, "data": task.data, "split": task.split, "hash": task.train.hash, "seed": seed}
        _claim(folder, notes | {"options": plain(config)})
        chosen = folder if config.use == "last" else folder / "best"
        if not (folder / "backbone.safetensors").exists():
            fit(model, task, config, seed, folder)
        tested = load_model(str(chosen), model.device)
        scores = predict(tested, task.test, clips=config.clips, crops=config.crops, workers=task.workers)
        counts = {"train": len(task.train.videos), "test": len(scores.videos), "classes": len(task.train.classes)}
        several = task.train.multi_label or task.test.multi_label
        scores_NK = average_scores(scores.clips_KD, config.average, several)
        said = predictions_of(scores.videos, task.train.classes, scores_NK)
        if several:
            metrics, counted = multilabel_numbers(scores_NK, scores.targets_NK(len(task.train.classes)))
            return Outcome(metrics | _trained(folder), counts | counted, scores.problems, predictions=said)
        metrics = accuracies(scores_NK, scores.labels_N) | clip_accuracy(scores.clips_KD, scores.labels_N)
        confused = confusion(scores_NK, scores.labels_N)
        return Outcome(metrics | _trained(folder), counts, scores.problems, confused, predictions=said)


def fit(model: Model, task: Task, config: FinetuneConfig, seed: int, folder: Path) -> None:
    """Train a copy of the model's backbone and a classifier; both end in ``folder``, the best ones in its ``best``."""
    videos, workers = task.train, task.workers
    own = model.view
    view = View(
        config.frames or own.frames,
        config.stride or own.stride,
        config.short_side or own.short_side,
        config.size or own.size,
        config.fps or (own.fps if config.stride is None else None),
        own.colours,
    )
    names = ("crop", "area", "short_sides", "flip", "colour", "colour_part", "dropout", "top")
    drawn = ClassificationConfig(view, videos.classes, videos.multi_label, **{n: getattr(config, n) for n in names})
    classification = Classification(drawn, copy.deepcopy(model.backbone))
    used, monitors = for_modality(videos, model.backbone.clip.modality), []
    if config.held_out:
        used, kept = held_out(used, config.held_out, seed=0)
        monitors = [validation(kept, used, config, folder, model, workers)]
    per_epoch = -(-len(used.videos) * config.clips_per_video // config.batch_size)
    steps = round(config.epochs * per_epoch)
    run = RunConfig(
        data=videos.name,
        batch_size=config.batch_size,
        clips_per_video=config.clips_per_video,
        workers=workers,
        seed=seed,
        log_every=per_epoch,
        monitor_every=per_epoch * config.validate_every,
        checkpoint_every=per_epoch * config.validate_every,
        optim=OptimConfig(
            name=config.optimiser,
            lr=config.lr,
            weight_decay=config.weight_decay,
            backbone_scale=config.backbone_scale,
            decay_all=config.decay_all,
            schedule=config.schedule,
            milestones=tuple(m / config.epochs for m in config.milestones),
            gamma=config.gamma,
            warmup=config.warmup,
            clip_norm=config.clip_norm,
        ),
    )
    steps = _stopped_at(folder) or min(steps, config.max_steps or steps)
    dataset = ClipDataset(used, classification, seed, read_video)
    train(classification, dataset, run, steps, folder, model.device, monitors=monitors)
    data = {"spec": task.data, "split": task.split, "hash": used.hash, "videos": len(used.videos)}
    write_report(folder, data, f"`ssl-video evaluate finetune` on {model.name} with these options repeats the run.")
    save(folder, classification, model, used)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def save(folder: Path, classification: Classification, start: Model, videos: VideoSet) -> None:
    """Write the network and its classifier as a model that knows all videos it was trained on."""
    seen = start.trained_on | {digest(v) for v in videos.videos}
    save_classifier(folder, classification.backbone, classification.classifier, classification.view, seen)


def validation(
    kept: VideoSet, used: VideoSet, config: FinetuneConfig, folder: Path, start: Model, workers: int
) -> Monitor:
    """Accuracy on the videos that were kept; the best weights go to ``best``, and enough failures ask for the end."""

    def validate(task: Objective, _step: int) -> dict[str, float]:
        assert isinstance(task, Classification)
        now = replace(start, backbone=task.backbone, view=task.view, classifier=task.classifier)
        scores = predict(now, kept, clips=3, workers=workers)
        scores_NK = average_scores(scores.clips_KD, config.average, used.multi_label)
        accuracy = hit_at(scores_NK, scores.targets_NK(len(used.classes)), 1)
        before = _validations(folder)
        if not before or accuracy > max(before):
            save(folder / "best", task, start, used)
        course = [*before, accuracy]
        failures = len(course) - 1 - int(np.argmax(course))
        stop = config.patience is not None and failures >= config.patience
        return {VALIDATION: accuracy} | ({"stop": 1.0} if stop else {})

    return validate


def _claim(folder: Path, notes: dict[str, Any]) -> None:
    """The folder is for this fine-tuning from now on. Raises UserError if it is for another, or in use."""
    noted = folder / "config.yaml"
    if noted.exists():
        if load_yaml(noted) != notes:
            raise UserError(f"{folder} holds another run (see {noted}); choose another --run folder.")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; choose another --run folder.")
    else:
        save_yaml(noted, notes)


def _records(folder: Path) -> list[dict[str, Any]]:
    return read_metrics(folder)


def _validations(folder: Path) -> list[float]:
    return [r[VALIDATION] for r in _records(folder) if VALIDATION in r]


def _stopped_at(folder: Path) -> int | None:
    """The step after which validation asked for the end, if its checkpoint was written."""
    at = next((r["step"] for r in _records(folder) if "stop" in r), None)
    there = checkpoints(folder)
    return at if there and step_of(there[-1]) == at else None


def _trained(folder: Path) -> dict[str, float]:
    """The best validation, if there was one."""
    course = _validations(folder)
    return {"best_validation": max(course)} if course else {}
