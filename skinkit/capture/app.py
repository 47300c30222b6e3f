"""The app of the photo page: the API under ``/api`` and the files of the page.

    POST /api/pair {code}                  begin a session; the QR code of the terminal opens /#code=CODE
    GET  /api/session                      paired, languages, classes, symptoms, sites, model, limits, notice
    GET  /api/quality-table                constants of the checks      GET /api/words/LANGUAGE   words of the page
    GET  /api/records                      unfinished records           POST /api/records         begin one
    GET  /api/records/ID                   one record                   GET /api/records/ID/photo its photo
    PUT  /api/records/ID/photo             bytes of JPEG, PNG or WebP; X-Device: JSON of make, model, os, lens
    POST /api/records/ID/override {reason} keep the best photo, or an annotated record whose lesion failed the checks
    PUT  /api/records/ID/annotation        lesion, form and consent     POST /api/records/ID/classify  what a model says
    POST /api/records/ID/review            a second reader              POST /api/records/ID/seal      close it
    POST /api/records/ID/withdraw          remove it                    POST /api/unpair               end the session

Ids of patients are in bodies alone, never in an address. An error is ``{"found", "expected", "fix", "code"}``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from skinkit import __version__
from skinkit.capture import gate
from skinkit.capture.guard import ApiError, Guard, answered, body_of, json_of, waiting
from skinkit.capture.sessions import RateLimit, Sessions, WaitError, WrongCodeError
from skinkit.capture.words import LANGUAGES, labels, notice, words
from skinkit.console import Console
from skinkit.data.capture_records import (
    CAPTURED,
    DIAGNOSIS_SOURCES,
    FITZPATRICK,
    MOST_PHOTO_BYTES,
    MOST_PHOTO_PIXELS,
    MOST_RETAKES,
    NEW,
    QC_FAIL,
    REGIONS,
    SEXES,
    UNFINISHED,
    WITHDRAWN,
    NoRecordError,
    StateError,
    Store,
    region_of,
)
from skinkit.errors import BusyError, CaseError, ConfigError, RefusedError, SkinkitError
from skinkit.taxonomy import SYMPTOMS
from skinkit.workspace import Workspace

if TYPE_CHECKING:
    from skinkit.capture.classifying import Classifier

STATIC = Path(__file__).parent / "static"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_TOO_LARGE = ("image_too_large",)
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Page:
    """What the app is made of.

    Attributes:
        store: the records.
        workspace: where models are.
        sessions: who may.
        classifier: the model; None for none.
        secure: whether it is served with TLS.
        hosts: as of :class:`skinkit.capture.guard.Guard`.
        console: for errors of the server.
    """

    store: Store
    workspace: Workspace
    sessions: Sessions
    classifier: Classifier | None
    secure: bool
    hosts: frozenset[str]
    console: Console
    rate: RateLimit

    @property
    def cookie(self) -> str:
        """Name of the session's cookie; with TLS, one that browsers bind to this host and to TLS."""
        return "__Host-skinkit" if self.secure else "skinkit"


