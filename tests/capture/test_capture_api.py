"""The server of the photo page: who may, what it refuses, and what two devices do at once."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captured import HOSPITAL_ID, Client, annotation, capture_workspace, photo, serving_page, store_of

from skinkit.capture import tls
from skinkit.capture.guard import MOST_JSON_BYTES
from skinkit.capture.serving import bound, qr_text
from skinkit.capture.sessions import (
    IDLE_S,
    LONGEST_S,
    MOST_SESSIONS,
    MOST_WRONG,
    MOST_WRONG_OF_ALL,
    WRONG_WITHIN_S,
    RateLimit,
    Sessions,
    WaitError,
    WrongCodeError,
)
from skinkit.data.capture_records import MOST_PHOTO_BYTES, Store
from skinkit.errors import BusyError, ConfigError, InputError
from skinkit.images.decode import decode
from skinkit.workspace import Workspace

ERROR = {"found", "expected", "fix", "code"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return capture_workspace(tmp_path_factory.mktemp("ward") / "w")


@pytest.fixture(scope="module")
def port(work: Workspace) -> Iterator[int]:
    with serving_page(work) as (number, _):
        yield number


@pytest.fixture
def store(work: Workspace) -> Store:
    return store_of(work)


@pytest.fixture
def client(port: int) -> Client:
    made = Client(port)
    assert made.ask("GET", "/api/session")[1]["paired"]
    return made


# -------------------------------------------------------------------------------------------------- a whole record


def test_a_record_from_photo_to_seal(client: Client, store: Store) -> None:
    record_id = client.begun()
    assert client.ask("GET", "/api/records")[1]["records"][-1]["record_id"] in {
        one["record_id"] for one in store.records("NEW")
    }
    device = {"x-device": json.dumps({"make": "Phone", "model": "X", "os": "17", "lens": "wide"})}
    status, body = client.ask("PUT", f"/api/records/{record_id}/photo", photo(1, size=(640, 480)), device)
    assert status == 200
    assert body.keys() == {"state", "verdict", "checks", "retakes", "retakes_left"}
    if body["state"] == "QC_FAIL":
        assert client.ask("POST", f"/api/records/{record_id}/override", {"reason": "a test"})[0] == 200
    status, body = client.ask("PUT", f"/api/records/{record_id}/annotation", annotation())
    assert (status, body["state"]) == (200, "ANNOTATED")
    if body["verdict"] == "fail":
        assert client.ask("POST", f"/api/records/{record_id}/seal", {})[0] == 409
        assert client.ask("POST", f"/api/records/{record_id}/override", {"reason": "a test"})[0] == 200
    status, body = client.ask("POST", f"/api/records/{record_id}/classify", {})
    assert (status, body["code"]) == (409, "no_model")
    assert client.ask("POST", f"/api/records/{record_id}/review", {"agrees": True})[1] == {"state": "REVIEWED"}
    status, body = client.ask("POST", f"/api/records/{record_id}/seal", {})
    assert (status, body["state"], len(body["sha256"])) == (200, "SEALED", 64)
    status, shown = client.ask("GET", f"/api/records/{record_id}")
    assert HOSPITAL_ID not in json.dumps(shown)
    assert shown["device"] == {"make": "Phone", "model": "X", "os": "17", "lens": "wide", "w": 640, "h": 480}
    status, kept = client.ask("GET", f"/api/records/{record_id}/photo")
    assert (status, kept) == (200, store.photo_path(store.read(record_id)).read_bytes())
    assert client.headers["content-type"] == "image/jpeg"
    status, body = client.ask("POST", f"/api/records/{record_id}/withdraw", {})
    assert (status, body["state"], body["models"]) == (200, "WITHDRAWN", [])
    for path in ("", "/photo"):
        assert client.ask("GET", f"/api/records/{record_id}{path}")[0] == 404
    assert store.log.problems() == []
    actions = [line["action"] for line in store.log.lines() if line["record"] == record_id]
    assert [actions[0], *actions[-2:]] == ["new", "seal", "withdraw"]
    assert HOSPITAL_ID.encode() not in (store.root / "log.jsonl").read_bytes()


def test_another_device_goes_on_where_a_tab_was_closed(client: Client, port: int) -> None:
    record_id = client.taken(seed=2)
    other = Client(port)
    other.ask("GET", "/api/session")
    found = {one["record_id"]: one for one in other.ask("GET", "/api/records")[1]["records"]}
    assert found[record_id]["photo"] is True
    assert other.ask("GET", f"/api/records/{record_id}/photo")[0] == 200


def test_a_photo_whose_checks_were_not_finished_is_checked_when_it_is_asked_for(client: Client, store: Store) -> None:
    record_id = store.new("test")["record_id"]
    store.take(record_id, photo(3, size=(640, 480)), {})
    assert client.ask("GET", f"/api/records/{record_id}")[1]["state"] in ("QC_PASS", "QC_FAIL")


def test_the_session_says_what_the_page_needs(client: Client) -> None:
    _, body = client.ask("GET", "/api/session", headers={"accept-language": "zh-CN,zh;q=0.9"})
    assert (body["language"], body["languages"]) == ("zh-CN", ["en", "zh-CN"])
    assert body["limits"] == {"photo_bytes": MOST_PHOTO_BYTES, "photo_pixels": 64_000_000, "retakes": 5}
    assert len(body["sites"]) == 15
    assert body["model"] is None
    assert {"name": "nevus", "label": "色素痣", "labels": {"en": "nevus", "zh-CN": "色素痣"}} in body["classes"]
    assert set(body["notice"]) == {"en", "zh-CN"}
    for language in ("en", "zh-CN"):
        assert client.ask("GET", f"/api/words/{language}")[0] == 200
    assert client.ask("GET", "/api/words/../notice")[0] == 404


# ---------------------------------------------------------------------------------------------------- who may


def test_without_a_session_nothing_is_answered(port: int) -> None:
    stranger = Client(port)
    for method, path in (
        ("GET", "/api/records"), ("POST", "/api/records"), ("GET", "/api/records/x"), ("PUT", "/api/records/x/photo"),
        ("POST", "/api/records/x/seal"), ("POST", "/api/records/x/withdraw"), ("GET", "/api/quality-table"),
    ):  # fmt: skip
        status, body = stranger.ask(method, path, {} if method != "GET" else None)
        assert (status, body["code"]) == (401, "session")
        stranger.cookie = "skinkit=" + "A" * 43
        assert stranger.ask(method, path, {} if method != "GET" else None)[0] == 401


def test_a_code_begins_a_session_and_a_forged_one_does_not(work: Workspace) -> None:
    with serving_page(work, code=True) as (number, sessions):
        phone, thief = Client(number), Client(number)
        told = phone.ask("GET", "/api/session")[1]
        assert told["paired"] is False
        assert not {"classes", "model", "cohort"} & told.keys()
        for wrong in ("", "AAAAAAAA", sessions.code[:-1], sessions.code + "A", "é" * 8):
            assert thief.ask("POST", "/api/pair", {"code": wrong})[0] == 401
            assert thief.cookie == ""
        status, body = thief.ask("POST", "/api/pair", {"code": sessions.code})
        assert (status, body["code"]) == (429, "wait")  # of this address, which guessed too often
        assert int(thief.headers["retry-after"]) > 0
        assert thief.ask("GET", "/api/records")[0] == 401
        sessions._wrong.clear()
        for odd in (None, 7, ["x"], {"a": 1}, "x" * 65):
            assert phone.ask("POST", "/api/pair", {"code": odd})[0] == 400
        typed = f" {sessions.code[:4].lower()}-{sessions.code[4:]} "
        assert phone.ask("POST", "/api/pair", {"code": typed})[0] == 200
        for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="):
            assert part.lower() in phone.set_cookie.lower()
        assert phone.ask("GET", "/api/records")[0] == 200
        token = phone.cookie
        assert phone.ask("POST", "/api/unpair", {})[0] == 200
        phone.cookie = token
        assert phone.ask("GET", "/api/records")[0] == 401
        kept = (store_of(work).root / "log.jsonl").read_text("utf-8")
        assert "wrong code" in kept
        assert sessions.code not in kept
        assert token.partition("=")[2] not in kept


def test_sessions_end_and_codes_that_were_guessed_at_are_replaced() -> None:
    now = [0.0]
    told: list[str] = []
    sessions = Sessions(needs_code=True, replaced=told.append, clock=lambda: now[0])
    code = sessions.code
    token = sessions.pair(code, "phone")
    now[0] = IDLE_S - 1
    assert sessions.name_of(token)
    now[0] += IDLE_S + 1
    assert sessions.name_of(token) is None
    token = sessions.pair(code, "phone")
    began = now[0]
    while now[0] < began + LONGEST_S:
        assert sessions.name_of(token)
        now[0] += IDLE_S - 1
    assert sessions.name_of(token) is None
    for guess in range(MOST_WRONG_OF_ALL):
        with pytest.raises(WrongCodeError):
            sessions.pair("AAAAAAAA", f"client {guess // MOST_WRONG}")
    assert told == [sessions.code]
    assert sessions.code != code
    with pytest.raises(WaitError):
        sessions.pair(sessions.code, "client 0")
    now[0] += WRONG_WITHIN_S + 1
    tokens = [sessions.pair(sessions.code, "client 0") for _ in range(MOST_SESSIONS + 1)]
    assert sessions.name_of(tokens[0]) is None  # the one that was not used for longest
    assert sessions.name_of(tokens[-1])


def test_requests_of_a_client_are_limited() -> None:
    now = [0.0]
    rate = RateLimit(2.0, 5.0, clock=lambda: now[0])
    for _ in range(5):
        rate.take("a")
    with pytest.raises(WaitError):
        rate.take("a")
    rate.take("b")
    now[0] = 1.0
    rate.take("a")
    rate.take("a")
    with pytest.raises(WaitError) as wait:
        rate.take("a")
    assert 0 < wait.value.seconds <= 0.5


def test_a_flood_is_answered_with_429(work: Workspace) -> None:
    with serving_page(work, rate=RateLimit(0.1, 10.0)) as (number, _):
        client = Client(number)
        statuses = [client.ask("GET", "/api/session")[0] for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2


# -------------------------------------------------------------------------------------------------- other pages


def test_requests_of_other_pages_are_refused(client: Client) -> None:
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"https://127.0.0.1:{client.port}"},
        {"origin": f"http://127.0.0.1:{client.port + 1}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        status, body = client.ask("POST", "/api/records", {}, headers)
        assert (status, body["code"]) == (403, "origin"), headers
    own = {"origin": f"http://127.0.0.1:{client.port}", "sec-fetch-site": "same-origin"}
    assert client.ask("POST", "/api/records", {}, own)[0] == 201


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]:1"])
def test_another_name_of_this_machine_is_refused(host: str, client: Client) -> None:
    """A page whose name was made to lead here (DNS rebinding) reads nothing."""
    status, body = client.ask("GET", "/api/session", headers={"host": host})
    assert (status, body["code"]) == (403, "host")


def test_every_answer_has_the_headers(client: Client) -> None:
    for path in ("/", "/api/session", "/api/nothing", "/static/nothing"):
        client.ask("GET", path)
        policy = client.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert client.headers["x-content-type-options"] == "nosniff"
        assert client.headers["referrer-policy"] == "no-referrer"
        assert "server" not in client.headers
        assert "access-control-allow-origin" not in client.headers
    client.ask("GET", "/api/session")
    assert client.headers["cache-control"] == "no-store"


def test_files_of_the_page_are_kept_by_their_hash(client: Client) -> None:
    status, _ = client.ask("GET", "/")
    if status == 404:
        pytest.skip("NO PAGE: static/index.html is not there")
    assert client.headers["content-type"].startswith("text/html")
    tag = client.headers["etag"]
    assert client.ask("GET", "/", headers={"if-none-match": tag})[0] == 304
    assert client.ask("GET", "/", headers={"if-none-match": '"another"'})[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/static/.hidden",
     "/../skinkit.toml", "/static/", "/capture/store.json"],
)  # fmt: skip
def test_no_other_file_is_served(path: str, client: Client) -> None:
    status, body = client.ask("GET", path)
    assert status == 404
    assert body.keys() == ERROR


# ------------------------------------------------------------------------------------------------ hostile requests


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be, or is, of so many pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    rows = zlib.compress(b"\0" * 10_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


UPLOADS: list[tuple[str, Callable[[], bytes], int, str]] = [
    ("nothing", lambda: b"", 400, "empty"),
    ("text", lambda: b"<script>alert(1)</script>", 415, "image_unsupported"),
    ("svg", lambda: b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415, "image_unsupported"),
    ("gif", lambda: b"GIF89a" + b"\0" * 100, 415, "image_unsupported"),
    ("zip", lambda: b"PK\x03\x04" + b"\0" * 100, 415, "image_unsupported"),
    ("jpeg head alone", lambda: b"\xff\xd8\xff\xe0", 415, "image_unreadable"),
    ("half a jpeg", lambda: photo(size=(640, 480))[:9000], 415, "image_truncated"),
    ("bomb that claims", lambda: png_bomb(60_000, 60_000), 413, "image_too_large"),
    ("bomb within the library's limit", lambda: png_bomb(9_000, 9_000), 413, "image_too_large"),
    ("bomb of one line", lambda: png_bomb(2**31 - 1, 1), 413, "image_too_large"),
    ("too small", lambda: photo(size=(8, 8)), 415, "image_unsupported"),
    ("script behind a jpeg head", lambda: b"\xff\xd8\xff\xe0" + b"<script>" * 50, 415, "image_"),
]


@pytest.mark.parametrize(("what", "data", "status", "code"), UPLOADS, ids=[one[0] for one in UPLOADS])
def test_hostile_uploads(
    what: str, data: Callable[[], bytes], status: int, code: str, client: Client, store: Store
) -> None:
    record_id = client.begun()
    answer, body = client.ask("PUT", f"/api/records/{record_id}/photo", data())
    assert answer == status, body
    assert body["code"].startswith(code)
    assert body.keys() == ERROR
    assert store.read(record_id)["state"] == "NEW"
    assert list((store.root / "photos").glob(f"{record_id}*")) == []


def test_an_oversized_upload_is_refused_before_it_is_read(client: Client) -> None:
    record_id = client.begun()
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as raw:
        head = (
            f"PUT /api/records/{record_id}/photo HTTP/1.1\r\nhost: 127.0.0.1:{client.port}\r\n"
            f"cookie: {client.cookie}\r\ncontent-length: {MOST_PHOTO_BYTES + 1}\r\n\r\n"
        )
        raw.sendall(head.encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as raw:
        raw.sendall(head.replace(f"content-length: {MOST_PHOTO_BYTES + 1}", "transfer-encoding: chunked").encode())
        part = b"100000\r\n" + b"\0" * 0x100000 + b"\r\n"
        try:
            for _ in range(MOST_PHOTO_BYTES // 0x100000 + 4):
                raw.sendall(part)
        except OSError:
            pass  # closed by the server
        else:
            assert raw.recv(4096).startswith(b"HTTP/1.1 413")
    assert client.ask("GET", "/api/records")[0] == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400), (b"[]", "application/json", 400), (b'"x"', "application/json", 400),
        (b'{"reason": NaN}', "application/json", 400), (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400), (b"{}", "text/plain", 415), (b"{}", "", 415),
        (b'{"reason": "' + b"x" * MOST_JSON_BYTES + b'"}', "application/json", 413),
        (b"reason=x", "application/x-www-form-urlencoded", 415),
    ],
    ids=range(10),
)  # fmt: skip
def test_bodies_that_are_no_json(body: bytes, kind: str, status: int, client: Client) -> None:
    record_id = client.begun()
    answer, said = client.ask("POST", f"/api/records/{record_id}/override", body, {"content-type": kind})
    assert answer == status
    assert said.keys() == ERROR


@pytest.mark.parametrize("record_id", ["..%2f..%2fstore", "%2e%2e", "x", "a" * 5000, "%00", "store.json"])
def test_an_id_that_is_none(record_id: str, client: Client) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/photo", None),
        ("POST", "/seal", {}),
        ("PUT", "/photo", photo()),
    ):
        status, said = client.ask(method, f"/api/records/{record_id}{path}", body)
        assert (status, said.keys()) == (404, ERROR), (method, path)


def test_script_in_a_text_stays_text(client: Client, store: Store) -> None:
    record_id = client.taken(seed=4)
    if store.read(record_id)["state"] == "QC_FAIL":
        client.ask("POST", f"/api/records/{record_id}/override", {"reason": "<script>alert(1)</script>"})
    evil = "<img src=x onerror=alert(1)>\u202e\x00"
    given = annotation(patient=evil, ethnicity=evil)
    assert client.ask("PUT", f"/api/records/{record_id}/annotation", given)[0] == 200
    _, shown = client.ask("GET", f"/api/records/{record_id}")
    assert shown["ethnicity"] == "<img src=x onerror=alert(1)>"  # the page sets it as text; nothing hidden in it
    assert client.headers["content-type"] == "application/json"
    assert evil not in json.dumps(shown["patient_key"])


@pytest.mark.parametrize("header", ["{", "[]", '"x"', "x" * 2001, '{"make": 7}', '{"make": "' + "x" * 81 + '"}'])
def test_a_device_that_is_none(header: str, client: Client) -> None:
    record_id = client.begun()
    status, body = client.ask("PUT", f"/api/records/{record_id}/photo", photo(), {"x-device": header})
    assert (status, body.keys()) == (400, ERROR)


def test_what_cannot_be_done_now_is_409(client: Client) -> None:
    record_id = client.begun()
    for method, path, body in (
        ("PUT", "annotation", annotation()), ("POST", "seal", {}), ("POST", "override", {"reason": "why"}),
        ("POST", "review", {"agrees": True}), ("POST", "classify", {}),
    ):  # fmt: skip
        status, said = client.ask(method, f"/api/records/{record_id}/{path}", body)
        assert (status, said.keys()) == (409, ERROR), path
    assert client.ask("DELETE", f"/api/records/{record_id}")[0] == 405


def test_two_devices_at_once(port: int, store: Store) -> None:
    """Each makes records of its own, and both seal one record together: it is sealed once."""
    made: dict[str, bytes] = {}
    shared = Client(port)
    shared.ask("GET", "/api/session")
    both = shared.taken(seed=50)
    if store.read(both)["state"] == "QC_FAIL":
        shared.ask("POST", f"/api/records/{both}/override", {"reason": "a test"})
    shared.ask("PUT", f"/api/records/{both}/annotation", annotation())
    if store.read(both)["verdict"] == "fail":
        shared.ask("POST", f"/api/records/{both}/override", {"reason": "a test"})
    hashes: list[Any] = []
    errors: list[BaseException] = []

    def device(number: int) -> None:
        try:
            client = Client(port)
            client.ask("GET", "/api/session")
            for i in range(4):
                record_id = client.begun()
                data = photo(1000 * number + i, size=(320, 240))
                assert client.ask("PUT", f"/api/records/{record_id}/photo", data)[0] == 200
                made[record_id] = data
            status, body = client.ask("POST", f"/api/records/{both}/seal", {})
            hashes.append((status, body.get("sha256")))
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=device, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(made) == 12
    for record_id, data in made.items():
        kept = store.photo_path(store.read(record_id)).read_bytes()
        assert np.array_equal(decode(kept)[0], decode(data)[0])
    assert len(set(hashes)) == 1
    assert hashes[0][0] == 200
    assert store.log.problems() == []


# ------------------------------------------------------------------------------------------------------------- TLS


def test_a_self_made_certificate_is_kept_and_is_the_one_that_is_shown(work: Workspace, tmp_path: Path) -> None:
    made = tls.self_made(tmp_path / "tls", ["127.0.0.1", "ward.local"])
    assert tls.self_made(tmp_path / "tls", ["127.0.0.1"]) == made
    assert made.key.stat().st_mode & 0o077 == 0
    assert tls.self_made(tmp_path / "tls", ["127.0.0.1", "10.1.2.3"]).fingerprint != made.fingerprint
    made = tls.self_made(tmp_path / "tls", ["127.0.0.1"])
    assert tls.given(str(made.cert), str(made.key)).fingerprint == made.fingerprint
    trusting = ssl.create_default_context(cafile=str(made.cert))
    with serving_page(work, code=True, certificate=made) as (number, sessions):
        client = Client(number, trusting)
        assert client.ask("POST", "/api/pair", {"code": sessions.code})[0] == 200
        assert client.cookie.startswith("__Host-skinkit=")
        assert "secure" in client.set_cookie.lower()
        with (
            socket.create_connection(("127.0.0.1", number)) as raw,
            trusting.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
        ):
            shown = hashlib.sha256(wrapped.getpeercert(True) or b"").hexdigest()
        assert shown == made.fingerprint.replace(":", "").lower()
        plain = Client(number)
        with pytest.raises((OSError, http.client.HTTPException)):
            plain.ask("GET", "/api/session")


def test_certificates_that_are_none(tmp_path: Path) -> None:
    made = tls.self_made(tmp_path / "a", ["127.0.0.1"])
    other = tls.self_made(tmp_path / "b", ["127.0.0.1"])
    with pytest.raises(ConfigError):
        tls.given(str(made.cert), "")
    for cert, key in ((made.cert, other.key), (tmp_path / "absent", made.key), (made.key, made.cert)):
        with pytest.raises(InputError):
            tls.given(str(cert), str(key))


def test_a_port_in_use_and_an_address_of_another_machine() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BusyError, match="in use"):
            bound("127.0.0.1", taken.getsockname()[1])
    for host, port in (("192.0.2.1", 0), ("127.0.0.1", 70000)):
        with pytest.raises(ConfigError):
            bound(host, port)
    assert len({len(line) for line in qr_text("https://10.0.0.5:8443/#code=ABCDEFGH")}) == 1


# ------------------------------------------------------------------------------------------------- the command


def started(work: Path, *words: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """The command in a process of its own, once it says where it listens."""
    command = [sys.executable, "-m", "skinkit", "capture", "--json", *words]
    process = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    text = ""
    assert process.stdout is not None
    while not text.rstrip().endswith("\n}"):
        line = process.stdout.readline()
        assert line, process.communicate()
        text += line
    said: dict[str, Any] = json.loads(text)
    return process, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_in_order(number: signal.Signals, tmp_path: Path) -> None:
    work = capture_workspace(tmp_path / "w")
    process, said = started(work.root, "--port", "0")
    try:
        assert said["url"] == f"http://127.0.0.1:{said['port']}/"
        assert (said["tls"], said["pairing_code"], said["exit_code"]) == (False, None, 0)
        client = Client(said["port"])
        client.ask("GET", "/api/session")
        record_id = client.taken()
        busy = subprocess.run(
            [sys.executable, "-m", "skinkit", "capture", "--port", str(said["port"]), "--json"],
            cwd=work.root, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert busy.returncode == 6
        assert "in use" in json.loads(busy.stdout)["error"]["found"]
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert store_of(work).read(record_id)["photo"]


def test_a_killed_server_keeps_what_it_confirmed(tmp_path: Path) -> None:
    work = capture_workspace(tmp_path / "w")
    process, said = started(work.root, "--host", "127.0.0.1", "--port", "0")
    try:
        client = Client(said["port"])
        assert client.ask("POST", "/api/pair", {"code": said["pairing_code"]})[0] == 200
        taken = [client.taken(seed) for seed in range(3)]
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    finally:
        process.kill()
        process.communicate()
    with serving_page(work) as (number, _):
        again = Client(number)
        again.ask("GET", "/api/session")
        records = {one["record_id"]: one for one in again.ask("GET", "/api/records")[1]["records"]}
        assert set(taken) <= set(records)
        for record_id in taken:
            assert again.ask("GET", f"/api/records/{record_id}/photo")[0] == 200
        assert store_of(work).log.problems() == []


def test_elsewhere_only_with_tls_and_a_code(tmp_path: Path) -> None:
    work = capture_workspace(tmp_path / "w")
    process, said = started(work.root, "--host", "0.0.0.0", "--port", "0")
    try:
        assert said["url"].startswith("https://")
        assert said["tls"]
        assert said["self_made"]
        assert len(said["pairing_code"]) == 9
        pem = work.root / "capture" / ".tls" / "cert.pem"
        assert said["fingerprint"] == tls.given(str(pem), str(pem.with_name("key.pem"))).fingerprint
        context = ssl.create_default_context(cafile=str(pem))
        context.check_hostname = False
        client = Client(said["port"], context)
        assert client.ask("GET", "/api/session")[1]["paired"] is False
        assert client.ask("POST", "/api/records", {})[0] == 401
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
