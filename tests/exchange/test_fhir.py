"""FHIR bundles: valid by the models of fhir.resources, and the same on a server however often they are sent."""

from __future__ import annotations

import http.server
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from written_artifacts import make_workspace, write

from skinkit.cli import main
from skinkit.exchange import fhir, outbox
from skinkit.radiomics.names import FEATURE_NAMES
from skinkit.workspace import Ref, Workspace

PHOTOS = {"a1": 0.25, "b1": 0.75, "c2": 0.5}
"""Photo -> malignancy; the digit is the patient."""


def prepare(workspace: Workspace, photos: Mapping[str, float], waiting: tuple[str, ...] = ()) -> None:
    """Cases, features and predictions of these photos; those that wait have no prediction."""
    names = [*photos, *waiting]
    cases = [
        {"image_id": n, "case_id": n, "accession": f"X{n}", "patient_id": f"P{n[1]}", "status": "ok"} for n in names
    ]
    write(workspace, Ref("cases", "ward"), cases, info={"pseudonyms": {"key_check": "k"}})
    features = [{"image_id": n, "status": "ok", **dict.fromkeys(FEATURE_NAMES, 1.5)} for n in photos]
    write(workspace, Ref("features", "ward", "otsu"), features)
    rows = [
        {
            "level": "image", "case_id": n, "image_id": n, "patient_id": f"P{n[1]}", "status": "ok", "model": "m",
            "model_identity": "0123abcd", "malignancy": p, "call": "malignant", "veto": True, "refer": True,
            "refer_reason": "malignant_call", "top1": "NEV", "top1_p": 1 - p, "entropy": 0.5,
            "p__diagnosis__MEL": p, "p__diagnosis__NEV": 1 - p,
        }
        for n, p in photos.items()
    ]  # fmt: skip
    write(workspace, Ref("predictions", "ward", "m"), rows)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    made = make_workspace(tmp_path / "w", {"ward": "inference"}, model="m", segmenter="otsu")
    prepare(made, PHOTOS)
    monkeypatch.chdir(made.root)
    monkeypatch.setattr(outbox, "_FIRST_WAIT_S", 0.001)
    return made


def exported(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["export", *words, "--json"]) == code
    return dict(json.loads(capsys.readouterr().out))


def checked(bundle: dict[str, Any], release: str) -> dict[str, list[dict[str, Any]]]:
    """The resources by type, each valid by its model, every reference to one in the bundle."""
    if release == "R4":
        from fhir.resources.R4B import get_fhir_model_class
    else:
        from fhir.resources import get_fhir_model_class
    get_fhir_model_class("Bundle").model_validate(bundle)
    resources: dict[str, list[dict[str, Any]]] = {}
    urls = [entry["request"]["url"] for entry in bundle["entry"]]
    assert len(set(urls)) == len(urls)
    for entry in bundle["entry"]:
        resource = entry["resource"]
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        assert entry["request"] == {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
        resources.setdefault(resource["resourceType"], []).append(resource)
    return resources


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from [one] if key == "reference" else references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


@pytest.mark.parametrize("release", ["R4", "R5"])
def test_a_bundle_is_valid_and_says_what_was_predicted(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], release: str
) -> None:
    prepare(workspace, PHOTOS, waiting=("d3",))
    exported(capsys, "--fhir", "out.json", "--fhir-release", release)
    bundle = json.loads(Path("out.json").read_text("utf-8"))
    found = checked(bundle, release)
    assert {kind: len(those) for kind, those in found.items()} == {
        "Patient": 3, "Device": 1, "ImagingStudy": 4, "Observation": 8, "DiagnosticReport": 4
    }  # fmt: skip
    assert set(references(bundle)) <= {entry["request"]["url"] for entry in bundle["entry"]}
    reports = {report["identifier"][0]["value"]: report for report in found["DiagnosticReport"]}
    assert {name: report["status"] for name, report in reports.items()} == {
        "a1": "preliminary", "b1": "preliminary", "c2": "preliminary", "d3": "registered"
    }  # fmt: skip
    assert all(fhir.NOTICE in report["conclusion"] for report in reports.values())
    assert found["Device"][0]["identifier"][0]["value"] == "0123abcd"
    by_id = {f"Observation/{one['id']}": one for one in found["Observation"]}
    prediction, radiomics = (by_id[ref["reference"]] for ref in reports["b1"]["result"])
    said = {part["code"]["text"]: part for part in prediction["component"]}
    assert said["malignancy"]["valueQuantity"]["value"] == 0.75
    assert said["p__diagnosis__NEV"]["valueQuantity"]["value"] == 0.25
    assert said["veto"]["valueBoolean"] is True
    assert len(radiomics["component"]) == 102
    mean = next(part for part in radiomics["component"] if part["code"]["text"] == "original_firstorder_Mean")
    assert mean["code"]["coding"][0]["code"] == "Q4LE"
    waiting = by_id[reports["d3"]["result"][0]["reference"]]
    assert waiting["status"] == "registered"
    assert waiting["dataAbsentReason"]["coding"][0]["code"] == "temp-unknown"


