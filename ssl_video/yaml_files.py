"""YAML as configurations use it: one mapping, of names to plain values, that is as large as it looks."""

import math
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from ssl_video.errors import UserError
from ssl_video.readback import DAMAGE, LARGEST, in_short

MOST = 100_000
"""Values in a file, those of its aliases each time that they are named."""
DEEPEST = 50
"""Lists and mappings inside each other."""


class _Loader(yaml.SafeLoader):
    """yaml's safe loader, without names that come twice, and bombs."""

    def construct_document(self, node: yaml.Node) -> Any:
        """The values of a document, whose nodes are counted first."""
        _count(node, [0], 0)
        return super().construct_document(node)


def _count(node: yaml.Node, seen: list[int], depth: int) -> None:
    """Raise ValueError where a file holds too much: through aliases a short one can, and one in itself without end."""
    seen[0] += 1
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} lists or mappings inside each other, or one that holds itself")
    if seen[0] > MOST:
        raise ValueError(f"more than {MOST} values, those of aliases among them")
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in names:
                    raise ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                names.add(key.value)
        for key, value in node.value:
            _count(key, seen, depth + 1)
            _count(value, seen, depth + 1)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _count(value, seen, depth + 1)


def _check(value: Any) -> None:
    """Raise ValueError for names that are no text, whole numbers beyond 64 bits, and for what is not a number."""
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"the name {name!r} is no text; put it in quotes")
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            _check(one)
    elif (isinstance(value, float) and math.isnan(value)) or (isinstance(value, int) and abs(value) >= LARGEST):
        raise ValueError(f"{str(value)[:20]} is no number that can be used")


def load_yaml(path: Path | str) -> dict[str, Any]:
    """A YAML file that holds one mapping; nothing in it is executed. Raises UserError.

    Refused are names that are no text or come twice in a mapping, numbers beyond 64 bits, aliases that make more than
    ``MOST`` values of a file, and what holds itself.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        _check(content)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        where = f", line {at.line + 1}" if at else ""
        raise UserError(f"{path}{where}: this cannot be read as YAML ({error.problem or error.context}).") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read as YAML ({error.strerror or error}).") from None
    except (yaml.YAMLError, *DAMAGE) as error:
        raise UserError(f"{path} cannot be read as YAML ({in_short(error)}); correct it, or save it anew.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a mapping of options, such as 'steps: 100'.")
    return content
