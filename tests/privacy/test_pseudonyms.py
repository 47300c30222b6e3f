"""Pseudonyms: nothing of an id is left, the same id is the same everywhere, and only the key leads back."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from hospital_photos import hospital, workspace_of

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.audit import leakage
from skinkit.cli import main
from skinkit.errors import InputError, RefusedError
from skinkit.privacy.pseudonyms import LENGTH, Key, KeyedFolder, make_key, read_key
from skinkit.workspace import Ref, load_workspace

KNOWN = "7qjvxrohfzgwmbd4j6vf"
SECRETS = ("Zhang", "张三", "P-77", "LESION-5", "ACC-9001")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys" / "jinan.key"
    file.parent.mkdir()
    make_key(file)
    return file


def skinkit(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def cases_of(workspace: Path, cohort: str = "ward") -> Any:
    return open_artifact(load_workspace(workspace).path(Ref("cases", cohort))).table()


def test_nothing_of_an_id_or_a_name_is_left(tmp_path: Path, key_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_of(tmp_path / "w", ward=(hospital(tmp_path / "in"), ""))
    assert skinkit("ingest", "-w", workspace, "--pseudonymise", key_file, "--log-format", "json") == 3
    assert skinkit("segment", "-w", workspace) == 0, "a later command knows the key, and finds every photo"
    cases = cases_of(workspace)
    assert sorted(cases["status"]) == ["failed", *["ok"] * 4, "pending"]
    for column in ("image_id", "case_id", "patient_id", "lesion_id", "accession"):
        assert cases[column].str.fullmatch(rf"[a-z2-7]{{{LENGTH}}}").all()
    assert cases["patient_id"].nunique() == 4
    assert (cases["case_id"] == cases["image_id"]).all()
    assert cases["group_id"].str.startswith("ward:patient:").all()
    said = "".join(capfd.readouterr())
    for file in [*(workspace / "artifacts").rglob("*")]:
        said += file.name
        if file.suffix == ".parquet":
            said += str(read_table(file).to_dict())
        elif file.is_file():
            said += file.read_bytes().decode("utf-8", "replace")
    assert [secret for secret in SECRETS if secret in said] == []


def test_the_key_alone_leads_back(tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_of(tmp_path / "w", ward=(hospital(tmp_path / "in"), f'pseudonymise = "{key_file}"'))
    assert skinkit("ingest", "-w", workspace) == 3
    _predictions(workspace)
    out = tmp_path / "out.csv"
    assert skinkit("export", "-w", workspace, "--csv", out, "--reidentify", key_file) == 0
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    told = {(row["accession"], row["patient"], row["lesion"], row["image"]) for row in rows}
    assert ("ACC-900101", "P-770", "P-770|LESION-50", "Zhang 张三 P-770/1") in told
    assert ("ACC-90019", "P-779", "P-779|LESION-59", "Zhang gone") in told
    assert {row["pseudonym"] for row in rows} == set(cases_of(workspace)["case_id"]), "as the worklist calls them"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    out.unlink()
    other = tmp_path / "other.key"
    make_key(other)
    assert skinkit("export", "-w", workspace, "--csv", out, "--reidentify", other) == 5
    assert not out.exists()
    error = capsys.readouterr().err
    assert str(other) in error
    assert "key of cohort 'ward'" in error


def test_a_withdrawn_patient_is_matched_by_the_pseudonym_of_the_earlier_delivery(
    tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = hospital(tmp_path / "in"), tmp_path / "out.csv"
    workspace = workspace_of(tmp_path / "w", ward=(source, f'pseudonymise = "{key_file}"'))
    assert skinkit("ingest", "-w", workspace) == 3
    _predictions(workspace)
    export = ("export", "-w", workspace, "--csv", out, "--reidentify", key_file, "--json")
    capsys.readouterr()
    assert skinkit(*export) == 0
    token = json.loads(capsys.readouterr().out)["token"]
    with out.open(encoding="utf-8", newline="") as stream:
        names = {row["pseudonym"]: row["accession"] for row in csv.DictReader(stream)}
    lines = (source / "t.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (source / "t.csv").write_text("".join(line for line in lines if "P-770" not in line), encoding="utf-8")
    shutil.rmtree(source / "Zhang 张三 P-770")
    assert skinkit("ingest", "-w", workspace) == 0
    assert skinkit(*export, "--since", token) == 0
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["change"] for row in rows} == {"withdrawn"}
    assert sorted(names[row["pseudonym"]] for row in rows) == ["ACC-900100", "ACC-900101"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def _predictions(workspace: Path) -> None:
    """Predictions in which no case is yet."""
    from skinkit.artifacts.artifact import ArtifactRecipe
    from skinkit.artifacts.builder import Builder
    from skinkit.schemas import PREDICTIONS

    path = load_workspace(workspace).path(Ref("predictions", "ward", "frozen_probe"))
    with Builder(path, PREDICTIONS, ArtifactRecipe("predictions", 1, "predict", 1, {}, {})) as build:
        build.plan({})
        build.finish()


def test_a_cohort_keeps_its_key(tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_of(tmp_path / "w", ward=(hospital(tmp_path / "in"), ""))
    skinkit("ingest", "-w", workspace, "--pseudonymise", key_file)
    before = cases_of(workspace)
    (tmp_path / "in" / "Zhang gone.png").write_bytes(next((tmp_path / "in").rglob("0.png")).read_bytes())
    skinkit("ingest", "-w", workspace)
    assert set(cases_of(workspace)["patient_id"]) == set(before["patient_id"]), "it never falls back to its own ids"
    other = tmp_path / "other.key"
    make_key(other)
    assert skinkit("ingest", "-w", workspace, "--pseudonymise", other) == 5
    error = capsys.readouterr().err
    assert str(other) in error
    assert "cohort 'ward'" in error
    moved = tmp_path / "moved.key"
    key_file.rename(moved)
    assert skinkit("ingest", "-w", workspace) == 4
    assert str(key_file) in capsys.readouterr().err
    assert skinkit("ingest", "-w", workspace, "--pseudonymise", moved, "--json") == 0
    assert json.loads(capsys.readouterr().out)["steps"][-1]["up_to_date"]


def test_the_same_patient_is_the_same_under_one_key(tmp_path: Path, key_file: Path) -> None:
    told = f'pseudonymise = "{key_file}"'
    one, two = (hospital(tmp_path / name, space="jinan", seed=n) for n, name in enumerate(("one", "two")))
    elsewhere = hospital(tmp_path / "three", space="longhua", seed=3)
    workspace = workspace_of(tmp_path / "w", one=(one, told), two=(two, told), three=(elsewhere, told))
    skinkit("ingest", "-w", workspace)
    first, second, third = (
        cases_of(workspace, name).query("status == 'ok'").assign(cohort=name) for name in ("one", "two", "three")
    )
    found = leakage.check(first, second)
    assert found.counts["patient"] == 4
    assert leakage.check(first, third).counts["patient"] == 0, "a patient 17 of another hospital is somebody else"
    assert not set(first["patient_id"]) & set(third["patient_id"])


@pytest.mark.parametrize("other", ["", "another key"])
def test_cohorts_that_share_ids_must_share_the_key(
    tmp_path: Path, key_file: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    second = tmp_path / "second.key"
    make_key(second)
    told = [f'pseudonymise = "{key_file}"', f'pseudonymise = "{second}"' if other else ""]
    folders = [hospital(tmp_path / name, space="jinan", seed=n) for n, name in enumerate(("a", "b"))]
    workspace = workspace_of(tmp_path / "w", a=(folders[0], told[0]), b=(folders[1], told[1]))
    assert skinkit("ingest", "-w", workspace) == 5
    error = capsys.readouterr().err
    assert "cohorts 'b' and 'a'" in error
    assert "id space 'jinan'" in error


def test_cohorts_that_share_ids_get_their_key_together(
    tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (hospital(tmp_path / name, space="jinan", seed=n) for n, name in enumerate(("one", "two")))
    workspace = workspace_of(tmp_path / "w", one=(one, ""), two=(two, ""))
    assert skinkit("ingest", "-w", workspace) == 3
    assert skinkit("ingest", "-w", workspace, "--pseudonymise", key_file) == 3
    error = capsys.readouterr().err
    assert "cohorts 'one' and 'two'" in error
    assert "same key" in error
    assert set(cases_of(workspace, "one")["patient_id"]) == set(cases_of(workspace, "two")["patient_id"])


def test_a_key_must_be_a_secret(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    workspace.mkdir()
    inside, short = workspace / "key", tmp_path / "short"
    inside.write_bytes(os.urandom(32))
    short.write_bytes(b"hunter2")
    with pytest.raises(RefusedError) as error:
        read_key(inside, workspace)
    assert "in the workspace" in error.value.found
    with pytest.raises(RefusedError) as error:
        read_key(short, workspace)
    assert "7 bytes" in error.value.found
    with pytest.raises(InputError) as error:
        read_key(tmp_path / "absent", workspace)
    assert "No such file" in error.value.found
    assert "b'" not in repr(Key(b"secret" * 8))


def test_a_key_others_may_read_is_told(tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key_file.chmod(0o644)
    workspace = workspace_of(tmp_path / "w", ward=(hospital(tmp_path / "in"), ""))
    skinkit("ingest", "-w", workspace, "--pseudonymise", key_file)
    assert f"chmod 600 {key_file}" in capsys.readouterr().err


def test_a_cohort_that_gets_a_key_later_is_told_of_what_was_before(
    tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = workspace_of(tmp_path / "w", ward=(hospital(tmp_path / "in"), ""))
    skinkit("ingest", "-w", workspace)
    assert "P-770" in set(cases_of(workspace)["patient_id"])
    skinkit("ingest", "-w", workspace, "--pseudonymise", key_file)
    error = capsys.readouterr().err
    assert "ward" in error
    assert "skinkit scrub" in error
    assert not cases_of(workspace)["patient_id"].str.startswith("P-").any()


def test_init_makes_a_key_once(tmp_path: Path) -> None:
    source, key = hospital(tmp_path / "in"), tmp_path / "keys" / "new.key"
    asked = ("--cohort", f"ward=folder:{source}:inference", "--key", key)
    assert skinkit("init", tmp_path / "w", *asked) == 2  # a folder that is not there is not made
    assert not key.parent.exists()
    key.parent.mkdir()
    assert skinkit("init", tmp_path / "w", *asked) == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert len(before) == 32
    assert skinkit("init", tmp_path / "v", *asked) == 0
    assert key.read_bytes() == before
    assert load_workspace(tmp_path / "w").cohort("ward").key_file == key
    (tmp_path / "u").mkdir()
    assert skinkit("init", tmp_path / "u", *asked[:-1], tmp_path / "u" / "key") == 5


def test_a_pseudonym_is_a_keyed_hash_of_kind_space_and_id() -> None:
    key = Key(bytes(range(32)))
    # KNOWN is OpenSSL's HMAC of "skinkit pseudonym 1\0patient\0jinan\0P1", through base32, its first 20 signs.
    assert key.pseudonym("patient", "jinan", "P1") == KNOWN
    others = [("lesion", "jinan", "P1"), ("patient", "longhua", "P1"), ("patient", "jinan", "P2")]
    assert len({key.pseudonym(*other) for other in others} | {KNOWN}) == 4
    assert Key(bytes(32)).pseudonym("patient", "jinan", "P1") != KNOWN


def test_a_keyed_folder_finds_files_and_travels_to_workers(tmp_path: Path, key_file: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "photo.png").write_bytes(b"photo")
    folder = KeyedFolder.of(tmp_path / "in", key_file, tmp_path / "w")
    name = read_key(key_file, tmp_path / "w").file("sub/photo.png")
    for one in (folder, pickle.loads(pickle.dumps(folder))):  # noqa: S301 - as it is handed to workers
        assert one / name == tmp_path / "in" / "sub" / "photo.png"
        assert one / "sub/photo.png" == tmp_path / "in" / "sub" / "photo.png"
        assert not (one / "keyed-nothing").exists()
