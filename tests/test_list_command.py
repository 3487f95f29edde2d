"""``ssl-video list``, and the multiply-adds that it prints."""

import pytest
import torch
from torch import nn

from ssl_video.apps.catalogue import lines_of
from ssl_video.backbones.base import BACKBONES
from ssl_video.backbones.cost import cost_of, multiply_adds
from ssl_video.cli import main


def printed(capsys, *words) -> list[str]:
    assert main(["list", *words]) == 0
    return capsys.readouterr().out.splitlines()


def said(capsys, *words) -> str:
    assert main(["list", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ssl-video: ") and error.count("\n") == 1
    return error


def test_a_convolutions_multiply_adds_are_those_counted_by_hand():
    conv = nn.Conv3d(4, 6, (3, 5, 5), (1, 2, 2), (1, 2, 2), groups=2, device="meta")
    count, y = multiply_adds(conv, torch.empty(2, 4, 8, 16, 16, device="meta"))
    assert y.shape == (2, 6, 8, 8, 8)
    assert count == y.numel() * (4 // 2) * 3 * 5 * 5


def test_c3ds_multiply_adds_are_the_sum_over_its_convolutions():
    by_hand = 0
    cells, before = 16 * 112 * 112, 3
    for widths, shrink in (((64,), 4), ((128,), 8), ((256, 256), 8), ((512, 512), 8), ((512, 512), 1)):
        for channels in widths:
            by_hand += cells * channels * before * 27
            before = channels
        cells //= shrink
    cost = cost_of("c3d", (16, 112, 112))
    assert cost.multiply_adds == by_hand
    assert cost.features == (512, 1, 4, 4) and cost.clip == (3, 16, 112, 112)


def test_a_row_says_parameters_multiply_adds_features_and_strides(capsys):
    head, row = printed(capsys, "backbones", "c3d", "--flops", "--input", "16x112x112")
    assert head.split() == ["backbone", "parameters", "multiply-adds", "clip", "feature", "map", "strides"]
    assert row.split() == ["c3d", "27.66", "M", "38.50", "G", "3x16x112x112", "512x1x4x4", "16x32x32"]


def test_without_a_clip_each_networks_own_is_taken(capsys):
    _, *rows = printed(capsys, "backbones", "x3d_", "--flops")
    assert [row.split()[0] for row in rows] == ["x3d_l", "x3d_m", "x3d_s", "x3d_xs"]
    assert [row.split()[5] for row in rows] == ["3x16x312x312", "3x16x224x224", "3x13x160x160", "3x4x160x160"]


def test_a_network_that_does_not_take_the_clip_says_why_in_its_row(capsys):
    _, row = printed(capsys, "backbones", "tcam", "--flops", "--input", "16x112x112")
    assert row.split(maxsplit=1) == ["tcam", "tcam takes clips of exactly 20 frames, not of 16."]


def test_only_names_with_the_given_text_are_listed(capsys):
    assert [line.split()[0] for line in printed(capsys, "backbones", "i3d")] == [
        n for n in BACKBONES.names() if "i3d" in n
    ]


def test_every_backbone_says_in_one_line_what_it_is():
    lines = lines_of("backbones")
    assert list(lines) == BACKBONES.names() and all(line.endswith(".") for line in lines.values())


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["recipes", "--flops"], "are for backbones"),
        (["backbones", "--input", "16x112x112"], "give --flops too"),
        (["backbones", "--flops", "--input", "112x112"], "must be frames x height x width"),
        (["backbones", "renset"], "did you mean"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(capsys, words, answer):
    assert answer in said(capsys, *words)
