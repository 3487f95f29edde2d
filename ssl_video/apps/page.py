"""A page of paragraphs, tables and pictures, written as Markdown with its pictures beside it, and as one HTML file.

Everything is escaped on the way: names of files and classes, and what a configuration says, come from others.
"""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_video.files import write_text, written_aside

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; }
img { max-width: 100%; vertical-align: middle; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .7em; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
td:first-child { min-width: 9em; }
td small { display: block; max-width: 14em; overflow-wrap: anywhere; color: #555; }
code { background: #f3f3f3; padding: 0 .2em; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Picture:
    """An encoded picture. ``name`` is that of its file beside the Markdown; ``caption`` is plain text."""

    name: str
    data: bytes
    caption: str = ""

    @property
    def kind(self) -> str:
        """The subtype of its media type."""
        return "png" if self.name.endswith(".png") else "jpeg"


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


def legible(text: str) -> str:
    """The text on one line, with U+FFFD for what cannot be printed or encoded, such as bytes of a name not in UTF-8."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def markdown(text: str) -> str:
    """Plain text for a Markdown file: nothing in it is markup."""
    return _escaped(legible(text))


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", html.escape(text, quote=False))


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page as one file: no script, nothing is fetched."""
    body = "\n".join(map(_html_block, blocks))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_html(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{_html(title)}</h1>\n{body}\n"
        f"</body>\n</html>\n"
    )


def to_markdown(title: str, blocks: Sequence[Block], pictures: str) -> str:
    """The page with links to its pictures in the folder ``pictures`` beside it."""
    return "\n\n".join([f"# {markdown(title)}", *(_markdown_block(b, pictures) for b in blocks)]) + "\n"


def write_page(folder: Path, name: str, title: str, blocks: Sequence[Block]) -> tuple[Path, Path]:
    """Write NAME.md, its pictures into a folder NAME beside it, and NAME.html, which holds its own."""
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


def _html(text: str) -> str:
    return html.escape(legible(text))


def _html_block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{_html(text)}</h2>"
        case Words(text):
            return "<p>" + re.sub(r"`([^`]*)`", r"<code>\1</code>", _html(text)) + "</p>"
        case Picture():
            return f"<p>{_html_picture(block)}</p>"
        case Table(head, rows):
            names = "".join(f"<th>{_html(h)}</th>" for h in head)
            lines = "\n".join(f"<tr>{''.join(f'<td>{_html_entry(e)}</td>' for e in row)}</tr>" for row in rows)
            return f"<table>\n<tr>{names}</tr>\n{lines}\n</table>"


def _html_entry(entry: str | Picture) -> str:
    return _html(entry) if isinstance(entry, str) else _html_picture(entry)


def _html_picture(picture: Picture) -> str:
    source = f"data:image/{picture.kind};base64,{base64.b64encode(picture.data).decode()}"
    below = f"<small>{_html(picture.caption)}</small>" if picture.caption else ""
    return f'<img src="{source}" alt="{_html(picture.caption or picture.name)}">{below}'


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
