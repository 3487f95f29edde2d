"""What mkdocs is told by us: pages that are found by themselves, and formulas that need no script.

In the navigation of mkdocs.yml, ``FOLDER/*`` stands for every page of that folder; in the folder's README.md, which is
its front page, the line ``<!-- pages -->`` stands for a list of them, titles and the paragraph after the reference, and
``<!-- titles -->`` for their titles alone.
"""

import re
from html import unescape
from pathlib import Path
from typing import Any

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_config(config: Any) -> Any:
    """Name the pages that ``FOLDER/*`` stands for. Called by mkdocs."""
    config.nav = expanded(config.nav, Path(config.docs_dir))
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the list of a folder's pages into its front page. Called by mkdocs."""
    for here, write in (("<!-- pages -->", listed), ("<!-- titles -->", titles)):
        if here in markdown:
            markdown = markdown.replace(here, write(Path(page.file.abs_src_path).parent))
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Write formulas as MathML, which browsers draw without a script and without a network. Called by mkdocs.

    The two colons before an example of a docstring, which are not Markdown, are left out.
    """
    return FORMULA.sub(mathml, html.replace("<p>::</p>", "").replace("::</p>", ":</p>"))


def mathml(found: re.Match[str]) -> str:
    """A formula that arithmatex has marked, as MathML; one that stands by itself in a box that can scroll."""
    from latex2mathml.converter import convert

    if found[1] == "span":
        return convert(unescape(found[2]))
    return f'<div class="formula">{convert(unescape(found[2]), display="block")}</div>'


def expanded(nav: Any, docs: Path) -> Any:
    """The navigation with the pages, by title, in the place of ``FOLDER/*``."""
    if isinstance(nav, dict):
        return {title: expanded(below, docs) for title, below in nav.items()}
    if not isinstance(nav, list):
        return nav
    pages = []
    for entry in nav:
        if isinstance(entry, str) and entry.endswith("/*"):
            pages += [page.relative_to(docs).as_posix() for page in pages_of(docs / entry.removesuffix("/*"))]
        else:
            pages.append(expanded(entry, docs))
    return pages


def pages_of(folder: Path) -> list[Path]:
    """The pages of a folder but its front page, sorted by title."""
    return sorted((page for page in folder.glob("*.md") if page.name != "README.md"), key=title_of)


def listed(folder: Path) -> str:
    """One paragraph a page: its title as a link, its name in commands, and what it is about."""
    return "\n\n".join(f"**[{title_of(p)}]({p.name})**, `{p.stem}`. {about(p)}" for p in pages_of(folder))


def titles(folder: Path) -> str:
    """A list of links, one a page."""
    return "\n".join(f"* [{title_of(page)}]({page.name})" for page in pages_of(folder))


def title_of(page: Path) -> str:
    """The heading that a page begins with."""
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def about(page: Path) -> str:
    """The paragraph after the heading and the reference."""
    return page.read_text(encoding="utf-8").split("\n\n")[2]
