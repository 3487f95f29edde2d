"""What is installed, what is missing, and which package brings it."""

import importlib
import importlib.metadata
from dataclasses import dataclass

from ssl_video import processes
from ssl_video.errors import UserError
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
    "torchcodec (extra)": ("torchcodec", "torchcodec"),
    "tensorboard (extra)": ("tensorboard", "tensorboard"),
    "onnxruntime (extra)": ("onnxruntime", "onnxruntime"),
    "pyarrow (extra)": ("pyarrow", "pyarrow"),
    "s3fs (extra)": ("s3fs", "s3fs"),
    "gcsfs (extra)": ("gcsfs", "gcsfs"),
    "wandb (extra)": ("wandb", "wandb"),
    "gradio (extra)": ("gradio", "gradio"),
    "transformers (extra)": ("transformers", "transformers"),
}
"""Name -> module, and the package that brings it."""
NEEDED = ("torch", "torchvision", "av", "numpy")


@dataclass(frozen=True)
class Finding:
    """One thing that was checked, what was found in a phrase, and whether ssl-video can work with that."""

    name: str
    said: str
    good: bool = True


def findings() -> list[Finding]:
    """All libraries, the devices and the folder of the cache."""
    return [*(_library(name) for name in MODULES), _devices(), _cache()]


def _cache() -> Finding:
    try:
        return Finding("cache", str(cache_dir()))
    except UserError as error:
        return Finding("cache", str(error), good=False)


def _library(name: str) -> Finding:
    module, package = MODULES[name]
    try:
        importlib.import_module(module)
        return Finding(name, "present" if "(extra)" in name else importlib.metadata.version(package))
    except Exception as error:  # a broken library can raise anything while it is imported
        hint = "apt-get install libgl1, or pip install opencv-python-headless" if "libGL" in str(error) else None
        said = f"missing: {' '.join(str(error).split())[:100]}; {hint or f'pip install {package!r}'}"
        return Finding(name, said, module not in NEEDED)


def _devices() -> Finding:
    try:
        import torch
    except Exception:  # said above
        return Finding("devices", "unknown without torch", False)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("devices", f"{processes.cores()} CPU cores, {', '.join(gpus) if gpus else 'no GPU'}")
