"""capture: serve the photo page for phones and laptops of a ward.

    skinkit capture                                      this machine alone, http://127.0.0.1:8443
    skinkit capture --host 0.0.0.0                       the ward's network: TLS, and a pairing code as QR
    skinkit capture --host 10.0.0.5 --cert ward.pem --key ward.key --model ensemble

The page takes a photo, checks it, asks for the form and consent, shows what a model says and seals the record. Records
stay in the folder of a cohort with source = "capture"; the next 'skinkit ingest' reads the sealed ones. Nothing is sent
anywhere else. Research software: no result of it is a diagnosis.

SIGTERM or SIGINT ends the server in order, with exit code 0: requests in progress are answered first. Exit code 6: the
port is in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from skinkit.commands import Context
from skinkit.console import as_lines
from skinkit.errors import ConfigError, InputError, listed
from skinkit.options import Help
from skinkit.workspace import SETTINGS_FILE, Cohort, Workspace

PANEL = "Start", 8
SHARED_OPTIONS = ("workspace", "cohort", "device")

LOOPBACK = "127.0.0.1"
_EXAMPLE = 'role = "development", source = "capture", path = "capture", pseudonymise = "/secure/ward.key"'


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    host: Annotated[
        str, Help("address to listen at; 0.0.0.0 for all (default: 127.0.0.1, this machine alone)", metavar="ADDRESS")
    ] = ""
    port: Annotated[int, "port to listen at; 0 takes a free one"] = 8443
    cert: Annotated[str, Help("certificate of this machine, PEM (default: a self-made one)", metavar="FILE")] = ""
    key: Annotated[str, Help("its key, PEM without a password", metavar="FILE")] = ""
    model: Annotated[
        str, Help("model that classifies photos (default: the workspace's, where it is trained)", metavar="NAME")
    ] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Say where the page is, and serve it."""
    _require_installed()
    from skinkit.capture import serving, tls
    from skinkit.capture.app import Page, make_app
    from skinkit.capture.sessions import RateLimit, Sessions, shown
    from skinkit.data.capture_records import open_store
    from skinkit.privacy.permissions import keep_private

    workspace = context.workspace()
    cohort = cohort_of(workspace, context)
    keep_private(Path(str(cohort.root)))
    host = config.host or LOOPBACK
    secure = bool(config.cert or config.key) or not tls.is_loopback(host)
    store = open_store(cohort, workspace, make=True)
    certificate = None
    if secure:
        named = tls.addresses(host)
        own = config.cert or config.key
        certificate = tls.given(config.cert, config.key) if own else tls.self_made(store.root / ".tls", named)
    classifier = _classifier(config.model, workspace, context)
    listening = serving.bound(host, config.port)
    port = listening.getsockname()[1]
    urls = [f"{'https' if secure else 'http'}://{_in_url(name)}:{port}/" for name in tls.addresses(host)]
    sessions = Sessions(
        needs_code=bool(config.host),
        replaced=lambda code: context.console.warn(f"wrong codes: the pairing code is now {shown(code)}"),
    )
    hosts = frozenset({LOOPBACK, "localhost", "::1", host}) if tls.is_loopback(host) else frozenset()
    page = Page(store, workspace, sessions, classifier, secure, hosts, context.console, RateLimit(20.0, 120.0))
    server = serving.server_of(make_app(page), certificate)

    def serve() -> int:
        try:
            server.run(sockets=[listening])
        finally:
            listening.close()
        context.console.info("the photo page has ended; records are kept")
        return 0 if server.started else 1

    code = shown(sessions.code) if sessions.needs_code else None
    lines = [f"photo page of cohort {cohort.name}: {urls[0]}", *(f"  also {url}" for url in urls[1:])]
    if certificate is not None:
        lines.append(f"certificate, SHA-256: {certificate.fingerprint}")
        lines += ["  self-made: compare it with what the phone shows"] if certificate.made_here else []
    lines += [f"pairing code: {code}", *serving.qr_text(f"{urls[0]}#code={sessions.code}")] if code else []
    lines += [f"model: {classifier.name}" if classifier is not None else "no model: photos are not classified"]
    lines.append("Research software: no diagnosis. Ctrl-C ends it.")
    return {
        "url": urls[0],
        "urls": urls,
        "host": host,
        "port": port,
        "cohort": cohort.name,
        "folder": str(store.root),
        "tls": secure,
        "fingerprint": None if certificate is None else certificate.fingerprint,
        "self_made": None if certificate is None else certificate.made_here,
        "pairing_code": code,
        "model": None if classifier is None else classifier.about,
        "text": as_lines(lines),
        "after": serve,
    }


def cohort_of(workspace: Workspace, context: Context) -> Cohort:
    """The one cohort that is meant: the named one, or the only one with ``source = "capture"``.

    Raises:
        ConfigError: there is none, or there are several.
    """
    from skinkit.data.capture_records import SOURCE_NAME

    names = [workspace.cohort(name).name for name in context.cohorts]
    names = names or [cohort.name for cohort in workspace.cohorts.values() if cohort.source == SOURCE_NAME]
    if not names:
        raise ConfigError(
            f'no cohort with source = "{SOURCE_NAME}" in {workspace.root / SETTINGS_FILE}',
            "a cohort whose folder holds the records",
            f"add [cohorts.ward] with {_EXAMPLE}",
        )
    if len(names) > 1:
        raise ConfigError(f"several cohorts: {listed(names)}", "one", f"give --cohort {names[0]}")
    return workspace.cohort(names[0])


def _classifier(name: str, workspace: Workspace, context: Context) -> Any:
    """The model, warmed; None where the workspace's own is not trained.

    Raises:
        InputError: the named one is not trained.
    """
    from skinkit.api import open_workspace
    from skinkit.capture.classifying import Classifier

    chosen = name or workspace.defaults["model"]
    try:
        classifier = Classifier(open_workspace(workspace.root, device=context.device, console=context.console), chosen)
    except InputError:
        if name:
            raise
        return None
    seconds = classifier.warm()
    context.console.info(f"loaded {chosen} in {seconds:.1f} s")
    return classifier


def _in_url(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _require_installed() -> None:
    from importlib.util import find_spec

    absent = [name for name in ("starlette", "uvicorn", "segno", "cryptography") if find_spec(name) is None]
    if absent:
        raise ConfigError(f"{listed(absent)} not installed", "the extra 'capture'", "pip install 'skinkit[capture]'")
