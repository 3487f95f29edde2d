"""Packaged recipes and tables: configurations with a name, one YAML file each, in the words of the command's flags."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from ssl_video.config import load_yaml
from ssl_video.errors import UserError, nearest


def recipes() -> dict[str, Path]:
    """Name -> file of every packaged recipe, sorted."""
    return _yaml_files("")


def tables() -> dict[str, Path]:
    """Name -> file of every packaged table, sorted."""
    return _yaml_files("tables")


def load_recipe(name: str) -> dict[str, Any]:
    """A recipe by its packaged name or by path. Raises UserError."""
    return load_yaml(_named("recipe", name, recipes()))


def small_recipe(pretext: str) -> dict[str, Any]:
    """The small recipe of a pretext; its name alone for one that has none."""
    for name in recipes():
        if name.endswith("small"):
            recipe = load_recipe(name)
            if recipe["pretext"]["name"] == pretext:
                return recipe
    return {"pretext": {"name": pretext}}


def serving(pretext: str) -> str:
    """What to use for a pretext, in the words of messages: a network that serves it, or its small recipe.

    The pretext is named as it is registered, or by its class, which is all that its base class knows.
    """
    for name in recipes():
        if name.endswith("small"):
            recipe = load_recipe(name)
            if recipe["pretext"]["name"].replace("_", "") == pretext.replace("_", "").lower():
                return f"--backbone {recipe['backbone']['name']}, or {as_flag(name)}"
    return "another --backbone"


def as_flag(recipe: str) -> str:
    """How a command line names a recipe."""
    return f"--config {recipe}"


def table_file(name: str) -> Path:
    """A table by its packaged name or by path. Raises UserError."""
    return _named("table", name, tables())


def _named(kind: str, name: str, packaged: dict[str, Path]) -> Path:
    if name in packaged:
        return packaged[name]
    if not Path(name).is_file():
        raise UserError(f"There is no {kind} or file {name!r}; {nearest(name, packaged)}")
    return Path(name)


def _yaml_files(folder: str) -> dict[str, Path]:
    there = (files("ssl_video.recipes") / folder).iterdir()
    return {f.name.removesuffix(".yaml"): Path(str(f)) for f in sorted(there, key=str) if f.name.endswith(".yaml")}
