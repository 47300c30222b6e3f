"""The hospital's night, run as cron runs it: no home, a plain language, a read-only program, files nobody cleaned."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import run_here, small_disk

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.locks import lock

REPOSITORY = Path(__file__).resolve().parent.parent
HOSPITAL = REPOSITORY / "examples" / "hospital"
SHELLS = list({os.path.realpath(at): name for name in ("dash", "bash", "sh") if (at := shutil.which(name))}.values())
"""Each program once: ``sh`` is one of the others on most machines."""
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def ready(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an installed model, patients' photos outside of it, and nothing done yet."""
    folder = tmp_path_factory.mktemp("hospital")
    pack = folder / "model.skinkit"
    assert run_here("models", "pack", "lightgbm", "--output", pack, "-w", demo).returncode == 0
    work = folder / "skin work"
    (work / "photos").mkdir(parents=True)
    shutil.copy(demo / "sources" / "walk_in" / "cohort.toml", work / "photos")
    shutil.copytree(demo / "sources" / "walk_in" / "images", folder / "camera")
    shutil.copy(demo / "sources" / "walk_in" / "lesions.csv", folder / "lesions.csv")
    cohort = f"ward=folder:{work / 'photos'}:inference"
    assert run_here("init", work, "--cohort", cohort).returncode == 0
    assert run_here("models", "install", pack, "-w", work).returncode == 0
    return work


