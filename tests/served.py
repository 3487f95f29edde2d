"""A folder served by HTTP on this machine, by a thread, with what was asked for noted."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """``asked``: (path, first byte or None, bytes sent) of each request; ``answer``: what the next for shards get.

    With ``short`` an answer ends so many bytes before it says that it would.
    """

    address: str
    asked: list[tuple[str, int | None, int]] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    ranges: bool = True
    short: int = 0
    connections: int = 0

    def of(self, suffix: str) -> list[tuple[str, int | None, int]]:
        """The requests for files of this suffix."""
        return [one for one in self.asked if one[0].endswith(suffix)]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open

        def setup(self) -> None:
            super().setup()
            notes.connections += 1
            open_ones.append(self.connection)

        def do_GET(self) -> None:
            path, said = folder / self.path.lstrip("/"), self.headers.get("Range")
            status = notes.answer.pop(0) if notes.answer and path.suffix == ".tar" else 200 if path.is_file() else 404
            content, first = path.read_bytes() if status == 200 else b"", None
            if said and notes.ranges and status == 200:
                first, last = map(int, said.removeprefix("bytes=").split("-"))
                content, status = content[first : last + 1], 206
                status = status if content else 416
            notes.asked.append((self.path, first, len(content)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) + notes.short))
            self.end_headers()
            with contextlib.suppress(OSError):  # who has seen enough hangs up
                self.wfile.write(content)
            self.close_connection = self.close_connection or bool(notes.short)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    open_ones: list[socket.socket] = []
    notes = Served(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield notes
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for connection in open_ones:
            with contextlib.suppress(OSError):  # it has ended already
                connection.shutdown(socket.SHUT_RDWR)
