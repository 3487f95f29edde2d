"""A run: the folder of one training, and all that lies in it. No other module spells the name of a file in it.

config.yaml             the whole configuration, in the words of the command's flags
lists/*.jsonl, lists/*/  the videos trained on, held out, and left out with the reason, as they were chosen
lists/seen_before.json  what the weights that it starts from were trained on
metrics.jsonl           a record each so many steps
replaced.json           videos whose place others took, with the reason
checkpoints/step_*      to resume from: files, or folders of shards (checkpoints.py)
backbone.safetensors    the network that counts, with a header that says how to build it: what makes a run a model
pretext.safetensors     what was trained, whole, with its heads and fitted buffers
classifier.safetensors  of a fine-tuning
report.md, report.png   a page
probe.json              results of the trained and the untrained network, with --probe
videos-*.npy            digests of very many training videos, which the weights beside it name
best/                   a fine-tuning's weights of the best validation, a model of its own
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from ssl_video.checkpoints import Checkpoints, whole
from ssl_video.config import save_yaml
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.noted import is_noted, read_list, write_list
from ssl_video.digests import Digests, from_note, to_note
from ssl_video.errors import UserError
from ssl_video.files import clear_dead, is_empty, write_text
from ssl_video.processes import LOCK, held
from ssl_video.readback import numbered, of_type, parsed, reading, texts
from ssl_video.records import Record, cut_records, read_records
from ssl_video.tensors import load_tensors, save_tensors
from ssl_video.yaml_files import load_yaml


@dataclass(frozen=True)
class Lists:
    """The videos of a run as they were chosen, as its network sees them (copies, or flow, where it was given such).

    ``held_out`` is empty if none was kept from training; ``problems`` of ``training`` are what was left out, and why.
    """

    training: VideoSet
    held_out: VideoSet


@dataclass(frozen=True)
class Run:
    """The folder of one training. Making one of these touches nothing."""

    folder: Path

    def __post_init__(self):
        object.__setattr__(self, "folder", Path(self.folder))

    def __str__(self) -> str:
        return str(self.folder)

    # what is there

    @property
    def started(self) -> bool:
        """True once a training has written its configuration here."""
        return self.config_file.is_file()

    @property
    def finished(self) -> bool:
        """True if the weights are written: the run is a model."""
        return self.backbone_file.is_file()

    @property
    def empty(self) -> bool:
        """True if nothing lies in the folder but what the dead began to write, or there is none."""
        return is_empty(self.folder)

    @property
    def leftover(self) -> bool:
        """True if only what is written before the first step lies here: the start of that training failed."""
        before = {"config.yaml", "lists", "metrics.jsonl", "tensorboard", "wandb", LOCK}
        if not self.started:
            return False
        return {p.name for p in self.folder.iterdir()} <= before and not self.records()

    def clear_leftover(self) -> None:
        """Remove what a failed start left. Call it for a ``leftover`` only."""
        for path in (self.folder / name for name in ("lists", "tensorboard", "wandb")):
            shutil.rmtree(path, ignore_errors=True)
        self.records_file.unlink(missing_ok=True)
        self.config_file.unlink()

    @contextmanager
    def held(self, made: bool = False) -> Iterator[None]:
        """While it is written to, by this process alone; ``made``: its folder, just now. Raises UserError.

        What a process that was killed began to write is removed.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self} is a file; --out must name a folder.")
        with held(self.folder, "A training", made=made):
            for folder in (self.folder, self.folder / "lists", self.folder / "checkpoints", self.best.folder):
                clear_dead(folder)
            yield

    @property
    def backbone_file(self) -> Path:
        """Weights of the network that counts."""
        return self.folder / "backbone.safetensors"

    @property
    def pretext_file(self) -> Path:
        """Weights of what was trained."""
        return self.folder / "pretext.safetensors"

    @property
    def classifier_file(self) -> Path:
        """Weights of a fine-tuning's classifier."""
        return self.folder / "classifier.safetensors"

    @property
    def probe_file(self) -> Path:
        """Results of the trained and the untrained network."""
        return self.folder / "probe.json"

    def probe(self) -> list[Record]:
        """These results as mappings, none without --probe. Raises UserError if the file is damaged."""
        if not self.probe_file.is_file():
            return []
        with reading(self.probe_file, "remove it, and measure the run by 'ssl-video evaluate'"):
            results = of_type(parsed(self.probe_file.read_text("utf-8")), list)
            for result in results:
                texts([result["protocol"], result["model"]])
                numbered(result["metrics"])
            return results

    @property
    def report_file(self) -> Path:
        """The page that the training leaves behind."""
        return self.folder / "report.md"

    @property
    def report_picture(self) -> Path:
        """The curves on that page."""
        return self.folder / "report.png"

    @property
    def tensorboard(self) -> Path:
        """Folder of event files."""
        return self.folder / "tensorboard"

    @property
    def best(self) -> "Run":
        """The weights of a fine-tuning's best validation, as a run of their own."""
        return Run(self.folder / "best")

    @property
    def config_file(self) -> Path:
        """The whole configuration, which repeats the run."""
        return self.folder / "config.yaml"

    # configuration and lists

    def claim(self, resume: bool) -> None:
        """Raise UserError unless a training may write here: the folder is new or empty, or it is to be resumed."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self} is a file; --out must name a folder.")
        if not self.empty and resume and not self.started:
            raise UserError(f"{self} holds something that is no training; --resume needs the folder of a run.")
        if not self.empty and not resume:
            more = "use --resume to resume it, or " if self.started else ""
            raise UserError(f"{self} exists and is not empty; {more}choose another --out.")

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Note the configuration; one that is noted already stays."""
        if not self.started:
            save_yaml(self.config_file, config)

    def config(self) -> dict[str, Any]:
        """The configuration as a mapping. Raises UserError if there is none."""
        return load_yaml(self.config_file)

    def write_lists(self, lists: Lists) -> None:
        """Note the videos as they were chosen."""
        for name, videos in (("held_out", lists.held_out), ("training", lists.training)):  # the last makes them whole
            write_list(self._list(name), videos)

    def lists(self) -> Lists | None:
        """The videos as they were chosen; None for a run of version 0.1, which did not note them."""
        if not is_noted(self._list("training")):
            return None
        return Lists(*map(self._read_list, ("training", "held_out")))

    def note_seen_before(self, seen: Iterable[str]) -> None:
        """Note what the weights that the training starts from were trained on: their file may go, the note stays."""
        file = self.folder / "lists" / "seen_before.json"
        write_text(file, json.dumps(to_note(file.parent, seen)) + "\n")

    def seen_before(self) -> Set[str] | None:
        """Digests of videos and names of published lists; None if the run has not noted them."""
        file = self.folder / "lists" / "seen_before.json"
        if not file.is_file():
            return None
        with reading(file, "bring it back, or start a new run with another --out"):
            return Digests.of(from_note(file.parent, parsed(file.read_text("utf-8"))))

    def _list(self, name: str) -> Path:
        return self.folder / "lists" / f"{name}.jsonl"

    def _read_list(self, name: str) -> VideoSet:
        with reading(self._list(name), "the run's lists are damaged; start a new run with another --out"):
            return read_list(self._list(name))

    # records

    @property
    def records_file(self) -> Path:
        """One JSON object a line."""
        return self.folder / "metrics.jsonl"

    def records(self) -> list[Record]:
        """The records, numbers only, up to a line cut off by a crash; none if nothing was noted."""
        return read_records(self.records_file)

    def open_records(self) -> TextIO:
        """To write more lines at the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.records_file.open("a", encoding="utf-8", buffering=1)

    def cut_records(self, step: int) -> None:
        """Drop the records after ``step``: a resumed run writes them again."""
        cut_records(self.records_file, step)

    def replaced(self) -> dict[str, str]:
        """Videos whose place others took, with the reason."""
        file = self.folder / "replaced.json"
        if not file.exists():
            return {}
        with reading(file, "remove it: only a note on videos that could not be read is lost"):
            found = of_type(parsed(file.read_text("utf-8")), dict)
            texts(list(found.values()))
            return found

    def note_replaced(self, videos: Mapping[str, str]) -> None:
        """Add to ``replaced``."""
        before = self.replaced()
        if videos.keys() - before:
            write_text(self.folder / "replaced.json", json.dumps(before | dict(videos), indent=1) + "\n")

    # checkpoints

    @property
    def saved(self) -> Checkpoints:
        """The checkpoints, to be written and read."""
        return Checkpoints(self.folder / "checkpoints")

    def checkpoints(self) -> list[Path]:
        """Files, or folders of shards; oldest first."""
        return self.saved.there()

    def last_step(self) -> int:
        """Steps done at the newest checkpoint, 0 without one."""
        return self.saved.last_step()

    def save_checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Write ``state`` aside, rename it, and remove all but the newest ``KEEP`` checkpoints.

        Raises:
            UserError: when it cannot be written (a full disk); the checkpoints that are there stay as they are.
        """
        self.saved.save(step, state)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, or None if there is none; a warning names newer ones that cannot.

        Raises UserError if none can be read.
        """
        found = self.saved.newest()
        return None if found is None else whole(found[1])

    def remove_checkpoints(self) -> None:
        """A finished training needs none."""
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)

    # weights

    def save_weights(self, trained: Mapping[str, Tensor], exported: Mapping[str, Tensor], header: Record) -> None:
        """Write what was trained, then the network that counts: with it the run is finished, and a model."""
        save_tensors(self.pretext_file, trained, header)
        save_tensors(self.backbone_file, exported, header)

    def save_classifier(self, classifier: Mapping[str, Tensor], backbone: Mapping[str, Tensor], header: Record) -> None:
        """Write a fine-tuned network and its classifier; the folder is a model from then on."""
        save_tensors(self.classifier_file, classifier, header)
        save_tensors(self.backbone_file, backbone, header)

    def header(self) -> Record:
        """What was written with the weights. Raises UserError if there are none."""
        return load_tensors(self.backbone_file)[1]
