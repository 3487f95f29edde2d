"""Packaged recipes and tables: configurations with a name, in YAML and in the words of the command's flags.

NAME.yaml holds the recipes of the pretext NAME: under ``small`` one for short videos and a laptop, where everything
starts, and under ``paper`` the published setting. ``default`` is one by itself, for the embedded videos.
"""

import re
import warnings
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ssl_video.errors import UserError, nearest
from ssl_video.yaml_files import load_yaml

SETTINGS = ("small", "paper")
"""The recipes of a pretext's file; its name alone means the first."""
SPEEDINESS = "speediness"
"""The pretext of whom names none."""


def recipes() -> dict[str, str]:
    """Name -> one line about it, of every packaged recipe: ``default``, NAME:small and NAME:paper."""
    found = {}
    for name, path in _yaml_files("").items():
        text = path.read_text("utf-8")
        settings = re.findall(r"^(small|paper):\s*# *(.*)$", text, re.MULTILINE)
        found |= {f"{name}:{setting}": line for setting, line in settings} or {name: first_line(text)}
    return found


def tables() -> dict[str, str]:
    """Name -> one line about it, of every packaged table, sorted."""
    return {name: first_line(path.read_text("utf-8")) for name, path in _yaml_files("tables").items()}


def load_recipe(name: str) -> dict[str, Any]:
    """A recipe by its packaged name or by path.

    ``clip_order:paper`` is the one of that name in the pretext's file, ``clip_order`` its small one, and ``small`` or
    ``paper`` alone those of speediness. A file of one's own may hold both too, ``FILE.yaml:paper``, or one as it is.
    Raises UserError.
    """
    name = _now(name)
    file, _, setting = name.rpartition(":") if name.endswith(tuple(f":{s}" for s in SETTINGS)) else (name, "", "")
    packaged = _yaml_files("")
    if file not in packaged and not Path(file).is_file():
        raise UserError(f"There is no recipe or file {name!r}; {nearest(name, recipes())}")
    content = load_yaml(packaged.get(file, Path(file)))
    if not set(content) & set(SETTINGS):
        if setting:
            raise UserError(f"{file} holds one recipe, not several by name; leave ':{setting}' out.")
        return content
    if other := set(content) - set(SETTINGS):
        raise UserError(f"{file} has {sorted(map(str, other))[0]!r} beside its recipes; put it under small: or paper:.")
    if (setting := setting or SETTINGS[0]) not in content:
        there = next(iter(content))
        raise UserError(f"{file} has no recipe under '{setting}:', but one under '{there}:'; name it {file}:{there}.")
    if not isinstance(content[setting], dict):
        raise UserError(f"{file} must hold a mapping of options under '{setting}:', such as 'steps: 100'.")
    return content[setting]


def small_recipe(pretext: str) -> dict[str, Any]:
    """The small recipe of a pretext; its name alone for one that has none."""
    if f"{pretext}:small" in recipes():
        return load_recipe(f"{pretext}:small")
    return {"pretext": {"name": pretext}}


def serving(pretext: str) -> str:
    """What to use for a pretext, in the words of messages: a network that serves it, or its small recipe.

    The pretext is named as it is registered, or by its class, which is all that its base class knows.
    """
    for name in recipes():
        if name.endswith("small"):
            recipe = load_recipe(name)
            if recipe["pretext"]["name"].replace("_", "") == pretext.replace("_", "").lower():
                return f"--backbone {_in_flags(recipe['backbone'])}, or {as_flag(name)}"
    return "another --backbone"


def _in_flags(backbone: Mapping[str, Any]) -> str:
    """A recipe's network as the rest of a command line: its name and its options."""
    words = [backbone["name"]]
    for option, value in backbone.items():
        flag = f"--backbone.{'no-' if value is False else ''}{option.replace('_', '-')}"
        if option != "name":
            values = [] if isinstance(value, bool) else value if isinstance(value, list) else [value]
            words += [flag, *map(str, values)]
    return " ".join(words)


def as_flag(recipe: str) -> str:
    """How a command line names a recipe."""
    return f"--config {recipe}"


def table_file(name: str) -> Path:
    """A table by its packaged name or by path. Raises UserError."""
    packaged = _yaml_files("tables")
    if name not in packaged and not Path(name).is_file():
        raise UserError(f"There is no table or file {name!r}; {nearest(name, packaged)}")
    return packaged.get(name, Path(name))


def first_line(text: str) -> str:
    """What the comment that a file begins with says first."""
    return text.partition("\n")[0].lstrip("# ")


def _now(name: str) -> str:
    """The name that a recipe has now; a warning says so where it is another."""
    if name in SETTINGS:
        return f"{SPEEDINESS}:{name}"
    packaged = recipes()
    now = f"{SPEEDINESS}:paper" if name == "speednet" else re.sub(r"-small$", ":small", name)
    if now == name or now not in packaged or Path(name).is_file():
        return name
    warnings.warn(f"The recipe {name} is called {now} now; the former name will go.", FutureWarning, stacklevel=2)
    return now


def _yaml_files(folder: str) -> dict[str, Path]:
    there = (files("ssl_video.recipes") / folder).iterdir()
    return {f.name.removesuffix(".yaml"): Path(str(f)) for f in sorted(there, key=str) if f.name.endswith(".yaml")}
