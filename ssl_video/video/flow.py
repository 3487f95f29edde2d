"""Optical flow: where every pixel of a frame has moved to in the next one."""

import itertools
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

import numpy as np

from ssl_video.bounds import Count
from ssl_video.config import make_options
from ssl_video.errors import UserError, nearest

LIMIT = 20.0
"""Pixels a frame at which stored flow is cut."""

Flow = Callable[[np.ndarray], np.ndarray]  # uint8 frames_THWC -> flow_SHW2 in pixels a frame, float32, S = T - 1


def farneback(frames_THWC: np.ndarray, *, window: Count = 13, levels: Count = 5, iterations: Count = 3) -> np.ndarray:
    """Polynomial expansion on a pyramid of half sizes (Farneback, "Two-Frame Motion Estimation", SCIA 2003); OpenCV.

    Args:
        frames_THWC: consecutive uint8 RGB frames.
        window: pixels a side over which motion is averaged; more is smoother.
        levels: of the pyramid; OpenCV stops before a level is too small.
        iterations: on each level.
    """
    cv2 = opencv()
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    return np.stack(
        [
            cv2.calcOpticalFlowFarneback(a, b, None, 0.5, levels, window, iterations, 5, 1.1, 0)
            for a, b in itertools.pairwise(gray)
        ]
    )


def dis(frames_THWC: np.ndarray, *, preset: Literal["ultrafast", "fast", "medium"] = "medium") -> np.ndarray:
    """Dense inverse search (Kroeger et al., "Fast Optical Flow Using Dense Inverse Search", ECCV 2016); OpenCV.

    ``preset`` is OpenCV's balance of speed and detail. It refuses frames below 12 pixels; their borders are repeated.
    """
    cv2 = opencv()
    levels = {"ultrafast": 0, "fast": 1, "medium": 2}  # OpenCV's DISOPTICAL_FLOW_PRESET_*
    search = cv2.DISOpticalFlow_create(levels[preset])
    h, w = frames_THWC.shape[1:3]
    larger_THWC = np.pad(frames_THWC, ((0, 0), (0, max(0, 16 - h)), (0, max(0, 16 - w)), (0, 0)), mode="edge")
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in larger_THWC]
    return np.stack([search.calc(a, b, None)[:h, :w] for a, b in itertools.pairwise(gray)])


def raft(
    frames_THWC: np.ndarray, *, size: Literal["small", "large"] = "small", weights: str | None = None
) -> np.ndarray:
    """RAFT (Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms", ECCV 2020); torchvision, on the CPU.

    ``weights`` is torchvision's state dict for that ``size`` as a file; without it torchvision downloads its own.

    Raises:
        UserError: if the weights cannot be had.
    """
    import torch
    import torch.nn.functional as F

    network = _raft(size, weights)
    h, w = frames_THWC.shape[1:3]
    height, width = (max(128, -(-side // 8) * 8) for side in (h, w))  # what its pyramid needs
    x_TCHW = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2).float() / 127.5 - 1
    x_TCHW = F.pad(x_TCHW, (0, width - w, 0, height - h), mode="replicate")
    with torch.no_grad():
        flows = [network(a[None], b[None])[-1][0, :, :h, :w] for a, b in itertools.pairwise(x_TCHW)]
    return torch.stack(flows).permute(0, 2, 3, 1).numpy()


FLOWS: dict[str, Callable[..., np.ndarray]] = {"farneback": farneback, "dis": dis, "raft": raft}


def flow_method(spec: str) -> Flow:
    """The function that ``NAME`` or ``NAME?option=value&...`` names, such as ``raft?size=large&weights=FILE``.

    Raises:
        UserError: for unknown names and options.
    """
    name, _, query = spec.partition("?")
    if name not in FLOWS:
        raise UserError(f"There is no optical flow called {name!r}; {nearest(name, FLOWS)}")
    given = dict(parse_qsl(query, keep_blank_values=True))
    return partial(FLOWS[name], **make_options(FLOWS[name], f"flow {name}", given))


def check_flow(spec: str) -> None:
    """Raise UserError if what ``flow_method(spec)`` needs is not there: OpenCV, weights."""
    flow_method(spec)(np.zeros((2, 32, 32, 3), np.uint8))


def encode(flow: np.ndarray) -> np.ndarray:
    """Flow in pixels a frame as uint8: 128 + d * 127 / 20, rounded and cut, so that 20 pixels are 255."""
    return np.clip(np.rint(128 + flow * (127 / LIMIT)), 0, 255).astype(np.uint8)


def decode(stored: np.ndarray) -> np.ndarray:
    """float32 flow in pixels a frame from what ``encode`` made: off by at most 0.08 where nothing was cut."""
    return (stored.astype(np.float32) - 128) * (LIMIT / 127)


def colour_wheel(flow_HW2: np.ndarray, maximum: float | None = None) -> np.ndarray:
    """A uint8 RGB picture of flow in the colours of the Middlebury benchmark, as torchvision draws it.

    Hue is the direction, saturation the magnitude, white stands still. Right is red, down (y grows downwards) yellow,
    left cyan, up violet. ``maximum`` is the magnitude of full saturation, in pixels; by default the largest there is.
    """
    import torch
    from torchvision.utils import flow_to_image

    flow_2HW = torch.from_numpy(np.array(flow_HW2, np.float32)).permute(2, 0, 1)
    if maximum is None:
        maximum = float(flow_2HW.norm(dim=0).max())
    flow_2HW = flow_2HW * (maximum / flow_2HW.norm(dim=0).clamp(min=max(maximum, 1e-9)))
    # torchvision saturates at the largest magnitude of the field: one more column has it
    flow_2HW = torch.nn.functional.pad(flow_2HW, (0, 1))
    flow_2HW[0, :, -1] = maximum
    return flow_to_image(flow_2HW)[..., :-1].permute(1, 2, 0).numpy()


def opencv() -> Any:
    """The module cv2. Raises UserError where it cannot be imported, as on a server without libGL."""
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"This needs OpenCV, which cannot be imported here ({' '.join(str(error).split())}); "
            "pip install opencv-python-headless."
        ) from None
    return cv2


@lru_cache(maxsize=1)
def _raft(size: str, weights: str | None) -> Any:
    import torch
    from torchvision.models import optical_flow

    from ssl_video.tensors import not_finite, some_of

    build = {"small": optical_flow.raft_small, "large": optical_flow.raft_large}[size]
    published = {"small": optical_flow.Raft_Small_Weights, "large": optical_flow.Raft_Large_Weights}[size].DEFAULT
    network = build(weights=None)
    try:
        if weights is None:
            state = published.get_state_dict(progress=False, check_hash=True)
        else:
            state = torch.load(Path(weights).expanduser(), map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        if wrong := not_finite(network, state):
            raise ValueError(f"NaN or infinite numbers in {some_of(wrong, len(state))}")
    except Exception as error:  # no network, no file, another network's weights: each library has its own error
        reason = " ".join(str(error).split())[:120]
        where = f"torchvision's weights ({published.url})" if weights is None else weights
        raise UserError(
            f"The weights of RAFT cannot be had from {where} ({reason}); "
            "fetch that file and name it: raft?weights=FILE, or use farneback or dis."
        ) from None
    return network.eval()
