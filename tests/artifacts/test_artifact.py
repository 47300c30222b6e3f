"""Artifacts: identity, resume, replacement and locks, with real folders and real processes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from skinkit.artifacts import artifact
from skinkit.artifacts.artifact import MANIFEST, ArtifactRecipe, exists, open_artifact, rehash
from skinkit.artifacts.builder import Builder
from skinkit.artifacts.files import file_sha256, write_atomic
from skinkit.artifacts.locks import lock
from skinkit.artifacts.tables import TABLE, read_table, write_table
from skinkit.errors import BusyError, InputError
from skinkit.schemas import MASKS


def recipe(**config: object) -> ArtifactRecipe:
    return ArtifactRecipe("masks", 1, "segment", 1, config, {"cases": "c1"})


def row(out: Path, image_id: str, text: str = "x") -> dict[str, object]:
    write_atomic(out / "png" / f"{image_id}.png", text.encode())
    return {"image_id": image_id, "mask_file": f"png/{image_id}.png", "area_px": len(text)}


def build(path: Path, ids: str, *, made: list[str] | None = None, **config: object) -> None:
    one = recipe(**config)
    with Builder(path, MASKS, one) as builder:
        for (key,) in builder.plan({(i,): one.fingerprint(i) for i in ids}):
            builder.add(row(builder.partial, key))
            if made is not None:
                made.append(key)
        builder.finish()


def test_the_same_rows_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    build(tmp_path / "a", "xyz")
    build(tmp_path / "b", "zyx")
    assert (tmp_path / "a" / TABLE).read_bytes() == (tmp_path / "b" / TABLE).read_bytes()
    assert open_artifact(tmp_path / "a").identity == open_artifact(tmp_path / "b").identity


def test_identity_follows_settings_and_files_but_not_time(tmp_path: Path) -> None:
    build(tmp_path / "a", "x", size=1)
    build(tmp_path / "b", "x", size=2)
    first = open_artifact(tmp_path / "a").identity
    assert first != open_artifact(tmp_path / "b").identity
    (tmp_path / "a" / MANIFEST).unlink()
    os.rename(tmp_path / "a", tmp_path / "away")
    build(tmp_path / "a", "x", size=1)
    assert open_artifact(tmp_path / "a").identity == first


def test_types_are_declared_and_unknown_is_null(tmp_path: Path) -> None:
    build(tmp_path / "a", "x")
    table = open_artifact(tmp_path / "a").table()
    assert table["area_px"].dtype == "Int64"
    assert table["mask_failed"].isna().all()
    assert table["dice"].dtype == "float64"
    assert table["reason"].tolist() == [None]


def test_one_new_case_is_one_case_of_work_and_old_files_are_linked(tmp_path: Path) -> None:
    build(tmp_path / "a", "xy")
    inode = (tmp_path / "a" / "png" / "x.png").stat().st_ino
    made: list[str] = []
    build(tmp_path / "a", "xyz", made=made)
    assert made == ["z"]
    assert (tmp_path / "a" / "png" / "x.png").stat().st_ino == inode
    assert open_artifact(tmp_path / "a").manifest["counts"]["kept"] == 2


def test_a_case_that_left_takes_its_file_along(tmp_path: Path) -> None:
    build(tmp_path / "a", "xyz")
    build(tmp_path / "a", "xz")
    assert sorted(p.name for p in (tmp_path / "a" / "png").iterdir()) == ["x.png", "z.png"]


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    one = recipe()
    with pytest.raises(KeyboardInterrupt), Builder(tmp_path / "a", MASKS, one) as builder:  # noqa: PT012
        builder.plan({(i,): one.fingerprint(i) for i in "xyz"})
        builder.add(row(builder.partial, "y"))
        raise KeyboardInterrupt
    assert not exists(tmp_path / "a")
    made: list[str] = []
    build(tmp_path / "a", "xyz", made=made)
    assert made == ["x", "z"]
    assert not (tmp_path / "a.partial").exists()


def test_a_row_whose_file_was_lost_is_made_again(tmp_path: Path) -> None:
    build(tmp_path / "a", "xy")
    (tmp_path / "a" / "png" / "y.png").unlink()
    made: list[str] = []
    build(tmp_path / "a", "xy", made=made)
    assert made == ["y"]


def test_a_torn_part_table_costs_its_rows_only(tmp_path: Path) -> None:
    one = recipe()
    with pytest.raises(KeyboardInterrupt), Builder(tmp_path / "a", MASKS, one) as builder:  # noqa: PT012
        builder.plan({("x",): one.fingerprint("x")})
        builder.add(row(builder.partial, "x"))
        raise KeyboardInterrupt
    (part,) = (tmp_path / "a.partial" / "parts").iterdir()
    part.write_bytes(part.read_bytes()[:50])
    made: list[str] = []
    build(tmp_path / "a", "x", made=made)
    assert made == ["x"]


def test_known_failures_are_not_new_and_retried_on_request(tmp_path: Path) -> None:
    one = recipe()
    fingerprints = {(i,): one.fingerprint(i) for i in "xy"}

    def run(retry: bool) -> tuple[list[str], int]:
        with Builder(tmp_path / "a", MASKS, one, retry_failed=retry) as builder:
            todo = [key for (key,) in builder.plan(fingerprints)]
            for key in todo:
                failed = {"image_id": key, "status": "failed", "reason": "broken"}
                builder.add(failed if key == "x" else row(builder.partial, key))
            builder.finish()
            return todo, builder.counts.newly_failed

    assert run(False) == (["x", "y"], 1)
    assert run(False) == ([], 0)
    assert run(True) == (["x"], 1)


def test_a_folder_that_is_not_an_artifact_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError) as error:
        build(tmp_path / "a", "x")
    assert "manifest" in error.value.found
    assert (tmp_path / "a" / "thesis.txt").read_text() == "years of work"


def test_a_failure_that_an_interrupted_run_found_is_still_new(tmp_path: Path) -> None:
    one = recipe()
    fingerprints = {(i,): one.fingerprint(i) for i in "xy"}
    with pytest.raises(KeyboardInterrupt), Builder(tmp_path / "a", MASKS, one) as builder:  # noqa: PT012
        builder.plan(fingerprints)
        builder.add({"image_id": "x", "status": "failed", "reason": "broken"})
        raise KeyboardInterrupt
    made: list[str] = []
    build(tmp_path / "a", "xy", made=made)
    assert made == ["y"]
    assert open_artifact(tmp_path / "a").manifest["counts"]["newly_failed"] == 1
    build(tmp_path / "a", "xyz")
    assert open_artifact(tmp_path / "a").manifest["counts"]["newly_failed"] == 0


def test_a_row_never_meets_a_file_of_other_settings(tmp_path: Path) -> None:
    def begin(text: str, *, flushed: bool) -> None:
        one = recipe(text=text)
        with pytest.raises(KeyboardInterrupt), Builder(tmp_path / "a", MASKS, one) as builder:  # noqa: PT012
            builder.plan({("x",): one.fingerprint("x")})
            made = row(builder.partial, "x", text)
            if flushed:
                builder.add(made)
            raise KeyboardInterrupt

    begin("old", flushed=True)
    begin("newer", flushed=False)  # killed after the file and before its row
    one = recipe(text="old")
    with Builder(tmp_path / "a", MASKS, one) as builder:
        assert builder.plan({("x",): one.fingerprint("x")}) == [("x",)]
        builder.add(row(builder.partial, "x", "old"))
        builder.finish()
    assert (tmp_path / "a" / "png" / "x.png").read_text() == "old"


def test_a_run_killed_at_its_very_end_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skinkit.artifacts.builder.put_in_place", killed)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "a", "xyz")
    made: list[str] = []
    build(tmp_path / "a", "xyz", made=made)
    assert made == []
    build(tmp_path / "b", "xyz")
    assert (tmp_path / "a" / TABLE).read_bytes() == (tmp_path / "b" / TABLE).read_bytes()


def test_a_clock_set_back_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = recipe()
    fingerprints = {("x",): one.fingerprint("x")}
    with pytest.raises(KeyboardInterrupt), Builder(tmp_path / "a", MASKS, one) as builder:  # noqa: PT012
        builder.plan(fingerprints)
        builder.add({"image_id": "x", "status": "failed", "reason": "broken"})
        raise KeyboardInterrupt
    monkeypatch.setattr("time.time_ns", lambda: 0)
    monkeypatch.setattr("time.time", lambda: 0.0)
    with pytest.raises(KeyboardInterrupt), Builder(tmp_path / "a", MASKS, one, retry_failed=True) as builder:  # noqa: PT012
        assert builder.plan(fingerprints) == [("x",)]
        builder.add(row(builder.partial, "x"))
        raise KeyboardInterrupt
    with Builder(tmp_path / "a", MASKS, one) as builder:
        assert builder.plan(fingerprints) == []
        builder.finish()
    assert open_artifact(tmp_path / "a").table()["status"].tolist() == ["ok"]


def test_files_of_rows_that_all_fail_now_are_gone(tmp_path: Path) -> None:
    one = recipe()
    with pytest.raises(KeyboardInterrupt), Builder(tmp_path / "a", MASKS, one) as builder:  # noqa: PT012
        row(builder.partial, "x")
        raise KeyboardInterrupt
    with Builder(tmp_path / "a", MASKS, one) as builder:
        builder.plan({("x",): one.fingerprint("x")})
        builder.add({"image_id": "x", "status": "failed", "reason": "broken"})
        builder.finish()
    assert sorted(open_artifact(tmp_path / "a").manifest["files"]) == [TABLE]


def test_files_removed_while_it_works_are_an_error(tmp_path: Path) -> None:
    one = recipe()
    with Builder(tmp_path / "a", MASKS, one) as builder:
        builder.plan({("x",): one.fingerprint("x")})
        builder.add(row(builder.partial, "x"))
        (builder.partial / "png" / "x.png").unlink()
        with pytest.raises(InputError) as error:
            builder.finish()
        assert "1 files" in error.value.found
        assert "png/x.png" in error.value.found
    assert not exists(tmp_path / "a")


def test_a_reader_never_mixes_two_artifacts(tmp_path: Path) -> None:
    build(tmp_path / "a", "x")
    opened = open_artifact(tmp_path / "a")
    build(tmp_path / "a", "xy")
    for read in (opened.table, opened.rows):
        with pytest.raises(InputError) as error:
            read()
        assert "manifest describes" in error.value.found
    assert len(open_artifact(tmp_path / "a").rows()) == 2


def test_an_artifact_replaced_while_it_is_opened_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "a", "x")
    find, calls = artifact.settled, []

    def found_just_before_a_writer_renames_it(path: Path) -> Path | None:
        place = find(path)
        if not calls:
            os.rename(path, path.with_name("a.previous"))
        calls.append(place)
        return place

    monkeypatch.setattr(artifact, "settled", found_just_before_a_writer_renames_it)
    assert open_artifact(tmp_path / "a").table()["image_id"].tolist() == ["x"]
    assert calls == [tmp_path / "a", tmp_path / "a.previous"]


def test_readers_fall_back_to_the_previous_artifact(tmp_path: Path) -> None:
    build(tmp_path / "a", "x")
    os.rename(tmp_path / "a", tmp_path / "a.previous")  # as a crash between the two renames leaves it
    assert open_artifact(tmp_path / "a").table()["image_id"].tolist() == ["x"]
    made: list[str] = []
    build(tmp_path / "a", "xy", made=made)
    assert made == ["y"]


def test_rehash_finds_a_changed_and_a_missing_file(tmp_path: Path) -> None:
    build(tmp_path / "a", "xy")
    assert rehash(open_artifact(tmp_path / "a")) == []
    (tmp_path / "a" / "png" / "x.png").write_text("other")
    (tmp_path / "a" / "png" / "y.png").unlink()
    assert rehash(open_artifact(tmp_path / "a")) == ["png/x.png", "png/y.png"]


def test_a_newer_manifest_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "a", "x")
    manifest = json.loads((tmp_path / "a" / MANIFEST).read_text())
    (tmp_path / "a" / MANIFEST).write_text(json.dumps({**manifest, "manifest_version": 99}))
    with pytest.raises(InputError) as error:
        open_artifact(tmp_path / "a")
    assert "version 99" in error.value.found


HOLDER = """
import sys, time
from pathlib import Path
from skinkit.artifacts.locks import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid}"):
            build(path, "x")
        build(tmp_path / "other", "x")
        holder.kill()
    build(path, "x")
    assert exists(path)
    assert not list(tmp_path.glob(".*"))  # no lock file stays behind


