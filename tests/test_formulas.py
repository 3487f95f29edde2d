"""Formulas of docstrings: what stands between dollars is TeX, as the API page shows it and help() prints it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [*(ROOT / "ssl_video").rglob("*.py"), *(ROOT / "pretexts").glob("*.py"), *(ROOT / "eval").glob("*.py")]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
DOCSTRINGS = {
    f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}": re.sub(r"(`+).*?\1", "", ast.get_docstring(node) or "")
    for path in FILES
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, DOCUMENTED)
}
FORMULAS = {
    where: found for where, text in DOCSTRINGS.items() if (found := re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, re.S))
}


def test_backslashes_of_tex_are_no_control_characters():  # "\frac" that is not raw begins with a form feed
    assert {where for where, text in DOCSTRINGS.items() if re.search(r"[\x00-\x09\x0b-\x1f]", text)} == set()


def test_the_api_page_has_every_function_with_a_formula():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    for where in FORMULAS:
        file, _, name = where.partition(":")
        module = file.removesuffix(".py").replace("/", ".").removeprefix("ssl_video.")
        block = re.search(rf"^::: ssl_video\.{re.escape(module)}\n((?: .*\n)*)", page, re.M)
        assert block is not None and ("members" not in block[1] or re.search(rf"\b{name}\b", block[1])), where


def test_braces_and_dollars_of_formulas_are_closed():
    assert len(FORMULAS) > 10
    for where, formulas in FORMULAS.items():
        assert DOCSTRINGS[where].count("$") % 2 == 0, where
        assert [f for f in formulas if f.count("{") != f.count("}")] == [], where


@pytest.mark.parametrize("where", sorted(FORMULAS))
def test_a_formula_is_drawn_as_mathml(where):
    convert = pytest.importorskip("latex2mathml.converter", reason="it draws the formulas of the site").convert
    for formula in FORMULAS[where]:
        drawn = convert(formula.strip("$"))
        assert drawn.startswith("<math") and "\\" not in drawn, formula
