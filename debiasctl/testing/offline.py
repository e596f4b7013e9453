"""No connections while plugins are checked: what needs a download says so at once."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest.mock import patch


class Offline(OSError):
    """A plugin wanted to connect to another machine."""


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise Offline("no connections are made while plugins are checked")


@contextmanager
def offline() -> Iterator[None]:
    """Refuse names of other machines, and connections to them; sockets of this machine stay."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address):
            _refuse()
        connect(self, address)

    look_up = socket.getaddrinfo

    def local_names(host: Any, *args: Any, **kwargs: Any) -> Any:
        return look_up(host, *args, **kwargs) if host is None or _is_here((host,)) else _refuse()

    with patch.object(socket.socket, "connect", local_only), patch.object(socket, "getaddrinfo", local_names):
        yield


def _is_here(address: Any) -> bool:
    host = address[0] if isinstance(address, tuple) and address else ""
    text = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
    return text in ("localhost", "::1", "") or text.startswith("127.") or text == socket.gethostname()
