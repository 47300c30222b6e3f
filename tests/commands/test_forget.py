"""A patient is removed from records and artifacts, models that learnt from one are marked, the rest is listed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from captured import capture_workspace, photo, sealed, store_of
from conftest import run_here

from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.audit import withdrawals
from skinkit.data.capture_records import SEALED, WITHDRAWN
from skinkit.workspace import Ref, Workspace, load_workspace

GONE, STAYS = "Zhang San 4711", "Li Si 4712"
_SETTINGS = """
[workspace]
segmenter = "truth"
model = "logistic"

[stage.split]
folds = 2

[stage.train]
allow_untrained = "a test of what is forgotten"

[cohorts.clinic]
role = "external"
source = "folder"
path = "clinic"
"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sealed records of several patients, a model trained on them, and a hospital's own folder."""
    work = capture_workspace(tmp_path_factory.mktemp("forget") / "w", more=_SETTINGS)
    store = store_of(work)
    for seed in range(16):
        patient = (GONE, STAYS)[seed] if seed < 2 else f"patient {seed}"
        sealed(store, seed, patient=patient, diagnosis=("NEV", "MEL")[seed % 2])
    sealed(store, 90, patient=GONE, lesion="2", diagnosis="NEV")
    clinic = work.root / "clinic"
    clinic.mkdir()
    lines = []
    for seed in range(2):
        (clinic / f"c{seed}.jpg").write_bytes(photo(200 + seed))
        lines.append(f"c{seed}.jpg,{(GONE, 'other')[seed]},nevus")
    (clinic / "table.csv").write_text("image,patient,dx\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (clinic / "cohort.toml").write_text(
        'file = "table.csv"\n[columns]\nimage = "image"\npatient_id = "patient"\ndiagnosis = "dx"\n', encoding="utf-8"
    )
    for words in (["ingest"], ["train", "--jobs", "1"], ["predict", "--cohort", "ward", "--jobs", "1"]):
        answer = run_here(*words, "-w", work.root)
        assert answer.returncode == 0, answer.stderr + answer.stdout
    (work.root / "notes.txt").write_text(f"call {GONE}", encoding="utf-8")
    return work.root


@pytest.fixture
def work(chain: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(chain, tmp_path / "w")
    return load_workspace(tmp_path / "w")


def forget(work: Workspace, *words: str, code: int = 0) -> dict[str, Any]:
    answer = run_here("forget", *words, "-w", work.root, "--json")
    assert answer.returncode == code, answer.stdout
    said: dict[str, Any] = json.loads(answer.stdout)
    return said


def everything(work: Workspace) -> dict[str, bytes]:
    return {
        str(file.relative_to(work.root)): file.read_bytes()
        for file in work.root.rglob("*")
        if file.is_file() and not file.name.endswith(".lock") and file.name != ".lock"
    }


def test_without_yes_everything_is_listed_and_nothing_changes(work: Workspace) -> None:
    before = everything(work)
    said = forget(work, GONE)
    assert everything(work) == before
    assert (said["done"], said["found"], said["removed"]) == (False, True, [])
    assert len(said["records"]["ward"]) == 2
    by_path = {one["path"]: one for one in said["artifacts"]}
    removed = {path for path, one in by_path.items() if one["removed"]}
    assert {f"artifacts/ward/{name}" for name in ("cases", "masks/truth", "features/truth", "fused/truth")} <= removed
    assert by_path["artifacts/clinic/cases"]["removed"] is False
    assert any(path.startswith("artifacts/splits/") and not one["removed"] for path, one in by_path.items())
    assert [model["name"] for model in said["models"]] == ["logistic"]
    assert said["models"][0]["images"] == 2
    assert said["sources"] == {"clinic": str(work.root / "clinic")}
    assert "notes.txt" in said["texts"]
    assert said["unreachable"]


def test_a_patient_is_forgotten(work: Workspace) -> None:
    store = store_of(work)
    pseudonym = store.pseudonym("patient", GONE)
    identity = open_artifact(work.path(Ref("models", name="logistic"))).identity
    records = [record["record_id"] for record in store.of_patient(pseudonym)]
    others = {record["record_id"]: record for record in store.records(SEALED) if record["record_id"] not in records}
    forget(work, GONE, "--yes")
    assert [store.read(record_id)["state"] for record_id in records] == [WITHDRAWN] * 2
    assert {record["record_id"]: record for record in store.records(SEALED)} == others
    assert not exists(work.path(Ref("cases", "ward")))
    kept = {path: data for path, data in everything(work).items() if path != "capture/log.jsonl"}
    held = {
        path
        for path, data in kept.items()
        if any(word.encode() in data for word in (pseudonym, *records)) and not path.startswith("capture/records/")
    }
    assert all(path.startswith(("artifacts/splits/", "artifacts/models/")) for path in held), held
    last = store.read(records[0])["withdrawn_at"]
    assert withdrawals.marks(work)[identity] == {"model": "logistic", "images": 2, "last": last}
    listed = run_here("models", "list", "-w", work.root)
    assert "learnt from 2 withdrawn photos" in listed.stdout
    lines = [line for line in store.log.lines() if line["action"] == "forget"]
    assert {line.get("patient") for line in lines} == {pseudonym}
    assert store.log.problems() == []
    assert GONE.encode() not in kept["capture/log.head.json"] + (store.root / "log.jsonl").read_bytes()
    answer = run_here("ingest", "--cohort", "ward", "-w", work.root)
    assert answer.returncode == 0, answer.stderr
    table = open_artifact(work.path(Ref("cases", "ward"))).table()
    assert pseudonym not in set(table["patient_id"])
    assert len(table) == 15
    again = forget(work, GONE, "--yes")
    assert again["records"] == {}
    assert all(not one["removed"] for one in again["artifacts"])
    for words in (["predict", "--cohort", "clinic"], ["report", "--for", "clinic", "--cohort", "clinic"]):
        answer = run_here(*words, "-w", work.root, "--jobs", "1")
        assert "logistic has learnt from 2 photos whose patients have withdrawn" in answer.stderr, answer.stderr
    page = (work.path(Ref("report", name="clinic-clinic")) / "index.html").read_text(encoding="utf-8")
    assert "withdrawn their consent since: 2 photos" in page


def test_a_pseudonym_names_a_patient_too(work: Workspace) -> None:
    pseudonym = store_of(work).pseudonym("patient", STAYS)
    said = forget(work, pseudonym)
    assert len(said["records"]["ward"]) == 1
    assert said["sources"] == {}


def test_consent_of_one_record_is_withdrawn(work: Workspace) -> None:
    store = store_of(work)
    first, second = store.of_patient(store.pseudonym("patient", GONE))
    said = forget(work, "--record", first["record_id"])
    assert (said["done"], said["state"]) == (False, SEALED)
    said = forget(work, "--record", first["record_id"], "--yes")
    assert (said["state"], [model["name"] for model in said["models"]]) == (WITHDRAWN, ["logistic"])
    assert store.read(second["record_id"]) == second
    forget(work, "--record", "not-one", code=4)


def test_a_patient_who_is_not_here(work: Workspace) -> None:
    before = everything(work)
    said = forget(work, "nobody")
    assert (said["found"], said["records"], said["models"]) == (False, {}, [])
    assert everything(work) == before
    forget(work, code=2)
    forget(work, "one", "--record", "another", code=2)
