"""One registry a kind of thing: a name leads to a class or a builder, registered by a decorator.

A registry finds its members by importing every module of one package, and the plug-ins of other distributions through
an entry-point group of the package's name, so adding a member edits no existing file.
"""

import importlib
import importlib.metadata
import pkgutil
import warnings
from collections.abc import Callable
from typing import Generic, TypeVar

from ssl_video.errors import UserError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one ``kind`` ("pretext", "backbone", ...), whose modules live in ``package``."""

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self.package = package
        self._members: dict[str, T] = {}
        self._failed: dict[str, str] = {}  # plug-in name -> why it could not be loaded
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """Class or function decorator. A name that is taken is an error: one of the two would be lost silently."""

        def add(member: T) -> T:
            if name in self._members and self._members[name] is not member:
                raise ValueError(f"two {self.kind}s are called {name!r}: {self._members[name]} and {member}")
            self._members[name] = member
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
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for entry in importlib.metadata.entry_points(group=self.package):
            try:
                entry.load()  # the decorator in it registers
            except Exception as error:  # a stranger's plug-in must not take every command down
                self._failed[entry.name] = f"{type(error).__name__}: {error}"
                warnings.warn(f"plug-in {entry.name!r} ({entry.value}) failed to load: {error}", stacklevel=2)
