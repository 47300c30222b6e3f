"""What identifies a person is found, and what can go goes, without harm to any artifact or source."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hospital_photos import hospital, workspace_of
from PIL import Image

from skinkit import commands
from skinkit.artifacts.locks import lock
from skinkit.audit import identifiers
from skinkit.cli import main
from skinkit.privacy.pseudonyms import make_key
from skinkit.reporting import export_table


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with photos in it, read and segmented."""
    folder = workspace_of(tmp_path_factory.mktemp("scrub") / "w", ward=(Path("in"), ""))
    hospital(folder / "in")
    (folder / "in" / "notes.log").write_text("P-770 came back")
    main(["segment", "-w", str(folder)])
    return folder


@pytest.fixture
def workspace(segmented: Path, tmp_path: Path) -> Path:
    """A copy of it; beside the artifacts lies what runs and people leave."""
    folder = tmp_path / "w"
    shutil.copytree(segmented, folder)
    (folder / "exports").mkdir()
    (folder / "exports" / "night.csv").write_text(",".join(export_table.COLUMNS) + "\nACC-900100\n")
    (folder / "list.csv").write_text("name,phone\nP-770,1\n")
    (folder / "logs").mkdir()
    (folder / "logs" / "cron.txt").write_text("P-770 failed")
    (folder / "nightly.log").write_text("nothing")
    masks = folder / "artifacts" / "ward" / "masks"
    (masks / "otsu.partial" / "parts").mkdir(parents=True)
    (masks / "otsu.previous").mkdir()
    (masks / ".table.abc.tmp").write_bytes(b"half")
    return folder


