"""A teacher follows its network as a moving average, without a gradient."""

import pytest
import torch
from torch import nn

from ssl_video.pretexts.teacher import follow, risen, teacher_of
from ssl_video.train.objective import Progress


def test_a_teacher_is_the_closed_form_of_the_average_of_what_it_followed():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    teacher, first = teacher_of(student), student[0].weight.detach().clone()
    assert not any(p.requires_grad for p in teacher.parameters())
    seen, momenta = [], [0.9, 0.5, 0.99]
    for momentum in momenta:
        with torch.no_grad():
            student[0].weight.add_(torch.randn(4, 3))
        student(torch.randn(8, 3).double())  # its statistics move, the teacher's do not
        follow(teacher, student, momentum)
        seen.append(student[0].weight.detach().clone())
    expected = first * 0.9 * 0.5 * 0.99 + seen[0] * 0.1 * 0.5 * 0.99 + seen[1] * 0.5 * 0.99 + seen[2] * 0.01
    torch.testing.assert_close(teacher[0].weight, expected)
    assert teacher[1].running_mean.eq(0).all() and not student[1].running_mean.eq(0).any()


def test_a_momentum_rises_from_its_start_to_one():
    values = [risen(0.996, Progress(step, 100)) for step in (0, 50, 100)]
    assert values == pytest.approx([0.996, 0.998, 1.0])
