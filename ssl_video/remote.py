"""Bytes of files that lie elsewhere: ranges by HTTP, and by fsspec from s3://, gs:// and whatever else it knows.

Nothing is asked of an address but what was named. What goes wrong is a RemoteError: it says nothing about the file.
"""

import errno
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ssl_video.errors import UserError, needs

T = TypeVar("T")

TRIES = 4
FIRST_PAUSE_S = 0.5
"""Seconds before the second try; each further pause is twice as long."""
SILENT_S = 60.0
"""Seconds that a server may say nothing."""
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
NO_CREDENTIALS = ("credential", "anonymous caller", "default project")
"""In what libraries say, in small letters, where nobody told them who asks."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that are others a little later."""


class RemoteError(OSError):
    """What stood between us and a file elsewhere, as a phrase; it says nothing about the file itself."""

    def __init__(self, phrase: str):
        super().__init__(errno.EREMOTEIO, phrase)

    def __str__(self) -> str:
        return str(self.strerror)


class _Again(Exception):
    """What may be another answer a little later."""


_sessions: dict[int, Any] = {}  # by process: two that share a connection would get each other's answers


def is_remote(path: object) -> bool:
    """True for an address, such as ``https://HOST/x.tar`` or ``s3://BUCKET/x.tar``."""
    scheme, colon, _ = str(path).partition("://")
    return bool(colon) and scheme.isalnum()


def read_range(address: str, begin: int, end: int) -> bytes:
    """The bytes from ``begin`` to before ``end`` of a file, by one request; fewer where it ends before.

    Raises RemoteError, UserError if a package is missing.
    """
    return _patiently(lambda: _get(address, (begin, end)))


def read_whole(address: str) -> bytes:
    """A whole file. Raises RemoteError, UserError if a package is missing."""
    return _patiently(lambda: _get(address, None))


def _get(address: str, part: tuple[int, int] | None) -> bytes:
    return _by_http(address, part) if address.startswith(("http://", "https://")) else _by_fsspec(address, part)


def _patiently(get: Callable[[], T]) -> T:
    pause = FIRST_PAUSE_S
    for _ in range(TRIES - 1):
        try:
            return get()
        except _Again:
            time.sleep(pause)
            pause *= 2
    try:
        return get()
    except _Again as error:
        raise RemoteError(str(error)) from None


def _by_http(address: str, part: tuple[int, int] | None) -> bytes:
    import requests  # which loads much that most commands do without

    host = address.split("/")[2]
    headers = {"Accept-Encoding": "identity"}  # the bytes as they are
    if part is not None:
        headers["Range"] = f"bytes={part[0]}-{part[1] - 1}"
    try:
        with _session().get(address, headers=headers, timeout=SILENT_S, stream=True) as answer:
            if answer.status_code == 416:  # it ends before that
                return b""
            if not answer.ok:
                phrase = f"{host} answers {answer.status_code} {answer.reason} for {address}"
                raise _Again(phrase) if answer.status_code in PASSING else RemoteError(phrase)
            if part is not None and answer.status_code != 206:
                raise RemoteError(f"{host} gives whole files only, no ranges of bytes")
            return answer.content
    except requests.RequestException as error:
        raise _Again(f"{host} cannot be reached, or ended in the middle ({type(error).__name__})") from None


def _session() -> Any:
    """This process's connections, which stay open for the next request."""
    import requests

    if os.getpid() not in _sessions:
        _sessions.clear()  # a parent's, if any: closing our copies of its connections does not end them
        _sessions[os.getpid()] = requests.Session()
    return _sessions[os.getpid()]


def _by_fsspec(address: str, part: tuple[int, int] | None) -> bytes:
    scheme = address.partition("://")[0]
    try:
        import fsspec  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise needs(f"Reading {scheme}://", "fsspec", "remote") from None
    try:
        system: Any = fsspec.filesystem(scheme)
        return system.cat_file(address, *(part or ()))
    except ImportError:
        raise needs(f"Reading {scheme}://", PACKAGES.get(scheme, f"of fsspec for {scheme}"), "remote") from None
    except FileNotFoundError:
        raise RemoteError(f"there is no {address}") from None
    except Exception as error:  # each library has errors of its own
        said = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, ValueError) and "protocol" in said.lower():
            raise UserError(f"{address} is no address that can be read ({said}).") from None
        if any(word in f"{type(error).__name__} {said}".lower() for word in NO_CREDENTIALS):
            phrase = f"there are no credentials for {scheme}:// ({said})"
        elif isinstance(error, PermissionError):
            phrase = f"access to {address} is denied ({said})"
        else:
            raise _Again(f"{address} cannot be read ({type(error).__name__}: {said})") from None
        raise RemoteError(phrase) from None
