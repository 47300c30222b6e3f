"""Bit rot and edits: what a run takes over is what was written, or it is made again, aloud, with exit code 0.

Every stage is damaged in its finished table; those that keep rows of an earlier run also in a file of a row, in a part
table of an unfinished run and in a file of such a row. The next run ends with the artifact of an undisturbed one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_here
from PIL import Image
from test_resume import TARGET

from skinkit.artifacts.artifact import SEAL, manifest_bytes, open_artifact, rehash
from skinkit.artifacts.files import file_sha256
from skinkit.stages import STAGES
from skinkit.workspace import Ref, load_workspace

TOYS = ("class_colours",)
FILES = {
    "segment": "png/*.png",
    "train": "fold_0/fold.json",
    "explain": "heatmaps/*.png",
    "synthesise": "png/*.png",
}
"""Stage -> files that belong to its rows."""
ROW_BY_ROW = ("ingest", "segment", "radiomics", "synthesise", "train", "predict", "explain")


@pytest.fixture(scope="module")
def kept(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace that every test leaves as it found it, with a generator and its images."""
    copy = tmp_path_factory.mktemp("damage") / "demo"
    subprocess.run(["cp", "-a", str(demo), str(copy)], check=True)
    ended(copy, "train", "--model", "class_colours", "--name", "colours")
    for stage in ("synthesise", "explain", "evaluate", "report"):  # with the options that the tests give
        ended(copy, stage, *TARGET[stage][1])
    return copy


def ended(root: Path, *command: str, code: int = 0) -> str:
    """What a command that must end with this code says."""
    answer = run_here(*command, "-w", root, *(["--jobs", "1"] if command[0] in STAGES else []))
    assert answer.returncode == code, answer.stderr + answer.stdout
    return answer.stdout + answer.stderr


def again(root: Path, stage: str) -> str:
    """What a stage says that must end with 0, on inputs as they are."""
    return ended(root, stage, *TARGET[stage][1], "--no-upstream")


def place(root: Path, stage: str) -> Path:
    return load_workspace(root).path(TARGET[stage][0])