def environment(work: Path) -> dict[str, str]:
    """What cron gives: a path and the settings; no home, no user, a language that knows ASCII."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "LANG": "C",
        "SKINKIT_WORKSPACE": str(work),
        "SKINKIT_SETTLE_MIN": "0",
        "SKINKIT_JOBS": "1",
    }


def night(
    work: Path, shell: str = "sh", *, read_only: bool = False, **settings: str
) -> subprocess.CompletedProcess[str]:
    """One night."""
    command = [shell, str(HOSPITAL / "nightly.sh")]
    if read_only:
        place = str(REPOSITORY)
        script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && ! touch "$0/x" 2>/dev/null && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, place, *command]
    return subprocess.run(
        command, env={**environment(work), **settings}, capture_output=True, text=True, check=False, cwd="/"
    )


def can_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    probe = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0"', "/tmp"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def arrive(work: Path, hospital: Path, *names: str) -> list[str]:
    """Photos that come in with Chinese names and spaces, and the table that names them; what they are called now."""
    camera = hospital / "camera"
    rows = list(csv.DictReader((hospital / "lesions.csv").read_text(encoding="utf-8").splitlines()))
    folder = work / "inbox" / "皮肤科 门诊"
    folder.mkdir(parents=True, exist_ok=True)
    called = {row["photo"]: f"照片 {row['photo']}" for row in rows}
    for name in names:
        shutil.copy(camera / name, folder / called[name])
    with (work / "inbox" / "lesions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "photo": called[row["photo"]]} for row in rows)
    return [called[name] for name in names]


def tables(work: Path) -> list[list[dict[str, str]]]:
    """The tables in the outbox, in the order they came."""
    files = sorted((work / "outbox").iterdir())
    assert all(file.read_bytes().startswith(b"\xef\xbb\xbf") for file in files)
    return [list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())) for file in files]


def test_three_nights(ready: Path, tmp_path: Path) -> None:
    work = tmp_path / "皮肤 work"
    shutil.copytree(ready, work)
    photos = sorted(p.name for p in (ready.parent / "camera").iterdir())
    first, later = photos[:4], photos[4]

    # 1. Four photos, one of them torn; one that is still hidden under the name of an upload.
    names = arrive(work, ready.parent, *first)
    torn = next((work / "inbox").rglob(names[0]))
    whole = torn.read_bytes()
    torn.write_bytes(whole[: len(whole) // 3])
    (work / "inbox" / ".upload.part").write_bytes(b"half")
    answer = night(work, read_only=can_mount())
    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert "files taken from the inbox:      5" in answer.stdout
    assert "cases that failed newly:         1" in answer.stdout
    assert answer.stdout == (work / "nightly" / "summary.txt").read_text(encoding="utf-8")
    assert [p.name for p in (work / "inbox").rglob("*") if p.is_file()] == [".upload.part"]
    assert (work / "artifacts" / "report" / "clinic-ward" / "index.html").is_file()
    (told,) = tables(work)
    with_photo = {row["accession"]: row for row in told if row["status"] in ("ok", "failed")}
    assert len(with_photo) == 4
    assert [row["reason"] for row in with_photo.values() if row["status"] == "failed"] == ["image_truncated"]
    assert sum(bool(row["malignancy"]) for row in with_photo.values()) == 3
    predictions = work / "artifacts" / "ward" / "predictions" / "lightgbm"
    before = open_artifact(predictions).identity, (predictions / "table.parquet").stat().st_mtime_ns

    # 2. Nothing new: nothing is done, and what failed once does not fail again.
    answer = night(work, "bash" if "bash" in SHELLS else "sh")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "cases that failed newly:         0" in answer.stdout
    assert len(tables(work)) == 1
    assert (open_artifact(predictions).identity, (predictions / "table.parquet").stat().st_mtime_ns) == before

    # 3. One more photo, and the torn one exported again: these two, and no other, are in the new table.
    arrive(work, ready.parent, later, first[0])
    answer = night(work)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "of them in place of older ones: 1" in answer.stdout
    news = [row for row in tables(work)[1] if row["malignancy"]]
    assert sorted(row["accession"] for row in news) == sorted(f"照片 {Path(name).stem}" for name in (first[0], later))
    (kept,) = (p for p in (work / "nightly" / "replaced").rglob("*") if p.is_file())
    assert kept.read_bytes() == whole[: len(whole) // 3]

    # A second night beside one that is at work leaves at once and touches nothing.
    arrive(work, ready.parent, photos[5])
    with (work / "nightly" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        answer = night(work)
        assert answer.returncode == 6
        assert "another night" in answer.stderr
        assert len([p for p in (work / "inbox").rglob("*.jpg") if p.is_file()]) == 1
    # Another skinkit that writes the cohort is the same, and nothing is lost: the next night takes it up.
    with lock(work / "artifacts" / "ward" / "cases"):
        answer = night(work)
        assert answer.returncode == 6
        assert "busy" in answer.stdout
    assert len(tables(work)) == 2


def test_a_table_waits_for_its_outbox_and_comes_once(ready: Path, tmp_path: Path) -> None:
    work, share = tmp_path / "w", tmp_path / "mount" / "tables"
    shutil.copytree(ready, work)
    photos = sorted(p.name for p in (ready.parent / "camera").iterdir())
    state = work / "nightly"
    state.mkdir()
    (state / "until").write_text("2000-01-01T00:00:00+00:00\n")  # of a night before there were tokens
    for photo in photos[:2]:
        arrive(work, ready.parent, photo)
        answer = night(work, SKINKIT_OUTBOX=str(share))
        assert answer.returncode == 4, answer.stdout + answer.stderr
        assert "waits for the outbox" in answer.stdout
        assert not share.parent.exists()
        assert not (state / "token").exists()
    share.mkdir(parents=True)
    for files in (2, 2):  # what waited, and what is new since; then nothing
        answer = night(work, SKINKIT_OUTBOX=str(share))
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert len(list(share.iterdir())) == files
        assert (state / "token").read_text().startswith("ward/lightgbm/image/")
        assert not {"due", "until"} & {path.name for path in state.iterdir()}
    texts = [file.read_text(encoding="utf-8-sig") for file in sorted(share.iterdir())]
    rows = [row for text in texts for row in csv.DictReader(text.splitlines())]
    predicted = [row["accession"] for row in rows if row["malignancy"]]
    assert sorted(predicted) == sorted(f"照片 {Path(name).stem}" for name in photos[:2])


def test_young_files_wait_and_settings_are_checked(ready: Path, tmp_path: Path) -> None:
    work = tmp_path / "w"
    shutil.copytree(ready, work)
    arrive_from = ready.parent / "camera"
    (work / "inbox").mkdir()
    shutil.copy2(sorted(arrive_from.iterdir())[0], work / "inbox" / "old date.jpg")
    os.utime(work / "inbox" / "old date.jpg", (0, 0))  # a copy that keeps the date of the photo is young all the same
    answer = night(work, SKINKIT_SETTLE_MIN="10", SKINKIT="false")
    assert answer.returncode == 1  # 'false' in the place of skinkit: what it ends with is told
    assert "NOT DONE: predict ended with exit code 1" in answer.stdout
    assert "files still in the inbox:        1" in answer.stdout
    assert (work / "inbox" / "old date.jpg").is_file()
    assert night(work, SKINKIT="/no/such/program").returncode == 2
    assert night(tmp_path / "nowhere").returncode == 2
    assert night(work, SKINKIT_WORKSPACE="").returncode == 2
    assert night(work, SKINKIT_SETTLE_MIN="soon").returncode == 2
    assert night(work, SKINKIT_INBOX=str(work / "photos" / "new")).returncode == 2
    for share in ("SKINKIT_INBOX", "SKINKIT_PHOTOS"):
        assert night(work, **{share: str(tmp_path / "not" / "mounted")}).returncode == 4
    assert not (tmp_path / "not").exists()


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_night_that_is_stopped_goes_on_the_next(ready: Path, tmp_path: Path, shell: str) -> None:
    work = tmp_path / "w"
    shutil.copytree(ready, work)
    photos = sorted(p.name for p in (ready.parent / "camera").iterdir())
    arrive(work, ready.parent, *photos)
    command = [shell, str(HOSPITAL / "nightly.sh")]
    for number, moment in (
        (signal.SIGTERM, 0.3),
        (signal.SIGKILL, 1.0),
        (signal.SIGINT, 2.0),
        (signal.SIGHUP, 3.0),
        (signal.SIGTERM, 3.5),
    ):
        process = subprocess.Popen(
            command,
            env=environment(work),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_listen_to_hang_ups,  # noqa: PLW1509 - no other thread is at work here
        )
        time.sleep(moment)
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)  # the machine is switched off
        else:
            process.send_signal(number)
        assert process.wait(timeout=120) in (0, 128 + number, -number)
    answer = night(work, shell)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    rows = [row for table in tables(work) for row in table if row["malignancy"]]
    assert {row["accession"] for row in rows} == {f"照片 {Path(name).stem}" for name in photos}
    assert not list((work / "nightly").glob("now.*"))
    assert not (work / "photos" / ".incoming").exists()


def _listen_to_hang_ups() -> None:
    """Undo what nohup does to what it starts."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def around(folder: Path, stage: str, words: str) -> str:
    """A program in the place of skinkit's that does something more for one stage, in the words of a shell."""
    program = folder / f"around-{stage}"
    call = f'exec "{Path(sys.executable).parent}/skinkit" "$@"'
    program.write_text(f'#!/bin/sh\nif [ "$1" = {stage} ]; then\n{words}\nfi\n{call}\n')
    program.chmod(0o755)
    return str(program)


