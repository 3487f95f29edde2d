"""``ssl-video pretrain``: train a backbone on videos without labels."""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from ssl_video.cli import tell
from ssl_video.cli.help_page import names_in
from ssl_video.cli.parsing import Device, Folder, asks_help, name_given, parse
from ssl_video.errors import UserError
from ssl_video.files import as_word
from ssl_video.recipes import SPEEDINESS
from ssl_video.train.config import DataConfig, TrainingConfig

if TYPE_CHECKING:
    from ssl_video.pretexts.base import Pretext
    from ssl_video.pretrain_config import PretrainConfig
    from ssl_video.pretraining import Resume
    from ssl_video.run import Run

DESCRIPTION = (
    "Train a backbone on videos without labels; without any option, the embedded default in about two minutes."
)

NETWORKS = 60
"""There are more networks than that; counting them would take the import of all."""
PretextName = Annotated[
    str,
    tyro.conf.arg(
        metavar="PRETEXT",
        help=f"{', '.join(names_in('ssl_video.pretexts', 'PRETEXTS'))}; "
        "--pretext NAME --help shows its options, --pretext.OPTION.",
    ),
]
BackboneName = Annotated[
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
        "ssl-video pretrain --data videos --pretext clip_order --config paper --out runs/clip_order",
        "ssl-video pretrain --data videos --backbone r3d_10 --epochs 100 --batch-size 16",
    )

    spec: Annotated[str, tyro.conf.arg(name="data", metavar="SPEC")] = DataConfig.spec
    """Training videos: a file, a folder, a csv, a manifest, or ucf101:ROOT, hmdb51:ROOT, kinetics:ROOT, synthetic."""
    out: Folder | None = None
    """Folder of the run; by default a new one under runs/."""
    config: Annotated[str, tyro.conf.arg(metavar="RECIPE")] | None = None
    """What to start from: small (the default) or paper, a name of 'ssl-video list recipes', a file, or a run's folder;
    flags go over it."""
    init: Annotated[str, tyro.conf.arg(metavar="WEIGHTS")] | None = None
    """Continue from these, with their network: a network that comes with ssl-video ('ssl-video list weights'), such as
    clips, a run's folder, or what --backbone.weights takes."""
    device: Device = TrainingConfig.device
    resume: bool = False
    """Resume the training in --out, with its own configuration. --resume auto starts it, resumes it, or finds it
    finished, all with the same line."""
    dry_run: bool = False
    """Print what would be done, with which videos, and do and write nothing."""
    probe: bool = False
    """After training, measure the run beside its untrained network: its own task and, with labels, linear probe and
    retrieval, on the test list or the held-out videos."""
    fit_span: bool = False
    """Shorten the pretext's span to what the videos have, where that lets more of them serve; a stated one stays."""


@dataclass(frozen=True)
class Choices(Flags):
    """What the bare help shows: with a pretext or backbone named, its own flags are shown too."""

    pretext: PretextName = "speediness"
    backbone: BackboneName = "r2plus1d_4"


@dataclass(frozen=True)
class CommandLine:
    """A parsed command line."""

    config: "PretrainConfig"
    out: Path | None
    resume: "Resume"
    dry_run: bool = False


def main(argv: Sequence[str]) -> int:
    """The command."""
    if asks_help(argv) and not any(a.startswith(("--pretext", "--backbone", "--config")) for a in argv):
        parse(Choices, argv, "pretrain", _described(f"{SPEEDINESS}:small"), _bare())  # prints the help and leaves
    from ssl_video.pretraining import pretrain
    from ssl_video.train.distributed import choose_device, joined
    from ssl_video.train.loop import Interrupted

    if asks_help(argv):
        configure(argv)  # prints the help and leaves
    with joined(choose_device(name_given(argv, "--device") or "auto")) as ranks:
        given = ranks.first_does(lambda: configure(argv))  # the folder to resume may lie on its machine alone
        if given.dry_run:
            if ranks.first:
                _preview(given)
            return 0
        try:
            run = pretrain(given.config, given.out, resume=given.resume, say=tell, progress=True)
        except Interrupted as stop:
            if ranks.first:
                print(f"ssl-video: {stop}: use --resume.", file=sys.stderr)
            return 130
        if ranks.first:
            _tell(given.config, run)
    return 0


