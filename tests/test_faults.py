"""What disks, other processes and users do to a run while it works; done for real, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest
import small_cohort
import written_artifacts
from conftest import run_here, run_skinkit, small_disk
from PIL import Image

from skinkit.artifacts.artifact import Artifact, open_artifact, rehash
from skinkit.workspace import Ref, load_workspace

PHOTOS = 30


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital's folder."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(9)
    for n in range(PHOTOS):
        photo, _ = small_cohort.draw(rng, list(small_cohort.CLASSES)[n % 3])
        Image.fromarray(photo).resize((240, 192)).save(folder / f"i{n:02d}.png")
    return folder


def make(root: Path, photos: Path) -> Path:
    """A workspace whose photos were read and outlined."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "skinkit.toml").write_text(f"[cohorts.ward]\nrole = 'inference'\nsource = 'folder'\npath = '{photos}'\n")
    assert segment(root).returncode == 0
    return root


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    return make(tmp_path_factory.mktemp("ward"), photos)


@pytest.fixture
def copy(ward: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", str(ward), str(tmp_path / "copy")], check=True)
    return tmp_path / "copy"


FINER = ("--settings", "work_px=200")


def command(root: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "skinkit", "segment", "-w", str(root), "--jobs", "1", "--json", *options]


def segment(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What nothing ends from outside, in this process."""
    return run_here(*command(root, *options)[3:])


def masks(root: Path) -> Artifact:
    return open_artifact(load_workspace(root).path(Ref("masks", "ward", "otsu")))


@pytest.fixture(scope="module")
def finer(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> str:
    """Identity of the masks with other settings, made undisturbed."""
    root = make(tmp_path_factory.mktemp("finer"), photos)
    assert segment(root, *FINER).returncode == 0
    return masks(root).identity


def refused(answer: subprocess.CompletedProcess[str], why: str) -> None:
    assert answer.returncode == 4, answer.stderr
    body = json.loads(answer.stdout)
    assert why in body["error"]["found"]
    assert set(body["error"]) == {"kind", "found", "expected", "fix"}
    assert "Traceback" not in answer.stderr


# ----------------------------------------------------------------------------------------------------- disks


def test_a_full_disk_is_exit_4_the_old_artifact_stays_and_the_run_goes_on_later(
    photos: Path, finer: str, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        root = make(disk / "w", photos)
        before = masks(root).identity
        for left in (0, 12, 32, 60):  # KiB: full at once, among the masks, at the table, at the manifest
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(4096))
            os.truncate(filler, max(filler.stat().st_size - left * 1024, 0))
            refused(segment(root, *FINER), "the disk is full")
            assert masks(root).identity == before
            assert rehash(masks(root)) == []
            assert not list(root.rglob(".*.tmp"))  # what cannot be finished takes no room
            filler.unlink()
        assert segment(root, *FINER).returncode == 0
        assert masks(root).identity == finer
        assert rehash(masks(root)) == []


def test_a_file_that_may_not_grow_is_exit_4(copy: Path) -> None:
    """As a quota does; needs no other disk."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))

    before = masks(copy).identity
    ended = subprocess.run(
        command(copy, *FINER), capture_output=True, text=True, check=False, timeout=300, preexec_fn=limited
    )
    refused(ended, "the file may not grow so large")
    assert masks(copy).identity == before


def test_a_read_only_disk_is_exit_4_for_writers_and_nothing_to_readers(photos: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        root = make(disk / "w", photos)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        refused(segment(root, *FINER), "read-only")
        refused(segment(root, "--name", "other", "--model", "otsu"), "read-only")
        assert segment(root).returncode == 0  # up to date
        for reader in ("status", "verify", "list"):
            assert run_here(reader, "-w", root).returncode == 0


def test_a_workspace_that_vanishes_is_exit_4(copy: Path) -> None:
    partial = masks(copy).path.with_name("otsu.partial")
    with Popen(command(copy, *FINER), stdout=PIPE, stderr=PIPE, text=True) as process:
        wait_for(partial / "png")
        shutil.move(copy / "artifacts", copy / "away")
        out, err = process.communicate(timeout=300)
    assert process.returncode == 4, err
    assert "Traceback" not in err
    assert json.loads(out)["error"]["kind"] == "InputError"
    shutil.rmtree(copy / "artifacts", ignore_errors=True)
    shutil.move(copy / "away", copy / "artifacts")
    assert rehash(masks(copy)) == []


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.002)


# ------------------------------------------------------------------------------------------------- processes


def test_workers_killed_from_outside_cost_a_retry_and_no_case(copy: Path, finer: str) -> None:
    """As the kernel does it when memory runs out: first the workers, then everything but the run itself."""
    partial = masks(copy).path.with_name("otsu.partial")
    with Popen(command(copy, *FINER), stdout=PIPE, stderr=PIPE, text=True, start_new_session=True) as process:
        wait_for(partial / "png")
        for kill in range(3):
            for child in helpers(process.pid, youngest=kill < 2):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.05)
        _, err = process.communicate(timeout=300)
    assert process.returncode in (0, 3), err
    if process.returncode == 3:  # the same case was hit in both tries
        failed = masks(copy).table()
        assert set(failed.loc[failed["status"] == "failed", "reason"]) == {"worker_died"}
        assert segment(copy, *FINER, "--retry-failed").returncode == 0
    assert masks(copy).identity == finer


def helpers(session: int, *, youngest: bool) -> list[int]:
    """Processes of a session but its leader; or the last started of them, a worker."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == session and int(entry.name) != session:
                found.append((int(fields[19]), int(entry.name)))
    found.sort()
    return [pid for _, pid in (found[-1:] if youngest else found)]


def test_a_second_writer_is_refused_while_readers_and_other_artifacts_go_on(copy: Path) -> None:
    partial = masks(copy).path.with_name("otsu.partial")
    with Popen(command(copy, *FINER), stdout=PIPE, stderr=PIPE, text=True) as process:
        wait_for(partial / "png")
        process.send_signal(signal.SIGSTOP)  # it holds its lock, however long it takes
        try:
            second = segment(copy, "--settings", "work_px=190")
            assert second.returncode == 6
            assert f"process {process.pid}" in json.loads(second.stdout)["error"]["found"]
            assert run_here("status", "-w", copy).returncode == 0
            assert len(masks(copy).rows()) == PHOTOS
            assert segment(copy, "--name", "other", "--model", "otsu").returncode == 0
        finally:
            process.send_signal(signal.SIGCONT)
        process.communicate(timeout=300)
    assert process.returncode == 0


def test_a_lock_of_a_process_that_is_gone_is_not_in_the_way(copy: Path, finer: str) -> None:
    """Left by a machine that lost power; the number of its process is another's by now."""
    lock_file = masks(copy).path.with_name(".otsu.lock")
    lock_file.write_text(f"process {os.getpid()} on a machine that lost power since 2026-01-31 02:00:00")
    assert segment(copy, *FINER).returncode == 0
    assert masks(copy).identity == finer
    assert not lock_file.exists()


# -------------------------------------------------------------------------------------------------- sources


def test_a_photo_that_changes_while_it_is_read_is_read_again_next_time(tmp_path: Path) -> None:
    written_artifacts.make_workspace(tmp_path, {"ward": "inference"})
    photo = tmp_path / "ward" / "growing.png"
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo, compress_level=0)  # large, so that reading takes a moment
    Image.fromarray(pixels[:100, :100]).save(tmp_path / "ward" / "still.png")
    copying, at_work = threading.Event(), threading.Event()

    def copies() -> None:
        while not copying.is_set():
            os.utime(photo)
            at_work.set()

    other = threading.Thread(target=copies)
    other.start()
    try:
        at_work.wait(10)
        first = run_skinkit("ingest", "-w", tmp_path, "--jobs", "1", "--json")
    finally:
        copying.set()
        other.join()
    assert first.returncode == 3
    cases = Ref("cases", "ward")
    rows = open_artifact(load_workspace(tmp_path).path(cases)).table().set_index("image_id")
    assert rows.loc["growing", "reason"] == "image_changed"
    assert rows.loc["still", "status"] == "ok"
    assert run_here("ingest", "-w", tmp_path, "--jobs", "1").returncode == 0
    after = open_artifact(load_workspace(tmp_path).path(cases))
    assert after.table()["status"].tolist() == ["ok", "ok"]
    assert after.manifest["counts"]["kept"] == 1


