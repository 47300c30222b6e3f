"""Files as hospitals have them: every one is shown as it is or refused with a reason; nothing crashes, hangs or swells.

The corpus stands in ``broken_images.py``. It is read file by file, in a process whose memory is measured, and as one
cohort by the whole chain.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import broken_images
import numpy as np
import pytest
from broken_images import Kind, corpus, lesion, must_be_refused, odd_files, odd_names, sound_files
from conftest import run_here, run_skinkit
from hypothesis import event, given, settings
from hypothesis import strategies as st
from image_files import encoded
from PIL import Image
from reason_codes import reason_codes

import skinkit
from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.file_names import as_text, on_disk, readings
from skinkit.artifacts.tables import read_table
from skinkit.cli import main
from skinkit.console import Console
from skinkit.data import find_files, read_cases
from skinkit.data.files import walk
from skinkit.errors import CaseError, InputError
from skinkit.images import decode, pixels
from skinkit.images.dicom import dicom_tag
from skinkit.images.drawn_masks import read_drawn_mask
from skinkit.workspace import Cohort

REASONS = Path(skinkit.__file__).parents[1] / "docs" / "input.md"
SECONDS = 120
"""In which every file must have been read or refused: what a case has, on a machine busy with other things."""


@cache
def documented_reasons() -> set[str]:
    """Every reason code that the documentation explains."""
    return set(re.findall(r"^\| `([a-z_]+)` \|", REASONS.read_text(encoding="utf-8"), re.MULTILINE))


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail where the block takes longer."""

    def too_slow(*_: object) -> None:
        raise AssertionError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_every_reason_is_documented() -> None:
    assert reason_codes() - documented_reasons() == set()


def complaint(name: str, kind: Kind) -> str:
    """What is wrong with how a file was read; empty where nothing is."""
    try:
        with at_most(SECONDS):
            rgb, _ = decode.decode(kind.data, thorough=True)
    except CaseError as error:
        fine = error.reason in kind.reasons
        return "" if fine else f"{name}: refused as {error.reason} ({error.detail})"
    if must_be_refused(kind):
        return f"{name}: shown, should be one of {kind.reasons}"
    if kind.pixels is None:
        return ""
    if rgb.shape != kind.pixels.shape:
        return f"{name}: {rgb.shape} instead of {kind.pixels.shape}"
    difference = float(np.abs(rgb.astype(float) - kind.pixels).mean())
    return "" if difference <= kind.tolerance else f"{name}: pixels differ by {difference:.1f} on average"


def test_every_kind_is_shown_as_it_is_or_refused_with_a_reason() -> None:
    kinds = corpus()
    assert len(kinds) >= 60
    assert [text for name, kind in kinds.items() if (text := complaint(name, kind))] == []


def test_masks_and_luma_of_every_kind_give_pixels_or_a_reason(tmp_path: Path) -> None:
    reasons: set[str] = set()
    dtypes: dict[tuple[str, str], Any] = {}
    for name, kind in corpus().items():
        if name.startswith("bomb"):
            continue
        file = tmp_path / "file"
        file.write_bytes(kind.data)
        for read in (decode.read_luma, read_drawn_mask):
            try:
                pixels_read: Any = read(file)
                dtypes[name, read.__name__] = (pixels_read[0] if isinstance(pixels_read, tuple) else pixels_read).dtype
            except CaseError as error:
                reasons.add(error.reason)
    assert reasons <= documented_reasons()
    assert {dtype for (_, how), dtype in dtypes.items() if how == "read_luma"} == {np.dtype(np.uint8)}
    assert {dtype for (_, how), dtype in dtypes.items() if how == "read_drawn_mask"} == {np.dtype(np.bool_)}
    assert not {name for name, how in dtypes if how == "read_luma" and must_be_refused(corpus()[name])}


