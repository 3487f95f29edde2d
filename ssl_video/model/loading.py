"""Models by name: runs, exported folders, files, published weights and fresh ones."""

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import torch
from torch import Tensor

from ssl_video.backbones.base import Backbone, build_backbone, unloaded_backbone
from ssl_video.backbones.weights import current_names, load_into, own_names, whole_source
from ssl_video.backbones.weights.packaged import NETWORK, network_of, packaged, packaged_file, packaged_names
from ssl_video.bounds import counted
from ssl_video.config import option_type
from ssl_video.encoders.base import ENCODERS, Encoder, build_encoder
from ssl_video.errors import UserError
from ssl_video.files import as_named, there
from ssl_video.model.base import Classifier, Model
from ssl_video.pretexts.base import PRETEXTS, Pretext, View, build_pretext
from ssl_video.readback import DAMAGE, reading, texts
from ssl_video.run import Run
from ssl_video.tensors import load_tensors, read_header
from ssl_video.train.distributed import choose_device
from ssl_video.video.colours import COLOURS

EXPORTED = "model.safetensors"
"""The weights in a folder that 'ssl-video export' wrote."""
A_MODEL = "a run's folder, a .safetensors file, net:NAME?weights=FILE or random:NAME"


def load_backbone(spec: Path | str) -> Backbone:
    """The backbone of a model, in eval mode: ``load_backbone("run")``; see ``load_model``. Never executes a file."""
    return load_model(str(spec)).backbone


def load_model(spec: str | Path | Run, device: torch.device | str = "cpu") -> Model:
    """A model, in eval mode, by one of these names: ``load_model("net:vivit_base?weights=FILE")``.

    * A run's or an exported folder, or a .safetensors of ours; ``RUN?option=value`` with another option of its network
      that its weights allow, such as the ``noise`` that a network which denoises is shown.
    * ``net:NAME``: a small network that comes with ssl-video, such as ``net:clips``.
    * ``net:NAME?weights=FILE&option=value``: a network with weights that others published, of a file or of an entry.
    * ``random:NAME?option=value``: the same with fresh weights.
    * ``random:net:...``: the untrained twin of either: the same network, shown the same clips.
    * ``random:RUN``: the network of a run, and its view of a video, with fresh weights: the baseline for that run.
      What its pretext fitted to the data (``Pretext.fitted``) stays.

    Where the pretext of a run cannot be built any more, that is warned of, and backbone and view are loaded.

    Raises:
        UserError: if there is no such thing, or its weights do not fit the architecture they claim.
    """
    spec = str(spec)
    device = choose_device(device) if isinstance(device, str) else device
    if names_encoder(spec):
        raise UserError(f"{spec} is an encoder, not a network; 'ssl-video evaluate' alone takes it.")
    kind, colon, rest = spec.partition(":")
    if colon and kind == "random":
        model = _random(spec, rest, device)
    elif colon and kind == "net":
        model = _published(spec, rest, device)
    else:
        model = _trained(spec, device)
    for module in (model.backbone, model.pretext, model.classifier):
        if module is not None:
            module.to(device).eval()
    return model


def load_model_or_encoder(spec: str, device: torch.device | str = "cpu") -> Model | Encoder:
    """A model as of ``load_model``, or an encoder by its name: ``improved-trajectories?gmm=64``. Raises UserError."""
    return build_encoder(spec) if names_encoder(spec) else load_model(spec, device)


def untrained_twin(spec: str) -> str:
    """The name of the same network with fresh weights, shown the same clips: the baseline of what ``spec`` names."""
    return spec if spec.startswith("random:") else f"random:{spec}"


def _parsed(text: str) -> tuple[str, dict[str, str]]:
    """``NAME?option=value&...`` as its name and its options; a plus is a plus."""
    name, _, query = text.partition("?")
    return name, dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True, errors="surrogateescape"))


def anywhere(spec: str) -> str:
    """The name of a model with the whole path of its folder or file, so that it can be noted and read in any folder."""
    kind, colon, rest = spec.partition(":")
    if colon and kind == "random" and not rest.startswith("net:"):
        name, mark, query = _of_file(rest)
        return f"random:{as_named(name)}{mark}{query}" if there(name) else spec
    if colon and kind in ("net", "random"):
        name, _, query = rest.partition("?")
        parts = [_whole_weights(part) for part in query.split("&")]
        return f"{kind}:{name}?{'&'.join(parts)}" if query else spec
    name, mark, query = _of_file(spec)
    return f"{Path(name).resolve()}{mark}{query}" if there(name) else spec


def _of_file(spec: str) -> tuple[str, str, str]:
    """A path, a question mark and options behind it; a file may have the mark in its name."""
    name, mark, query = (spec, "", "") if there(spec) else spec.rpartition("?")
    return (name, mark, query) if there(name) else spec.partition("?")


