"""What a step costs of which few patches are seen: ``python benchmarks/tokens.py [--rounds 5] [--threads 1]``.

A step is forward, backward and the optimiser's, of the small recipe on random pixels, reading left out. LeVJEPA with
its 19 in 20 patches dropped is compared with the same network on all of them, VideoMAE with masks of other sizes, round
by round in one process; the median of the rounds counts.
"""

import argparse
import time
from statistics import median

import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.pretexts.base import Context, Pretext, Progress, build_pretext
from ssl_video.pretrain_config import PretrainConfig
from ssl_video.recipes import load_recipe
from ssl_video.train.optim import build_optimizer


def made(name: str, **changes: object) -> Pretext:
    """The pretext of the small recipe with options changed."""
    torch.manual_seed(0)
    recipe = load_recipe(f"{name}:small")
    backbone = dict(recipe["backbone"])
    network = build_backbone(backbone.pop("name"), **backbone)
    options = {k: v for k, v in recipe["pretext"].items() if k != "name"}
    return build_pretext(name, network, options | changes).train()


def batch_of(pretext: Pretext, clips: int) -> dict[str, torch.Tensor]:
    """Random pixels, as the pretext's ``transform`` gives them."""
    c = pretext.config
    whole = torch.randint(0, 256, (clips, c.frames, c.size, c.size, 3)).byte()
    if not hasattr(c, "views"):
        return {"clip_THWC": whole}
    return {
        "clip_THWC": whole,
        "views_VTHWC": torch.randint(0, 256, (clips, c.views, c.frames, c.view_size, c.view_size, 3)).byte(),
    }


def step_s(pretext: Pretext, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor], step: int) -> float:
    """Seconds of a step."""
    since = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    pretext(batch, Context(Progress(step, 100), torch.Generator().manual_seed(step))).loss.backward()
    optimizer.step()
    return time.perf_counter() - since


def compared(name: str, options: dict[str, dict[str, object]], rounds: int) -> None:
    """Print a line for each choice of options, beside the last one."""
    config = PretrainConfig.from_mapping({k: v for k, v in load_recipe(f"{name}:small").items() if k != "probe"})
    entries = {}
    for label, changes in options.items():
        pretext = made(name, **changes)
        entries[label] = (
            pretext,
            build_optimizer(config.training.optim, pretext),
            batch_of(pretext, config.training.batch_size),
        )
    taken: dict[str, list[float]] = {label: [] for label in entries}
    for number in range(rounds + 1):
        for label, entry in entries.items():
            taken[label].append(step_s(*entry, number))
    seconds = {label: median(times[1:]) for label, times in taken.items()}  # the first round warms up
    whole = seconds[list(seconds)[-1]]
    for label, value in seconds.items():
        print(f"| {name}, {label} | {1000 * value:.0f} | {value / whole:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| | ms a step | of all patches |\n|---|---|---|")
    drops = {f"{100 * drop:.0f} % dropped": {"drop": drop} for drop in (0.95, 0.8, 0.5)}
    compared("levjepa", {**drops, "all patches": {"drop": 0.0}}, arguments.rounds)
    masks = {f"{100 * mask:.0f} % hidden": {"mask": mask, "decoded": 0.15} for mask in (0.95, 0.85, 0.5)}
    compared("videomae", masks, arguments.rounds)


if __name__ == "__main__":
    main()
