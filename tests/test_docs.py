"""What the documentation promises: pages find themselves, links lead somewhere, the API page names what there is."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from ssl_video.pretexts.base import PRETEXTS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
OURS = sorted(name for name in PRETEXTS.names() if PRETEXTS[name].__module__.startswith("ssl_video.pretexts."))


@pytest.fixture(scope="module")
def hooks():
    """docs/hooks.py, which mkdocs runs."""
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pretext_has_a_page_with_a_title_that_people_use(hooks):
    pages = {page.stem: hooks.title_of(page) for page in hooks.pages_of(DOCS / "pretexts")}
    assert sorted(pages) == OURS
    assert all(title != name and title[0].isupper() for name, title in pages.items())


def test_a_page_is_in_the_navigation_and_the_list_by_lying_in_its_folder(hooks, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "README.md").write_text("# Tasks\n")
    for name, title in (("b", "Alike"), ("a", "Backwards")):
        (tmp_path / "tasks" / f"{name}.md").write_text(f"# {title}\n\nA paper.\n\nWhat {name} is.\n\nMore.\n")
    nav = ["index.md", {"Tasks": ["tasks/README.md", "tasks/*"]}]
    assert hooks.expanded(nav, tmp_path) == ["index.md", {"Tasks": ["tasks/README.md", "tasks/b.md", "tasks/a.md"]}]
    assert hooks.listed(tmp_path / "tasks").split("\n\n")[0] == "**[Alike](b.md)**, `b`. What b is."
    assert hooks.titles(tmp_path / "tasks") == "* [Alike](b.md)\n* [Backwards](a.md)"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_of_a_page_are_there(page):
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if "://" not in t and not (page.parent / t).exists()] == []


def headings_of(page):
    """The addresses of a page's headings, as mkdocs makes them."""
    lines = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL).splitlines()
    titles = [re.sub(r"[^\w\s-]", "", line.lstrip("#")).strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[\s-]+", "-", title) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_a_part_of_a_page_lead_to_a_heading(page):
    targets = re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if t[1] not in headings_of(page.parent / t[0] if t[0] else page)] == []


EVALUATED = ("evaluation", "alignment", "propagation", "trajectories")


@pytest.mark.parametrize("name", [*(f"pretexts/{name}" for name in OURS), *EVALUATED])
def test_a_page_of_a_paper_has_one_table_of_its_differences_from_the_code(name):
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    before, *sections = text.split("\n## Differences from the paper's code\n")
    assert len(sections) == 1
    section = sections[0].partition("\n## ")[0]
    header, line, *rows = [row for row in section.splitlines() if row.startswith("|")]
    assert (header, line) == ("| what | theirs | ours, and why |", "|---|---|---|")
    assert rows and all(len(cells := row.split(" | ")) == 3 and all(c.strip(" |") for c in cells) for row in rows)
    assert len({row.split(" | ")[0] for row in rows}) == len(rows)
    assert not re.findall(r"^#.*(?:depart|differ).*$", before + sections[0], re.MULTILINE | re.IGNORECASE)


def test_files_that_name_a_page_name_one_that_is_there():
    files = [*(ROOT / "ssl_video").rglob("*.py"), *(ROOT / "ssl_video").rglob("*.yaml"), *PAGES]
    named = {page for file in files for page in re.findall(r"\bdocs/[a-z_/]+\.(?:md|py)\b", file.read_text("utf-8"))}
    assert {page for page in named if not (ROOT / page).exists()} == set()


def test_the_api_page_names_modules_and_members_that_are_there():
    blocks = (DOCS / "api.md").read_text(encoding="utf-8").split("\n::: ")[1:]
    assert len(blocks) > 10
    for block in blocks:
        module = importlib.import_module(block.split()[0])
        listed = re.search(r"members: \[(.*)\]", block)
        assert [m for m in (listed[1].split(", ") if listed else []) if not hasattr(module, m)] == []


def test_every_picture_has_the_drawing_that_made_it():
    made = {drawing.stem for drawing in (DOCS / "drawings").glob("*.py")} - {"__init__"}
    assert {picture.stem for picture in (DOCS / "pictures").iterdir()} == made | {"app"}  # app is a screenshot


def test_the_pictures_are_small_enough_for_a_repository():
    large = {".png": 400_000, ".webp": 2_000_000}
    assert [p.name for p in (DOCS / "pictures").iterdir() if p.stat().st_size > large[p.suffix]] == []


def test_the_readme_and_the_home_page_show_the_picture_that_moves():
    pages = (ROOT / "README.md", DOCS / "index.md")
    assert [page.name for page in pages if "pictures/street.webp" not in page.read_text("utf-8")] == []


def test_formulas_are_written_without_a_script(hooks):
    pytest.importorskip("latex2mathml")
    inline = 'so <span class="arithmatex">\\(a &lt; b\\)</span> holds'
    assert hooks.on_page_content(inline).startswith("so <math ")
    assert "&#x0003C;" in hooks.on_page_content(inline) and "arithmatex" not in hooks.on_page_content(inline)
    block = '<div class="arithmatex">\\[\n\\frac{1}{N} \\sum_i x_i\n\\]</div>'
    assert hooks.on_page_content("<p>::</p><p>For example::</p>") == "<p>For example:</p>"
    assert 'display="block"' in hooks.on_page_content(block) and "<mfrac>" in hooks.on_page_content(block)
