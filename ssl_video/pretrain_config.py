"""What a pretraining depends on: as typed values, and as the flat options of recipes, flags and runs."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_video.backbones.base import backbone_options
from ssl_video.backbones.weights import found, whole_source
from ssl_video.backbones.weights.packaged import packaged, packaged_names
from ssl_video.bounds import counted, replaced
from ssl_video.config import from_mapping, make_options, option_type, plain
from ssl_video.datasets import spec as datasets
from ssl_video.errors import UserError
from ssl_video.model.loading import weights_file
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.readback import of_type, reading
from ssl_video.recipes import SETTINGS, SPEEDINESS, load_recipe, small_recipe
from ssl_video.run import Run
from ssl_video.tensors import read_header
from ssl_video.train.config import DataConfig, TrainingConfig


@dataclass(frozen=True)
class Choice:
    """A registered thing by its name, with some of its options; the others have their defaults."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that a pretraining depends on.

    Raises UserError for names and options that are not there, and for values that cannot be. In files and flags it is
    flat (``to_mapping``): the same word is a key of a recipe, of a run's config.yaml, and a flag.
    """

    pretext: Choice = Choice("speediness")
    backbone: Choice = Choice("r2plus1d_4")
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    probe: bool = False
    """After training, measure the run beside its untrained network: its own task and, with labels, linear probe and
    retrieval, on the test list or the held-out videos."""
    fit_span: bool = False
    """Shorten the pretext's span to what the videos have, where that lets more of them serve; a stated one stays."""

    def __post_init__(self):
        cls, name = PRETEXTS[self.pretext.name], self.backbone.name
        pretext = make_options(cls, f"pretext {self.pretext.name}", self.pretext.options)
        weights = self.backbone.options.get("weights")
        brings = found(str(weights), name, self.backbone.options).brings if weights not in (None, "None") else {}
        options = {**brings, **self.backbone.options}
        backbone = vars(from_mapping(backbone_options(name), options, f"backbone {name}"))
        object.__setattr__(self, "pretext", Choice(self.pretext.name, pretext))
        object.__setattr__(self, "backbone", Choice(name, backbone))

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], what: str = "recipe") -> "PretrainConfig":
        """From the flat form: a recipe, or the configuration of a run, ``what`` in messages. Raises UserError."""
        flat = vars(from_mapping(_FLAT, {k: v for k, v in given.items() if k not in NO_OPTIONS}, what))
        data = {"spec" if k == "data" else k: flat[k] for k in _OF_DATA}
        training = {f.name: flat[f.name] for f in dataclasses.fields(TrainingConfig)}
        choices = {kind: _choice(flat[kind]) for kind in ("pretext", "backbone") if flat[kind] is not None}
        return cls(
            **choices, data=DataConfig(**data), training=TrainingConfig(**training), **{k: flat[k] for k in _OWN}
        )

    def to_mapping(self) -> dict[str, Any]:
        """The flat form, which ``from_mapping`` turns back into an equal configuration."""
        flat = {**plain(self.data), **plain(self.training), **{k: getattr(self, k) for k in _OWN}}
        choices = {"pretext": self.pretext, "backbone": self.backbone}
        flat |= {kind: {"name": chosen.name, **plain(chosen.options)} for kind, chosen in choices.items()}
        return {"data": flat.pop("spec"), **flat}


def anywhere(config: PretrainConfig) -> PretrainConfig:
    """The configuration with whole paths, so that it can be noted in a run and read in any folder."""
    options, weights = config.backbone.options, config.backbone.options.get("weights")
    if isinstance(weights, str) and weights:
        options = {**options, "weights": whole_source(weights)}
    data = dataclasses.replace(config.data, spec=datasets.anywhere(config.data.spec))
    return dataclasses.replace(config, backbone=Choice(config.backbone.name, options), data=data)


NO_OPTIONS = ("config", "resume", "out", "init")
"""Flags of the command that say where, not what; version 0.1 noted them too."""
_OF_DATA = {"data" if f.name == "spec" else f.name: (f.type, f.default) for f in dataclasses.fields(DataConfig)}
_OWN = ("probe", "fit_span")
_REST = {**dict.fromkeys(_OWN, (bool, False)), "pretext": (Any, None), "backbone": (Any, None)}
_FLAT = dataclasses.make_dataclass(
    "Flat",
    [(name, kind, field(default=default)) for name, (kind, default) in (_OF_DATA | _REST).items()],
    bases=(TrainingConfig,),
    frozen=True,
)


