"""Draw pictures of the documentation, all or some: ``python docs/pictures.py [NAME ...] [--run RUN] [--left WORK]``.

A file docs/drawings/NAME.py with a function ``draw(out)`` draws docs/pictures/NAME.png, or NAME with the ``SUFFIX``
that it states: ``.webp`` for what moves. What a trained network is used for is drawn by ``draw(out, run)``, with the
folder of a run of ``ssl-video pretrain --config small``; what a benchmark has left, by ``draw(out, left)``.
"""

import argparse
import importlib
import inspect
import pkgutil
from pathlib import Path

import drawings
from PIL import Image

AT_MOST = 150_000
"""Bytes of a picture that stands still."""


def main() -> None:
    """The command."""
    there = [module.name for module in pkgutil.iter_modules(drawings.__path__)]
    parser = argparse.ArgumentParser(description="Draw the pictures of the documentation.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(there))
    parser.add_argument("--run", help="folder of a run of ssl-video pretrain --config small")
    parser.add_argument("--left", help="folder of a benchmark that the drawing names")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures", help="where to write")
    given = parser.parse_args()
    if unknown := set(given.names) - set(there):
        parser.error(f"there is no drawing of {', '.join(sorted(unknown))}; there are: {', '.join(there)}")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or there:
        drawing = importlib.import_module(f"drawings.{name}")
        needed = [n for n in ("run", "left") if n in inspect.signature(drawing.draw).parameters]
        if missing := [n for n in needed if not getattr(given, n)]:
            print(f"{name}: left out, it needs --{missing[0]}")
            continue
        picture = given.out / f"{name}{getattr(drawing, 'SUFFIX', '.png')}"
        drawing.draw(picture, *(getattr(given, n) for n in needed))
        if picture.suffix == ".png":
            shrink(picture)
        print(f"{name}: drawn")


def shrink(path: Path) -> None:
    """Make a picture small enough for a repository: few colours, and fewer pixels until it has less than 150 KB."""
    with Image.open(path) as drawn:
        whole = drawn.convert("RGB")
    for width in range(min(whole.width, 1600), 400, -200):
        size = width, round(whole.height * width / whole.width)
        whole.resize(size, Image.Resampling.LANCZOS).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4).save(
            path, optimize=True
        )
        if path.stat().st_size < AT_MOST:
            return


if __name__ == "__main__":
    main()