def test_a_change_is_a_corrected_report_and_a_lost_photo_is_entered_in_error(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    token = exported(capsys, "--fhir", "out.json")["token"]
    prepare(workspace, {"a1": 0.25, "b1": 0.875})
    exported(capsys, "--fhir", "out.json", "--since", token)
    found = checked(json.loads(Path("out.json").read_text("utf-8")), "R4")
    said = {report["identifier"][0]["value"]: report["status"] for report in found["DiagnosticReport"]}
    assert said == {"b1": "corrected", "c2": "entered-in-error"}
    assert sorted(one["status"] for one in found["Observation"]) == ["corrected"] * 2 + ["entered-in-error"] * 2


def test_own_ids_are_sent_only_where_somebody_says_so(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    write(workspace, Ref("cases", "ward"), [{"image_id": "a1", "case_id": "a1", "status": "ok"}])
    assert "own ids" in exported(capsys, "--fhir", "out.json", code=5)["error"]["found"]
    assert not Path("out.json").exists()
    exported(capsys, "--fhir", "out.json", "--ids-as-they-are")
    exported(capsys, "--fhir", "out.json", "--reidentify", "key", code=2)
    exported(capsys, "--fhir", "out.json", "--csv", "out.csv", code=2)


class Server:
    """A FHIR server on this machine: it keeps resources by their id, and can go away, before it takes or after."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.requests, self.lose_answers, self.status = 0, 0, 200
        self.moved = ""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.requests += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.moved:
                    self.send_response(307)
                    self.send_header("Location", outer.moved)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if outer.status == 200:
                    for entry in json.loads(body)["entry"]:
                        outer.held[entry["request"]["url"]] = entry["resource"]
                if outer.lose_answers:  # taken, and gone before it says so
                    outer.lose_answers -= 1
                    self.close_connection = True
                    return
                self.send_response(outer.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/fhir"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def reports(self) -> dict[str, str]:
        those = [one for one in self.held.values() if one["resourceType"] == "DiagnosticReport"]
        return {one["identifier"][0]["value"]: one["status"] for one in those}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_nothing_is_lost_or_doubled_while_a_server_is_away_for_a_night(
    workspace: Workspace, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported(capsys, "--post", server.url)["bundles"] == 1
    assert server.reports() == dict.fromkeys(PHOTOS, "preliminary")
    assert exported(capsys, "--post", server.url)["rows"] == 0  # the server holds everything
    assert server.requests == 1

    server.status = 503  # away; meanwhile two changes
    prepare(workspace, {**PHOTOS, "d3": 0.125})
    exported(capsys, "--post", server.url, code=4)
    assert server.requests == 1 + outbox.ATTEMPTS
    prepare(workspace, {"a1": 0.375, "b1": 0.75, "d3": 0.125})
    error = exported(capsys, "--post", server.url, code=4)["error"]
    assert "2 bundles wait" in error["fix"]
    assert "P1" not in json.dumps(error)

    server.status, before = 200, server.requests
    assert exported(capsys, "--post", server.url)["bundles"] == 2
    assert server.requests == before + 2
    assert server.reports() == {"a1": "corrected", "b1": "preliminary", "c2": "entered-in-error", "d3": "preliminary"}
    assert exported(capsys, "--post", server.url)["bundles"] == 0
    kinds = Counter(one["resourceType"] for one in server.held.values())
    assert kinds == {"Patient": 3, "Device": 1, "ImagingStudy": 4, "Observation": 8, "DiagnosticReport": 4}


def test_an_answer_that_is_lost_leaves_each_resource_once(
    workspace: Workspace, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.lose_answers = 2
    assert exported(capsys, "--post", server.url)["bundles"] == 1
    assert server.requests == 3
    assert server.reports() == dict.fromkeys(PHOTOS, "preliminary")
    server.lose_answers = outbox.ATTEMPTS  # it takes the bundle, and this run never knows
    prepare(workspace, {**PHOTOS, "c2": 0.625})
    exported(capsys, "--post", server.url, code=4)
    once = dict(server.held)
    assert exported(capsys, "--post", server.url)["bundles"] == 1
    assert server.held == once


def test_a_run_killed_after_the_server_took_it_sends_the_same_again(
    workspace: Workspace, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(outbox.Outbox, "send", lambda box: (outbox._posted(box.url, b'{"entry": []}'), killed()))
        exported(capsys, "--post", server.url, code=130)
    assert server.reports() == {}
    assert exported(capsys, "--post", server.url)["bundles"] == 1
    assert server.reports() == dict.fromkeys(PHOTOS, "preliminary")


def test_a_refusal_keeps_the_bundle_and_its_order(
    workspace: Workspace, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status = 422
    assert "422" in exported(capsys, "--post", server.url, code=4)["error"]["found"]
    assert server.requests == 1  # a refusal is not tried again by itself
    server.status = 200
    assert exported(capsys, "--post", server.url)["bundles"] == 1


def test_results_go_to_no_other_address(
    workspace: Workspace, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Server()
    try:
        server.moved = elsewhere.url
        exported(capsys, "--post", server.url, code=4)
        assert elsewhere.requests == 0
    finally:
        elsewhere.close()


@pytest.mark.parametrize("url", ["ftp://a/b", "http://user:word@127.0.0.1/", "http://fhir.example.org/r4", "nowhere"])
def test_addresses_that_are_refused(workspace: Workspace, capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert "word" not in exported(capsys, "--post", url, code=2)["error"]["found"]
