"""What a model says of a record is what 'skinkit predict --image' says, and when it abstains."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from captured import Client, annotation, serving_page, store_of

from skinkit.api import open_workspace, predict_photo
from skinkit.artifacts.artifact import open_artifact
from skinkit.capture.classifying import Classifier, attributes_of
from skinkit.console import Console
from skinkit.errors import RefusedError
from skinkit.learning.trained import Shelf, open_classifier
from skinkit.workspace import Ref, load_workspace


@pytest.fixture(scope="module")
def answered(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any], dict[str, Any]]:
    """A demo with a cohort of records: its folder, a record, and the model's answer before and after annotation."""
    folder = tmp_path_factory.mktemp("classify") / "demo"
    subprocess.run(["cp", "-a", str(demo), str(folder)], check=True)
    key = folder.parent / "ward.key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    with (folder / "skinkit.toml").open("a", encoding="utf-8") as stream:
        stream.write(
            f'\n[cohorts.ward]\nrole = "inference"\nsource = "capture"\npath = "ward"\npseudonymise = "{key}"\n'
        )
    work = load_workspace(folder)
    opened = open_workspace(folder, device="cpu", console=Console(quiet=True))
    classifier = Classifier(opened, "lightgbm")
    photo = next(Path(str(work.cohort("walk_in").root)).rglob("*.jpg"), None)
    photo = photo or next(Path(str(work.cohort("walk_in").root)).rglob("*.png"))
    with serving_page(work, classifier=classifier) as (port, _):
        client = Client(port)
        _, session = client.ask("GET", "/api/session")
        assert session["model"]["name"] == "lightgbm"
        record_id = client.begun()
        assert client.ask("POST", f"/api/records/{record_id}/classify", {})[0] == 409  # no photo yet
        assert client.ask("PUT", f"/api/records/{record_id}/photo", photo.read_bytes())[0] == 200
        store = store_of(work)
        if store.read(record_id)["state"] == "QC_FAIL":
            assert client.ask("POST", f"/api/records/{record_id}/classify", {})[0] == 409
            client.ask("POST", f"/api/records/{record_id}/override", {"reason": "a test"})
        _, before = client.ask("POST", f"/api/records/{record_id}/classify", {})
        given = annotation()
        assert client.ask("PUT", f"/api/records/{record_id}/annotation", given)[0] == 200
        status, after = client.ask("POST", f"/api/records/{record_id}/classify", {})
        assert status == 200, after
    return folder, record_id, before, after


def test_the_answer_is_that_of_predict_image(answered: tuple[Path, str, dict[str, Any], dict[str, Any]]) -> None:
    folder, record_id, before, after = answered
    work = load_workspace(folder)
    record = store_of(work).read(record_id)
    known = attributes_of(record)
    assert known == {
        "age_years": 63, "sex": "female", "region": "ARM", "fitzpatrick": 3, "itch": True, "grew": False,
    }  # fmt: skip
    photo = store_of(work).photo_path(record)
    opened = open_workspace(folder, device="cpu", console=Console(quiet=True))
    for said, attributes in ((before, {}), (after, known)):
        expected = predict_photo("lightgbm", photo, attributes, workspace=opened)
        assert {one["name"]: one["p"] for one in said["probabilities"]} == expected.probabilities
        for name in ("malignancy", "veto", "threshold"):
            assert said[name] == getattr(expected, name)
        assert said["prediction_set"] == list(expected.prediction_set)
        assert said["entropy"] == expected.uncertainty["entropy"]
        assert [one["p"] for one in said["probabilities"]] == sorted(expected.probabilities.values(), reverse=True)
        assert set(said["notice"]) == {"en", "zh-CN"}
    kept = [line for line in store_of(work).log.lines() if line["action"] == "classify"]
    assert [line["model"] for line in kept] == [after["model"]["identity"]] * 2
    assert "malignancy" not in json.dumps(kept)


def test_it_abstains_without_a_clear_answer_or_a_good_photo(
    answered: tuple[Path, str, dict[str, Any], dict[str, Any]],
) -> None:
    folder, record_id, _, after = answered
    low = after["probabilities"][0]["p"] < 0.5
    assert ("low_probability" in after["abstain_why"]) == low
    assert after["abstain"] == bool(after["abstain_why"])
    work = load_workspace(folder)
    store = store_of(work)
    opened = open_workspace(folder, device="cpu", console=Console(quiet=True))
    poor = {**store.read(record_id), "verdict": "fail", "qc_override": None}
    said = Classifier(opened, "lightgbm").classify(poor, store)
    assert said["abstain"]
    assert "quality" in said["abstain_why"]


def test_a_kept_model_is_opened_anew_once_a_file_of_it_is_another(
    answered: tuple[Path, str, dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(load_workspace(answered[0]).path(Ref("models", name="lightgbm")), tmp_path / "lightgbm")
    shelf, artifact = Shelf(), open_artifact(tmp_path / "lightgbm")
    with shelf.used():
        first = open_classifier(artifact)
        assert open_classifier(artifact) is first
        file = artifact.path / "fold_0" / "attributes.json"
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
        again = open_classifier(artifact)
        assert again is not first  # the same bytes, but they have to be hashed to know it
        file.write_bytes(content + b" ")
        with pytest.raises(RefusedError):
            open_classifier(artifact)
        file.write_bytes(content)
        open_classifier(artifact)
    assert open_classifier(artifact) is not open_classifier(artifact)
