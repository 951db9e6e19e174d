"""A wire between client and server on which messages can be counted, and cut.

It stands where the server stands, so what is counted is what psycopg really sent.
"""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Iterator

_PORT = 5432


class Wire:
    """Forwards every connection to a server.

    Attributes:
        dsn: How to reach the server through this wire.
        round_trips: How often a client asked for an answer.
        cut_at: Where a query holds this text, its answer is lost and the connection with it.
    """

    def __init__(self, server: str, folder: Path) -> None:
        self.dsn = make_conninfo(server, host=str(folder), port=_PORT)
        self.round_trips = 0
        self.cut_at: bytes | None = None
        self._server = conninfo_to_dict(server)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{_PORT}"))
        self._listener.listen(50)
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._sockets += [client, server]
                cut = threading.Event()
                for work in (self._ask, self._answer):
                    threading.Thread(target=work, args=(client, server, cut), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = str(self._server.get("host", "")), int(self._server.get("port") or _PORT)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _ask(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError, EOFError):
            server.sendall(_exactly(client, int.from_bytes(head := _exactly(client, 4)) - 4, head))
            while True:
                head = _exactly(client, 5)
                message = _exactly(client, int.from_bytes(head[1:]) - 4, head)
                self.round_trips += head[:1] in b"QS"
                if self.cut_at is not None and self.cut_at in message:
                    cut.set()
                server.sendall(message)
        _end(server)

    def _answer(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(65536)) and not cut.is_set():
                client.sendall(data)
        _end(client)
        _end(server)


def _exactly(source: socket.socket, size: int, head: bytes = b"") -> bytes:
    parts = [head]
    while size:
        part = source.recv(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(server: str) -> Iterator[Wire]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="a2rchi-pg-wire-"))
        laid = Wire(server, Path(folder))
        stack.callback(laid.close)
        yield laid
