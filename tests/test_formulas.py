"""Formulas of docstrings: what stands between dollars is TeX, as the API page shows it and help() prints it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [*(ROOT / "ssl_video").rglob("*.py"), *(ROOT / "pretexts").glob("*.py"), *(ROOT / "eval").glob("*.py")]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


@cache
def docstrings() -> dict[str, str]:
    """The text of every module, class and function of the package, without what stands between backticks."""
    return {
        f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}": re.sub(r"(`+).*?\1", "", ast.get_docstring(node) or "")
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, DOCUMENTED)
    }


@cache
def formulas() -> dict[str, list[str]]:
    found = {where: re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, re.S) for where, text in docstrings().items()}
    return {where: some for where, some in found.items() if some}


def test_backslashes_of_tex_are_no_control_characters():  # "\frac" that is not raw begins with a form feed
    assert {where for where, text in docstrings().items() if re.search(r"[\x00-\x09\x0b-\x1f]", text)} == set()


def test_the_api_page_has_every_function_with_a_formula():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    for where in formulas():
        file, _, name = where.partition(":")
        module = file.removesuffix(".py").replace("/", ".").removeprefix("ssl_video.")
        block = re.search(rf"^::: ssl_video\.{re.escape(module)}\n((?: .*\n)*)", page, re.M)
        assert block is not None and ("members" not in block[1] or re.search(rf"\b{name}\b", block[1])), where


def test_braces_and_dollars_of_formulas_are_closed():
    assert len(formulas()) > 10
    for where, found in formulas().items():
        assert docstrings()[where].count("$") % 2 == 0, where
        assert [f for f in found if f.count("{") != f.count("}")] == [], where


def test_every_formula_is_drawn_as_mathml():
    convert = pytest.importorskip("latex2mathml.converter", reason="it draws the formulas of the site").convert
    for where, found in formulas().items():
        for formula in found:
            drawn = convert(formula.strip("$"))
            assert drawn.startswith("<math") and "\\" not in drawn, (where, formula)