def _choice(given: Any) -> Choice:
    """A name, or a mapping of a name and options."""
    if isinstance(given, str):
        return Choice(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise UserError(f"A pretext or a backbone is a name, or a mapping with a 'name' and options, not {given!r}.")
    return Choice(given["name"], {k: v for k, v in given.items() if k != "name"})


def changed(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe under some options by their dotted names, such as ``pretext``, ``pretext.frames`` or ``optim.lr``.

    Options of a pretext or backbone that another one takes the place of do not carry over. Nor does what the recipe
    says in another unit: ``epochs`` takes the place of its ``steps``. A span that is stated is not fitted any more.
    """
    flat = {**recipe, **replaced(TrainingConfig, changes)}
    for name, value in changes.items():
        group, _, option = name.partition(".")
        if group in ("pretext", "backbone"):
            before = flat.get(group)
            before = _choice(getattr(PretrainConfig, group).name if before is None else before)
            if option in ("", "name"):
                flat[group] = {"name": value, **(before.options if value == before.name else {})}
            else:
                flat[group] = {"name": before.name, **before.options, option: value}
        elif option:
            before = flat.get(group, {})
            if not isinstance(before, Mapping):
                raise UserError(f"The option {group!r} has no options of its own, so there is no {name!r}.")
            flat[group] = {**before, option: value}
        else:
            flat[group] = value
    chosen = flat.get("pretext")
    if isinstance(chosen, Mapping) and "name" in chosen:
        given = {name.removeprefix("pretext."): value for name, value in changes.items() if name.startswith("pretext.")}
        flat["pretext"] = {**chosen, **replaced(option_type(PRETEXTS[chosen["name"]]), given)}
        if set(given) & set(dict(PRETEXTS[chosen["name"]].span_limits)) and "fit_span" not in changes:
            flat.pop("fit_span", None)
    return flat


def continued(init: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their dotted names under which a training continues from weights, with the network of these.

    Args:
        init: a network that comes with ssl-video (``clips``, also ``net:clips``), the folder of a run, or what
            ``--backbone.weights`` takes; it becomes that option.
        given: the options that go over it.

    Raises:
        UserError: if another network or other weights are given, or a run has no weights yet.
    """
    if given.get("backbone.weights") is not None:
        raise UserError("--init and --backbone.weights both name initial weights; leave out one of the two.")
    source = init.removeprefix("net:") if init.removeprefix("net:") in packaged_names() else init
    if source in packaged_names():
        header: Mapping[str, Any] | None = packaged(source)
    else:
        file = weights_file(Path(source))
        source = str(file) if Path(source).is_dir() else source
        if Path(init).is_dir() and not file.is_file():
            raise UserError(f"--init {init} holds no {file.name} (is its training finished?); name a finished run.")
        header = read_header(file) if file.suffix == ".safetensors" and file.is_file() else None
    if header is None:  # of others, who do not say of which network they are
        return {**given, "backbone.weights": source}
    with reading(source, "take a whole copy of it"):
        name, options = of_type(header["architecture"], str), of_type(header["options"], dict)
    wanted = given.get("backbone.name", given.get("backbone", name))
    if wanted != name:
        raise UserError(f"--init {init} is of {name}, not of {wanted}; leave out --backbone, or name other weights.")
    own = {f"backbone.{key}": value for key, value in options.items()}
    return {"backbone.name": name, **own, "backbone.weights": source, **given}


def recipe_of(pretext: str | None, name: str | None) -> dict[str, Any]:
    """The recipe that a training starts from: by default the small one of its pretext, or of speediness.

    ``name`` is ``small`` or ``paper``, the pretext's; the name or the file of a recipe (``load_recipe``); or the folder
    of a run, for the configuration that it has noted. Raises UserError for a recipe of another pretext.
    """
    if name is None:
        return small_recipe(pretext or SPEEDINESS)
    if name in SETTINGS and pretext is not None:
        PRETEXTS[pretext]
        name = f"{pretext}:{name}"
    if not name:
        raise UserError("--config needs a name: small, paper, a name of 'ssl-video list recipes', a file, or a run.")
    recipe = _of_run(Run(Path(name))) if Path(name).is_dir() else load_recipe(name)
    PretrainConfig.from_mapping(recipe, f"recipe {name}")  # what it says wrongly is told by its name
    if recipe.get("pretext") is None:
        return {**small_recipe(pretext or SPEEDINESS), **recipe}
    own = _choice(recipe["pretext"]).name
    if pretext not in (None, own):
        raise UserError(
            f"{name} is a recipe of {own}, not of {pretext}; leave out one of the two, or take {pretext}:small."
        )
    return recipe


def _of_run(run: Run) -> dict[str, Any]:
    if not run.started:
        raise UserError(f"{run} is no run: it holds no {run.config_file.name}; name a recipe, its file, or a run.")
    noted = noted_by(run)
    if "pretext" not in noted:
        raise UserError(
            f"{run} is no pretraining, so its configuration is no recipe; name a run of 'ssl-video pretrain'."
        )
    return {k: v for k, v in noted.items() if k not in NO_OPTIONS}


def noted_by(run: Run) -> dict[str, Any]:
    """The configuration that a run has noted, in the flat form, by what counted in it.

    Version 0.1 took options that say one thing in two units beside each other, such as steps and epochs.
    """
    flat = counted(TrainingConfig, run.config())
    pretext = flat.get("pretext")
    if isinstance(pretext, Mapping) and pretext.get("name") in PRETEXTS.names():
        flat["pretext"] = counted(option_type(PRETEXTS[pretext["name"]]), pretext)
    return flat