def first_line(answer: subprocess.CompletedProcess[str]) -> str:
    return answer.stdout.split("\n", 1)[0]


def fill(disk: Path) -> None:
    """Leave no byte."""
    with (disk / "filler").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(1024))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_full_disk_does_not_cost_the_summary(ready: Path, tmp_path: Path, shell: str) -> None:
    photos = sorted(p.name for p in (ready.parent / "camera").iterdir())
    with small_disk(tmp_path / "disk", "32m") as disk:
        work = disk / "w"
        shutil.copytree(ready, work)
        summary, good = work / "nightly" / "summary.txt", work / "nightly" / "summary.good.txt"

        # A disk that is full before the very first night: the mail says so.
        fill(disk)
        answer = night(work, shell)
        assert (answer.returncode, "full" in first_line(answer)) == (4, True), answer.stdout + answer.stderr
        (disk / "filler").unlink()

        arrive(work, ready.parent, photos[0])
        answer = night(work, shell)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        done = answer.stdout
        assert summary.read_text("utf-8") == good.read_text("utf-8") == done

        # Full when the night begins, two nights long: nothing is begun, both are told of, the good one is kept.
        waiting = arrive(work, ready.parent, photos[1])
        fill(disk)
        for _ in range(2):
            answer = night(work, shell)
            assert answer.returncode == 4, answer.stdout + answer.stderr
            assert "NOT DONE" in first_line(answer)
            assert "full" in first_line(answer)
            assert summary.read_text("utf-8") == answer.stdout
            assert str(good) in answer.stdout
            assert good.read_text("utf-8") == done
            assert [p.name for p in (work / "inbox").rglob("*.jpg")] == waiting
        (disk / "filler").unlink()

        # Full as soon as skinkit works: its own words are in the first line.
        filling = around(tmp_path, "predict", f'cat /dev/zero >"{disk}/filler" 2>/dev/null')
        answer = night(work, shell, SKINKIT=filling)
        assert answer.returncode == 4, answer.stdout + answer.stderr
        assert "NOT DONE: predict ended with exit code 4" in first_line(answer)
        assert "the disk is full" in first_line(answer)
        assert summary.read_text("utf-8") == answer.stdout
        assert good.read_text("utf-8") == done
        (disk / "filler").unlink()

        answer = night(work, shell)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert summary.read_text("utf-8") == good.read_text("utf-8") == answer.stdout != done
        accessions = [row["accession"] for table in tables(work) for row in table if row["malignancy"]]
        assert sorted(accessions) == sorted(f"照片 {Path(name).stem}" for name in photos[:2])