MEASURED = """
import resource, sys
from broken_images import corpus
from skinkit.images import decode as images
from skinkit.errors import CaseError

kinds = corpus()
images.decode(kinds["dicom"].data)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for name, kind in kinds.items():
    try:
        images.decode(kind.data, thorough=True)
    except CaseError:
        pass
print(peak() - before)
"""


def test_refusing_takes_no_memory() -> None:
    here = str(Path(broken_images.__file__).parent)
    answer = subprocess.run(
        [sys.executable, "-c", MEASURED],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": here},
    )
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) < 256, "MiB more than before the corpus was read"


# -------------------------------------------------------------------------------------------------------- mutation


SOUND = sound_files(lesion(7, 40, 30))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid file with one to five faults: bytes changed, cut out, doubled, a length made huge, the end missing."""
    data = bytearray(SOUND[draw(st.sampled_from(sorted(SOUND)))])
    faults = st.tuples(st.sampled_from(["write", "cut", "double", "length", "end"]), st.integers(0, 1 << 16), PIECES)
    for fault, place, piece in draw(st.lists(faults, min_size=1, max_size=5)):
        at = place % max(1, len(data))
        if fault == "write":
            data[at : at + len(piece)] = piece
        elif fault == "cut":
            del data[at : at + len(piece)]
        elif fault == "double":
            data[at:at] = data[at : at + len(piece)] * 3
        elif fault == "length":
            data[at : at + 4] = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4))[len(piece) % 3]
        else:
            del data[at:]
    return bytes(data)


PIECES = st.binary(min_size=1, max_size=40)


def outcome(data: bytes) -> str:
    """What becomes of a file: shown, or the reason; whatever is neither raises."""
    try:
        with at_most(SECONDS):
            rgb, _ = decode.decode(data, thorough=True)
    except CaseError as error:
        return error.reason
    assert rgb.dtype == np.uint8
    assert rgb.ndim == 3
    assert 0 < rgb.shape[0] * rgb.shape[1] <= pixels.MAX_PIXELS
    return "shown"


@settings(max_examples=200, deadline=None)
@given(damaged())
def test_200_damaged_files_give_pixels_or_a_reason(data: bytes) -> None:
    assert outcome(data) in {"shown", *documented_reasons()}


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(damaged())
def test_5000_damaged_files_give_pixels_or_a_reason(data: bytes) -> None:
    result = outcome(data)
    event(result)
    assert result in {"shown", *documented_reasons()}


# ------------------------------------------------------------------------------------------------- names and files


def test_every_name_is_text_that_leads_back_to_the_file(tmp_path: Path) -> None:
    made = odd_names(tmp_path / "names")
    texts = {as_text(path.name): path for path in made}
    assert len(texts) == len(made)
    for text, path in texts.items():
        assert text.encode("utf-8")
        assert on_disk(path.parent / text) == path
        assert decode.read_rgb(path.parent / text).shape == (72, 96, 3)
    assert as_text(os.fsdecode(b"caf\xe9.png")) == "caf\ufffdE9.png"
    assert readings(as_text(os.fsdecode("病人甲.png".encode("gb18030"))))[1] == "病人甲.png"
    assert readings("café.png") == ("café.png",)


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    expected = odd_files(tmp_path / "cohort" / "files", tmp_path / "elsewhere.png")
    with at_most(SECONDS):
        found = find_files(Cohort("c", "inference", "folder", tmp_path / "cohort"))
        outcomes = {}
        for name in found.images:
            try:
                decode.read_rgb(found.root / name)
                outcomes[name] = ""
            except CaseError as error:
                outcomes[name] = error.reason
    assert outcomes == {f"files/{as_text(name)}": reason for name, reason in expected.items()}


def test_a_table_finds_photos_however_their_names_are_written(tmp_path: Path) -> None:
    files = {
        "病人甲.png".encode("gb18030"): "病人甲.png",  # as an archive packed under Windows leaves it
        "cafe\u0301.png".encode(): "café.png",
        b"TWIN.png": "TWIN.png",
        b"twin.png": "twin",
        b"a.png": "\u200bA.PNG ",
    }
    for seed, name in enumerate(files):
        (tmp_path / os.fsdecode(name)).write_bytes(encoded(lesion(seed), "PNG"))
    lines = ["file", *files.values(), "Twin.png", "no.png"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "cohort.toml").write_text('file = "t.csv"\n[columns]\nimage = "file"\n', encoding="utf-8")
    rows = read_cases(Cohort("c", "development", "folder", tmp_path)).rows
    found = {row["image_id"]: row["image_path"] or row["reason"] for row in rows}
    assert found == {
        "病人甲": as_text(os.fsdecode("病人甲.png".encode("gb18030"))),
        "café": "cafe\u0301.png",
        "TWIN": "TWIN.png",
        "twin": "twin.png",
        "A": "a.png",
        "Twin": "image_ambiguous",
        "no": "image_absent",
    }


def test_headers_of_broken_files_are_read_or_refused_without_waiting(tmp_path: Path) -> None:
    odd_files(tmp_path / "files", tmp_path / "elsewhere.png")
    files = [path for path in (tmp_path / "files").iterdir() if not path.is_dir()]
    for number, (name, kind) in enumerate(corpus().items()):
        if "dicom" in name:
            files.append(tmp_path / f"{number}.dcm")
            files[-1].write_bytes(kind.data)
    reasons, told = set(), set()
    with at_most(SECONDS):
        for path in files:
            try:
                told.add(dicom_tag(path, "AccessionNumber"))
            except CaseError as error:
                reasons.add(error.reason)
    assert reasons <= documented_reasons()
    assert "A77" in told


def test_a_folder_that_may_not_be_listed_is_a_row() -> None:
    with tempfile.TemporaryDirectory() as name:  # a place every user may enter, which pytest's own is not
        root = Path(name)
        root.chmod(0o755)
        for number, folder in enumerate(("open", "closed")):
            (root / folder).mkdir()
            (root / folder / "a.png").write_bytes(encoded(lesion(number), "PNG"))
        (root / "closed").chmod(0)
        (root / "open" / "secret.png").write_bytes(encoded(lesion(3), "PNG"))
        (root / "open" / "secret.png").chmod(0)
        import skinkit.data.cases  # noqa: F401 - from where that user may not read

        if os.geteuid() == 0:  # whom no mode keeps out
            os.seteuid(65_534)
        try:
            rows = read_cases(Cohort("c", "inference", "folder", root)).rows
            with pytest.raises(InputError, match="closed"):
                list(walk(root))
            with pytest.raises(CaseError, match="image_unreadable"):
                decode.read_rgb(root / "open" / "secret.png")
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            (root / "closed").chmod(0o755)
    assert {row["image_id"]: (row["status"], row["reason"]) for row in rows} == {
        "open/a": ("ok", None),
        "open/secret": ("ok", None),  # until it is read
        "closed/": ("failed", "folder_unreadable"),
    }


def test_files_that_appear_and_go_are_told(tmp_path: Path) -> None:
    file = tmp_path / "grows.png"
    file.write_bytes(encoded(lesion(1), "PNG"))
    real, opened = os.fstat, []

    def late(number: int) -> os.stat_result:
        opened.append(number)
        if len(opened) == 2:  # the copy goes on while the file is read
            with file.open("ab") as stream:
                stream.write(b"more")
        return real(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels.os, "fstat", late)
        with pytest.raises(CaseError, match="image_changed"):
            pixels.read_bytes(file)
    assert pixels.read_bytes(file).endswith(b"more")


def test_a_name_cannot_move_the_cursor_or_begin_a_line_of_the_log() -> None:
    stream = io.StringIO()
    console = Console(stream=stream)
    console.info("failed: a\x1b[2J\nerror: everything is lost\u202e.png")
    console.error("error\n  found: b\r\x9b")
    assert stream.getvalue() == (
        "failed: a\\x1b[2J\\nerror: everything is lost\\u202e.png\nerror\n  found: b\\r\\x9b\n"
    )


# ---------------------------------------------------------------------------------------------------- the chain


def test_the_whole_corpus_as_one_cohort_goes_through_the_chain(demo_copy: Path) -> None:
    """Ingest, segment, radiomics, fuse and predict in one command, then the clinic's pages."""
    root = demo_copy / "sources" / "broken"
    kinds = corpus()
    (root / "corpus").mkdir(parents=True)
    for name, kind in kinds.items():
        (root / "corpus" / f"{name}.jpg").write_bytes(kind.data)
    names = odd_names(root / "names")
    files = odd_files(root / "files", demo_copy / "elsewhere.png")
    with (demo_copy / "skinkit.toml").open("a", encoding="utf-8") as stream:
        stream.write('\n[cohorts.broken]\nrole = "inference"\nsource = "folder"\npath = "sources/broken"\n')
    chosen = ("--cohort", "broken", "--jobs", "2", "-w", demo_copy)
    answer = run_skinkit("predict", *chosen, "--json")
    assert answer.returncode == 3, answer.stderr
    made = {step["artifact"]: step["counts"] for step in json.loads(answer.stdout)["steps"]}
    cases = open_artifact(demo_copy / "artifacts" / "broken" / "cases").table()
    outcome = dict(zip(cases["image_id"], zip(cases["status"], cases["reason"], strict=True), strict=True))
    assert len(cases) == len(kinds) + len(names) + len(files)
    assert set(cases["reason"].dropna()) <= documented_reasons()
    for name, kind in kinds.items():
        status, reason = outcome[f"corpus/{name}"]
        assert (status, reason) == ("ok", None) or reason in {*kind.reasons, "image_empty"}, name
        assert status == "failed" or not must_be_refused(kind), name
    for path in names:
        image_id = f"names/{as_text(path.stem)}"
        assert outcome[image_id] == ("ok", None)
    assert {name for name, reason in files.items() if reason} == {
        f"{image_id.removeprefix('files/')}.png"
        for image_id, (_, reason) in outcome.items()
        if image_id.startswith("files/") and reason == "image_missing"
    }
    usable = int((cases["status"] == "ok").sum())
    assert usable == made["broken/cases"]["ok"] == made["broken/masks/otsu"]["ok"]
    assert made["broken/predictions/lightgbm"]["rows"] == usable
    predicted = read_table(demo_copy / "artifacts/broken/predictions/lightgbm/table.parquet")
    assert predicted["malignancy"].between(0, 1).all()
    assert any("\ufffd" in image_id for image_id in predicted["image_id"])
    again = run_here("predict", *chosen)
    assert again.returncode == 0, again.stderr
    page = run_here("report", "--for", "clinic", *chosen, "--max-lesions", "12")
    assert page.returncode == 0, page.stderr
    told = "".join(file.read_text(encoding="utf-8") for file in (demo_copy / "artifacts/report").rglob("*.html"))
    assert "<script>alert" not in told


