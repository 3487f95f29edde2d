"""Examples of the documentation, read from its pages."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def example(page: str, language: str, holding: str) -> str:
    """The only block of code of ``page``, in that language, that holds this text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    (found,) = (block for block in blocks if holding in block)
    return found
