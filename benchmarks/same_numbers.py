"""Does a change of the code change what is learned? Thirty steps of every small recipe, their losses and weights.

    python benchmarks/same_numbers.py [--out FILE.json] [--against FILE.json] [PRETEXT ...]

Without --against the losses are compared with those of ``benchmarks/same_numbers.json``, to 1e-4 of each: another
machine adds in another order. With the file that --out wrote on the same machine before a change, losses and weights
must be equal to the last bit. The videos are the embedded set; one thread, fp32, seed 0. Ends with 1 if a number
differs.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from ssl_video.pretexts.base import PRETEXTS
from ssl_video.pretrain_config import PretrainConfig, changed
from ssl_video.pretraining import pretrain
from ssl_video.recipes import load_recipe, recipes
from ssl_video.run import Run
from ssl_video.tensors import load_tensors

STEPS = 30
STORED = Path(__file__).with_suffix(".json")
FIXED = {
    "data": "synthetic", "steps": STEPS, "seed": 0, "precision": "fp32", "device": "cpu", "log_every": 1, "probe": False
}  # fmt: skip


def recipe_of(pretext: str) -> str:
    """The recipe that suits the embedded videos."""
    return "default" if pretext == "speediness" else f"{pretext}:small"


def digest(run: Run) -> str:
    """SHA-256 over the digests of all tensors, sorted: whatever their names are."""
    tensors, _ = load_tensors(run.pretext_file)
    each = (f"{x.dtype}{tuple(x.shape)}".encode() + x.contiguous().numpy().tobytes() for x in tensors.values())
    return hashlib.sha256("".join(sorted(hashlib.sha256(x).hexdigest() for x in each)).encode()).hexdigest()


def numbers_of(pretext: str) -> dict[str, Any]:
    """Losses and the digest of the weights of one recipe."""
    config = PretrainConfig.from_mapping(changed(load_recipe(recipe_of(pretext)), FIXED))
    with tempfile.TemporaryDirectory() as folder:
        run = pretrain(config, Path(folder) / "run")
        return {"losses": [r["loss"] for r in run.records()], "weights": digest(run)}


def same(new: dict[str, Any], old: dict[str, Any], exactly: bool) -> bool:
    if exactly:
        return new == old
    return all(abs(a - b) <= 1e-4 * max(1, abs(b)) for a, b in zip(new["losses"], old["losses"], strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pretexts", nargs="*", help="all that have a small recipe, if none is named")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    old = json.loads((arguments.against or STORED).read_text())
    found, differ = {}, []
    for name in arguments.pretexts or [n for n in PRETEXTS.names() if recipe_of(n) in recipes()]:
        found[name] = numbers_of(name)
        known = name in old
        equal = known and same(found[name], old[name], arguments.against is not None)
        differ += [name] if known and not equal else []
        word = "equal" if equal else "DIFFERS" if known else "not known before"
        print(f"{name:<28} {word:<18} {found[name]['losses'][-1]:.6f} {found[name]['weights'][:12]}", flush=True)
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
