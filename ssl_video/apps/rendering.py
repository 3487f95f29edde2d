"""Pages by Jinja2 from ``templates/``: every value is escaped and legible, and a page needs nothing but itself.

A template begins with ``{% extends "base.html" %}`` and fills the block ``content``; it may fill ``style`` too. The
policy of the page lets it load its own data: URIs, and run the scripts that ``render`` was told of, and nothing else.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ssl_video.files import shown, write_text

TEMPLATES = Path(__file__).with_name("templates")


def legible(text: str) -> str:
    """The text as ``files.shown`` has it; the line ends of paragraphs are blanks."""
    return shown(re.sub(r"[ \t]*\n[ \t]*", " ", text))


def render(template: str, scripts: Sequence[str] = (), **values: Any) -> str:
    """The text of a template of ``templates/`` with its values; ``scripts`` are files there, put in at the end.

    Text is shown as it is, never as markup; what is ``markupsafe.Markup`` goes in unchanged.
    """
    codes = [_source(name) for name in scripts]
    return _environment().get_template(template).render(scripts=codes, policy=_policy(codes), **values)


def write_html(path: Path | str, template: str, scripts: Sequence[str] = (), **values: Any) -> None:
    """Write a page aside and rename it; for the arguments see ``render``."""
    write_text(path, render(template, scripts, **values))


def stylesheet(name: str = "style.css") -> str:
    """The one stylesheet, for a page that is not written from ``base.html``."""
    return str(_source(name))


def data_uri(kind: str, content: bytes) -> str:
    """A file within the page; ``kind`` is its media type, such as image/png."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _source(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text("utf-8"))  # ours, so not escaped


def _policy(codes: Sequence[str]) -> str:
    """Only these very scripts run, and whatever a name might smuggle in does not; nothing is fetched."""
    digests = (base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in codes)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: legible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
