"""Fine-tuning: the whole network, or its last stages, is trained with labels; from scratch with ``random:NAME``."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from ssl_video.bounds import Bounded, Count, Natural, Positive, Share
from ssl_video.config import from_mapping, plain
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.held_out import held_out
from ssl_video.digests import Digests
from ssl_video.errors import UserError
from ssl_video.eval.accuracy import accuracies, average_scores, clip_accuracy, confusion
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.classification import Classification, ClassificationConfig, clip_loss
from ssl_video.eval.features import predict
from ssl_video.eval.multilabel import hit_at, multilabel_numbers
from ssl_video.eval.results import predictions_of
from ssl_video.eval.shards import copies_in, fingerprint
from ssl_video.eval.takes import LabelledVideos, Takes
from ssl_video.model import Model, digest, header_of_backbone, load_model
from ssl_video.readback import DAMAGE
from ssl_video.run import Run
from ssl_video.train.config import OptimConfig, TrainingConfig
from ssl_video.train.data import ClipDataset, read_video
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import Monitor, train
from ssl_video.train.objective import Objective
from ssl_video.train.report import write_report
from ssl_video.video.kinds import Crops
from ssl_video.video.view import View

VALIDATION = {"accuracy": "held_out_accuracy", "loss": "held_out_loss"}
"""What a validation says, as the run's records call it."""


@dataclass(frozen=True)
class FinetuneConfig(Bounded):
    """Options of fine-tuning. Where a clip's length or size is None, it is that of the network's own view."""

    either = (("fps", "stride"),)

    frames: Count | None = None
    """Frames of a clip."""
    stride: Count | None = None
    """Every stride-th frame of the file."""
    fps: Positive | None = None
    """Frames a second of a clip, instead of a stride."""
    short_side: Count | None = None
    """The frames' shorter side before the crop, in pixels."""
    size: Count | None = None
    """Side of the crop, in pixels."""
    classification: ClassificationConfig = field(default_factory=ClassificationConfig)
    """How clips are changed, and what is trained."""
    epochs: Positive = 100.0
    """Passes over the training list, of clips_per_video clips each; at least one step in all."""
    max_steps: Count | None = None
    """Fewer steps than epochs would take."""
    clips_per_video: Count = 1
    """Clips of a video in an epoch."""
    batch_size: Count = 16
    """Clips in a batch."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(weight_decay=1e-3))
    """Optimiser and schedules."""
    held_out: Share = 0.0
    """Fraction of the training list that is kept for validation while training, or how many videos."""
    validate_every: Count = 10
    """Epochs between validations."""
    patience: Count | None = None
    """Stop when so many validations in a row were no better than the best before."""
    use: Literal["last", "best"] = "last"
    """Which weights are tested: the last, or those of the best validation. Both are kept."""
    best_by: Literal["accuracy", "loss"] = "accuracy"
    """Which validation is the best: the highest accuracy of videos, or the lowest loss of clips."""
    clips: Natural = 10
    """Clips of a test video, evenly spaced; 0: windows that overlap by half."""
    crops: Crops = 1
    """Crops of a test clip: 1, 3 or 10."""
    average: Literal["logits", "probabilities"] = "probabilities"
    """What is averaged over the clips and crops of a video."""

    def __post_init__(self):
        super().__post_init__()
        if self.classification.batch_norm and self.batch_size == 1:
            raise UserError("batch_norm of the classifier needs clips to compare; set --option batch_size=2, or more.")
        if not self.held_out and (self.use == "best" or self.patience is not None):
            raise UserError(
                "use=best and patience need validation; keep a fraction for it, with --option held_out=0.1, say."
            )


def _optim(name: Literal["sgd", "adam"], lr: float, weight_decay: float, **more: Any) -> OptimConfig:
    """What the papers' code has in common: weight decay for everything, no warm-up."""
    return OptimConfig(name, lr, weight_decay, decay_all=True, warmup=0.0, **more)


def _steps(epochs: int, *milestones: int) -> dict[str, Any]:
    """A learning rate that changes after the given of all ``epochs``."""
    return {"schedule": "steps", "milestones": tuple(m / epochs for m in milestones)}


