"""Two processes that train with sharded weights and without, for ``test_parallel``.

usage: parallel_script.py FOLDER, in which ``one`` is a run of one process that was cut after 2 steps; under torchrun.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_video import checkpoints
from ssl_video.backbones.base import build_backbone
from ssl_video.checkpoints import Checkpoints
from ssl_video.pretexts.base import Pretext, build_pretext
from ssl_video.pretraining import write_weights
from ssl_video.run import Run
from ssl_video.tensors import each_tensor, local
from ssl_video.train import loop
from ssl_video.train.config import OptimConfig, TrainingConfig
from ssl_video.train.data import ClipDataset
from ssl_video.train.distributed import Ranks, join, leave
from ssl_video.train.trained import Trained
from tests.nets import drawn_frames, video_set

STEPS, CUT = 4, 2
CLIPS = {"frames": 4, "short_side": 18, "size": 16}
VJEPA = CLIPS | {"stride": 1, "predictor_width": 12, "predictor_heads": 2, "predictor_depth": 1, "momentum": 0.9}
LEVJEPA = CLIPS | {"fps": 25.0, "view_size": 8, "views": 2, "hidden": 16, "embedding": 6, "directions": 10, "drop": 0.5}


def pretext_called(name: str) -> Pretext:
    torch.manual_seed(0)
    network = build_backbone("vit", frames=4, side=16, width=24, heads=2, depth=2)
    return build_pretext(name, network, VJEPA if name == "vjepa" else LEVJEPA).double()


def config_for(steps: int, accumulate: int = 1, **options: Any) -> TrainingConfig:
    optim = OptimConfig(lr=1e-3, clip_norm=1.0, ema=0.9, schedule="constant", accumulate=accumulate)
    every = {"log_every": 1, "checkpoint_every": CUT, "monitor_every": CUT}
    return TrainingConfig(steps=steps, batch_size=4, workers=0, precision="fp32", optim=optim, **every, **options)


Weights = dict[str, dict[str, Tensor]]


def weights_after(
    folder: Path, config: TrainingConfig, ranks: Ranks, name: str = "vjepa", stop: int | None = None
) -> Weights:
    """Those of what was trained, until a step, and of what counts; beside them the sums that monitors saw."""
    pretext, seen = pretext_called(name), []

    def monitor(counts, step: int) -> dict[str, float]:
        seen.append(sum(p.abs().sum().item() for p in counts.parameters()))
        return {"stop": 1.0} if step == stop else {}

    dataset = ClipDataset(video_set(), pretext, 0, drawn_frames)
    counts = loop.train(pretext, dataset, config, Run(folder), ranks, [monitor])
    if ranks.first and stop is None:
        write_weights(Run(folder), pretext, exported=counts.exported())
    return {"pretext": pretext.state_dict(), "counts": counts.state_dict(), "seen": {"sums": torch.tensor(seen)}}


def held(trained: Trained) -> tuple[int, int]:
    """Bytes of weights, average and optimiser: of this process, and of all."""
    here = everywhere = 0

    def count(x: Tensor) -> None:
        nonlocal here, everywhere
        here, everywhere = here + local(x).nbytes, everywhere + x.numel() * x.element_size()

    for module in trained.modules.values():
        each_tensor(dict(module.named_parameters()), count)
    each_tensor(trained.optimizer.state_dict()["state"], count)
    return here, everywhere


def main(folder: Path) -> None:
    ranks, made, said = join(torch.device("cpu")), [], {}
    prepare = loop.prepare
    loop.prepare = lambda *arguments: made.append(prepare(*arguments)) or made[-1]
    sharded = config_for(STEPS, shard=True)

    found: dict[str, Mapping] = {"sharded": weights_after(folder / "sharded", sharded, ranks)}
    said["held"] = held(made[-1])
    weights_after(folder / "cut", sharded, ranks, stop=CUT)
    if ranks.first:
        shutil.copytree(folder / "cut", folder / "for_one")
    ranks.barrier()
    found["resumed"] = weights_after(folder / "cut", sharded, ranks)
    with pytest.MonkeyPatch.context() as patched:
        read: list[Path] = []
        load = checkpoints.load_state
        patched.setattr(checkpoints, "load_state", lambda path, *how: read.append(path) or load(path, *how))
        found["from one"] = weights_after(folder / "one", sharded, ranks)
        said["files read"] = len(read)
    for name, more in (("shards", {"shard": True}), ("copies", {}), ("bf16", {"gradients": "bf16"})):
        config = config_for(CUT, accumulate=2, checkpoint_activations="all", **more)
        found[name] = weights_after(folder / name, config, ranks, "levjepa")
    said["kept"] = [path.name for path in Checkpoints(folder / "sharded" / "checkpoints").there()]
    if ranks.first:
        torch.save(found, folder / "found.pt")
    said["seen"] = found["sharded"]["seen"]["sums"].tolist()
    (folder / f"said-{ranks.rank}.json").write_text(json.dumps(said))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
