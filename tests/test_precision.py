import copy

import pytest
import torch
from torch import nn

from ssl_video.errors import UserError
from ssl_video.train.distributed import choose_device
from ssl_video.train.precision import choose_precision, cpu_has_bf16, fp32_where_bf16_is_wrong

CPU = torch.device("cpu")
# kernel, stride, padding, frames: "same" convolutions of the usual 3D networks, from long clips to the last stages
GEOMETRIES = [
    ((k, s, s), (stride, 1, 1), (k // 2, s // 2, s // 2), frames)
    for k, s in ((3, 1), (3, 3), (5, 1), (7, 1), (1, 3))
    for stride in (1, 2)
    for frames in (1, 2, 3, 4, 6, 8)
]


def gradient(conv: nn.Conv3d, x: torch.Tensor) -> tuple[torch.Tensor, torch.dtype]:
    conv.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    y.double().pow(2).sum().backward()
    return conv.weight.grad, y.dtype


@pytest.mark.parametrize(("kernel", "stride", "padding", "frames"), GEOMETRIES)
def test_weight_gradients_under_bf16_are_those_of_float64(kernel, stride, padding, frames):
    torch.manual_seed(0)
    conv = nn.Conv3d(2, 2, kernel, stride, padding, bias=False)
    fp32_where_bf16_is_wrong(conv)
    x = torch.randn(1, 2, frames, 6, 6)
    found, dtype = gradient(conv, x)
    exact = copy.deepcopy(conv).double()
    exact.zero_grad()
    exact(x.double()).pow(2).sum().backward()
    assert dtype == (torch.float32 if kernel[0] > frames else torch.bfloat16)
    assert (found.double() - exact.weight.grad).norm() <= 0.03 * exact.weight.grad.norm()


def test_the_guard_survives_a_copy_and_an_error_in_the_layer():
    conv = copy.deepcopy(_guarded())
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            conv(torch.randn(1, 3, 2, 6, 6))  # wrong channels
        assert torch.is_autocast_enabled("cpu")
        assert conv(torch.randn(1, 2, 2, 6, 6)).dtype == torch.float32


def test_without_autocast_the_guard_changes_nothing():
    conv, x = _guarded(), torch.randn(1, 2, 2, 6, 6)
    assert torch.equal(conv(x), nn.functional.conv3d(x, conv.weight, conv.bias, padding=1))


def _guarded() -> nn.Conv3d:
    conv = nn.Conv3d(2, 2, 3, padding=1)
    fp32_where_bf16_is_wrong(conv)
    return conv


def test_auto_takes_bf16_on_a_cpu_only_where_the_hardware_has_it():
    assert choose_precision("auto", CPU) == (torch.bfloat16 if cpu_has_bf16() else None)
    assert choose_precision("bf16", CPU) == torch.bfloat16
    assert choose_precision("fp32", CPU) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said():
    with pytest.raises(UserError, match="torch sees none"):
        choose_device("cuda")
    with pytest.raises(UserError, match="no device 'tpuu'"):
        choose_device("tpuu")