_RESIZED = ClassificationConfig(crop="resized", colour=0.0)
_VCOP = FinetuneConfig(
    frames=16, stride=1, short_side=128, size=112, epochs=150, batch_size=8, clips=10, average="logits",
    classification=ClassificationConfig(flip=0.0, colour=0.0, dropout=0.0),
    optim=_optim("sgd", 1e-3, 5e-4, schedule="constant"), held_out=800, validate_every=1, use="best", best_by="loss",
)  # fmt: skip
_DPC = FinetuneConfig(
    frames=40, stride=3, short_side=146, size=128, epochs=300, batch_size=128, clips=0,
    classification=ClassificationConfig(
        crop="resized", area=(0.5, 1.0), colour_fraction=0.3, batch_norm=True, initial="orthogonal"
    ),
    optim=_optim("adam", 1e-3, 1e-3, backbone_scale=0.1, **_steps(300, 60, 80, 100)),
)  # fmt: skip


@EVALUATIONS.register("finetune")
class Finetune(Evaluation[FinetuneConfig]):
    """Accuracy after fine-tuning all of the network, or its last stages, on the training list.

    ``default`` suits small sets and small networks. The others follow published protocols, with their clips, sizes,
    epochs, optimisers and ways to test.

    ``vcop`` (UCF101) and ``vcop-hmdb``: Xu et al., CVPR 2019; 800 and 400 training videos are kept for validation, and
    the best weights are tested. ``ctp``: Wang et al., "Unsupervised Visual Representation Learning by Tracking Patches
    in Video", CVPR 2021. ``coclr``: Han et al., NeurIPS 2020. ``dpc`` (UCF101 at 128 pixels), ``dpc-224`` (UCF101 at
    224) and ``dpc-hmdb``: Han et al., "Video Representation Learning by Dense Predictive Coding", 2019; its eight
    blocks of five frames are one clip of 40 here. ``rspnet`` (UCF101) and ``rspnet-hmdb``: Chen et al., AAAI 2021.
    ``severe``: Thoker et al., ECCV 2022. docs/evaluation.md says in which points they differ from the papers' code.
    """

    Config = FinetuneConfig
    takes: ClassVar[Takes] = LabelledVideos(multi_label=True)
    trains = True
    presets: ClassVar = {
        "default": FinetuneConfig(),
        "vcop": _VCOP,
        "vcop-hmdb": replace(_VCOP, held_out=400),
        "ctp": FinetuneConfig(
            frames=16, stride=2, short_side=128, size=112, epochs=150, batch_size=32, clips=10,
            classification=ClassificationConfig(short_sides=(112, 128, 144), flip=0.35, colour_fraction=0.2),
            optim=_optim("sgd", 0.01, 5e-4, clip_norm=40.0, **_steps(150, 60, 120)),
        ),
        "coclr": FinetuneConfig(
            frames=32, stride=1, short_side=146, size=128, epochs=500, batch_size=32, clips=0, crops=10,
            classification=ClassificationConfig(
                crop="resized", area=(0.2, 1.0), colour_fraction=0.3, dropout=0.9, initial="normal"
            ),
            optim=_optim("adam", 1e-3, 1e-3, backbone_scale=0.1, **_steps(500, 400, 450)),
        ),
        "dpc": _DPC,
        "dpc-224": replace(
            _DPC, short_side=256, size=224, epochs=500, batch_size=44,
            optim=_optim("adam", 1e-3, 1e-3, backbone_scale=0.1, **_steps(500, 300, 400, 500)),
        ),
        "dpc-hmdb": replace(
            _DPC, optim=_optim("adam", 1e-3, 1e-3, backbone_scale=0.1, **_steps(300, 150, 250, 300)),
        ),
        "rspnet": FinetuneConfig(
            frames=16, fps=25.0, short_side=128, size=112, epochs=30, batch_size=32, clips=10,
            classification=_RESIZED, optim=_optim("sgd", 0.1, 1e-4),
        ),
        "rspnet-hmdb": FinetuneConfig(
            frames=16, fps=25.0, short_side=128, size=112, epochs=100, batch_size=32, clips=3,
            classification=_RESIZED, optim=_optim("sgd", 0.01, 1e-4, **_steps(100, 50, 70, 90)),
        ),
        "severe": FinetuneConfig(
            frames=32, fps=16.0, short_side=128, size=112, epochs=16, clips_per_video=10, batch_size=32, clips=10,
            classification=ClassificationConfig(crop="resized", area=(0.08, 1.0)),
            optim=_optim("adam", 1e-4, 0.0, gamma=0.3, **_steps(16, 6, 10, 14)),
        ),
    }  # fmt: skip

    def measure(self, model: Model, task: Task, config: FinetuneConfig, seed: int) -> Outcome:
        """Train, or resume training, in ``task.folder``; then test. Raises Interrupted after a signal."""
        assert task.test is not None and task.folder is not None
        _view(config, model.view)  # refused before the folder is claimed
        run = Run(task.folder)
        with run.held():
            return self._measured(model, task, config, seed, run)

    def _measured(self, model: Model, task: Task, config: FinetuneConfig, seed: int, run: Run) -> Outcome:
        """As ``measure``, in this run."""
        assert task.test is not None
        notes = {"model": model.name, "data": task.data, "split": task.split, "hash": task.train.hash, "seed": seed}
        notes |= {"weights": fingerprint(model), "copies": copies_in(task.train)}
        _claim(run, notes | {"options": plain(config)}, task.train)
        chosen = run if config.use == "last" else run.best
        if not run.finished:
            finetune(model, task, config, seed, run)
        tested = load_model(str(chosen), model.device)
        clips, crops = config.clips, config.crops
        scores = predict(tested, task.test, clips=clips, crops=crops, workers=task.workers, batch=task.batch)
        counts = {"train": len(task.train.videos), "test": len(scores.videos), "classes": len(task.train.classes)}
        multi_label = task.train.multi_label or task.test.multi_label
        scores_NK = average_scores(scores.clips_KD, config.average, multi_label)
        said = predictions_of(scores.videos, task.train.classes, scores_NK)
        if multi_label:
            metrics, counted = multilabel_numbers(scores_NK, scores.targets_NK(len(task.train.classes)))
            return Outcome(metrics | _trained(run, config), counts | counted, scores.problems, predictions=said)
        metrics = accuracies(scores_NK, scores.labels_N) | clip_accuracy(scores.clips_KD, scores.labels_N)
        confused = confusion(scores_NK, scores.labels_N)
        return Outcome(metrics | _trained(run, config), counts, scores.problems, confused, predictions=said)


