"""``ssl-video doctor``: what is installed, what is missing, and which package brings it."""

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from ssl_video._version import __version__
from ssl_video.cli.parsing import parse
from ssl_video.files import cache_dir

MODULES = {
    "torch": ("torch", "torch"),
    "torchvision": ("torchvision", "torchvision"),
    "PyAV": ("av", "av"),
    "numpy": ("numpy", "numpy"),
    "faiss": ("faiss", "faiss-cpu"),
    "OpenCV": ("cv2", "opencv-python"),
    "scikit-learn": ("sklearn", "scikit-learn"),
    "matplotlib": ("matplotlib", "matplotlib"),
    "pytorchvideo": ("pytorchvideo", "pytorchvideo"),
    "torchcodec (extra)": ("torchcodec", "ssl-video[torchcodec]"),
    "tensorboard (extra)": ("tensorboard", "ssl-video[tensorboard]"),
    "onnxruntime (extra)": ("onnxruntime", "ssl-video[export]"),
    "wandb (extra)": ("wandb", "ssl-video[wandb]"),
}


@dataclass(frozen=True)
class DoctorConfig:
    """No options."""


def run(argv: Sequence[str]) -> int:
    """The command; 0 if everything that ssl-video cannot do without is there."""
    parse(DoctorConfig, argv, "doctor", "Say what is installed and what is missing.")
    print(f"ssl-video {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    healthy = True
    for name, (module, package) in MODULES.items():
        try:
            importlib.import_module(module)
            print(
                f"  {name:<20} {importlib.metadata.version(package.split('[')[0]) if '[' not in package else 'present'}"
            )
        except Exception as error:  # a broken library can raise anything while it is imported
            healthy &= module not in ("torch", "torchvision", "av", "numpy")
            hint = "apt-get install libgl1, or pip install opencv-python-headless" if "libGL" in str(error) else None
            print(f"  {name:<20} missing: {' '.join(str(error).split())[:100]}; {hint or f'pip install {package!r}'}")
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"  devices              {len(os.sched_getaffinity(0))} CPU cores, {', '.join(gpus) if gpus else 'no GPU'}")
    print(f"  cache                {cache_dir()}")
    return 0 if healthy else 1
