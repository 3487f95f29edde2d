"""``ssl-video pretrain``: train a backbone on videos without labels."""

import dataclasses
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from ssl_video.cli.help_page import names_in
from ssl_video.cli.parsing import Device, Folder, asks_help, name_given, parse
from ssl_video.errors import UserError
from ssl_video.recipes import load_recipe
from ssl_video.train.config import DataConfig, TrainingConfig

if TYPE_CHECKING:
    from ssl_video.pretrain_config import PretrainConfig
    from ssl_video.run import Run

DESCRIPTION = (
    "Train a backbone on videos without labels; without any option, the embedded default in about two minutes."
)

NETWORKS = 60
"""There are more networks than that; counting them would take the import of all."""
Pretext = Annotated[
    str,
    tyro.conf.arg(
        metavar="PRETEXT",
        help=f"{', '.join(names_in('ssl_video.pretexts', 'PRETEXTS'))}; "
        "--pretext NAME --help shows its options, --pretext.OPTION.",
    ),
]
Backbone = Annotated[
    str,
    tyro.conf.arg(
        metavar="NETWORK",
        help=f"One of more than {NETWORKS} networks ('ssl-video list backbones'); "
        "--backbone NAME --help shows its options, --backbone.OPTION.",
    ),
]
USUAL = ("data", "out", "config", "pretext", "backbone")


@dataclass(frozen=True)
class Flags(TrainingConfig, DataConfig):
    """The flags that do not depend on the choice of pretext and backbone."""

    usual: ClassVar = USUAL
    examples: ClassVar = (
        "ssl-video pretrain --data videos",
        "ssl-video pretrain --data videos --pretext clip_order --out runs/clip_order",
        "ssl-video pretrain --data videos --backbone r3d_10 --epochs 100 --batch-size 16",
    )

    spec: Annotated[str, tyro.conf.arg(name="data", metavar="SPEC")] = DataConfig.spec
    """Training videos: a file, a folder, a csv, a manifest, or ucf101:ROOT, hmdb51:ROOT, kinetics:ROOT, synthetic."""
    out: Folder | None = None
    """Folder of the run; by default a new one under runs/."""
    config: Annotated[str, tyro.conf.arg(metavar="RECIPE")] | None = None
    """A recipe to start from, by name ('ssl-video list recipes') or file; flags go over it."""
    device: Device = TrainingConfig.device
    resume: bool = False
    """Resume the training in --out, with its own configuration."""
    probe: bool = False
    """After training, run the linear probe and retrieval with the trained and with the untrained network."""


@dataclass(frozen=True)
class Choices(Flags):
    """What the bare help shows: with a pretext or backbone named, its own flags are shown too."""

    pretext: Pretext = "speediness"
    backbone: Backbone = "r2plus1d_4"


@dataclass(frozen=True)
class CommandLine:
    """A parsed command line."""

    config: "PretrainConfig"
    out: Path | None
    resume: bool


