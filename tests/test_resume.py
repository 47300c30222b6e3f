"""Every stage survives being killed by a signal at any moment: run again, it ends as if nothing had happened.

One moment a stage in ``make test``, SIGKILL: other signals end every stage in the same way, which ``test_cli`` holds.
Fifty in ``make test-all`` (``SKINKIT_KILLS`` sets another number; with ``-s`` each stage says what was hit, for
``docs/results/faults.md``).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL

import pytest
from conftest import run_here, run_skinkit

from skinkit.artifacts.artifact import open_artifact, rehash
from skinkit.stages import STAGES
from skinkit.workspace import Ref, load_workspace

TARGET: dict[str, tuple[Ref, list[str]]] = {
    "ingest": (Ref("cases", "phantoms"), ["--cohort", "phantoms"]),
    "segment": (Ref("masks", "phantoms", "otsu"), ["--cohort", "phantoms"]),
    "radiomics": (Ref("features", "phantoms", "otsu"), ["--cohort", "phantoms"]),
    "fuse": (Ref("fused", "phantoms", "otsu"), ["--cohort", "phantoms"]),
    "split": (Ref("split", name="grouped"), []),
    "select": (Ref("signature", name="grouped/otsu"), []),
    "synthesise": (Ref("synthetic", name="colours"), ["--model", "colours", "--per-class", "40"]),
    "train": (Ref("models", name="lightgbm"), []),
    "predict": (Ref("predictions", "jinan", "lightgbm"), ["--cohort", "jinan"]),
    "explain": (
        Ref("explanations", "walk_in", "lightgbm"),
        ["--cohort", "walk_in", "--cases", "6", "--cells", "4"],
    ),
    "evaluate": (Ref("metrics", "jinan", "lightgbm"), ["--external", "jinan", "--bootstrap", "50"]),
    "report": (Ref("report", name="clinic-walk_in"), ["--for", "clinic"]),
}


def test_every_stage_is_covered() -> None:
    assert list(TARGET) == list(STAGES)


WHOLE_FIGURES = True
"""What is killed is another process, whose figures are laid out: what stays and what is made again must be the same."""
PIECES = {"explain": "heatmaps/*.png"}
"""Stages that load for much longer than they work -> the files that show how far the work is. Kills wait for a number
of them: moments of the clock would fall into the loading, or after the end."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FURTHER = 5
KILLS = int(os.environ.get("SKINKIT_KILLS", "50"))


