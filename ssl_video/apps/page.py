"""A page of paragraphs, tables and pictures, written as Markdown with its pictures beside it, and as one HTML file.

Everything is escaped on the way: names of files and classes, and what a configuration says, come from others.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ssl_video.apps.rendering import data_uri, render
from ssl_video.files import clear_dead, legible, write_text, written_aside


@dataclass(frozen=True)
class Picture:
    """An encoded picture. ``name`` is that of its file beside the Markdown; ``caption`` is plain text."""

    name: str
    data: bytes
    caption: str = ""

    @property
    def uri(self) -> str:
        """The picture itself, for a page that holds it."""
        return data_uri("image/png" if self.name.endswith(".png") else "image/jpeg", self.data)


@dataclass(frozen=True)
class Heading:
    """The heading of a section."""

    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph. What stands in it between backticks is set as code; all else is plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of plain text and pictures below a head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Picture]]


Block = Heading | Words | Table | Picture


def markdown(text: str) -> str:
    """Plain text for a Markdown file: nothing in it is markup."""
    return _escaped(legible(text))


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", html.escape(text, quote=False))


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page as one file: no script, nothing is fetched."""
    return render("blocks.html", title=title, blocks=[(type(b).__name__, b) for b in blocks], code=_code)


def to_markdown(title: str, blocks: Sequence[Block], pictures: str) -> str:
    """The page with links to its pictures in the folder ``pictures`` beside it."""
    return "\n\n".join([f"# {markdown(title)}", *(_markdown_block(b, pictures) for b in blocks)]) + "\n"


def write_page(folder: Path, name: str, title: str, blocks: Sequence[Block]) -> tuple[Path, Path]:
    """Write NAME.md, its pictures into a folder NAME beside it, and NAME.html, which holds its own."""
    for place in (folder, folder / name):
        clear_dead(place)
    for picture in _pictures(blocks):
        with written_aside(folder / name / picture.name) as aside:
            aside.write_bytes(picture.data)
    written = folder / f"{name}.md", folder / f"{name}.html"
    write_text(written[0], to_markdown(title, blocks, name))
    write_text(written[1], to_html(title, blocks))
    return written


def _pictures(blocks: Sequence[Block]) -> list[Picture]:
    entries = [e for b in blocks if isinstance(b, Table) for row in b.rows for e in row]
    return [p for p in (*blocks, *entries) if isinstance(p, Picture)]


def _code(text: str) -> Markup:
    """Text for HTML, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(legible(text))))


def _markdown_block(block: Block, pictures: str) -> str:
    match block:
        case Heading(text):
            return f"## {markdown(text)}"
        case Words(text):
            parts = legible(text).split("`")
            return "`".join(p if n % 2 else _escaped(p) for n, p in enumerate(parts))
        case Picture():
            return _markdown_entry(block, pictures)
        case Table(head, rows):
            lines = [[markdown(h) for h in head], ["---"] * len(head)]
            lines += [[_markdown_entry(e, pictures) for e in row] for row in rows]
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _markdown_entry(entry: str | Picture, pictures: str) -> str:
    if isinstance(entry, str):
        return markdown(entry)
    below = f"<br>{markdown(entry.caption)}" if entry.caption else ""
    return f"![]({pictures}/{entry.name}){below}"
