"""Draw the pictures of the documentation: ``python docs/pictures.py [NAME ...] [--run RUN]``; no NAME means all.

A file docs/drawings/NAME.py with a function ``draw(out)`` draws docs/pictures/NAME.png. What a trained network is used
for is drawn by ``draw(out, run)``, with the folder of a run of ``ssl-video pretrain --config small``.
"""

import argparse
import importlib
import inspect
import pkgutil
from pathlib import Path

import drawings


def main() -> None:
    """The command."""
    there = [module.name for module in pkgutil.iter_modules(drawings.__path__)]
    parser = argparse.ArgumentParser(description="Draw the pictures of the documentation.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(there))
    parser.add_argument("--run", help="folder of a run of ssl-video pretrain --config small")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures", help="where to write")
    given = parser.parse_args()
    if unknown := set(given.names) - set(there):
        parser.error(f"there is no drawing of {', '.join(sorted(unknown))}; there are: {', '.join(there)}")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or there:
        draw = importlib.import_module(f"drawings.{name}").draw
        needs_run = "run" in inspect.signature(draw).parameters
        if needs_run and not given.run:
            print(f"{name}: left out, it needs --run")
            continue
        draw(given.out / f"{name}.png", *([given.run] if needs_run else []))
        print(f"{name}: drawn")


if __name__ == "__main__":
    main()