@pytest.fixture
def workspace(demo_copy: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The demo; where images are synthesised, with a generator of a package that is installed beside skinkit."""
    if request.node.callspec.params["stage"] == "synthesise":
        package = tmp_path / "toys"
        (package / "toys-1.dist-info").mkdir(parents=True)
        (package / "toys-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1\n")
        points = "[skinkit.models]\nclass_colours = class_colours\n"
        (package / "toys-1.dist-info" / "entry_points.txt").write_text(points)
        shutil.copy(Path(__file__).with_name("class_colours.py"), package)
        patch = request.getfixturevalue("monkeypatch")
        patch.syspath_prepend(package)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH")))))
        answer = run_here("train", "--model", "class_colours", "--name", "colours", "-w", str(demo_copy))
        assert answer.returncode == 0, answer.stderr
        answer = run_here("synthesise", *TARGET["synthesise"][1], "-w", str(demo_copy))
        assert answer.returncode == 0, answer.stderr
    return demo_copy


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill(stage: str, workspace: Path) -> None:
    hits = kill_and_go_on(stage, workspace, moments=1, seed=7, signals=(signal.SIGKILL,))
    assert hits["at work"]  # or the test has shown nothing


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", STAGES)
def test_fifty_kills(stage: str, workspace: Path) -> None:
    hits = kill_and_go_on(stage, workspace, moments=KILLS, seed=11, signals=SIGNALS)
    print(f"\nkills of {stage}: {dict(sorted(hits.items()))}")
    assert hits["at work"] >= (KILLS if stage in PIECES else KILLS / 10)


def kill_and_go_on(
    stage: str, folder: Path, *, moments: int, seed: int, signals: Sequence[signal.Signals]
) -> Counter[str]:
    """Remove the stage's artifact, start it, kill it, run it to its end, compare; what each kill hit.

    Every fourth kill falls anywhere from the start of the process on, the others into the stage's own work. How long
    that takes differs from run to run: where no moment has hit it, a few more kills fall as soon as it has begun. Of a
    stage with pieces every kill falls into the work, after some number of them, until as many as asked for have hit it.
    """
    ref, options = TARGET[stage]
    pieces = PIECES.get(stage, "")
    path = load_workspace(folder).path(ref)
    # What is remade inside the copied workspace, undisturbed, is what every disturbed run must come to.
    shutil.rmtree(path)
    # With workers where images are decoded first, in one process elsewhere: starting workers is most of the time.
    jobs = "2" if stage == "segment" else "1"
    command = [stage, *options, "-w", str(folder), "--no-upstream", "--jobs", jobs, "--json"]
    began = time.monotonic()
    undisturbed = run_skinkit if moments > 3 else run_here  # no kill falls into the start of a process but the fourth
    assert undisturbed(*command).returncode == 0
    whole = time.monotonic() - began
    expected = open_artifact(path)
    table = (path / "table.parquet").read_bytes()
    duration = float(expected.manifest["made"]["seconds"])
    n_pieces = _made(path, pieces)
    assert not pieces or n_pieces > 1
    chance = random.Random(seed)
    partial = path.with_name(path.name + ".partial")
    hits: Counter[str] = Counter()
    for moment in range(moments * (2 if pieces else 1) + _FURTHER):
        if moment >= moments and hits["at work"] >= (moments if pieces else 1):
            break
        number = signals[moment % len(signals)]
        shutil.rmtree(path)
        with subprocess.Popen(
            [sys.executable, "-m", "skinkit", *command],
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,
            preexec_fn=_listen_to_interrupts,  # noqa: PLW1509 - no other thread is at work here
        ) as process:
            if not pieces and moment < moments and moment % 4 == 3:
                time.sleep(chance.uniform(0, whole))
            else:
                while process.poll() is None and not partial.exists():
                    time.sleep(0.002)
                finished = chance.randrange(n_pieces) if pieces else 0
                until = time.monotonic() + (chance.uniform(0, duration) if pieces or moment < moments else 0)
                # Before the first piece a moment of the clock, at the latest when it is there.
                while process.poll() is None and (
                    _made(partial, pieces) < finished
                    if finished
                    else time.monotonic() < until and not _made(partial, pieces)
                ):
                    time.sleep(0.002)
            at_work = partial.exists() and process.poll() is None
            process.send_signal(number)
            # Told before Python listens to signals, it ends by the signal itself; told after its end, by 0.
            assert process.wait(60) in {0, -number, 128 + number}
            reached = _made(partial, pieces)
        hits[f"{number.name} -> {process.returncode}"] += 1
        live = at_work and process.returncode != 0
        hits["at work"] += live
        if pieces and live:
            hits[f"at work, {reached} of {n_pieces} pieces finished"] += 1
        assert nobody_is_left(process.pid), "a worker outlived its run"
        answer = run_here(*command)
        assert answer.returncode == 0, answer.stderr
        steps = json.loads(answer.stdout)["steps"]
        # The identity holds the hash of every file, and the files are rehashed: no table or picture is torn.
        assert open_artifact(path).identity == expected.identity
        assert (path / "table.parquet").read_bytes() == table
        assert rehash(open_artifact(path)) == []
        assert not partial.exists()
        if steps[-1]["up_to_date"]:  # killed after its very end: nobody has written since, and its lock lies there
            path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
        assert not list(path.parent.glob(".*"))
        assert not list(path.rglob(".*"))
    return hits


def _made(folder: Path, pieces: str) -> int:
    """How many of the files that show how far a stage is there are."""
    return len(list(folder.glob(pieces))) if pieces else 0


def _listen_to_interrupts() -> None:
    """Undo what a shell does to what it starts in the background, and nohup to anything."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def nobody_is_left(session: int, seconds: float = 20.0) -> bool:
    """Whether every process of a session has ended, some moments after its leader."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(_session(process) == session for process in Path("/proc").glob("[0-9]*")):
            return True
        time.sleep(0.01)
    return False


def _session(process: Path) -> int:
    """The session of a process that runs; 0 of one that has ended."""
    try:
        state, _, _, session = (process / "stat").read_text().rsplit(")", 1)[1].split()[:4]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state == "Z" else int(session)
