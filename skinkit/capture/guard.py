"""What every request passes: limits of rate and size, host and origin, and the headers of every answer.

The errors of the API are JSON, ``{"found", "expected", "fix", "code"}``, with the status that fits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from skinkit.artifacts.files import json_values
from skinkit.capture.sessions import RateLimit, WaitError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_JSON_BYTES = 256 * 1024
BODY_SECONDS = 60.0
"""Longest time in which the body of a request must have arrived."""
SAFE = ("GET", "HEAD")
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-robots-tag": "noindex",
}


class ApiError(Exception):
    """An answer that is no result.

    Args:
        status: of HTTP.
        code: stable word that the page translates.
        found: what was found.
        expected: what was expected.
        fix: what to do.
        retry_s: seconds after which to try again.
    """

    def __init__(self, status: int, code: str, found: str, expected: str, fix: str, retry_s: float = 0) -> None:
        super().__init__(found)
        self.status, self.code = status, code
        self.found, self.expected, self.fix = found, expected, fix
        self.retry_s = retry_s

    def response(self) -> JSONResponse:
        """The answer."""
        body = {"found": self.found, "expected": self.expected, "fix": self.fix, "code": self.code}
        headers = {"retry-after": str(int(self.retry_s) + 1)} if self.retry_s else {}
        return JSONResponse(body, self.status, headers=headers)


def answered(value: Mapping[str, Any], status: int = 200) -> JSONResponse:
    """A result as JSON, without NaN."""
    return JSONResponse(json_values(value), status)


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request, which is never held beyond ``most`` bytes.

    Raises:
        ApiError: it is larger, or took too long.
    """
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated) > most:
        raise _too_large(most)
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _too_large(most)
                parts.append(part)
    except TimeoutError:
        raise ApiError(
            408, "too_slow", "a request that did not arrive", f"all of it in {BODY_SECONDS:.0f} s", "send it again"
        ) from None
    except ClientDisconnect:
        raise ApiError(400, "torn", "a torn connection", "the whole request", "send it again") from None
    return b"".join(parts)


def _too_large(most: int) -> ApiError:
    return ApiError(413, "too_large", "a request that is too large", f"at most {most:,} bytes", "take a smaller photo")


async def json_of(request: Request) -> dict[str, Any]:
    """The JSON object in the body of a request.

    Raises:
        ApiError: another type, no JSON, or no object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "type", "a body of another type", "content-type: application/json", "send JSON")
    body = await body_of(request, MOST_JSON_BYTES)
    try:
        value = json.loads(body or b"{}", parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ApiError(400, "json", "a body that is no JSON", "a JSON object", "correct it") from None
    if not isinstance(value, dict):
        raise ApiError(400, "json", "a body that is no object", "a JSON object", "correct it")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(name)


class Guard:
    """The outermost layer of the app.

    Args:
        app: what answers.
        rate: requests of a client.
        hosts: names in the header Host that are answered; empty for any (where TLS and a code are asked for).
        secure: whether the page is served with TLS.
    """

    def __init__(self, app: ASGIApp, *, rate: RateLimit, hosts: frozenset[str], secure: bool) -> None:
        self.app, self.rate, self.hosts, self.secure = app, rate, hosts, secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self.app(scope, receive, send)
            return
        api = scope["path"].startswith("/api/")

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if api or "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            await error.response()(scope, receive, sent)
            return
        await self.app(scope, receive, sent)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        try:
            self.rate.take(scope["client"][0] if scope.get("client") else "")
        except WaitError as wait:
            raise waiting(wait, "too many requests") from None
        host = headers.get("host", "")
        if self.hosts and _name(host) not in self.hosts:
            raise ApiError(403, "host", "another name of this machine", "the address in the terminal", "open that one")
        if scope["method"] in SAFE:
            return
        origin = headers.get("origin")
        own = f"{'https' if self.secure else 'http'}://{host}"
        foreign = origin is not None and origin.lower() != own.lower()
        if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise ApiError(403, "origin", "a request of another page", "one of this page", "open the page itself")


def _name(host: str) -> str:
    """The name or address in a header Host, without its port."""
    return (host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]).lower()


def waiting(wait: WaitError, found: str) -> ApiError:
    """The answer to a client that has to wait."""
    return ApiError(429, "wait", found, "fewer", f"wait {int(wait.seconds) + 1} s", wait.seconds)
