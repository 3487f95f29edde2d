"""Errors that a user can cause and can mend."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A user's mistake, as one sentence that says what was wrong and what to do.

    The command line prints the sentence without a traceback and exits with code 2.
    """

    alone: bool = False
    """Of several processes only this one may have met it, so that it has to tell."""

    def __init__(self, sentence: str):
        # torch raises an error of a loader's worker anew, with the worker's traceback in its message
        super().__init__(sentence.strip().rpartition("UserError: ")[2])


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: ``did you mean 'x' or 'y'?``, or what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return f"there are: {', '.join(known)}." if known else "there are none."


def needs(what: str, package: str, extra: str = "", install: str = "") -> UserError:
    """The error for a package that is not installed.

    ``extra`` is the extra of ours that brings it, ``install`` what to install, where that is more than the package.
    """
    checkout = f", or from a checkout pip install '.[{extra}]'" if extra else ""
    return UserError(f"{what} needs the package {package}: pip install {install or package}{checkout}.")