def scrub(workspace: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    main(["scrub", "-w", str(workspace), "--json", *options])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def kinds(answer: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for trace in answer["found"]:
        found.setdefault(trace["kind"], set()).add(trace["file"])
    return found


LEFT = {
    "artifacts/ward/masks/otsu.partial", "artifacts/ward/masks/otsu.previous", "artifacts/ward/masks/.table.abc.tmp",
}  # fmt: skip


def test_it_lists_file_by_file_and_removes_nothing_unasked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(workspace.rglob("*"))
    answer = scrub(workspace, capsys)
    assert answer["exit_code"] == 0
    assert sorted(workspace.rglob("*")) == before
    found = kinds(answer)
    assert "artifacts/ward/cases/table.parquet" in found["ids"]
    assert "list.csv" in found["ids"], "an id in a table nobody knows"
    assert "artifacts/ward/masks/otsu/table.parquet" in found["file_names"]
    assert found["leftovers"] == LEFT
    assert found["logs"] == {"logs/cron.txt", "nightly.log"}
    assert found["exports"] == {"exports/night.csv"}
    patients = {(t["file"], t["what"]): t["n"] for t in answer["found"]}[
        "artifacts/ward/cases/table.parquet", "patient_id"
    ]
    assert patients == 4
    assert not [file for files in found.values() for file in files if file.startswith("in/")]


def test_what_can_go_goes_and_every_artifact_stays_whole(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = scrub(workspace, capsys, "--remove")
    assert answer["exit_code"] == 0
    assert set(answer["removed"]) == LEFT | {"logs/cron.txt", "nightly.log", "exports/night.csv"}
    assert not [name for name in answer["removed"] if (workspace / name).exists()]
    assert (workspace / "list.csv").exists(), "not ours to remove"
    assert (workspace / "in" / "notes.log").exists()
    assert set(kinds(answer)) == {"ids", "file_names"}
    assert set(answer["why"]) == {"ids", "file_names"}
    assert main(["verify", "-w", str(workspace)]) == 0
    assert scrub(workspace, capsys, "--remove")["removed"] == []


def test_work_that_somebody_is_at_is_left(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock(workspace / "artifacts" / "ward" / "masks" / "otsu"):
        answer = scrub(workspace, capsys, "--remove")
    assert answer["exit_code"] == 6
    assert set(answer["busy"]) == {"artifacts/ward/masks/otsu.partial", "artifacts/ward/masks/otsu.previous"}
    assert (workspace / "artifacts" / "ward" / "masks" / "otsu.partial").exists()
    assert not (workspace / "nightly.log").exists()


def test_the_only_copy_of_an_artifact_is_no_leftover(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = workspace / "artifacts" / "ward" / "masks"
    (masks / "otsu.previous").rmdir()
    (masks / "otsu").rename(masks / "otsu.previous")  # a crash between the two renames
    scrub(workspace, capsys, "--remove")
    assert (masks / "otsu.previous" / "manifest.json").exists()


def test_of_a_pseudonymised_workspace_own_ids_are_looked_for_with_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_key(tmp_path / "key")
    folder = workspace_of(tmp_path / "w", ward=(hospital(tmp_path / "in"), f'pseudonymise = "{tmp_path / "key"}"'))
    main(["segment", "-w", str(folder)])
    assert set(kinds(scrub(folder, capsys))) == {"key_place"}
    (folder / "artifacts" / "remark.html").write_text("<p>ask for Zhang 张三 P-770/1.png &amp; LESION-50</p>")
    assert kinds(scrub(folder, capsys))["ids"] == {"artifacts/remark.html"}


def test_ages_words_kept_columns_and_photos_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(0)
    for n in range(2):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(source / f"{n}.png")
    (source / "t.csv").write_text("file,dx,age,room\n0.png,nevus of Mr Li,93,12\n1.png,nevus,50,13\n")
    columns = '[columns]\nimage = "file"\ndiagnosis = "dx"\nage_years = "age"\n'
    (source / "cohort.toml").write_text(f'file = "t.csv"\nkeep = ["room"]\n{columns}')
    folder = workspace_of(tmp_path / "w", ward=(source, ""))
    main(["ingest", "-w", str(folder)])
    (folder / "gallery").mkdir()
    (folder / "gallery" / "best.png").write_bytes((source / "0.png").read_bytes())
    found = {(t["kind"], t["what"]): t["n"] for t in scrub(folder, capsys)["found"]}
    assert found["ages", "age_years"] == 1
    assert found["words", "diagnosis_source"] == 2
    assert found["kept_columns", "keep__room"] == 2
    assert found["photos", "photo of a lesion"] == 1


PICTURES = {
    "snapshots/m-heatmaps.png": 1,
    "cache/copies/pairs-0.png": 1,
    "reproduction/wang2024/grouped/candidates-MEL.png": 1,
    "a_folder_nobody_thought_of/sheet.png": 1,
    "artifacts/ward/explanations/m/composites/a.png": 1,
    "artifacts/ward/explanations/m/heatmaps/a.png": 0,
    "artifacts/models/m/fold_0/curve.png": 0,
    "curves/roc.png": 0,
    "metrics/roc.jpg": 1,  # charts are PNG and SVG
}


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_counts_as_a_photo_unless_its_folder_holds_charts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    folder = workspace_of(tmp_path / "w")
    for name in PICTURES:
        file = (folder / name).with_suffix(suffix if name.endswith(".png") else ".jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b'<svg><image href="data:image/png;base64,"/></svg>' if suffix == ".svg" else b"picture")
    expected = {str(Path(name).with_suffix(suffix)) if name.endswith(".png") else name for name in PICTURES}
    expected -= {str(Path(name).with_suffix(suffix)) for name, n in PICTURES.items() if not n}
    assert kinds(scrub(folder, capsys))["photos"] == expected


def test_no_command_that_draws_photos_writes_into_a_folder_of_charts() -> None:
    drawing = re.compile(
        r"\b(contact_sheet|synthetic_sheet|paired_sheet|corruption_sheet|gap_sheet|localisation_sheet|heatmap_course|"
        r"candidate_panels|explained_case|heatmap_overlay|outlined)\("
    )
    files = [file for file in Path(commands.__file__).parent.glob("[a-z]*.py") if drawing.search(file.read_text())]
    folders = {re.findall(r'(?m)^FOLDER = "(\w+)"', file.read_text())[0] for file in files}
    assert {"corrupt", "gallery", "gap", "localise", "reproduction", "snapshots"} <= folders
    assert not folders & identifiers._CHARTS


def test_open_files_of_a_private_workspace_are_told_and_closed(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = workspace / "skinkit.toml"
    settings.write_text("[workspace]\nprivate = true\n" + settings.read_text())
    settings.chmod(0o644)
    assert kinds(scrub(workspace, capsys))["open"] >= {"skinkit.toml", "list.csv"}
    scrub(workspace, capsys, "--remove")
    assert settings.stat().st_mode & 0o777 == 0o600
    assert "open" not in kinds(scrub(workspace, capsys))


def test_trained_models_are_looked_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = workspace_of(tmp_path / "w")
    model = folder / "artifacts" / "models" / "m"
    model.mkdir(parents=True)
    pq.write_table(pa.table({"patient_id": ["P-1", "P-1", "P-2"], "fold": [0, 0, 0]}), model / "trained_on.parquet")
    (trace,) = scrub(folder, capsys)["found"]
    assert (trace["file"], trace["what"], trace["n"]) == ("artifacts/models/m/trained_on.parquet", "patient_id", 2)
