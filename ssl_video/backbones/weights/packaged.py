"""Small networks that come with ssl-video, to start from: each is a file in ``data/``, with its description beside it.

NAME.safetensors holds what was trained, whole: the network, under ``backbone.``, and the heads of its pretext.
NAME.json holds the SHA-256 of that file and its header in clear: the recipe and its whole configuration, the seed, the
data, the results and the licence. Another network is these two files and nothing else (``benchmarks/shipped.py`` writes
them). Its name stands for weights (``--backbone.weights NAME``, ``--init NAME``) and, as ``net:NAME``, for a model.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ssl_video.backbones.weights.entries import WEIGHTS, Entry, check_digest
from ssl_video.errors import UserError, nearest
from ssl_video.readback import of_type, parsed, reading

FOLDER = Path(__file__).parent / "data"
INSTALL_AGAIN = "install ssl-video again, or name other weights"
NETWORK = "backbone."
"""What the names of the network's tensors begin with in a file that holds a whole pretext."""


def network_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the tensors of a whole pretext those of its network, under the network's own names; none if there are none."""
    return {k.removeprefix(NETWORK): v for k, v in weights.items() if k.startswith(NETWORK)}


@dataclass(frozen=True)
class PackagedEntry(Entry):
    """The entry of a network that comes with ssl-video.

    Args:
        about: what it is for, its size and its result, in words; for the other arguments see ``Entry``.
    """

    about: str = ""
    mend: ClassVar[str] = f"since it was installed; {INSTALL_AGAIN}"


def packaged_names() -> list[str]:
    """Names of all networks that come with ssl-video, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def packaged(name: str) -> dict[str, Any]:
    """The header of the network called ``name``, from its description. Raises UserError."""
    return _described(name)["header"]


def packaged_file(name: str) -> Path:
    """Its file, whose digest was compared. Raises UserError for a file that is not there or was altered."""
    path, digest = FOLDER / f"{name}.safetensors", _described(name)["sha256"]
    if not path.is_file():
        raise UserError(f"{path} is not there, which comes with ssl-video; {INSTALL_AGAIN}.")
    check_digest(path, digest, PackagedEntry.mend)
    return path


def in_words(name: str) -> str:
    """What it is, as a phrase: ``dense_resnet_8 trained on 120 drawn videos``. Raises UserError."""
    header = packaged(name)
    return f"{header['architecture']} trained on {header['packaged']['trained_on']}"


def _described(name: str) -> dict[str, Any]:
    if name not in packaged_names():
        raise UserError(f"No network called {name!r} comes with ssl-video; {nearest(name, packaged_names())}")
    path = FOLDER / f"{name}.json"
    with reading(path, INSTALL_AGAIN):
        found = of_type(parsed(path.read_text("utf-8")), dict)
        of_type(found["sha256"], str)
        header = of_type(found["header"], dict)
        said = of_type(header["packaged"], dict)
        for text in (header["architecture"], said["purpose"], said["trained_on"], said["licence"]):
            of_type(text, str)
        return found


def _entry(name: str) -> PackagedEntry:
    found = _described(name)
    header, path = found["header"], FOLDER / f"{name}.json"
    with reading(path, INSTALL_AGAIN):
        said, clip, view = header["packaged"], header["clip"], header["view"]
        best = said["results"][0]
        result = f"{best['metric']} {best['value']:.3g} (untrained {best['untrained']:.3g})"
        return PackagedEntry(
            str(path.with_suffix(".safetensors")),
            options=header["options"],
            rename=network_of,
            mean=tuple(clip["mean"]),
            std=tuple(clip["std"]),
            frames=view["frames"],
            stride=view["stride"],
            sha256=found["sha256"],
            licence=said["licence"],
            trained_on=said["trained_on"],
            lists=tuple(header["lists"]),
            checked="measured from this file",
            about=(
                f"net:{name}, for {said['purpose']}: {found['bytes'] / 1e6:.2f} MB, trained on {said['trained_on']}; "
                f"{result}"
            ),
        )


for _name in packaged_names():
    with contextlib.suppress(UserError):  # one that is damaged is told to whoever names it, not to everybody
        _made = _entry(_name)
        WEIGHTS.register(f"{packaged(_name)['architecture']}/{_name}")(_made)
