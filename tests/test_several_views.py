"""Several samples of one decoded clip, side by side in a batch (``--views``)."""

from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch

from ssl_video.errors import UserError
from ssl_video.pretexts.base import Redraw, build_pretext
from ssl_video.pretraining import PretrainConfig, untrained
from ssl_video.train.config import TrainingConfig
from ssl_video.train.data import BatchKeys, ClipDataset, batches, read_video
from ssl_video.train.distributed import Ranks
from ssl_video.train.parallel import check
from tests.nets import drawn_frames, tiny_backbone, video_set

OPTIONS = {"frames": 4, "short_side": 12, "crop": 8, "min_size": 6, "max_size": 8}


class Counted:
    """Frames as they are drawn, and of which videos."""

    def __init__(self):
        self.asked = []

    def __call__(self, video, frames, *, each=None):
        self.asked.append(video.path)
        return drawn_frames(video, frames, each=each)


def dataset(views: int, read=drawn_frames) -> ClipDataset:
    pretext = build_pretext("speediness", tiny_backbone(), OPTIONS).train()
    return ClipDataset(video_set(), pretext, 0, read, views)


def first_batches(of: ClipDataset, count: int):
    keys = BatchKeys(len(of.videos.videos), 1, 6 // of.views, seed=0, start=0)
    return list(islice(batches(of, keys, workers=0), count))


def test_a_clip_is_decoded_once_for_all_its_views_and_each_is_drawn_anew():
    read = Counted()
    several = dataset(3, read)
    (batch,) = first_batches(several, 1)
    (name,) = (name for name in batch if name.endswith("HWC"))
    assert len(batch[name]) == 6 and len(read.asked) == 2
    a, b, c, other = batch[name][:4]
    assert not torch.equal(a, b) and not torch.equal(b, c) and not torch.equal(a, other)


def test_the_first_view_of_a_clip_is_the_sample_that_is_had_without_views():
    one, several = dataset(1), dataset(3)
    for key in [(0, 1, 0), (4, 0, 0)]:
        alone, (first, *_) = one[key], several.__getitems__([key])
        assert alone.keys() == first.keys()
        for name, value in alone.items():
            np.testing.assert_array_equal(value, first[name])


def test_a_clip_of_which_one_view_is_unfit_is_drawn_anew_as_a_whole(monkeypatch):
    several = dataset(2)
    transform, calls = several.pretext.transform, []

    def unfit_at_first(frames, sample, rng):
        calls.append(sample.frames)
        return Redraw("nothing moves") if len(calls) == 2 else transform(frames, sample, rng)

    monkeypatch.setattr(several.pretext, "transform", unfit_at_first)
    assert len(several.__getitems__([(0, 0, 0)])) == 2
    assert len(calls) == 4 and calls[0] == calls[1] and calls[2] == calls[3]


def test_workers_that_decode_on_a_gpu_are_started_anew():
    for reader, method in (("torchcodec-cuda", "spawn"), ("pyav", None)):
        one = replace(dataset(1), read=partial(read_video, reader=reader))
        loader = batches(one, [[(0, 0, 0)]], workers=1)
        started = loader.multiprocessing_context
        assert (started and started.get_start_method()) == method


def test_an_epoch_has_as_many_more_steps_as_there_are_views():
    plain, several = (TrainingConfig(epochs=2, batch_size=8, views=views) for views in (1, 4))
    assert (plain.steps_over(40), several.steps_over(40)) == (10, 40)
    plain, several = (TrainingConfig(steps=10, batch_size=8, views=views) for views in (1, 4))
    assert (plain.draws, several.draws) == (80, 20)


def test_a_batch_that_the_views_do_not_divide_is_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"--batch-size 10 .* 2 processes, with 2 views .*multiple of 4\."):
        check(TrainingConfig(batch_size=10, views=2), Ranks(world_size=2))


CONTRAST = {"name": "clip_contrast", "loss": "ntxent"}


@pytest.mark.parametrize("pretext", [CONTRAST, {"name": "dense_predictive_coding"}, {"name": "relative_speed"}])
def test_a_pretext_that_compares_the_samples_of_a_batch_refuses_views(pretext):
    config = PretrainConfig.from_mapping({"pretext": pretext, "views": 2}, "test")
    with pytest.raises(UserError, match=rf"{pretext['name']} compares the samples of a batch .*--views"):
        untrained(config)