def configure(argv: Sequence[str]) -> CommandLine:
    """The command line read: defaults, under a recipe or the run to resume, under the flags. Raises UserError."""
    from ssl_video.config import option_type
    from ssl_video.pretexts.base import PRETEXTS
    from ssl_video.pretrain_config import PretrainConfig, changed, continued, noted_by
    from ssl_video.run import Run

    argv, auto = _without_auto(argv)
    out, resume = name_given(argv, "--out"), "--resume" in argv
    if auto and out is None:
        raise UserError("--resume auto needs --out FOLDER, the run to start or to resume.")
    if resume and out is None:
        raise UserError("--resume needs --out FOLDER, the run to resume.")
    before = Run(Path(out)) if resume and out is not None and Run(Path(out)).started else None
    argv = [re.sub(r"^--(pretext|backbone)(?=$|=)", r"--\1.name", a) for a in argv]
    names = ("pretext.name", "backbone.name", "backbone.weights")  # what the defaults of other flags depend on
    chosen = {name: name_given(argv, f"--{name}") for name in names}
    if resume and before is None and not (name_given(argv, "--data") or name_given(argv, "--config")):
        raise UserError(f"{out} holds no training to resume; name its --out, or --data or --config to start one there.")
    recipe = _recipe(argv, chosen["pretext.name"]) if before is None else noted_by(before)
    chosen = {k: v for k, v in chosen.items() if v is not None} | _in_units(argv, TrainingConfig)
    if (init := name_given(argv, "--init")) is not None:
        chosen = continued(init, chosen)
    recipe = changed(recipe, chosen)
    pretext = PRETEXTS[PretrainConfig.from_mapping(recipe).pretext.name]
    default = PretrainConfig.from_mapping(changed(recipe, _in_units(argv, option_type(pretext), "pretext.")))
    named = [kind for kind in ("pretext", "backbone") if name_given(argv, f"--{kind}.name")]
    flags = _flags_of(default if before else _stated(default, pretext, argv), named)
    given = parse(type(flags), argv, "pretrain", _described(_source(argv, chosen, before)), flags)
    return CommandLine(_config_of(given), given.out, "auto" if auto else given.resume, given.dry_run)


def _bare() -> Choices:
    """What --data alone starts from, without an import of pretexts and networks."""
    from ssl_video.config import from_mapping
    from ssl_video.recipes import small_recipe

    recipe = small_recipe(SPEEDINESS)
    return from_mapping(Choices, recipe | {kind: recipe[kind]["name"] for kind in ("pretext", "backbone")}, "recipe")


def _described(source: str) -> str:
    """What the command does, and whose values its help shows."""
    return f"{DESCRIPTION} Defaults shown are those of {source}; others have their own (--config RECIPE --help)."


def _source(argv: Sequence[str], chosen: Mapping[str, Any], before: "Run | None") -> str:
    """Where the defaults of the flags come from, in words."""
    if before is not None:
        return str(before)
    return _recipe_name(argv, chosen.get("pretext.name")) or f"{chosen.get('pretext.name') or SPEEDINESS}:small"


def _without_auto(argv: Sequence[str]) -> tuple[list[str], bool]:
    """The words without ``--resume auto``, and whether it was among them. Raises UserError for another value."""
    rest, auto = [], False
    for word in argv:
        if word == "auto" and rest and rest[-1] == "--resume":
            rest, auto = rest[:-1], True
        elif word.startswith("--resume="):
            if word != "--resume=auto":
                raise UserError(f"--resume is given alone, or as --resume auto, not as {word!r}.")
            auto = True
        elif rest and rest[-1] == "--resume" and not word.startswith("-"):
            raise UserError(f"--resume is given alone, or as --resume auto, not as '--resume {word}'.")
        else:
            rest.append(word)
    return rest, auto


def _stated(default: "PretrainConfig", pretext: "type[Pretext]", argv: Sequence[str]) -> "PretrainConfig":
    """Without fitting a span that a flag states."""
    given = {word.partition("=")[0].replace("_", "-") for word in argv}
    stated = any(f"--pretext.{name.replace('_', '-')}" in given for name, _ in pretext.span_limits)
    return dataclasses.replace(default, fit_span=default.fit_span and not stated)


