"""One registry a kind of thing: a name leads to a class or a builder, registered by a decorator.

A registry finds its members by importing every module of one package, and the plug-ins of other distributions through
an entry-point group of the package's name, so adding a member edits no existing file. A notebook or a file that
``load_plugin`` runs may register, too.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from ssl_video.errors import UserError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one ``kind`` ("pretext", "backbone", ...), whose modules live in ``package``."""

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self.package = package
        self._members: dict[str, T] = {}
        self._homes: dict[str, dict[str, Any]] = {}  # name -> globals of the module that registered it
        self._failed: dict[str, str] = {}  # plug-in name -> why it could not be loaded
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """Class or function decorator. A name that is taken is an error: one of the two would be lost silently.

        What is defined anew under the same qualified name (a cell of a notebook, a plug-in) takes its own place.
        """
        home = sys._getframe(1).f_globals  # of the module that registers

        def add(member: T) -> T:
            if not home["__name__"].startswith(f"{self.package}."):
                self._import_package()  # first: whoever takes a name of ours is told, and not we, later
            known, home_before = self._members.get(name, member), self._homes.get(name, home)
            if known is not member and not _again((known, home_before), (member, home)):
                raise ValueError(f"two {self.kind}s are called {name!r}: {known} and {member}")
            self._members[name], self._homes[name] = member, home
            return member

        return add

    def __getitem__(self, name: str) -> T:
        """The member called ``name``. Raises UserError with the nearest names."""
        self._discover()
        if name in self._members:
            return self._members[name]
        if name in self._failed:
            raise UserError(f"The plug-in {name!r} could not be loaded: {self._failed[name]}.")
        raise UserError(f"There is no {self.kind} called {name!r}; {nearest(name, self._members)}")

    def name_of(self, member: T) -> str:
        """The name under which a member is registered."""
        self._discover()
        return next(name for name, other in self._members.items() if other is member)

    def names(self) -> list[str]:
        """All names, sorted."""
        self._discover()
        return sorted(self._members)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # first: the modules below may ask this registry while they are imported
        try:
            self._import_package()
        except Exception:
            self._discovered = False  # whoever asks again is told the same
            raise
        for entry in importlib.metadata.entry_points(group=self.package):
            try:
                entry.load()  # the decorator in it registers
            except Exception as error:  # a plug-in that is broken must not take every command down
                self._failed[entry.name] = f"{type(error).__name__}: {error}"
                warnings.warn(f"plug-in {entry.name!r} ({entry.value}) failed to load: {error}", stacklevel=2)

    def _import_package(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")


def _again(before: tuple[object, dict[str, Any]], now: tuple[object, dict[str, Any]]) -> bool:
    """Are two members, each with its home, one definition? A value has no name, but its module may run again."""
    (known, home_before), (member, home) = before, now
    if hasattr(known, "__qualname__") and hasattr(member, "__qualname__"):
        return _qualified(known) == _qualified(member)
    run_again = home is not home_before or home["__name__"] == "__main__"  # a notebook keeps its globals
    return home["__name__"] == home_before["__name__"] and run_again


def _qualified(definition: Any) -> tuple[str, str]:
    return definition.__module__, definition.__qualname__


def load_plugin(path: str | Path) -> ModuleType:
    """Run a Python file, so that what it registers is known; run again, it replaces what it registered before.

    The module is called after the file's name and place, the same in every process.

    Raises:
        UserError: if the file is not there or fails; with its line and the reason.
    """
    path = Path(path).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"The plug-in {path} is not there, or not a Python file; name a file FILE.py.")
    name = f"ssl_video_plugin_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a file that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # first: dataclasses look up the types of their fields there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"The plug-in {path} failed in line {_line_of(error, path)}: {_reason(error)}") from error
    return module


def _line_of(error: BaseException, path: Path) -> int | None:
    """The last line of the file on the way to the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    return next((f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == str(path)), 1)


def _reason(error: BaseException) -> str:
    sentence = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{type(error).__name__}: {sentence.rstrip('.')}."
