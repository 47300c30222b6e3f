"""ingest through the pipeline: what each file becomes, and what is done again."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from image_files import dicom, encoded, noise, picture, png_16
from PIL import Image
from source_tables import table

from skinkit.artifacts.artifact import rehash
from skinkit.console import Console
from skinkit.errors import ConfigError, RefusedError
from skinkit.options import make_config
from skinkit.pipeline import Pipeline, Step
from skinkit.stages import ingest
from skinkit.workspace import load_workspace

TOML = """
file = "病例.csv"
encoding = "gb18030"
delimiter = ";"
decimal = ","
modality = "clinical"
masks = "masks/{stem}.png"
[columns]
image = "照片"
patient_id = "患者"
diagnosis = "诊断"
age_years = "年龄"
diameter_1_mm = "长径"
"""
ROWS = (
    "jpeg;P1;色素痣;58岁;5,5",
    "cmyk;P1;色素痣;58岁;5,5",
    "sixteen;P2;黑色素瘤;31;",
    "cut;P2;黑色素瘤;31;",
    "dicom;P3;基底细胞癌;130;3,0",
    "same;P4;色素痣;40;",
    "turned;P5;待查;40;",
    "absent;P6;;40;",
    "empty;P6;;40;",
)


def hospital(root: Path) -> Path:
    """A workspace with one hospital that has one of everything."""
    folder = root / "data"
    photos = folder / "photos"
    photos.mkdir(parents=True)
    gps = Image.Exif()
    gps[0x0112] = 6
    gps.get_ifd(0x8825).update({1: "N", 2: (36.0, 40.0, 12.345)})
    jpeg = encoded(picture(), "JPEG")
    contents = {
        "jpeg.jpg": jpeg,
        "cmyk.jpg": encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG"),
        "sixteen.png": png_16(np.repeat(np.arange(4096, dtype=np.uint16).reshape(64, 64, 1) * 16, 3, axis=2)),
        "cut.jpg": encoded(noise(), "JPEG")[:-400],
        "dicom.dcm": dicom(picture(40, 30)),
        "same.png": encoded(Image.open(io.BytesIO(jpeg)), "PNG"),
        "turned.jpg": encoded(picture(), "JPEG", exif=gps),
        "empty.jpg": b"",
        "extra.jpg": encoded(noise(20, 20), "JPEG"),
    }
    for name, data in contents.items():
        (photos / name).write_bytes(data)
    mask = np.zeros((61, 83), dtype=np.uint8)
    mask[20:40, 20:40] = 255
    (folder / "masks").mkdir()
    (folder / "masks" / "jpeg.png").write_bytes(encoded(mask, "PNG"))
    table(folder / "病例.csv", "照片;患者;诊断;年龄;长径;姓名", *(f"{row};张三" for row in ROWS), encoding="gb18030")
    (folder / "cohort.toml").write_text(TOML, encoding="utf-8")
    text = '[cohorts.jinan]\nrole = "development"\nsource = "folder"\npath = "data"\n'
    (root / "skinkit.toml").write_text(text, encoding="utf-8")
    return root


def make(root: Path, *, jobs: int = 1, retry_failed: bool = False, stream: io.StringIO | None = None) -> Step:
    console = Console(stream=stream or io.StringIO())
    pipeline = Pipeline(load_workspace(root), console, jobs=jobs, retry_failed=retry_failed)
    return pipeline.make("ingest", {})[0]


def rows_of(step: Step) -> dict[str, dict[str, Any]]:
    frame = step.artifact.table()
    frame = frame.astype(object).where(frame.notna(), None)
    return {row["image_id"]: {str(name): value for name, value in row.items()} for row in frame.to_dict("records")}


def test_every_kind_of_file_becomes_a_row(tmp_path: Path) -> None:
    stream = io.StringIO()
    step = make(hospital(tmp_path), stream=stream)
    rows = rows_of(step)
    assert {i: (row["status"], row["reason"]) for i, row in rows.items()} == {
        "jpeg": ("ok", None), "cmyk": ("ok", None), "sixteen": ("ok", None), "cut": ("failed", "image_truncated"),
        "dicom": ("ok", None), "same": ("excluded", "duplicate_content"), "turned": ("ok", None),
        "absent": ("pending", "image_absent"), "empty": ("failed", "image_empty"),
        "photos/extra": ("pending", "row_absent"),
    }  # fmt: skip
    first = rows["jpeg"]
    assert (first["width_px"], first["height_px"]) == (83, 61)
    assert (rows["turned"]["width_px"], rows["turned"]["height_px"]) == (61, 83)
    assert first["truth_mask_path"] == "masks/jpeg.png"
    assert len(first["image_sha256"]) == len(first["pixel_sha256"]) == len(first["truth_mask_sha256"]) == 64
    assert len(first["dhash"]) == 64
    assert first["group_id"] == rows["cmyk"]["group_id"] == "jinan:patient:P1"
    assert first["diameter_1_mm"] == 5.5
    assert rows["same"]["detail"] == "the same pixels as jpeg"
    assert rows["same"]["pixel_sha256"] == first["pixel_sha256"]
    assert rows["same"]["image_sha256"] != first["image_sha256"]
    assert rows["cmyk"]["flags"] == "cmyk"
    assert rows["sixteen"]["flags"] == "sixteen_bit"
    assert (rows["dicom"]["flags"], rows["dicom"]["age_years"]) == ("age_impossible", None)
    assert (rows["turned"]["flags"], rows["turned"]["diagnosis"]) == ("diagnosis_suspected,turned", None)
    assert rows["cut"]["diagnosis"] == "melanoma"  # a failed row keeps what its table says
    counts = step.artifact.manifest["counts"]
    assert (counts["rows"], counts["newly_failed"]) == (10, 2)
    said = stream.getvalue()
    assert "9 rows in 病例.csv; 8 of 9 images found, 1 truth masks" in said
    assert "'待查' 1" in said
    assert "1 image_truncated: cut" in said


def test_nothing_private_reaches_the_artifact(tmp_path: Path) -> None:
    step = make(hospital(tmp_path))
    written = b"".join(file.read_bytes() for file in sorted(step.artifact.path.rglob("*")) if file.is_file())
    text = pd.read_parquet(step.artifact.path / "table.parquet").to_csv()
    for word in ("张三", "Private", "36.0", "12.345", "A77"):
        assert word not in text
        assert word.encode() not in written


def test_what_the_report_says_about_the_cohort(tmp_path: Path) -> None:
    info = make(hospital(tmp_path)).artifact.info
    assert info["flow"]["status"] == {"excluded": 1, "failed": 2, "ok": 5, "pending": 2}
    assert info["flow"]["reasons"] == {
        "duplicate_content": 1, "image_truncated": 1, "image_absent": 1, "image_empty": 1, "row_absent": 1,
    }  # fmt: skip
    assert info["flow"]["table_rows"] == 9
    assert info["flow"]["images_found"] == 9
    assert info["unmapped"] == {"diagnosis": {"待查": 1}, "age_years": {"130": 1}}
    assert info["diagnoses"] == {"nevus": 2, "melanoma": 1, "basal_cell_carcinoma": 1, "unknown": 1}
    assert info["patients"] == 4


def test_several_processes_write_the_same_bytes(tmp_path: Path) -> None:
    one = make(hospital(tmp_path / "a"), jobs=1)
    two = make(hospital(tmp_path / "b"), jobs=2)
    first, second = (step.artifact.table().drop(columns=["fingerprint"]) for step in (one, two))
    pd.testing.assert_frame_equal(first, second)


def test_nothing_changed_nothing_written(tmp_path: Path) -> None:
    first = make(hospital(tmp_path))
    before = {file: file.stat().st_mtime_ns for file in first.artifact.path.rglob("*")}
    again = make(tmp_path)
    assert again.fresh
    assert {file: file.stat().st_mtime_ns for file in again.artifact.path.rglob("*")} == before
    assert rehash(again.artifact) == []


def test_one_image_added_is_one_images_work(tmp_path: Path) -> None:
    first = make(hospital(tmp_path))
    (tmp_path / "data" / "photos" / "absent.jpg").write_bytes(encoded(noise(30, 30), "JPEG"))
    second = make(tmp_path)
    assert not second.fresh
    counts = second.artifact.manifest["counts"]
    assert (counts["rows"], counts["kept"], counts["made"], counts["newly_failed"]) == (10, 9, 1, 0)
    assert rows_of(second)["absent"]["status"] == "ok"
    assert second.artifact.identity != first.artifact.identity


def test_a_changed_cell_remakes_its_row_only(tmp_path: Path) -> None:
    make(hospital(tmp_path))
    file = tmp_path / "data" / "病例.csv"
    file.write_bytes(file.read_bytes().replace("待查".encode("gb18030"), "鳞癌".encode("gb18030")))
    second = make(tmp_path)
    assert second.artifact.manifest["counts"]["made"] == 1
    assert rows_of(second)["turned"]["diagnosis"] == "squamous_cell_carcinoma"


def test_duplicates_are_decided_afresh_each_time(tmp_path: Path) -> None:
    make(hospital(tmp_path))
    photos = tmp_path / "data" / "photos"
    # The image that was kept goes; its double, excluded before, takes its place, although its own row is unchanged.
    (photos / "jpeg.jpg").unlink()
    rows = rows_of(make(tmp_path))
    assert (rows["jpeg"]["status"], rows["same"]["status"]) == ("pending", "ok")
    assert rows["same"]["detail"] is None
    fresh = tmp_path / "fresh"
    shutil.copytree(tmp_path / "data", fresh / "data", copy_function=shutil.copy2)
    shutil.copy(tmp_path / "skinkit.toml", fresh)
    pd.testing.assert_frame_equal(make(fresh).artifact.table(), make(tmp_path).artifact.table())
    (photos / "jpeg.jpg").write_bytes(encoded(picture(), "JPEG"))
    rows = rows_of(make(tmp_path))
    assert (rows["jpeg"]["status"], rows["same"]["status"]) == ("ok", "excluded")


def test_failures_are_known_and_retried_when_asked(tmp_path: Path) -> None:
    make(hospital(tmp_path))
    (tmp_path / "data" / "photos" / "absent.jpg").write_bytes(encoded(noise(30, 30), "JPEG"))
    assert make(tmp_path).artifact.manifest["counts"]["newly_failed"] == 0
    counts = make(tmp_path, retry_failed=True).artifact.manifest["counts"]
    assert (counts["made"], counts["newly_failed"]) == (2, 2)
    (tmp_path / "data" / "photos" / "cut.jpg").write_bytes(encoded(noise(), "JPEG"))
    step = make(tmp_path)
    assert rows_of(step)["cut"]["status"] == "ok"
    assert step.artifact.manifest["counts"]["made"] == 1


def test_a_folder_that_moved_keeps_its_rows(tmp_path: Path) -> None:
    make(hospital(tmp_path))
    (tmp_path / "data").rename(tmp_path / "moved")
    settings = tmp_path / "skinkit.toml"
    settings.write_text(settings.read_text().replace('"data"', '"moved"'))
    assert make(tmp_path).fresh


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    workspace = load_workspace(hospital(tmp_path))

    class Interrupted(Console):
        """Stops the run after three images, as Ctrl-C does."""

        seen = 0

        def case(self, case: str, status: str, reason: str | None, seconds: float) -> None:
            self.seen += 1
            if self.seen == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline(workspace, Interrupted(quiet=True)).make("ingest", {})
    step = make(tmp_path)
    counts = step.artifact.manifest["counts"]
    assert counts["kept"] >= 3
    other = make(hospital(tmp_path / "other"))
    pd.testing.assert_frame_equal(
        step.artifact.table().drop(columns="fingerprint"), other.artifact.table().drop(columns="fingerprint")
    )


def test_an_inference_cohort_of_photos_alone(tmp_path: Path) -> None:
    (tmp_path / "walk_in").mkdir()
    (tmp_path / "walk_in" / "a.jpg").write_bytes(encoded(picture(), "JPEG"))
    (tmp_path / "skinkit.toml").write_text('[cohorts.now]\nrole = "inference"\nsource = "folder"\npath = "walk_in"\n')
    rows = rows_of(make(tmp_path))
    assert (rows["a"]["status"], rows["a"]["diagnosis"], rows["a"]["group_id"]) == ("ok", None, "now:image:a")


def test_an_empty_folder_gives_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "walk_in").mkdir()
    (tmp_path / "skinkit.toml").write_text('[cohorts.now]\nrole = "inference"\nsource = "folder"\npath = "walk_in"\n')
    step = make(tmp_path)
    assert len(step.artifact.table()) == 0
    assert step.artifact.manifest["counts"]["rows"] == 0


def test_the_draft_is_an_answer_without_a_workspace(tmp_path: Path) -> None:
    folder = hospital(tmp_path) / "data"
    console = Console(quiet=True)
    config = make_config(ingest.Config, {"draft": str(folder / "病例.csv"), "folder": str(folder)})
    with pytest.raises(RefusedError):
        ingest.direct(config, console)
    (folder / "cohort.toml").unlink()
    answer = ingest.direct(config, console)
    assert answer is not None
    assert answer["unmapped"] == {"diagnosis": {"待查": 1}}
    assert ingest.direct(ingest.Config(), console) is None
    with pytest.raises(ConfigError):
        ingest.direct(ingest.Config(folder="x"), console)
    with pytest.raises(ConfigError):
        ingest.direct(ingest.Config(draft="x"), console)


@pytest.mark.real
@pytest.mark.parametrize(
    ("source", "place", "tables", "images"),
    [
        ("pad-ufes-20", "pad", ("metadata.csv",), ("images", "masks")),
        ("isic-2018-task3", "isic/ham_test", ("labels.csv",), ("images",)),
        ("isic-seg", "isic/seg", ("manifest.csv",), ("images", "masks")),
    ],
)
def test_real_images(
    real_data: Path, tmp_path: Path, source: str, place: str, tables: tuple[str, ...], images: tuple[str, ...]
) -> None:
    root = tmp_path / "data"
    for name in tables:
        root.mkdir(exist_ok=True)
        (root / name).symlink_to(real_data / place / name)
    stems = sorted(file.stem for file in (real_data / place / "images").iterdir())[:20]
    for folder in images:
        (root / folder).mkdir()
        for file in sorted((real_data / place / folder).iterdir()):
            if file.stem in stems:
                os.symlink(file, root / folder / file.name)
    text = f'[cohorts.real]\nrole = "development"\nsource = "{source}"\npath = "data"\n'
    (tmp_path / "skinkit.toml").write_text(text)
    step = make(tmp_path)
    frame = step.artifact.table()
    fine = frame[frame["status"] == "ok"]
    assert len(fine) == 20
    assert fine["diagnosis"].notna().all()
    assert (fine["width_px"] > 100).all()
    assert set(frame["reason"].dropna()) == {"image_absent"}
    if "masks" in images:
        assert fine["truth_mask_sha256"].notna().sum() >= 15
    assert make(tmp_path).fresh