def test_a_lock_is_never_held_twice(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from skinkit.artifacts.locks import lock\n"
        "for _ in range(12):\n"
        "    with lock(Path(sys.argv[1]), wait_s=60):\n"
        "        inside = Path(sys.argv[1] + '.inside')\n"
        "        inside.touch(exist_ok=False)\n"
        "        time.sleep(0.001)\n"
        "        inside.unlink()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a")]
    together = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in together] == [("", 0)] * 3
    assert not list(tmp_path.iterdir())


def test_shares_exclude_whole_runs_and_not_each_other(tmp_path: Path) -> None:
    with lock(tmp_path / "a", shared=True):
        with lock(tmp_path / "a", shared=True), pytest.raises(BusyError), lock(tmp_path / "a"):
            pass
        with pytest.raises(BusyError), lock(tmp_path / "a"):
            pass
    with lock(tmp_path / "a"), pytest.raises(BusyError), lock(tmp_path / "a", shared=True):
        pass


def test_file_sha256_is_the_known_hash_of_abc(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_rows_from_many_tables_give_the_bytes_of_one(tmp_path: Path) -> None:
    one = recipe()
    rows: list[dict[str, object]] = [
        {
            "image_id": f"i{n:04d}",
            "area_px": n if n % 3 else None,
            "dice": n / 7,
            "whole": n,
            "seldom": 1.5 if n == 4000 else None,
            "never": None,
            "flag": n % 2 == 0 if n > 300 else None,
            "note": "ü" if n < 300 else None,
        }
        for n in range(5000)
    ]
    fingerprints = {(row["image_id"],): one.fingerprint(row["image_id"]) for row in rows}
    shuffled = random.Random(3).sample(rows, len(rows))

    def build_from(order: list[dict[str, object]]) -> bytes:
        with Builder(tmp_path / "a", MASKS, one) as builder:
            todo = set(builder.plan(fingerprints))
            for row in order:
                if (row["image_id"],) in todo:
                    builder.add(row)
            builder.finish()
        return (tmp_path / "a" / TABLE).read_bytes()

    written = build_from(shuffled)
    (tmp_path / "a" / MANIFEST).unlink()
    os.rename(tmp_path / "a", tmp_path / "away")
    assert build_from(rows) == written
    # The same out of a finished artifact of several row groups, of which half the rows have to be made again.
    for key in list(fingerprints)[::2]:
        fingerprints[key] = "changed"
    build_from(shuffled)
    table = open_artifact(tmp_path / "a").table()
    frame = pd.DataFrame([{**row, "fingerprint": fingerprints[row["image_id"],], "status": "ok"} for row in rows])
    write_table(tmp_path / "at_once.parquet", MASKS, frame)
    pd.testing.assert_frame_equal(table, read_table(tmp_path / "at_once.parquet"))
    assert open_artifact(tmp_path / "a").manifest["counts"] == {
        "rows": 5000, "kept": 2500, "made": 2500, "ok": 5000, "newly_failed": 0,
    }  # fmt: skip


def test_rows_kept_and_added_can_be_read_before_the_end(tmp_path: Path) -> None:
    build(tmp_path / "a", "xy")
    one = recipe()
    with Builder(tmp_path / "a", MASKS, one) as builder:
        builder.plan({(i,): one.fingerprint(i) for i in "xyzw"})
        builder.add(row(builder.partial, "z", "abc"))
        assert {key: r["area_px"] for key, r in builder.rows.items()} == {("x",): 1, ("y",): 1, ("z",): 3}
        builder.add(row(builder.partial, "w", "ab"))
        assert builder.rows["w",]["area_px"] == 2
        builder.finish()
    assert open_artifact(tmp_path / "a").table()["area_px"].tolist() == [2, 1, 1, 3]


def test_mixed_columns_keep_their_types(tmp_path: Path) -> None:
    one = recipe()
    with Builder(tmp_path / "a", MASKS, one) as builder:
        builder.clear()
        builder.finish(pd.DataFrame({"image_id": ["b", "a"], "note": ["n", None], "score": [1.5, None], "k": [1, 2]}))
    table = open_artifact(tmp_path / "a").table()
    assert table["image_id"].tolist() == ["a", "b"]
    assert table["note"].tolist() == [None, "n"]
    assert table["k"].tolist() == [2, 1]
    assert table["score"].isna().tolist() == [True, False]