def _whole_weights(option: str) -> str:
    source = _parsed(f"?{option}")[1].get("weights", "")
    whole = whole_source(source) if source else source
    return f"weights={quote(os.fsencode(whole), safe='/:')}" if whole != source else option


def names_encoder(spec: str) -> bool:
    """True for the name of an encoder, unless a file is called so."""
    return not Path(spec).exists() and spec.partition("?")[0] in ENCODERS.names()


def _random(spec: str, rest: str, device: torch.device) -> Model:
    name, options = _options_of(rest)
    file = weights_file(Path(name))
    if Path(name).is_dir() and file.exists():
        header, heads = load_tensors(file)[1], Run(Path(name)).pretext_file
        return _untrained(spec, header, heads, device, _without_weights(name, options))
    if own := _packaged_name(rest):
        return _untrained(spec, packaged(own), packaged_file(own), device)
    if rest.startswith("net:"):  # an entry's options, and the clips that its weights were trained on
        name, options = _parsed(rest.removeprefix("net:"))
        return _fresh(spec, unloaded_backbone(name, **options), device)
    if "weights" in options:
        raise UserError(f"random: means fresh weights; for those of a file, write net:{rest}.")
    return _fresh(spec, build_backbone(name, **options), device)


def _untrained(
    spec: str, header: Mapping[str, Any], heads: Path, device: torch.device, options: Mapping[str, str] = {}
) -> Model:
    """The network of a header with fresh weights, with what its pretext, in ``heads``, has fitted to the data."""
    backbone, view = _network(header, spec, options)
    pretext = _pretext(header, backbone, spec)
    if pretext is not None and pretext.fitted and heads.exists():  # classes of colours are no weights, say
        kept = {k: v for k, v in load_tensors(heads)[0].items() if k in pretext.fitted}
        load_into(pretext, pretext.state_dict() | kept, str(heads))
    run = {"architecture": backbone.architecture} | ({"changed": dict(options)} if options else {})
    return Model(spec, backbone, view, run, device, pretext)


def _packaged_name(spec: str) -> str | None:
    """The name of a network that comes with ssl-video, of ``net:NAME``; None for anything else."""
    kind, _, name = spec.partition(":")
    return name if kind == "net" and name in packaged_names() else None


def _published(spec: str, rest: str, device: torch.device) -> Model:
    name, options = _parsed(rest)
    if own := _packaged_name(spec):
        return _loaded(spec, packaged_file(own), device)
    if name in packaged_names():
        raise UserError(f"{spec} cannot be: net:{name} is a whole network, which takes no options; write net:{name}.")
    if not options.get("weights"):
        raise UserError(
            f"{spec} names no weights; write net:{name}?weights=FILE, or random:{name} for fresh ones. (By their name "
            f"alone go those that come with ssl-video: {', '.join(f'net:{own}' for own in packaged_names())}.)"
        )
    return _fresh(spec, build_backbone(name, **options), device)


def _fresh(spec: str, backbone: Backbone, device: torch.device) -> Model:
    """A network that no run has trained: it is shown the clips that it was designed for."""
    clip, entry = backbone.clip, backbone.provenance.entry
    stride = entry.stride if entry is not None and entry.stride is not None else 1
    view = View(clip.frames, stride, max(clip.size, round(clip.size * 8 / 7)), clip.size)
    return Model(spec, backbone, view, {"architecture": backbone.architecture}, device)


def _options_of(spec: str) -> tuple[str, dict[str, str]]:
    """A path and the options behind it, see ``_of_file``."""
    name, mark, query = _of_file(spec)
    return name, _parsed(f"{mark}{query}")[1]


def _without_weights(name: str, options: Mapping[str, str]) -> Mapping[str, str]:
    if "weights" in options:
        raise UserError(f"{name} has weights of its own; for those of another file, write net:NAME?weights=FILE.")
    return options


def _trained(spec: str, device: torch.device) -> Model:
    name, options = _options_of(spec)
    path = Path(name)
    file = weights_file(path)
    if not file.exists():
        why = f"holds no {file.name} (is its training finished?)" if path.is_dir() else "does not exist"
        meant = f"write net:{name} for the one that comes with ssl-video; " if name in packaged_names() else ""
        raise UserError(f"{path} {why}; {meant}a model is {A_MODEL}.")
    if _is_bare(file):
        raise UserError(f"{file} does not say of which network its weights are; write net:NAME?weights={file}.")
    model = _loaded(spec, file, device, _without_weights(name, options))
    header, backbone, run = model.run, model.backbone, Run(file.parent)
    if file == run.backbone_file:
        model.pretext = _pretext_beside(run.pretext_file, header, backbone)
        model.classifier = _classifier_beside(run.classifier_file, header, backbone)
    return model