def ingested_from_a_copy(workspace: Path, photos: Path, folder: Path) -> Path:
    """The folder, into which the photos were copied and from which the workspace reads them now."""
    shutil.copytree(photos, folder)
    settings = workspace / "skinkit.toml"
    settings.write_text(settings.read_text().replace(str(photos), str(folder)))
    assert run_here("ingest", "-w", workspace, "--jobs", "1").returncode == 0
    return folder


def test_a_photo_replaced_after_it_was_read_is_no_mixture(copy: Path, photos: Path, tmp_path: Path) -> None:
    """Masks are drawn from the very bytes that were ingested, or not at all."""
    other = ingested_from_a_copy(copy, photos, tmp_path / "photos")
    Image.fromarray(np.full((192, 240, 3), 200, np.uint8)).save(other / "i05.png")
    assert segment(copy, *FINER, "--no-upstream").returncode == 3
    rows = masks(copy).table().set_index("image_id")
    assert rows.loc["i05", "reason"] == "image_changed"
    assert rows["status"].value_counts().to_dict() == {"ok": PHOTOS - 1, "failed": 1}


def test_a_share_that_is_not_mounted_loses_no_case(copy: Path, photos: Path, tmp_path: Path) -> None:
    share = ingested_from_a_copy(copy, photos, tmp_path / "share")
    share.rename(tmp_path / "away")
    share.mkdir()
    answer = run_here("segment", "-w", copy, "--jobs", "1", "--json")
    refused(answer, f"no image in {share}, where {PHOTOS} were read before")
    assert len(masks(copy).rows()) == PHOTOS
    share.rmdir()
    assert run_here("segment", "-w", copy, "--jobs", "1").returncode == 4  # nothing to mount on
    (tmp_path / "away").rename(share)
    assert run_here("segment", "-w", copy, "--jobs", "1").returncode == 0