def _in_units(argv: Sequence[str], cls: type, prefix: str = "") -> dict[str, Any]:
    """What the flags say of options that a recipe may have in another unit (``Bounded.either``). Raises UserError."""
    from ssl_video.config import option_of

    flags = {name: f"--{prefix}{name}" for pair in getattr(cls, "either", ()) for name in pair}
    said = {name: value for name, flag in flags.items() if (value := name_given(argv, flag)) is not None}
    return {f"{prefix}{name}": option_of(cls, name, value, flags[name]) for name, value in said.items()}


def _recipe(argv: Sequence[str], pretext: str | None) -> Mapping[str, Any]:
    """The recipe that --config names, or the small one of the pretext; the embedded default without any of these."""
    from ssl_video.pretrain_config import recipe_of

    return recipe_of(pretext, _recipe_name(argv, pretext))


def _recipe_name(argv: Sequence[str], pretext: str | None) -> str | None:
    """What --config names; None: the small recipe of the pretext."""
    name = name_given(argv, "--config")
    if name is None and pretext in (None, SPEEDINESS) and name_given(argv, "--data") is None:
        return "default"
    return name


def _flags_of(config: "PretrainConfig", named: Sequence[str] = ()) -> Any:
    """The configuration as an instance of a class that gives its flags, those of its pretext and backbone too.

    Help counts those of what was ``named``, a pretext or a backbone, among the usual ones.
    """
    from ssl_video.backbones.base import backbone_options
    from ssl_video.config import option_type
    from ssl_video.pretexts.base import PRETEXTS

    types = {"pretext": option_type(PRETEXTS[config.pretext.name]), "backbone": backbone_options(config.backbone.name)}
    shown: dict[str, Any] = {"pretext": PretextName, "backbone": BackboneName}
    chosen = {}
    for kind, choice in (("pretext", config.pretext), ("backbone", config.backbone)):
        name = [("name", shown[kind], dataclasses.field(default=choice.name))]
        options = dataclasses.make_dataclass(types[kind].__name__, name, bases=(types[kind],), frozen=True)
        chosen[kind] = options(**choice.options)
    own = [(kind, type(options)) for kind, options in chosen.items()]
    said = {"shown_as": {f"--{kind}.name": f"--{kind}" for kind in shown}}
    said |= {"usual": (*USUAL, *(f"{kind}." for kind in named))}
    cls = dataclasses.make_dataclass("Pretrain", own, bases=(Flags,), namespace=said, frozen=True, kw_only=True)
    return cls(**vars(config.data), **vars(config.training), probe=config.probe, fit_span=config.fit_span, **chosen)


def _config_of(flags: Any) -> "PretrainConfig":
    from ssl_video.pretrain_config import Choice, PretrainConfig

    data, training = ({f.name: getattr(flags, f.name) for f in fields(cls)} for cls in (DataConfig, TrainingConfig))
    chosen = {}
    for kind in ("pretext", "backbone"):
        options = vars(getattr(flags, kind)).copy()
        chosen[kind] = Choice(options.pop("name"), options)
    own = {"probe": flags.probe, "fit_span": flags.fit_span}
    return PretrainConfig(**chosen, data=DataConfig(**data), training=TrainingConfig(**training), **own)


def _preview(given: CommandLine) -> None:
    """Print what would be done."""
    import yaml

    from ssl_video.apps.preview import preview

    plan = preview(given.config, given.out, given.resume, progress=True)
    print(yaml.safe_dump(plan.config.to_mapping(), sort_keys=False, allow_unicode=True))
    for line in plan.said:
        print(line)
    print("Nothing was done or written (--dry-run).")


def _tell(config: "PretrainConfig", run: "Run") -> None:
    from ssl_video.eval.results import Result, side_by_side

    results = [Result.from_dict(content) for content in run.probe()]
    if results:
        names = {r.model: "random" if r.model.startswith("random:") else "pretrained" for r in results}
        print(f"\n{side_by_side(results, names)}")
    words = f"--model {as_word(run.folder)} --data {as_word(config.data.spec)} --out {as_word(run.folder / 'index')}"
    tell(f"Next: ssl-video index {words}")
