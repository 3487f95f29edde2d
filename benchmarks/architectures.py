"""Clip, feature map, parameters and multiply-adds of networks: ``python benchmarks/architectures.py [NAME ...]``.

Prints a table in Markdown, of one clip of the network's own size. Nothing is computed: tensors have shapes only.
"""

import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from ssl_video.backbones.base import build_backbone

NAMES = (
    "single_frame late_fusion late_fusion_pool early_fusion slow_fusion multires c3d lrcn r3d_10 r3d_10_nonlocal "
    "slow_r50 slow_r50_nonlocal vivit_tiny vivit_small vivit_base timesformer_tiny timesformer_small timesformer_base"
)


def row(name: str) -> str:
    """A line of the table."""
    with torch.device("meta"), torch.no_grad():
        network = build_backbone(name).eval()
        spec = network.clip
        clip = torch.empty(1, spec.channels, spec.frames, spec.size, spec.size)
        with FlopCounterMode(display=False) as counter:
            y = network(clip)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    clip_shape, map_shape = ("x".join(map(str, t.shape[1:])) for t in (clip, y))
    return f"| `{name}` | {clip_shape} | {map_shape} | {millions:.1f} | {counter.get_total_flops() / 2e9:.2f} |"


if __name__ == "__main__":
    print("| network | clip CxTxHxW | map Dxtxhxw | M parameters | G multiply-adds |\n|---|---|---|---|---|")
    for name in sys.argv[1:] or NAMES.split():
        print(row(name))
