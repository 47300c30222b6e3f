"""Run the photo page: its socket, its certificate, and its end by a signal."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from skinkit.capture.tls import Certificate
from skinkit.errors import BusyError, ConfigError

if TYPE_CHECKING:
    from skinkit.capture.guard import Guard

MOST_CONNECTIONS = 128
STOP_SECONDS = 10
"""How long requests in progress may take once the server is to stop."""


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one.

    Raises:
        BusyError: another process listens there.
        ConfigError: this machine has no such address, or this user may not.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}", "0 to 65535", "8443 is usual")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(MOST_CONNECTIONS)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise BusyError(
                f"port {port} of {host} is in use by another process", "a free port", "end it, or give another --port"
            ) from None
        raise ConfigError(
            f"{host}, port {port}: {error.strerror}",
            "an address of this machine, and a port this user may open",
            "correct --host or --port",
        ) from None
    return listening


def server_of(app: Guard, certificate: Certificate | None, started: Callable[[], None] = lambda: None) -> Any:
    """A server that SIGTERM or SIGINT ends in order: no new requests, those in progress are answered.

    Args:
        app: what answers.
        certificate: for TLS; None for none.
        started: called once it answers.

    Returns:
        A ``uvicorn.Server``; ``run(sockets=[...])`` returns when it has ended.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """One that does not raise the signal again that ended it."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            with super().capture_signals():
                yield
                self._captured_signals.clear()

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                started()

    tls = {} if certificate is None else {"ssl_certfile": certificate.cert, "ssl_keyfile": str(certificate.key)}
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            log_level="critical",
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=16 * 1024,
            http="h11",
            ws="none",
            **tls,  # type: ignore[arg-type]
        )
    )


def qr_text(url: str) -> list[str]:
    """A QR code (ISO/IEC 18004) as lines of half blocks, for a terminal with light letters on a dark ground."""
    import segno

    rows = [[not dark for dark in row] for row in segno.make(url, error="m", micro=False).matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    signs = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
    return [
        "".join(signs[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