def main(argv: Sequence[str]) -> int:
    """The command."""
    if asks_help(argv) and not any(a.startswith(("--pretext", "--backbone", "--config")) for a in argv):
        parse(Choices, argv, "pretrain", DESCRIPTION)  # prints the help and leaves
    from ssl_video.pretraining import pretrain
    from ssl_video.train.loop import Interrupted

    given = configure(argv)
    try:
        run = pretrain(given.config, given.out, resume=given.resume, say=print, progress=True)
    except Interrupted as stop:
        print(f"ssl-video: {stop}: use --resume.", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":  # one of torchrun's processes tells
        _tell(given.config, run)
    return 0


def configure(argv: Sequence[str]) -> CommandLine:
    """The command line read: defaults, under a recipe or the run to resume, under the flags. Raises UserError."""
    from ssl_video.config import option_type
    from ssl_video.pretexts.base import PRETEXTS
    from ssl_video.pretrain_config import PretrainConfig, changed, noted_by
    from ssl_video.run import Run

    out, resume = name_given(argv, "--out"), "--resume" in argv
    if resume and out is None:
        raise UserError("--resume needs --out FOLDER, the run to resume.")
    before = Run(Path(out)) if resume and out is not None and Run(Path(out)).started else None
    argv = [re.sub(r"^--(pretext|backbone)(?=$|=)", r"--\1.name", a) for a in argv]
    names = ("pretext.name", "backbone.name", "backbone.weights")  # what the defaults of other flags depend on
    chosen = {name: name_given(argv, f"--{name}") for name in names}
    if resume and before is None and not (name_given(argv, "--data") or name_given(argv, "--config")):
        raise UserError(f"{out} holds no training to resume; name its --out, or --data or --config to start one there.")
    recipe = _recipe(argv) if before is None else noted_by(before)
    chosen = {k: v for k, v in chosen.items() if v is not None} | _in_units(argv, TrainingConfig)
    recipe = changed(recipe, chosen)
    pretext = option_type(PRETEXTS[PretrainConfig.from_mapping(recipe).pretext.name])
    default = PretrainConfig.from_mapping(changed(recipe, _in_units(argv, pretext, "pretext.")))
    flags = _flags_of(default, [kind for kind in ("pretext", "backbone") if name_given(argv, f"--{kind}.name")])
    given = parse(type(flags), argv, "pretrain", DESCRIPTION, flags)
    return CommandLine(_config_of(given), given.out, given.resume)


def _in_units(argv: Sequence[str], cls: type, prefix: str = "") -> dict[str, Any]:
    """What the flags say of options that a recipe may have in another unit (``Bounded.either``). Raises UserError."""
    from ssl_video.config import option_of

    flags = {name: f"--{prefix}{name}" for pair in getattr(cls, "either", ()) for name in pair}
    said = {name: value for name, flag in flags.items() if (value := name_given(argv, flag)) is not None}
    return {f"{prefix}{name}": option_of(cls, name, value, flags[name]) for name, value in said.items()}


def _recipe(argv: Sequence[str]) -> Mapping[str, Any]:
    name = name_given(argv, "--config")
    if name is None and (name_given(argv, "--data") or asks_help(argv)):
        return {}
    return load_recipe("default" if name is None else name)


def _flags_of(config: "PretrainConfig", named: Sequence[str] = ()) -> Any:
    """The configuration as an instance of a class that gives its flags, those of its pretext and backbone too.

    Help counts those of what was ``named``, a pretext or a backbone, among the usual ones.
    """
    from ssl_video.backbones.base import backbone_options
    from ssl_video.config import option_type
    from ssl_video.pretexts.base import PRETEXTS

    types = {"pretext": option_type(PRETEXTS[config.pretext.name]), "backbone": backbone_options(config.backbone.name)}
    shown: dict[str, Any] = {"pretext": Pretext, "backbone": Backbone}
    chosen = {}
    for kind, choice in (("pretext", config.pretext), ("backbone", config.backbone)):
        name = [("name", shown[kind], dataclasses.field(default=choice.name))]
        options = dataclasses.make_dataclass(types[kind].__name__, name, bases=(types[kind],), frozen=True)
        chosen[kind] = options(**choice.options)
    own = [(kind, type(options)) for kind, options in chosen.items()]
    said = {"shown_as": {f"--{kind}.name": f"--{kind}" for kind in shown}}
    said |= {"usual": (*USUAL, *(f"{kind}." for kind in named))}
    cls = dataclasses.make_dataclass("Pretrain", own, bases=(Flags,), namespace=said, frozen=True, kw_only=True)
    return cls(**vars(config.data), **vars(config.training), probe=config.probe, **chosen)


def _config_of(flags: Any) -> "PretrainConfig":
    from ssl_video.pretrain_config import Choice, PretrainConfig

    data, training = ({f.name: getattr(flags, f.name) for f in fields(cls)} for cls in (DataConfig, TrainingConfig))
    chosen = {}
    for kind in ("pretext", "backbone"):
        options = vars(getattr(flags, kind)).copy()
        chosen[kind] = Choice(options.pop("name"), options)
    return PretrainConfig(**chosen, data=DataConfig(**data), training=TrainingConfig(**training), probe=flags.probe)


def _tell(config: "PretrainConfig", run: "Run") -> None:
    from ssl_video.eval.results import Result, side_by_side

    results = [Result.from_dict(content) for content in run.probe()]
    if results:
        names = {r.model: "random" if r.model.startswith("random:") else "pretrained" for r in results}
        print(f"\n{side_by_side(results, names)}")
    elif config.probe:
        print("The linear probe needs a test list, which these videos do not have.")
    print(f"Next: ssl-video index --model {run} --data {config.data.spec} --out {run}/index")