def finetune(model: Model, task: Task, config: FinetuneConfig, seed: int, run: Run) -> None:
    """Train a copy of the model's backbone and a classifier; both end in ``run``, the best ones in its ``best``."""
    model.check_weights()
    videos, workers = task.train, task.workers
    view = _view(config, model.view)
    backbone = copy.deepcopy(model.backbone)
    classification = Classification(config.classification, backbone, view, videos.classes, videos.multi_label)
    used, monitors = for_modality(videos, model.backbone.clip.modality), []
    if config.held_out:
        used, kept = held_out(used, config.held_out, seed=0)
        monitors = [validation(kept, used, config, run, model, workers)]
    training = _training(config, len(used.videos), run, workers, seed)
    dataset = ClipDataset(used, classification, seed, read_video)
    counts = train(classification, dataset, training, run, Ranks(device=model.device), monitors)
    assert isinstance(counts, Classification)
    data = {"spec": task.data, "split": task.split, "hash": used.hash, "videos": len(used.videos)}
    again = f"`ssl-video evaluate finetune` on {model.name} with these options repeats the run."
    single = () if videos.multi_label else ("accuracy", "held_out_accuracy")
    write_report(run, data, again, dict.fromkeys(single, 1 / len(videos.classes)))
    save(run, counts, model, used)
    run.remove_checkpoints()


def _view(config: FinetuneConfig, own: View) -> View:
    """The network's own view under what the configuration says."""
    names = ("frames", "stride", "fps", "short_side", "size")
    given = {name: value for name in names if (value := getattr(config, name)) is not None}
    return replace(own, **{**({"fps": None} if "stride" in given else {}), **given})