def _loaded(spec: str, file: Path, device: torch.device, options: Mapping[str, str] = {}) -> Model:
    """The network in a file, with its pretext if the file holds that whole, and with other ``options``."""
    weights, header = load_tensors(file)
    backbone, view = _network(header, str(file), options)
    header = header | {"options": backbone.provenance.options, "changed": dict(options)} if options else header
    own = network_of(weights)
    load_into(backbone, own_names(own or weights, backbone.provenance.names), str(file))
    pretext = _pretext(header, backbone, str(file), weights) if own else None
    return Model(spec, backbone, view, header, device, pretext)


def weights_file(path: Path) -> Path:
    """Where the weights of a model are: a run's folder has another file of them than an exported one."""
    files = (Run(path).backbone_file, path / EXPORTED)
    return next((f for f in files if f.exists()), files[0]) if path.is_dir() else path


def _is_bare(file: Path) -> bool:
    """True for a file of tensors that does not say what they are, as others write them."""
    if file.suffix != ".safetensors":
        return True
    try:
        return read_header(file) is None
    except UserError:
        return False  # the reader of that format will say what is wrong


def _network(header: Mapping[str, Any], where: str, options: Mapping[str, str] = {}) -> tuple[Backbone, View]:
    """The backbone that a header describes, with fresh weights and other ``options``, and how to show videos to it."""
    try:
        backbone = build_backbone(header["architecture"], **{**header["options"], **options})
        pixels = {k: tuple(map(float, header["clip"][k])) for k in ("mean", "std")}  # published weights bring theirs
        if not all(map(math.isfinite, (*pixels["mean"], *pixels["std"]))) or 0 in pixels["std"]:
            raise ValueError(f"mean and std of pixels {pixels}")
        backbone.clip = replace(backbone.clip, **pixels)
        numbers = {k: int(header["view"][k]) for k in ("frames", "stride", "short_side", "size")}
        colours = header["view"].get("colours", "rgb")  # files of before this field are of RGB
        if colours not in COLOURS:
            raise ValueError(colours)
        return backbone, View(**numbers, fps=header["view"].get("fps"), colours=colours)
    except (RuntimeError, MemoryError, *DAMAGE) as error:
        why = " ".join(repr(error).split())[:200]
        raise UserError(f"{where} has a header that this version does not understand ({why}).") from None


def _pretext(
    header: Mapping[str, Any], backbone: Backbone, where: str, weights: Mapping[str, Tensor] | None = None
) -> Pretext | None:
    """The pretext that a header names, with ``weights``; None, with a warning, if it cannot be had any more."""
    chosen = header.get("pretext")
    if not chosen:
        return None
    try:
        options = counted(option_type(PRETEXTS[chosen["name"]]), chosen["options"])
        pretext = build_pretext(chosen["name"], backbone, options)
        if weights is not None:
            load_into(pretext, weights, where)
        return pretext
    except Exception as error:  # whatever a plug-in does, its backbone is loaded
        reason = str(error).rstrip(".")
        warnings.warn(f"{where}: its pretext is left out, its backbone is loaded ({reason}).", stacklevel=2)
        return None


def _pretext_beside(file: Path, header: Mapping[str, Any], backbone: Backbone) -> Pretext | None:
    """The pretext of a run whose exported network is ``backbone``; its own network is another where it differs.

    A file of version 0.1 holds the heads alone, whose network is the exported one.
    """
    if not file.exists() or not header.get("pretext"):
        return None
    try:
        weights, _ = load_tensors(file)
    except UserError as error:
        warnings.warn(f"{file}: its pretext is left out, its backbone is loaded ({error})", stacklevel=2)
        return None
    exported = backbone.state_dict()
    student = network_of(weights)
    if not student:
        whole = {f"{NETWORK}{k}": v for k, v in exported.items()} | weights
        return _pretext(header, backbone, str(file), whole)
    student = current_names(student, exported)
    same = student.keys() == exported.keys() and all(torch.equal(v, exported[k]) for k, v in student.items())
    return _pretext(header, backbone if same else _network(header, str(file))[0], str(file), weights)


def _classifier_beside(file: Path, header: Mapping[str, Any], backbone: Backbone) -> Classifier | None:
    if not file.exists() or not header.get("classes"):
        return None
    weights, _ = load_tensors(file)
    with reading(file, "fine-tune again"):
        batch_norm = any(name.startswith("norm.") for name in weights)
        classifier = Classifier(backbone.feature_dim, texts(header["classes"]), batch_norm=batch_norm)
    load_into(classifier, weights, str(file))
    return classifier
