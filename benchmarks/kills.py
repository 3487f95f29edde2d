"""Does every command survive a kill? Each is killed at each of its writes (fsync, renaming), then run again.

    python benchmarks/kills.py [--every N] [NAME ...]

Prints a line a kill; ends with 1 if the same line does not go on, or leaves something else than an undisturbed one.
--every N: at every N-th write only.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.killed import command, kill_and_repeat, names

NETWORK = "random:r2plus1d_4?width=2"
TRAINING = [
    "--data=drawn", "--backbone=r2plus1d_4", "--backbone.width=2", "--pretext.frames=4", "--pretext.stride=1",
    "--pretext.short-side=18", "--pretext.crop=16", "--pretext.min-size=16", "--pretext.max-size=16", "--steps=4",
    "--batch-size=4", "--workers=0", "--device=cpu", "--log-every=2", "--monitor-every=2", "--checkpoint-every=2",
]  # fmt: skip
DENOISING = [
    "--pretext=video_diffusion", "--data=drawn", "--backbone.channels", "8", "16", "--backbone.frames=4",
    "--pretext.frames=4", "--pretext.stride=1", "--pretext.short-side=16", "--pretext.size=16", "--steps=4",
    "--batch-size=4", "--workers=0", "--device=cpu",
]  # fmt: skip
FINETUNING = ["epochs=1", "batch_size=4", "frames=4", "stride=1", "short_side=18", "size=16"]
TABLE = f"""
title: Drawn videos
data: {{drawn: {{}}}}
rows:
  - name: tuned
    model: {NETWORK}
    protocol: finetune
    options: {{frames: 4, size: 16, short_side: 18, epochs: 1, batch_size: 4, clips: 1}}
"""
COMMANDS = {
    "synthesize": "data synthesize --train 3 --test 1 --size 32 --frames 8 --workers 1 --out out",
    "cache": "data cache --data drawn --short-side 16 --workers 1 --out out",
    "flow": "data flow --data drawn --short-side 16 --workers 1 --out out",
    "pretrain": " ".join(["pretrain", *TRAINING, "--out out"]),
    "extract": f"extract --data drawn --model {NETWORK} --clips 1 --workers 0 --out out",
    "index": f"index --data drawn --model {NETWORK} --clips 1 --workers 0 --out out",
    "export": f"export --model {NETWORK} --out out",
    "report": "report run --samples 1 --queries 1 --out out",
    "finetune": f"evaluate finetune --data drawn --model {NETWORK} --workers 0 --device cpu --run out "
    + " ".join(f"--option {one}" for one in FINETUNING),
    "benchmark": "benchmark table.yaml --data drawn=drawn --workers 0 --device cpu --out out",
    "track": "track drawn/videos/bounce/train-00000.mp4 --points 8,8 --model random:dense_resnet_8 --side 32 --out out",
    "generate": "generate --model painter --steps 2 --number 2 --out out",
    "represent": "represent drawn/videos/bounce/train-00000.mp4 --size 24 --frames 6 --steps 20 --points 32 --out out",
}
"""Name -> a line that writes the folder ``out``."""


def prepared(folder: Path) -> None:
    """What the commands read."""
    (folder / "table.yaml").write_text(TABLE)
    drawn = "data synthesize --train 8 --test 8 --size 32 --frames 16 --workers 1 --out drawn"
    trainings = (" ".join(["pretrain", *words]) for words in ([*TRAINING, "--out run"], [*DENOISING, "--out painter"]))
    for line in (drawn, *trainings):
        done = command(line.split(), folder)
        if done.returncode:
            sys.exit(done.stderr)


def tried(name: str, folder: Path, every: int) -> tuple[int, int]:
    """Kills, and how many of them the command did not survive."""
    words, out = COMMANDS[name].split(), folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    done = command(words, folder)
    if done.returncode:
        print(f"{name}: fails undisturbed: {done.stderr[-300:]}")
        return 0, 1
    whole, kills, wrong, kill_at = names(out), 0, 0, 1
    while True:
        shutil.rmtree(out, ignore_errors=True)
        said = kill_and_repeat(words, folder, "out", kill_at, whole)
        if said is None:
            return kills, wrong
        kills, wrong = kills + 1, wrong + bool(said)
        print(f"{name}, write {kill_at}: {said or 'whole'}", flush=True)
        kill_at += every


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMANDS))
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepared(folder)
        counts = [tried(name, folder, given.every) for name in given.names or COMMANDS]
    kills, wrong = map(sum, zip(*counts, strict=True))
    print(f"{kills} kills, {wrong} that were not survived.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