def _training(config: FinetuneConfig, videos: int, run: Run, workers: int, seed: int) -> TrainingConfig:
    per_epoch = -(-videos * config.clips_per_video // config.batch_size)
    steps, stopped_at = max(1, round(config.epochs * per_epoch)), _stopped_at(run)
    if config.max_steps is not None:
        steps = min(steps, config.max_steps)
    return TrainingConfig(
        steps=steps if stopped_at is None else stopped_at,
        batch_size=config.batch_size,
        clips_per_video=config.clips_per_video,
        workers=workers,
        seed=seed,
        log_every=per_epoch,
        monitor_every=per_epoch * config.validate_every,
        checkpoint_every=per_epoch * config.validate_every,
        optim=config.optim,
    )


def save(run: Run, classification: Classification, start: Model, videos: VideoSet) -> None:
    """Write the network and its classifier as a model that knows all videos it was trained on."""
    seen = Digests.of(digest(video) for video in videos.videos) | start.trained_on
    header = header_of_backbone(classification.backbone, classification.view, seen)
    header["classes"] = list(classification.classifier.classes)
    run.save_classifier(classification.classifier.state_dict(), classification.backbone.state_dict(), header)


def validation(kept: VideoSet, used: VideoSet, config: FinetuneConfig, run: Run, start: Model, workers: int) -> Monitor:
    """Accuracy of the videos that were kept, and loss of their clips.

    The best weights go to ``best``, and enough failures end the training.
    """

    def validate(task: Objective, _step: int) -> dict[str, float]:
        assert isinstance(task, Classification)
        name = f"The network in training from {start.name}"
        now = replace(start, name=name, backbone=task.backbone, view=task.view, classifier=task.classifier)
        scores = predict(now, kept, clips=3, workers=workers)
        scores_NK = average_scores(scores.clips_KD, config.average, used.multi_label)
        targets_NK = scores.targets_NK(len(used.classes))
        found = {
            VALIDATION["accuracy"]: hit_at(scores_NK, targets_NK, 1),
            VALIDATION["loss"]: clip_loss(scores.clips_KD, targets_NK, used.multi_label),
        }
        course = [*_validations(run), found]
        failures = len(course) - 1 - _best(course, config)
        if not failures:
            save(run.best, task, start, used)
        stop = config.patience is not None and failures >= config.patience
        return found | ({"stop": 1.0} if stop else {})

    return validate


def _claim(run: Run, notes: dict[str, Any], videos: VideoSet) -> None:
    """The run is for this fine-tuning on ``videos`` from now on. Raises UserError if it is for another, or in use."""
    if not run.started:
        if not run.empty:
            raise UserError(f"{run} exists and is not empty; choose another --run folder.")
        run.write_config(notes)
        return
    noted = run.config()
    known = {"weights": notes["weights"], "copies": notes["copies"]} | noted  # which were not noted once
    if {**known, "options": _options_now(noted), "hash": ""} != {**notes, "hash": ""}:
        raise UserError(f"{run} holds another run (see {run.config_file}); choose another --run folder.")
    if not videos.has_hash(str(noted["hash"])):
        raise UserError(
            f"{run} was begun with other training videos or labels; bring them back, or choose another --run folder."
        )


def _options_now(noted: Mapping[str, Any]) -> object:
    """The options that a run noted, with the defaults of those that are newer; None if they are of no fine-tuning."""
    try:
        return plain(from_mapping(FinetuneConfig, noted["options"], "fine-tuning"))
    except (UserError, *DAMAGE):
        return None


def _validations(run: Run) -> list[dict[str, float]]:
    return [r for r in run.records() if VALIDATION["accuracy"] in r]


def _best(course: Sequence[Mapping[str, float]], config: FinetuneConfig) -> int:
    """The number of the first best validation; one whose loss is no number, or was not noted, is none."""
    if config.best_by == "accuracy":
        return int(np.argmax([found[VALIDATION["accuracy"]] for found in course]))
    return int(np.argmin(np.nan_to_num([found.get(VALIDATION["loss"], np.inf) for found in course], nan=np.inf)))


def _stopped_at(run: Run) -> int | None:
    """The step after which validation ended the training, if its checkpoint was written."""
    at = next((r["step"] for r in run.records() if "stop" in r), None)
    return at if at == run.last_step() else None


def _trained(run: Run, config: FinetuneConfig) -> dict[str, float]:
    """The accuracy of the best validation, if there was one."""
    course = _validations(run)
    return {"best_validation": course[_best(course, config)][VALIDATION["accuracy"]]} if course else {}
