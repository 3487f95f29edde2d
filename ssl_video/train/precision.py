"""Which arithmetic and memory layout a run uses, and where bf16 must not be used."""

import torch
from torch import Tensor, nn

from ssl_video.errors import UserError
from ssl_video.train.config import Precision


def choose_precision(requested: Precision, device: torch.device) -> torch.dtype | None:
    """The autocast type, or None for full precision.

    ``auto`` takes bf16 on GPUs that have it, and on CPUs with instructions for it; elsewhere it is emulated and many
    times slower than fp32. Raises UserError for bf16 on a GPU that cannot do it.
    """
    if requested == "fp32":
        return None
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        if requested == "bf16":
            raise UserError(f"{torch.cuda.get_device_name(device)} has no bf16; use --precision fp32.")
        return None
    if requested == "bf16" or (device.type == "cpu" and cpu_has_bf16()):
        return torch.bfloat16
    return None


def channels_last(module: nn.Module) -> None:
    """Lay the weights of convolutions out as the clips are: channels last, the faster order on CPU and GPU."""
    for m in module.modules():
        if isinstance(m, nn.Conv3d):
            m.weight.data = m.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(m, nn.Conv2d):
            m.weight.data = m.weight.data.contiguous(memory_format=torch.channels_last)


def cpu_has_bf16() -> bool:
    """True if this CPU multiplies bf16 numbers in hardware (AVX-512 BF16 or AMX)."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)


def bf16_is_wrong(conv: nn.Conv2d | nn.Conv3d, x_BCTHW: Tensor) -> bool:
    """True for the geometries whose weight gradient torch's CPU kernels get wrong in bf16.

    With a temporal input shorter than the temporal kernel, part of the gradient is uninitialised memory: finite or not,
    and no error. Seen with torch 2.15 on CPUs with AVX-512 BF16. 3x3x3 convolutions of two frames are such layers;
    every network with three temporal halvings has them on 16 frames. Temporal convolutions that are computed as 2D ones
    of k x 1 are treated alike.
    """
    temporal = isinstance(conv, nn.Conv3d) or conv.kernel_size[1] == 1
    extent = conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
    return x_BCTHW.device.type == "cpu" and temporal and extent > x_BCTHW.shape[2]


def fp32_where_bf16_is_wrong(module: nn.Module) -> None:
    """Make every convolution of ``module`` leave autocast, call by call, where ``bf16_is_wrong``."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.Conv3d) and _enter not in m._forward_pre_hooks.values():
            m.register_forward_pre_hook(_enter)
            m.register_forward_hook(_leave, always_call=True)


_LEFT = "_left_autocast"  # on a module: the context that its running forward pass has entered


def _enter(conv: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    assert isinstance(conv, nn.Conv2d | nn.Conv3d)
    (x,) = args
    if not torch.is_autocast_enabled(x.device.type) or not bf16_is_wrong(conv, x):
        return None
    context = torch.autocast(x.device.type, enabled=False)
    context.__enter__()
    conv.__dict__[_LEFT] = context
    return (x.to(conv.weight.dtype),)


def _leave(conv: nn.Module, _args: tuple[Tensor, ...], _output: Tensor) -> None:
    context = conv.__dict__.pop(_LEFT, None)
    if context is not None:
        context.__exit__(None, None, None)