# --------------------------------------------------------------------------------------------------------- masks


def _first_pixels(spot: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """A mask of the first pixels in a row of the spot."""
    mask = np.zeros_like(spot)
    mask[36, 40 : 40 + n] = True
    return mask


def drawn(spot: np.ndarray[Any, Any]) -> dict[str, tuple[bytes, str]]:
    """Masks people hand in, by the name of their photo: bytes, and why they are refused, or nothing."""
    grey = spot.astype(np.uint8) * 255
    colour = np.dstack([grey, grey * 0, grey * 0])
    whole = encoded(grey, "PNG")
    animated = encoded(Image.fromarray(grey), "GIF", save_all=True, append_images=[Image.fromarray(255 - grey)])
    return {
        "plain": (whole, ""),
        "ones": (encoded(grey // 255, "PNG"), ""),
        "sixteen": (encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), ""),
        "red": (encoded(colour, "PNG"), ""),
        "alpha": (encoded(np.dstack([np.full_like(colour, 255), grey]), "PNG"), ""),
        "palette": (encoded(Image.fromarray(grey).quantize(2), "PNG"), ""),
        "twice": (encoded(Image.fromarray(grey).resize((192, 144), Image.Resampling.NEAREST), "PNG"), ""),
        "bmp": (encoded(Image.fromarray(spot), "BMP"), ""),
        "black": (encoded(grey * 0, "PNG"), "mask_empty"),
        "white": (encoded(grey * 0 + 255, "PNG"), "mask_full_frame"),
        "inverted": (encoded(255 - grey, "PNG"), "mask_inverted"),
        "labels": (encoded(grey // 255 + 2 * (np.arange(72)[:, None] > 65).astype(np.uint8), "PNG"), "mask_labels"),
        "one pixel": (encoded(_first_pixels(spot, 1), "PNG"), "mask_single_pixel"),
        "line": (encoded(_first_pixels(spot, 4), "PNG"), "mask_line"),
        "square": (encoded(np.full((80, 80), 255, np.uint8), "PNG"), "mask_size_mismatch"),
        "no bytes": (b"", "mask_empty"),
        "cut": (whole[: len(whole) // 2], "mask_truncated"),
        "text": (b"no mask", "mask_unreadable"),
        "frames": (animated, "mask_multiframe"),
        "pdf": (b"%PDF-1.7", "mask_unsupported"),
    }


def test_masks_given_as_truth_are_read_or_cost_their_case_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, columns = np.mgrid[:72, :96]
    spot = ((columns - 48) / 20) ** 2 + ((rows - 36) / 15) ** 2 <= 1
    given_masks = drawn(spot)
    for folder in ("photos", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for seed, (name, (data, _)) in enumerate([*given_masks.items(), ("none", (b"", "truth_mask_absent"))]):
        (tmp_path / "data" / "photos" / f"{name}.png").write_bytes(encoded(lesion(seed), "PNG"))
        if name != "none":
            (tmp_path / "data" / "masks" / f"{name}.png").write_bytes(data)
    (tmp_path / "skinkit.toml").write_text(
        '[cohorts.a]\nrole = "development"\nsource = "folder"\npath = "data"\ntable = ""\nmasks = "masks"\n'
    )
    assert main(["segment", "--model", "truth", "--jobs", "1", "-w", str(tmp_path)]) == 3
    assert "Traceback" not in capsys.readouterr().err
    cases = open_artifact(tmp_path / "artifacts" / "a" / "cases").table()
    masks = open_artifact(tmp_path / "artifacts" / "a" / "masks" / "truth").table()
    assert cases["status"].eq("ok").all()  # a bad mask costs no photo
    reasons = dict(zip(masks["image_id"], masks["reason"], strict=True))
    expected = {f"photos/{name}": reason or None for name, (_, reason) in given_masks.items()}
    assert reasons == {**expected, "photos/none": "truth_mask_absent"}
    areas = dict(zip(masks["image_id"], masks["area_px"], strict=True))
    failed = dict(zip(masks["image_id"], masks["mask_failed"], strict=True))
    for name, (_, reason) in given_masks.items():
        if not reason:
            assert areas[f"photos/{name}"] == spot.sum(), name
            assert not failed[f"photos/{name}"], name
    assert main(["segment", "--jobs", "1", "-w", str(tmp_path)]) == 0
    otsu = open_artifact(tmp_path / "artifacts" / "a" / "masks" / "otsu").table().set_index("image_id")
    for name, (_, reason) in given_masks.items():  # nor a segmenter's mask, only its Dice
        row = otsu.loc[f"photos/{name}"]
        measurable_only = reason in ("mask_full_frame", "mask_single_pixel", "mask_line")
        assert np.isfinite(row["dice"]) == (not reason or measurable_only), name
        assert reason == "" or measurable_only or row["flags"] == reason, name