def test_a_share_that_is_not_mounted_gets_no_table(ready: Path, tmp_path: Path) -> None:
    work = tmp_path / "w"
    shutil.copytree(ready, work)
    photos = sorted(p.name for p in (ready.parent / "camera").iterdir())
    share, settings = tmp_path / "share", {"SKINKIT_OUTBOX": str(tmp_path / "share")}
    arrive(work, ready.parent, photos[0])
    answer = night(work, **settings)  # the work is done, and its table waits
    assert (answer.returncode, f"no folder {share}" in first_line(answer)) == (4, True)
    assert not share.exists()
    with small_disk(share, "1m"):
        assert night(work, **settings).returncode == 0
        (table,) = share.iterdir()
        rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
        assert [row["accession"] for row in rows if row["malignancy"]] == [f"照片 {Path(photos[0]).stem}"]
    arrive(work, ready.parent, photos[1])
    answer = night(work, **settings)  # its mount point is there
    assert (answer.returncode, "is not mounted" in first_line(answer)) == (4, True)
    assert not list(share.iterdir())
    share.rmdir()
    with small_disk(share, "1m"):
        assert night(work, **settings).returncode == 0
        (table,) = share.iterdir()
        rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["accession"] for row in rows if row["malignancy"]] == [f"照片 {Path(photos[1]).stem}"]


def test_failures_of_every_stage_are_counted_and_named(ready: Path, tmp_path: Path) -> None:
    work = tmp_path / "w"
    shutil.copytree(ready, work)
    photos = sorted(p.name for p in (ready.parent / "camera").iterdir())[:2]
    names = arrive(work, ready.parent, *photos)
    torn = next((work / "inbox").rglob(names[0]))
    torn.write_bytes(torn.read_bytes()[:3000])
    hurried = around(tmp_path, "explain", 'set -- "$@" --case-seconds 0.0001')
    answer = night(work, SKINKIT=hurried)
    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert "cases that failed newly:         2   (ingest 1, explain 1)" in answer.stdout
    named = re.findall(r"(?m)^  (ingest|segment|radiomics|fuse|predict|explain): (.*)$", answer.stdout)
    assert named == [
        ("ingest", f"照片 {Path(photos[0]).stem}: image_truncated"),
        ("explain", f"照片 {Path(photos[1]).stem}: timeout"),
    ]
    answer = night(work, SKINKIT_NAME_CASES="no")  # they failed before, and nobody is named
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "cases that failed newly:         0" in answer.stdout
    assert "照片" not in answer.stdout
    assert night(work, SKINKIT_NAME_CASES="perhaps").returncode == 2


SBATCH = """#!/bin/sh
# Stands for Slurm's: runs every task at once, and waits for them.
script= tasks=1 array=
for word; do
    case $word in
    --array=1-*) array=1 tasks=${word#--array=1-} ;;
    -*) ;;
    *) script="$script '$word'" ;;
    esac
done
eval "set -- $script"
pids=
for i in $(seq "$tasks"); do
    if [ -n "$array" ]; then
        SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=$tasks sh "$@" >>"$SLURM_LOG" 2>&1 &
    else
        sh "$@" >>"$SLURM_LOG" 2>&1 &
    fi
    pids="$pids $!"
done
for pid in $pids; do wait "$pid" || { echo "a task failed" >>"$SLURM_LOG"; exit 1; }; done
echo $$
"""


@pytest.mark.slow
def test_a_slurm_array_makes_what_one_machine_makes(ready: Path, demo: Path, tmp_path: Path) -> None:
    work = tmp_path / "w"
    shutil.copytree(ready, work)
    source = demo / "sources" / "walk_in"
    file = work / "skinkit.toml"
    text = file.read_text(encoding="utf-8").replace('path = "photos"', f'path = "{source}"')
    file.write_text(text.replace("cohorts.ward", "cohorts.walk_in"), encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    settings = {**environment(work), "SLURM_LOG": str(tmp_path / "slurm.log")}
    settings["PATH"] = f"{tmp_path / 'bin'}:{settings['PATH']}"
    command = ["sh", str(HOSPITAL / "array.slurm"), "walk_in", "3"]
    answer = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, cwd=tmp_path)
    log = (tmp_path / "slurm.log").read_text(encoding="utf-8")
    assert answer.returncode == 0, answer.stderr + log
    assert "a task failed" not in log
    table = "artifacts/walk_in/predictions/lightgbm/table.parquet"
    assert (work / table).read_bytes() == (demo / table).read_bytes()
    assert (work / "walk_in.csv").is_file()
    assert (work / "artifacts" / "report" / "clinic-walk_in" / "index.html").is_file()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", ["nightly.sh", "array.slurm"])
def test_the_scripts_are_plain_sh(shell: str, script: str) -> None:
    assert subprocess.run([shell, "-n", str(HOSPITAL / script)], check=False).returncode == 0


def test_every_setting_is_explained() -> None:
    text = (HOSPITAL / "nightly.sh").read_text(encoding="utf-8")
    head, _, body = text.partition("set -u")
    used = set(re.findall(r"\$\{?(SKINKIT[A-Z_]*)", body))
    assert used == set(re.findall(r"#     (SKINKIT[A-Z_]*)\b(?!=)", head))
