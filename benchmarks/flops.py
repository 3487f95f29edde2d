"""How much more C3D costs than the image networks: multiply-adds with all fully connected layers.

    python benchmarks/flops.py      (seconds; nothing is computed)

C3D for one clip of 16x112x112, the image networks for one image of 224x224. AlexNet is torchvision's, without groups.
"""

import torch
import torchvision.models as tv
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.cost import multiply_adds

CLASSES = 487  # of Sports-1M, on which C3D was trained


def main() -> None:
    """Print the three counts and the ratios."""
    with torch.device("meta"):
        fully_connected = [nn.Linear(8192, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, CLASSES)]
        c3d = nn.Sequential(build_backbone("c3d"), nn.Flatten(), *fully_connected).eval()
        image, clip = torch.empty(1, 3, 224, 224), torch.empty(1, 3, 16, 112, 112)
        counts = {name: multiply_adds(tv.get_model(name).eval(), image)[0] for name in ("alexnet", "vgg16")}
        counts["c3d"] = multiply_adds(c3d, clip)[0]
    for name, count in counts.items():
        print(f"{name:<8}{count / 1e9:>8.3f} G multiply-adds")
    for name in ("vgg16", "alexnet"):
        print(f"c3d is {counts['c3d'] / counts[name]:.3g}x {name}")


if __name__ == "__main__":
    main()