def make_app(page: Page) -> Guard:
    """The app, with its guard around it."""
    api = _Api(page)

    def own(endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                request.state.by = api.session(request)
                return await endpoint(request)
            except (ApiError, SkinkitError, OSError) as error:
                return _refused(error, page.console)

        return answer

    def anyone(endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except (ApiError, SkinkitError, OSError) as error:
                return _refused(error, page.console)

        return answer

    one = "/api/records/{record_id}"
    routes = [
        Route("/", anyone(api.index)),
        Route("/static/{name}", anyone(api.static)),
        Route("/api/pair", anyone(api.pair), methods=["POST"]),
        Route("/api/unpair", own(api.unpair), methods=["POST"]),
        Route("/api/session", anyone(api.about)),
        Route("/api/words/{language}", anyone(api.words)),
        Route("/api/quality-table", own(api.quality_table)),
        Route("/api/records", own(api.unfinished), methods=["GET"]),
        Route("/api/records", own(api.new), methods=["POST"]),
        Route(one, own(api.record), methods=["GET"]),
        Route(f"{one}/photo", own(api.photo), methods=["GET"]),
        Route(f"{one}/photo", own(api.take), methods=["PUT"]),
        Route(f"{one}/override", own(api.override), methods=["POST"]),
        Route(f"{one}/annotation", own(api.annotate), methods=["PUT"]),
        Route(f"{one}/classify", own(api.classify), methods=["POST"]),
        Route(f"{one}/review", own(api.review), methods=["POST"]),
        Route(f"{one}/seal", own(api.seal), methods=["POST"]),
        Route(f"{one}/withdraw", own(api.withdraw), methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _not_found, Exception: _internal(page.console)})
    return Guard(app, rate=page.rate, hosts=page.hosts, secure=page.secure)


class _Api:
    """The endpoints; what takes long runs in threads."""

    def __init__(self, page: Page) -> None:
        self.page, self.store = page, page.store

    # ------------------------------------------------------------------------------------------------- sessions

    def session(self, request: Request) -> str:
        """The name of the request's session.

        Raises:
            ApiError: it has none.
        """
        name = self.page.sessions.name_of(request.cookies.get(self.page.cookie, ""))
        if name is None:
            raise ApiError(401, "session", "no session", "a paired device", "pair this device with the code")
        return name

    async def pair(self, request: Request) -> Response:
        given = await json_of(request)
        client = request.client.host if request.client else ""
        code = given.get("code", "")
        if not isinstance(code, str) or len(code) > 64:
            raise ApiError(400, "code", "a code that is no short text", "the code in the terminal", "type it again")
        if not self.page.sessions.needs_code:
            return self._with_cookie(answered({"ok": True}), self.page.sessions.begin())
        try:
            token = self.page.sessions.pair(code, client)
        except WrongCodeError:
            await run_in_threadpool(self.store.noted, "", "wrong code")
            raise ApiError(
                401, "wrong_code", "another code", "the code in the terminal", "read it again, or scan the QR code"
            ) from None
        except WaitError as wait:
            raise waiting(wait, "too many wrong codes") from None
        name = self.page.sessions.name_of(token) or ""
        await run_in_threadpool(self.store.noted, "", "pair", name)
        return self._with_cookie(answered({"ok": True}), token)

    async def unpair(self, request: Request) -> Response:
        self.page.sessions.end(request.cookies.get(self.page.cookie, ""))
        response = answered({"ok": True})
        response.delete_cookie(self.page.cookie, secure=self.page.secure, httponly=True, samesite="strict")
        return response

    def _with_cookie(self, response: Response, token: str) -> Response:
        from skinkit.capture.sessions import LONGEST_S

        response.set_cookie(
            self.page.cookie,
            token,
            max_age=int(LONGEST_S),
            httponly=True,
            samesite="strict",
            secure=self.page.secure,
        )
        return response

    async def about(self, request: Request) -> Response:
        page = self.page
        token = request.cookies.get(page.cookie, "")
        paired = page.sessions.name_of(token) is not None
        begins = not paired and not page.sessions.needs_code
        body: dict[str, Any] = {
            "paired": paired or begins,
            "languages": list(LANGUAGES),
            "language": _language(request),
            "version": __version__,
            "notice": notice(),
            "limits": {"photo_bytes": MOST_PHOTO_BYTES, "photo_pixels": MOST_PHOTO_PIXELS, "retakes": MOST_RETAKES},
        }
        if body["paired"]:
            named = labels()
            body |= {
                "cohort": self.store.name,
                "classes": [
                    {"name": name, "label": said[_language(request)], "labels": said} for name, said in named.items()
                ],
                "symptoms": list(SYMPTOMS),
                "sites": list(REGIONS),
                "sexes": list(SEXES),
                "fitzpatrick": list(FITZPATRICK),
                "diagnosis_sources": list(DIAGNOSIS_SOURCES),
                "model": None if page.classifier is None else page.classifier.about,
            }
        response = answered(body)
        return self._with_cookie(response, page.sessions.begin()) if begins else response

    # ---------------------------------------------------------------------------------------------- page and words

    async def index(self, request: Request) -> Response:
        return _static("index.html", request)

    async def static(self, request: Request) -> Response:
        return _static(request.path_params["name"], request)

    async def words(self, request: Request) -> Response:
        language = request.path_params["language"]
        if language not in LANGUAGES:
            raise ApiError(404, "language", "no such language", " or ".join(LANGUAGES), "choose one of these")
        return answered(words(language))

    async def quality_table(self, request: Request) -> Response:
        return answered(gate.table())

    # ------------------------------------------------------------------------------------------------------ records

    async def unfinished(self, request: Request) -> Response:
        records = await run_in_threadpool(self.store.records, *UNFINISHED)
        return answered({"records": [summary(record) for record in records]})

    async def new(self, request: Request) -> Response:
        await json_of(request)
        record = await run_in_threadpool(self.store.new, __version__, request.state.by)
        return answered({"record_id": record["record_id"], "state": record["state"]}, 201)

    async def record(self, request: Request) -> Response:
        return answered(shown(await run_in_threadpool(self._settled, _id(request), request.state.by)))

    def _settled(self, record_id: str, by: str) -> dict[str, Any]:
        """A record; a photo whose checks a killed server did not finish is checked now."""
        record = self._present(record_id)
        return self._checked(record, by) if record["state"] == CAPTURED else record

    def _present(self, record_id: str) -> dict[str, Any]:
        record = self.store.read(record_id)
        if record["state"] == WITHDRAWN:
            raise NoRecordError("no such record", "a record that is not withdrawn", "begin a new one")
        return record

    def _checked(self, record: Mapping[str, Any], by: str) -> dict[str, Any]:
        quality = gate.checked(self.store.photo_path(record))
        return self.store.check(record["record_id"], quality, by)

    async def photo(self, request: Request) -> Response:
        record = await run_in_threadpool(self._present, _id(request))
        path = self.store.photo_path(record)
        kinds = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
        return FileResponse(path, media_type=kinds[path.suffix], headers={"content-disposition": "inline"})

    async def take(self, request: Request) -> Response:
        data = await body_of(request, MOST_PHOTO_BYTES)
        if not data:
            raise ApiError(400, "empty", "a photo of no bytes", "JPEG, PNG or WebP", "take it again")
        device = _device(request.headers.get("x-device", ""))

        def taken() -> dict[str, Any]:
            record = self.store.take(_id(request), data, device, request.state.by)
            return self._checked(record, request.state.by) if record["state"] == CAPTURED else record

        return answered(_verdict(await run_in_threadpool(taken)))

    async def override(self, request: Request) -> Response:
        given = await json_of(request)
        record = await run_in_threadpool(self.store.override, _id(request), given.get("reason"), request.state.by)
        return answered({**_verdict(record), "qc_override": True})

    async def annotate(self, request: Request) -> Response:
        given = await json_of(request)

        def annotated() -> dict[str, Any]:
            by = request.state.by
            record = self.store.annotate(_id(request), given, by)
            quality = gate.checked(self.store.photo_path(record), region_of(record), record["fitzpatrick"])
            return self.store.check_region(record["record_id"], quality, by)

        return answered(_verdict(await run_in_threadpool(annotated)))

    async def classify(self, request: Request) -> Response:
        await json_of(request)
        classifier = self.page.classifier
        if classifier is None:
            raise ApiError(409, "no_model", "no model", "a server started with a model", "restart it with --model NAME")

        def classified() -> dict[str, Any]:
            record = self._settled(_id(request), request.state.by)
            if record["state"] in (NEW, QC_FAIL):
                raise StateError(
                    f"a record in the state {record['state']}", "a photo that passed the checks", "take another photo"
                )
            said = classifier.classify(record, self.store)
            identity = said["model"]["identity"]
            self.store.noted(record["record_id"], "classify", request.state.by, model=identity)
            return said

        return answered(await run_in_threadpool(classified))

    async def review(self, request: Request) -> Response:
        given = await json_of(request)
        record = await run_in_threadpool(self.store.review, _id(request), given, request.state.by)
        return answered({"state": record["state"]})

    async def seal(self, request: Request) -> Response:
        await json_of(request)
        record = await run_in_threadpool(self.store.seal, _id(request), request.state.by)
        return answered({"state": record["state"], "sha256": record["sha256"]})

    async def withdraw(self, request: Request) -> Response:
        await json_of(request)

        def withdrawn() -> dict[str, Any]:
            from skinkit.audit.withdrawals import withdraw

            return withdraw(self.store, self.page.workspace, _id(request), request.state.by)

        return answered(await run_in_threadpool(withdrawn))


# -------------------------------------------------------------------------------------------------- what is shown


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a list says of a record."""
    names = ("record_id", "state", "captured_at", "retakes", "verdict")
    return {name: record.get(name) for name in names} | {"photo": bool(record.get("photo"))}


def shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as the page shows it again; pseudonyms stand for ids."""
    hidden = ("attempts", "schema", "photo")
    out = {name: value for name, value in record.items() if name not in hidden}
    photo = record.get("photo")
    out["photo"] = {name: photo[name] for name in ("w", "h", "format")} if photo else None
    return {**out, **_verdict(record)}


def _verdict(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state": record["state"],
        "verdict": record.get("verdict"),
        "checks": record.get("qc") or {},
        "retakes": record.get("retakes", 0),
        "retakes_left": MOST_RETAKES - record.get("retakes", 0),
    }


def _id(request: Request) -> str:
    return str(request.path_params["record_id"])


def _device(header: str) -> Mapping[str, Any]:
    """The header X-Device; a phone that sends none, or none that is JSON, takes photos all the same."""
    if len(header) > 2000:
        raise ApiError(400, "device", "a header X-Device that is too long", "2000 characters", "shorten it")
    try:
        value = json.loads(header) if header else {}
    except (ValueError, RecursionError):
        raise ApiError(400, "device", "a header X-Device that is no JSON", "an object", "correct it") from None
    if not isinstance(value, dict):
        raise ApiError(400, "device", "a header X-Device that is no object", "an object", "correct it")
    return value


def _language(request: Request) -> str:
    """The language the browser asks for first, of those there are."""
    wished = request.headers.get("accept-language", "")[:200].split(",")
    for one in wished:
        if one.strip().lower().startswith("zh"):
            return "zh-CN"
        if one.strip().lower().startswith("en"):
            return "en"
    return LANGUAGES[0]


@cache
def _files() -> dict[str, Path]:
    """The files of the page by name; nothing else is ever served."""
    return {file.name: file for file in STATIC.glob("*") if file.is_file() and not file.name.startswith(".")}


def _static(name: str, request: Request) -> Response:
    file = _files().get(name)
    if file is None:
        raise ApiError(404, "file", "no such file", "a file of the page", "open the address in the terminal")
    data = file.read_bytes()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}  # kept, and asked for by its hash
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    kind = {".js": "text/javascript", ".html": "text/html"}.get(file.suffix) or mimetypes.guess_type(name)[0]
    return Response(data, media_type=kind or "application/octet-stream", headers=headers)


# --------------------------------------------------------------------------------------------------------- errors


def _refused(error: Exception, console: Console) -> Response:
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, OSError):
        full = error.errno in _FULL
        if not full:
            console.warn(f"an error of the disk: {error.strerror}")
        words = ("the disk is full", "room for the photo") if full else ("an error of the disk", "a disk that works")
        return ApiError(507, "disk", *words, "keep the photo on the phone and tell who runs the server").response()
    assert isinstance(error, SkinkitError)
    cause = error.__cause__
    if isinstance(cause, OSError):
        return _refused(cause, console)
    status, code = _status(error, cause)
    return ApiError(status, code, error.found, error.expected, error.fix).response()


def _status(error: SkinkitError, cause: BaseException | None) -> tuple[int, str]:
    if isinstance(error, NoRecordError):
        return 404, "record"
    if isinstance(cause, CaseError):
        return (413 if cause.reason in _TOO_LARGE else 415), cause.reason
    if isinstance(error, ConfigError):
        return 400, "value"
    if isinstance(error, (StateError, BusyError)):
        return 409, "state"
    return (403, "refused") if isinstance(error, RefusedError) else (400, "input")


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return ApiError(status, "address", "no such address", "an address of the page", "open it again").response()


def _internal(console: Console) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        # The class alone: a message may repeat what was sent.
        console.warn(f"internal error while answering {request.method}: {type(error).__name__}")
        return ApiError(500, "internal", "an error of the server", "none", "try again, and report it").response()

    return answer