def flip(file: Path) -> None:
    """Flip one bit; a hard link elsewhere keeps what it has."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.unlink()
    file.write_bytes(data)


def edit(table: Path) -> None:
    """Change one number of a table, which stays sound."""
    rows = pq.read_table(table)
    floats = [field.name for field in rows.schema if pa.types.is_floating(field.type)]
    name = next((name for name in floats if rows[name].null_count < len(rows)), None)
    if name is None:  # a table without numbers
        return flip(table)
    values = rows[name].to_pylist()
    first = next(i for i, value in enumerate(values) if value is not None)
    values[first] = values[first] / 2 + 0.125
    pq.write_table(rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, pa.float64())), table)
    return None


def outdate(artifact: Path) -> None:
    """Let the next run think that something it does not name has changed: every row is looked at again."""
    file = artifact / "manifest.json"
    file.write_bytes(manifest_bytes(json.loads(file.read_text()) | {"recipe_id": "of another time"}))


def one_file(folder: Path, stage: str) -> Path:
    return sorted(folder.glob(FILES[stage]))[-1]


@pytest.mark.parametrize("damage", [flip, edit])
@pytest.mark.parametrize("stage", STAGES)
def test_a_damaged_table_is_made_again(kept: Path, stage: str, damage: Callable[[Path], None]) -> None:
    path = place(kept, stage)
    before = open_artifact(path)
    damage(path / "table.parquet")
    assert rehash(before) == ["table.parquet"]
    said = again(kept, stage)
    assert "warning" in said
    assert f"{path}: table.parquet is not as it was written" in said
    after = open_artifact(path)
    assert after.identity == before.identity
    assert rehash(after) == []
    assert after.manifest["counts"]["kept"] == 0


@pytest.mark.parametrize("stage", FILES)
def test_a_damaged_file_of_a_finished_row_is_made_again(kept: Path, stage: str) -> None:
    path = place(kept, stage)
    before = open_artifact(path)
    file = one_file(path, stage)
    flip(file)
    outdate(path)
    said = again(kept, stage)
    assert "1 files of earlier rows are missing or not as they were written" in said
    assert file.relative_to(path).as_posix() in said
    after = open_artifact(path)
    assert after.identity == before.identity
    assert rehash(after) == []
    assert after.manifest["counts"]["kept"] == before.manifest["counts"]["rows"] - 1


def interrupted(root: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unfinished folder of a stage that was interrupted when only the renames were left."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    path = place(root, stage)
    shutil.rmtree(path)
    with monkeypatch.context() as patch:
        patch.setattr("skinkit.artifacts.builder.put_in_place", stop)
        ended(root, stage, *TARGET[stage][1], "--no-upstream", code=130)
    return path.with_name(path.name + ".partial")


@pytest.mark.parametrize("stage", ROW_BY_ROW)
def test_a_damaged_part_table_is_made_again(kept: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_artifact(place(kept, stage))
    partial = interrupted(kept, stage, monkeypatch)
    flip(sorted((partial / "parts").iterdir())[0])
    said = again(kept, stage)
    assert "1 part tables are damaged" in said
    after = open_artifact(place(kept, stage))
    assert after.identity == before.identity
    assert rehash(after) == []
    assert not (after.path / "parts").exists()


@pytest.mark.parametrize("stage", FILES)
def test_a_damaged_file_of_an_unfinished_row_is_made_again(
    kept: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_artifact(place(kept, stage))
    partial = interrupted(kept, stage, monkeypatch)
    flip(one_file(partial, stage))
    said = again(kept, stage)
    assert "1 files of earlier rows are missing or not as they were written" in said
    after = open_artifact(place(kept, stage))
    assert after.identity == before.identity
    assert rehash(after) == []
    assert after.manifest["counts"]["kept"] == before.manifest["counts"]["rows"] - 1


def test_a_part_table_of_an_older_version_has_no_checksum_and_is_not_used(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_artifact(place(kept, "segment"))
    parts = interrupted(kept, "segment", monkeypatch) / "parts"
    for number, part in enumerate(sorted(parts.iterdir())):
        part.rename(parts / f"{number:08d}-all.parquet")
    said = again(kept, "segment")
    assert "of an older version" in said
    after = open_artifact(place(kept, "segment"))
    assert (after.identity, after.manifest["counts"]["kept"]) == (before.identity, 0)


def test_a_hash_edited_in_the_manifest_makes_nothing_sound(kept: Path) -> None:
    """Whoever edits a table, its hash and the seal leaves an identity that does not follow from them."""
    path = place(kept, "predict")
    before = open_artifact(path)
    edit(path / "table.parquet")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["table.parquet"] = file_sha256(path / "table.parquet")
    (path / "manifest.json").write_bytes(manifest_bytes(manifest))
    outdate(path)
    assert "manifest.json is not as it was written" in again(kept, "predict")
    assert open_artifact(path).identity == before.identity


def test_numbers_that_were_edited_in_a_manifest_are_never_printed(kept: Path) -> None:
    path = place(kept, "ingest")
    identity = open_artifact(path).identity
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["counts"]["excluded"] = manifest["counts"].get("excluded", 0) + 7
    manifest["info"]["note"] = "forged"
    (path / "manifest.json").write_text(json.dumps(manifest))
    ref = str(TARGET["ingest"][0])
    assert "manifest.json is not what was written" in ended(kept, "verify", "--no-sources", code=5)
    states = json.loads(ended(kept, "status", "--json"))["artifacts"]
    (why,) = (entry["why"] for entry in states if entry["artifact"] == ref)
    assert why == "damaged: manifest.json is not as it was written"
    for command in (("show", ref), ("report", "--no-upstream", *TARGET["report"][1])):
        answer = run_here(*command, "-w", kept, "--json")
        assert answer.returncode == 4
        assert "manifest.json is not as it was written" in json.loads(answer.stdout)["error"]["found"]
    assert "manifest.json is not as it was written" in again(kept, "ingest")
    after = open_artifact(path)
    assert (after.identity, after.info.get("note")) == (identity, None)
    assert "forged" not in ended(kept, "show", ref)


def test_manifests_of_older_versions_are_read_and_said_to_have_no_checksum(kept: Path) -> None:
    file = place(kept, "radiomics") / "manifest.json"
    before = file.read_bytes()
    file.write_text(json.dumps({name: value for name, value in json.loads(before).items() if name != SEAL}))
    assert json.loads(ended(kept, "verify", "--no-sources", "--json"))["without_seal"] == 1
    assert "up to date" in again(kept, "radiomics")
    file.write_bytes(before)
    assert json.loads(ended(kept, "verify", "--no-sources", "--json"))["without_seal"] == 0


def test_an_altered_picture_is_not_shown(kept: Path, tmp_path: Path) -> None:
    """Heatmaps cost the case its pictures; a figure of the metrics ends the report."""
    copy = tmp_path / "demo"
    subprocess.run(["cp", "-a", str(kept), str(copy)], check=True)
    for file in sorted(copy.glob("artifacts/*/explanations/*/heatmaps/*.png")):
        grey = Image.open(file).point(lambda value: 255 - value)
        file.unlink()  # a hard link elsewhere keeps what it has
        grey.save(file)
    shutil.rmtree(copy / "artifacts" / "report")
    said = ended(copy, "report", "--for", "clinic", "--no-upstream")
    page = "".join(file.read_text() for file in copy.glob("artifacts/report/*/*.html"))
    assert "the heatmap is not the file that was written" in page + said
    for figure in copy.glob("artifacts/*/metrics/*/figures/*.svg"):
        text = figure.read_text()
        figure.unlink()
        figure.write_text(text.replace("</svg>", "<text>0.99</text></svg>"))
    answer = run_here("report", "--for", "research", "--no-upstream", "-w", copy, "--json")
    assert answer.returncode == 4, answer.stdout
    assert ".svg is not the file that its manifest describes" in json.loads(answer.stdout)["error"]["found"]


def test_damaged_hashes_of_photos_are_made_again(kept: Path) -> None:
    path = place(kept, "ingest")
    before = open_artifact(path)
    file = path / "file_contents.json"
    sound = file.read_bytes()
    for signs in (sound[100:101], b'"'):
        at = sound.index(signs, 100)
        file.unlink()
        file.write_bytes(sound[:at] + b"0" + sound[at + 1 :])
        outdate(path)
        again(kept, "ingest")
        assert file.read_bytes() == sound
    after = open_artifact(path)
    assert after.identity == before.identity
    assert after.manifest["counts"]["made"] == 0


def test_a_damaged_fold_is_never_predicted_with(kept: Path) -> None:
    path = place(kept, "train")
    file = one_file(path, "train")
    sound = file.read_bytes()
    flip(file)
    shutil.rmtree(place(kept, "predict"))
    said = ended(kept, "predict", *TARGET["predict"][1], code=5)
    assert "fold_0/fold.json does not match its recorded SHA-256" in said
    file.write_bytes(sound)
    ended(kept, "predict", *TARGET["predict"][1])


def test_a_damaged_mask_costs_no_case_once_it_is_mended(kept: Path) -> None:
    """Measured while its mask was damaged, a case fails; it is measured again as soon as the mask is whole."""
    masks, features = place(kept, "segment"), place(kept, "radiomics")
    before = open_artifact(features)
    file = one_file(masks, "segment")
    flip(file)
    outdate(features)
    table = features / "table.parquet"
    flip(table)
    ended(kept, "radiomics", *TARGET["radiomics"][1], "--no-upstream", code=3)
    failed = open_artifact(features).table().query("status == 'failed'")
    assert failed["reason"].tolist() == ["mask_changed"]
    outdate(masks)
    again(kept, "segment")
    again(kept, "radiomics")
    assert open_artifact(features).identity == before.identity
    assert "up to date" in again(kept, "radiomics")


def test_an_edited_prediction_is_never_delivered(demo_copy: Path) -> None:
    """One number rewritten, one photo added: the whole chain of a night."""
    predictions = load_workspace(demo_copy).path(Ref("predictions", "walk_in", "lightgbm"))
    before = open_artifact(predictions).table().set_index(["level", "case_id"])["malignancy"]
    edit(predictions / "table.parquet")
    source = load_workspace(demo_copy).cohort("walk_in").root
    Image.open(source / "images" / "W001_001a.jpg").rotate(180).save(source / "images" / "W999_999a.jpg")
    with (source / "lesions.csv").open("a") as table:
        table.write("W999_999a.jpg,W999,L999,59,female,neck,no,no,no\n")
    said = ended(demo_copy, "predict", "--cohort", "walk_in")
    assert "table.parquet is not as it was written" in said
    after = open_artifact(predictions)
    assert rehash(after) == []
    now = after.table().set_index(["level", "case_id"])["malignancy"]
    assert len(now) > len(before)
    assert now.loc[before.index].tolist() == before.tolist()
