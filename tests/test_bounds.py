"""Numbers that make no sense are answered where options are made, by one sentence that names the option."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest
import torch

from ssl_video.apps.options import IndexOptions, SearchOptions, SpeedupOptions, TrackOptions
from ssl_video.backbones.base import BACKBONES, backbone_options, build_backbone
from ssl_video.bounds import Bounded, Bounds, Count, Fraction, Natural, in_words
from ssl_video.config import from_mapping, option_type, with_options
from ssl_video.encoders.base import ENCODERS, build_encoder
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, configured
from ssl_video.eval.features import Extraction
from ssl_video.eval.harness import EvaluationConfig, Reading
from ssl_video.eval.knn import KnnConfig, knn_scores
from ssl_video.pretexts.base import PRETEXTS, build_pretext
from ssl_video.train.config import DataConfig, OptimConfig, TrainingConfig
from ssl_video.video.flow import FLOWS, flow_method
from ssl_video.video.view import View
from tests.numbers_of import cases
from tests.test_pretexts import recipe_of


@dataclass(frozen=True)
class Options(Bounded):
    either = (("seconds", "frames"),)

    k: Count = 5
    sides: tuple[Count, ...] = (1, 2)
    area: tuple[Fraction, Fraction] = (0.5, 1.0)
    most: Natural | None = None
    radius: Annotated[float, Bounds(above=0, most=float("inf"))] = 1.0
    seconds: float | None = None
    frames: Count | None = 8


def taken_or_answered(make, option: str, value: Any) -> None:
    """``make`` works, or refuses in one sentence that names the option."""
    try:
        make()
    except UserError as error:
        assert option.split(".")[-1] in str(error) and "\n" not in str(error), str(error)


@pytest.mark.parametrize(
    ("name", "option", "value"), cases({name: EVALUATIONS[name].Config for name in EVALUATIONS.names()})
)
def test_a_protocol_takes_or_answers_zero_and_minus_one(name, option, value):
    taken_or_answered(lambda: configured(name, "default", {option: value}), option, value)


@pytest.mark.parametrize(
    ("name", "option", "value"), cases({name: option_type(PRETEXTS[name]) for name in PRETEXTS.names()})
)
def test_a_pretext_takes_or_answers_zero_and_minus_one(name, option, value):
    chosen = {kind: dict(recipe_of(name)[kind]) for kind in ("backbone", "pretext")}
    backbone = build_backbone(chosen["backbone"].pop("name"), **chosen["backbone"])
    options = {k: v for k, v in chosen["pretext"].items() if k != "name"} | {option: value}
    taken_or_answered(lambda: build_pretext(name, backbone, options).view, option, value)


@pytest.mark.parametrize(
    ("name", "option", "value"), cases({name: backbone_options(name) for name in BACKBONES.names()})
)
def test_a_backbone_takes_or_answers_zero_and_minus_one(name, option, value):
    with torch.device("meta"):
        taken_or_answered(lambda: build_backbone(name, **{option: value}), option, value)


@pytest.mark.parametrize(
    ("name", "option", "value"), cases({name: option_type(ENCODERS[name]) for name in ENCODERS.names()})
)
def test_an_encoder_takes_or_answers_zero_and_minus_one(name, option, value):
    taken_or_answered(lambda: build_encoder(f"{name}?{option}={value}"), option, value)


@pytest.mark.parametrize(("name", "option", "value"), cases({name: option_type(FLOWS[name]) for name in FLOWS}))
def test_a_method_of_flow_takes_or_answers_zero_and_minus_one(name, option, value):
    taken_or_answered(lambda: flow_method(f"{name}?{option}={value}"), option, value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: TrainingConfig(steps=0), "--steps must be a whole number of 1 or more, not 0."),
        (lambda: TrainingConfig(steps=-3), "--steps must be a whole number of 1 or more, not -3."),
        (lambda: TrainingConfig(epochs=0), "--epochs must be a number above 0, not 0."),
        (lambda: TrainingConfig(workers=-1), "--workers must be a whole number of 0 or more, not -1."),
        (lambda: OptimConfig(lr=float("nan")), "--optim.lr must be a number above 0, not nan."),
        (lambda: OptimConfig(lr=float("inf")), "--optim.lr must be a number above 0, not inf."),
        (lambda: DataConfig(held_out=1.0), "--held-out must be a whole number of 2 or more or a number of 0"),
        (lambda: DataConfig(held_out=2.5), "or more and below 1, not 2.5."),
        (lambda: configured("knn", "default", {"k": 0}), "protocol knn: k must be a whole number of 1 or more, not 0."),
        (lambda: KnnConfig(k=0), "k must be a whole number of 1 or more, not 0."),
        (
            lambda: configured("finetune", "default", {"max_steps": "0"}),
            "max_steps must be a whole number of 1 or more",
        ),
        (lambda: configured("finetune", "default", {"optim.lr": 0}), "finetune: optim.lr must be a number above 0"),
        (lambda: configured("finetune", "default", {"crops": 2}), "finetune: crops must be one of 1, 3, 10, not 2."),
        (lambda: configured("retrieval", "default", {"ks": (1, 0)}), "ks must be a list, each a whole number of 1 or"),
        (lambda: configured("retrieval", "default", {"ks": ()}), "name one or more as ks"),
        (lambda: TrackOptions(adapt_steps=-1), "--adapt-steps must be a whole number of 0 or more, not -1."),
        (lambda: IndexOptions(clips=-1), "--clips must be a whole number of 0 or more, not -1."),
        (lambda: SearchOptions(top_k=0), "--top-k must be a whole number of 1 or more, not 0."),
        (lambda: SpeedupOptions(threshold=1.0), "--threshold must be a number above 0 and below 1, not 1.0."),
        (lambda: Extraction(batch=0), "batch must be a whole number of 1 or more, not 0."),
        (lambda: Reading(workers=-1), "workers must be a whole number of 0 or more, not -1."),
        (lambda: EvaluationConfig("knn", "videos", seeds=(0, -1)), "seeds must be a list, each a whole number from 0"),
        (lambda: View(4, 0, 24, 16), "stride must be a whole number of 1 or more, not 0."),
        (lambda: View(4, 1, 16, 24), "A crop of 24 pixels cannot be cut out of frames whose shorter side has 16"),
        (
            lambda: build_backbone("r2plus1d_4", width=0),
            "r2plus1d_4: width must be a whole number of 1 or more, not 0.",
        ),
        (lambda: build_backbone("r2plus1d_4", strides_t=()), "There is no r2plus1d_4 with strides_t=()"),
    ],
)
def test_a_number_out_of_its_bounds_is_named_where_it_is_given(make, sentence):
    with pytest.raises(UserError) as caught:
        make()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_bounds_hold_for_every_number_of_an_option_and_not_for_what_is_not_given():
    assert Options(radius=float("inf"), most=None).most is None
    for wrong in ({"sides": (1, 0)}, {"area": (0.5, 1.5)}, {"most": -1}, {"radius": float("nan")}, {"k": 2.5}):
        with pytest.raises(UserError, match=f"^{next(iter(wrong))} must be "):
            Options(**wrong)
    assert Options(k=np.int64(3), sides=()).k == 3  # pyright: ignore[reportArgumentType]


def test_bounds_are_said_in_words():
    assert in_words(Count) == "a whole number of 1 or more"
    assert in_words(Annotated[float, Bounds(above=0, most=1)]) == "a number above 0 and up to 1"
    assert in_words(Annotated[int, Bounds(least=2, most=5)]) == "a whole number from 2 to 5"
    assert in_words(tuple[Fraction, Fraction]) == "2 values, each a number from 0 to 1"


def test_what_is_given_takes_the_place_of_a_default_in_another_unit():
    assert from_mapping(Options, {"seconds": 2.0}, "recipe") == Options(seconds=2.0, frames=None)
    assert with_options(Options(), {"seconds": "2"}, "protocol x") == Options(seconds=2.0, frames=None)
    assert with_options(Options(), {"seconds": None}, "protocol x").frames == 8
    with pytest.raises(UserError, match=r"^seconds and frames say one thing in two units; give one of them"):
        with_options(Options(), {"seconds": 2, "frames": 3}, "protocol x")


def test_a_vote_at_the_lowest_temperature_is_a_number():
    temperature = 0.002
    assert KnnConfig(temperature=temperature).temperature == temperature
    x_ND = np.eye(3)
    assert np.isfinite(knn_scores(x_ND, np.arange(3), x_ND, 3, 3, temperature)).all()


def test_a_builder_that_fails_with_its_own_defaults_is_not_blamed_on_the_user(monkeypatch):
    def broken(*, width: Count = 8):
        raise RuntimeError("a fault of the builder")

    monkeypatch.setitem(BACKBONES._members, "broken", broken)
    with pytest.raises(RuntimeError, match="a fault of the builder"):
        build_backbone("broken")
    with pytest.raises(UserError, match=r"^There is no broken with width=9: a fault of the builder\.$"):
        build_backbone("broken", width=9)
