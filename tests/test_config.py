from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from ssl_video.config import from_mapping, make_options, save_yaml, with_options
from ssl_video.errors import UserError
from ssl_video.yaml_files import load_yaml


@dataclass(frozen=True)
class Inner:
    lr: float = field(default=0.1, metadata={"formerly": "rate"})
    name: Literal["sgd", "adam"] = "sgd"


@dataclass(frozen=True)
class Outer:
    steps: int | None = None
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[float, float] = (0.0, 1.0)
    flag: bool = False
    out: Path | None = None
    inner: Inner = field(default_factory=Inner)


def test_a_configuration_survives_yaml(tmp_path):
    config = Outer(3, (4, 5), (1.0, 1.2), True, Path("a/b"), Inner(0.5, "adam"))
    save_yaml(tmp_path / "c.yaml", config)
    assert from_mapping(Outer, load_yaml(tmp_path / "c.yaml"), "recipe") == config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stps": 3}, "did you mean 'steps'"),
        ({"inner": {"lrr": 3}}, "did you mean 'lr'"),
        ({"inner": {"name": "sdg"}}, "one of 'sgd', 'adam'"),
        ({"steps": "many"}, "a whole number"),
        ({"steps": 1.5}, "a whole number"),
        ({"flag": 1}, "true or false"),
        ({"pair": [1]}, "recipe: pair"),
    ],
)
def test_a_wrong_option_is_said_in_one_sentence(given, said):
    with pytest.raises(UserError, match=said) as caught:
        from_mapping(Outer, given, "recipe")
    assert "\n" not in str(caught.value)


def test_options_of_a_function_come_from_its_signature():
    def build(*, width: int = 16, weights: str | None = None): ...

    assert make_options(build, "backbone x", {"width": "8"}) == {"width": 8, "weights": None}
    with pytest.raises(UserError, match="did you mean 'width'"):
        make_options(build, "backbone x", {"widht": 8})


def test_a_former_name_of_an_option_works_with_a_note():
    with pytest.warns(FutureWarning, match=r"The option rate of the recipe: inner is called lr now"):
        assert from_mapping(Outer, {"inner": {"rate": 0.5}}, "recipe").inner.lr == 0.5
    for name in ("rate", "inner.rate"):
        with pytest.warns(FutureWarning, match=r"inner\.rate of the protocol x is called inner\.lr now"):
            assert with_options(Outer(), {name: "0.5"}, "protocol x").inner.lr == 0.5
    with pytest.raises(UserError, match=r"did you mean 'inner\.lr'"):
        with_options(Outer(), {"inner.lrr": 1}, "protocol x")


def test_yaml_that_would_run_code_is_refused(tmp_path):
    (tmp_path / "evil.yaml").write_text("steps: !!python/object/apply:os.system ['true']")
    with pytest.raises(UserError, match="cannot be read as YAML"):
        load_yaml(tmp_path / "evil.yaml")
