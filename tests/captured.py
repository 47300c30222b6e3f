"""Photos, workspaces and a running server for tests of the photo page."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skinkit.capture import serving
from skinkit.capture.app import Page, make_app
from skinkit.capture.sessions import RateLimit, Sessions
from skinkit.capture.tls import Certificate
from skinkit.console import Console
from skinkit.data.capture_records import Store, open_store
from skinkit.workspace import Workspace, load_workspace

HOSPITAL_ID = "Zhang San 4711"
GOOD = {"verdict": "pass", "checks": {"focus": {"value": 200.0, "status": "pass", "remedy": ""}}}
BAD = {"verdict": "fail", "checks": {"focus": {"value": 1.0, "status": "fail", "remedy": "focus"}}}


def capture_workspace(folder: Path, key: bytes = b"k" * 32, more: str = "") -> Workspace:
    """A workspace with one cohort of records, whose key lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    key_file = folder.parent / "ward.key"
    key_file.write_bytes(key)
    key_file.chmod(0o600)
    text = f'[cohorts.ward]\nrole = "development"\nsource = "capture"\npath = "capture"\npseudonymise = "{key_file}"\n'
    (folder / "skinkit.toml").write_text(text + more, encoding="utf-8")
    return load_workspace(folder)


def store_of(workspace: Workspace) -> Store:
    """Its records."""
    return open_store(workspace.cohort("ward"), workspace, make=True)


def photo(seed: int = 0, kind: str = "JPEG", size: tuple[int, int] = (96, 64), **options: Any) -> bytes:
    """A textured picture with a dark disc, as bytes of a file."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(150, 220, (size[1], size[0], 3), dtype=np.uint8)
    y, x = np.mgrid[: size[1], : size[0]]
    pixels[(x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 < 200] //= 3
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format=kind, **options)
    return sink.getvalue()


def annotation(patient: str = HOSPITAL_ID, **form: Any) -> dict[str, Any]:
    """What the page sends of a lesion, with consent."""
    return {
        "centre": [48, 32],
        "box": [34, 18, 62, 46],
        "outline": [[34, 32], [48, 18], [62, 32], [48, 46]],
        "form": {
            "patient": patient,
            "lesion": "left arm",
            "age": 63,
            "sex": "female",
            "fitzpatrick": 3,
            "ethnicity": None,
            "site": "ARM",
            "symptoms": {"itch": True, "grew": False, "bleed": None},
            "diagnosis": "NEV",
            "diagnosis_source": "histology",
            **form,
        },
        "consent": {"train": True, "share": False, "expires": None},
    }


def sealed(store: Store, seed: int = 0, consent: Mapping[str, Any] | None = None, **form: Any) -> dict[str, Any]:
    """A record that went through every state."""
    record_id = store.new("test")["record_id"]
    store.take(record_id, photo(seed), {"make": "m", "model": "p"})
    store.check(record_id, GOOD)
    given = annotation(**form)
    given["consent"] |= consent or {}
    store.annotate(record_id, given)
    return store.seal(record_id)


class Client:
    """A device: it keeps its cookie, and sends what a browser would."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port, self.tls = port, tls
        self.cookie = ""
        self.set_cookie = ""
        self.headers: dict[str, str] = {}

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and body of an answer: JSON where it is, else bytes."""
        made = (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            if self.tls is None
            else http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)
        )
        with contextlib.closing(made) as connection:
            sent = {"host": f"127.0.0.1:{self.port}", **({"cookie": self.cookie} if self.cookie else {})}
            if isinstance(body, bytes):
                data: bytes | None = body
            else:
                data = None if body is None else json.dumps(body).encode()
                sent |= {"content-type": "application/json"} if body is not None else {}
            connection.request(method, path, data, {**sent, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
            if cookie := answer.getheader("set-cookie"):
                self.set_cookie, self.cookie = cookie, cookie.partition(";")[0]
            as_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(content) if as_json else content

    def begun(self) -> str:
        """Begin a record; its id."""
        status, body = self.ask("POST", "/api/records", {})
        assert status == 201, body
        return str(body["record_id"])

    def taken(self, seed: int = 0) -> str:
        """Begin a record and take its photo; its id."""
        record_id = self.begun()
        status, body = self.ask("PUT", f"/api/records/{record_id}/photo", photo(seed, size=(640, 480)))
        assert status == 200, body
        return record_id


@contextlib.contextmanager
def serving_page(
    workspace: Workspace,
    *,
    code: bool = False,
    certificate: Certificate | None = None,
    classifier: Any = None,
    rate: RateLimit | None = None,
) -> Iterator[tuple[int, Sessions]]:
    """A running server of this process; its port and its sessions."""
    sessions = Sessions(needs_code=code)
    listening: socket.socket = serving.bound("127.0.0.1", 0)
    page = Page(
        store_of(workspace),
        workspace,
        sessions,
        classifier,
        certificate is not None,
        frozenset({"127.0.0.1", "localhost"}),
        Console(quiet=True, stream=io.StringIO()),
        rate or RateLimit(1000.0, 1000.0),
    )
    server = serving.server_of(make_app(page), certificate)
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield listening.getsockname()[1], sessions
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
