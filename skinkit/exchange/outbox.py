"""A queue on disk of what one server has to get, in order, and what it holds.

Each waiting bundle is one file, ``NUMBER.json``, written whole and named before anything is sent; it also holds the
token of the delivery. ``sent.json`` holds the number and token of the last bundle that the server took. So what the
server will hold is the token of the last file, else that of ``sent.json``, and nothing is asked for twice.

A bundle is sent until the server says that it took it. If the answer is lost, or the run ends before ``sent.json`` is
written, the bundle is sent again: its entries are PUTs under fixed ids, so the server holds each resource once. A later
bundle never overtakes an earlier one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from skinkit.artifacts.files import digest, sealed, settle_folder, unsealed, write_atomic
from skinkit.errors import ConfigError, InputError
from skinkit.exchange.fhir import encoded

FOLDER = ".fhir"
"""Beside the ledgers of a cohort's deliveries."""
TOKEN_VARIABLE = "SKINKIT_FHIR_TOKEN"
"""Environment variable with the bearer token of a server that asks for one."""
ATTEMPTS = 4
_FIRST_WAIT_S = 1.0
_TIMEOUT_S = 60.0
_SENT = "sent.json"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers after which the same request may succeed."""


class AwayError(Exception):
    """The server did not answer, or said that it cannot now."""


@dataclass(frozen=True)
class Outbox:
    """The queue of one cohort and server.

    Attributes:
        folder: of its files.
        url: base of the server, to which transactions are posted.
    """

    folder: Path
    url: str

    @classmethod
    def of(cls, deliveries: Path, url: str) -> Outbox:
        """The queue for a server, beside a cohort's ledgers.

        Raises:
            ConfigError: the URL is none, or holds a password, or a token would go out unencrypted.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigError(
                "--post with an address that cannot be used",
                "the base of a FHIR server, such as https://fhir.example.org/r4, without user name and query",
                f"correct it; a bearer token goes into the environment variable {TOKEN_VARIABLE}",
            )
        if parts.scheme == "http" and parts.hostname not in _LOCAL:
            raise ConfigError(
                f"--post {url}: not encrypted", "https, or http on this machine alone", "give the https address"
            )
        return cls(deliveries / FOLDER / digest(url.rstrip("/"))[:16], url.rstrip("/"))

    @property
    def waiting(self) -> list[int]:
        """Numbers of the bundles that were not sent, in order."""
        done = self._sent()["number"]
        found = (int(file.stem) for file in self.folder.glob("[0-9]*.json"))
        return sorted(number for number in found if number > done)

    @property
    def held(self) -> str:
        """Token of what the server holds once all is sent; empty for nothing."""
        waiting = self.waiting
        return str((self._read(waiting[-1]) if waiting else self._sent())["token"])

    def add(self, bundle: Mapping[str, Any], token: str) -> None:
        """Put a bundle at the end of the queue."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max([self._sent()["number"], *self.waiting]) + 1
        write_atomic(self._file(number), sealed({"token": token, "bundle": bundle}))
        settle_folder(self.folder)

    def send(self) -> int:
        """Send what waits, oldest first; returns how many the server took.

        Raises:
            InputError: the server is away or refuses one; that one and those after it stay in the queue.
        """
        taken = 0
        for number in self.waiting:
            record = self._read(number)
            self._post(encoded(record["bundle"]), taken)
            write_atomic(self.folder / _SENT, sealed({"number": number, "token": record["token"]}))
            settle_folder(self.folder)
            taken += 1
        done = self._sent()["number"]
        for file in self.folder.glob("[0-9]*.json"):
            if int(file.stem) <= done:
                file.unlink(missing_ok=True)
        return taken

    def _post(self, data: bytes, taken: int) -> None:
        for attempt in range(ATTEMPTS):
            try:
                return _posted(self.url, data)
            except AwayError as error:
                if attempt == ATTEMPTS - 1:
                    raise InputError(
                        f"{self.url} is away ({error}); it took {taken} bundles",
                        "a FHIR server that answers",
                        f"run the same command later: {len(self.waiting)} bundles wait and go first, none is lost",
                    ) from None
            time.sleep(_FIRST_WAIT_S * 2**attempt)
        raise AssertionError  # the last attempt returns or raises

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:08d}.json"

    def _sent(self) -> dict[str, Any]:
        path = self.folder / _SENT
        return self._opened(path) if path.exists() else {"number": 0, "token": ""}

    def _read(self, number: int) -> dict[str, Any]:
        return self._opened(self._file(number))

    def _opened(self, path: Path) -> dict[str, Any]:
        try:
            record: dict[str, Any] = unsealed(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({type(error).__name__})",
                "the queue for a server, as skinkit wrote it",
                f"restore it, or remove {self.folder}: the next run then delivers every row, under the same ids",
            ) from None
        return record


def _posted(url: str, data: bytes) -> None:
    """Post one transaction.

    Raises:
        AwayError: no answer, or one of :data:`_TRANSIENT`.
        InputError: the server refuses it.
    """
    import http.client
    import urllib.error
    import urllib.request

    class Unmoved(urllib.request.HTTPRedirectHandler):
        """Another address is not where the results were to go."""

        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
    if token := os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data, headers, method="POST")
    try:
        with urllib.request.build_opener(Unmoved).open(request, timeout=_TIMEOUT_S) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        with error:
            if error.code in _TRANSIENT:
                raise AwayError(f"HTTP {error.code}") from None
            # The answer's text may quote what was sent, and so is not shown.
            raise InputError(
                f"{url} refuses a bundle: HTTP {error.code}",
                "a server that takes transactions with PUT under the sender's ids (HTTP 200)",
                "see the server's log, correct its settings, and run the same command: what waits is sent first",
            ) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise AwayError(type(reason).__name__) from None
