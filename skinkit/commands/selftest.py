"""selftest: test this installation on generated lesions.

It imports every library, compares the features of a lesion with stored values of PyRadiomics, and then runs a
hospital's commands as separate processes: train, kill a stage and resume it, pack the model and install it in another
workspace, predict, write the clinic report, and provoke every exit code. It needs no network, home folder or workspace,
and writes only to the temporary folder (or --folder). Exit code 0 if every check passes, else 4.

The first run on a machine also compiles the radiomics kernels (half a minute).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from skinkit.artifacts.artifact import open_artifact
from skinkit.artifacts.files import file_sha256
from skinkit.artifacts.locks import lock
from skinkit.commands import Context
from skinkit.data.folder import DESCRIPTION
from skinkit.errors import InputError, SkinkitError
from skinkit.options import Help

PANEL = "Start", 4
SHARED_OPTIONS = ()

FAILED = 4
_SECONDS = 300
_LESIONS = 24
_WHY_KEPT = "a few drawn photos: the machine is checked, and no model"
_TOML = """file = "lesions.csv"
modality = "clinical"
[columns]
image = "file"
patient_id = "patient"
lesion_id = "lesion"
age_years = "age_years"
sex = "sex"
site = "region"
bleed = "bleed"
"""


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    folder: Annotated[str, Help("work below this folder instead of the system's temporary one", writes="scratch")] = ""


class _NotSoError(Exception):
    """A check failed."""


@dataclass(frozen=True)
class _Place:
    """The workspaces of the test.

    Attributes:
        home: the workspace that trains.
        ward: the workspace that only predicts.
        pack: the model between them.
    """

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def ward(self) -> Path:
        return self.folder / "ward"

    @property
    def pack(self) -> Path:
        return self.folder / "model.skinkit"

    def table(self, *parts: str) -> Path:
        """The table of an artifact of ``home``."""
        return self.home.joinpath("artifacts", *parts, "table.parquet")


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Run every check in order; checks that depend on a failed one are skipped."""
    began = time.monotonic()
    checks: list[dict[str, Any]] = []
    try:
        holder = tempfile.TemporaryDirectory(prefix="skinkit-selftest-", dir=config.folder or None)
    except OSError as error:
        where = config.folder or tempfile.gettempdir()
        raise InputError(f"{where}: {error.strerror}", "a folder to work in", "give --folder DIR") from None
    with holder as name:
        place = _Place(Path(name))
        # PyTorch makes this folder as it is imported, in the folder for temporary files unless told otherwise.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(place.folder / "inductor"))
        for check, work in _CHECKS.items():
            context.console.info(f"{check} ...")
            start = time.monotonic()
            state, detail = "skipped", "an earlier check failed"
            if check in _ALONE or all(result["state"] == "ok" for result in checks):
                state, detail = _run_check(work, place)
            seconds = round(time.monotonic() - start, 1)
            checks.append({"check": check, "state": state, "seconds": seconds, "detail": detail})
    bad = [result["check"] for result in checks if result["state"] != "ok"]
    seconds = round(time.monotonic() - began, 1)
    lines = [f"{c['check']:<18} {c['state']:<8} {c['seconds']:>6.1f} s  {c['detail']}" for c in checks]
    lines.append(f"not as it should be: {', '.join(bad)}" if bad else f"everything works ({seconds:.0f} s)")
    return {
        "exit_code": FAILED if bad else 0,
        "passed": not bad,
        "checks": checks,
        "seconds": seconds,
        "text": "\n".join(lines),
    }


def _run_check(work: Callable[[_Place], str], place: _Place) -> tuple[str, str]:
    try:
        return "ok", work(place)
    except _NotSoError as error:
        return "bad", str(error)
    except SkinkitError as error:
        return "bad", error.found
    except Exception as error:  # noqa: BLE001 - a broken installation fails in every way there is
        return "bad", f"{type(error).__name__}: {error}"


def _skinkit(*arguments: str | Path, expect: int = 0) -> dict[str, Any]:
    """The JSON output of a command in its own process; an unexpected exit code fails the check."""
    command = [sys.executable, "-m", "skinkit", *map(str, arguments), "--json", "--quiet"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise _NotSoError(f"'skinkit {arguments[0]}' did not end within {_SECONDS} s") from None
    body: dict[str, Any] = {}
    if answer.stdout.startswith("{"):
        body = json.loads(answer.stdout)
    if answer.returncode != expect:
        message = (body.get("error") or {}).get("found") or answer.stderr.strip().rpartition("\n")[2]
        raise _NotSoError(f"'skinkit {arguments[0]}' ended with {answer.returncode} instead of {expect}: {message}")
    return body


# ------------------------------------------------------------------------------------------------------ the checks


def _libraries(place: _Place) -> str:
    import importlib

    from skinkit.commands.doctor import NEEDED, TORCH

    absent = []
    for name in (*NEEDED, *TORCH):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if name in NEEDED or error.name != name:
                raise
            absent.append(name)
    return f"all {len(NEEDED) + len(TORCH)}" if not absent else f"without networks: no {', '.join(absent)}"


def _radiomics(place: _Place) -> str:
    from skinkit.radiomics import reference, reference_values

    engines = ("fast", "pyradiomics") if reference.installed() else ("fast",)
    for engine in engines:
        differing = reference_values.differing(engine)
        if differing:
            name, stored, measured = differing[0]
            raise _NotSoError(f"{engine}: {len(differing)} features differ, first {name}: {measured!r}, not {stored!r}")
    skipped = "both engines" if len(engines) > 1 else "the fast engine; PyRadiomics itself is not installed, skipped"
    return f"102 features as PyRadiomics 3.0.1 has them, by {skipped}"


def _drawing(place: _Place) -> str:
    from skinkit.data.phantoms import Hospital, write_cohort

    rows = {
        "patients": write_cohort(place.home / "patients", Hospital("D"), _LESIONS, seed=1, masks=False),
        "walk_in": write_cohort(place.ward / "walk_in", Hospital("W"), 4, seed=2, masks=False),
    }
    for workspace, cohort, role in ((place.home, "patients", "development"), (place.ward, "walk_in", "inference")):
        folder = workspace / cohort
        toml = _TOML + ('diagnosis = "diagnosis"\n' if role == "development" else "")
        (folder / DESCRIPTION).write_text(toml, encoding="utf-8")
        with (folder / "lesions.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[cohort][0]))
            writer.writeheader()
            writer.writerows(rows[cohort])
        _skinkit("init", workspace, "--cohort", f"{cohort}=folder:{folder}:{role}", "--model", "logistic")
    return f"{len(rows['patients'])} and {len(rows['walk_in'])} photos"


def _chain(place: _Place) -> str:
    body = _skinkit("train", "--radiomics", "all", "--allow-untrained", _WHY_KEPT, "-w", place.home)
    return f"{len(body['steps'])} artifacts from photos to a trained model"


def _killed(place: _Place) -> str:
    """A stage that is killed while it works, and run again, ends with the same bytes."""
    table = place.table("patients", "masks", "otsu")
    before = table.read_bytes()
    partial = table.parent.with_name("otsu.partial")
    command = [sys.executable, "-m", "skinkit", "segment", "-w", str(place.home), "--quiet"]
    for _ in range(3):
        shutil.rmtree(table.parent)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not partial.exists():
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        hit = not table.exists()
        _skinkit("segment", "-w", place.home)
        if table.read_bytes() != before:
            raise _NotSoError("the masks differ after a kill")
        if hit:
            return "segment was killed, went on, and left the same bytes"
    raise _NotSoError("segment could not be killed while it worked")


def _travels(place: _Place) -> str:
    body = _skinkit("models", "pack", "logistic", "--output", place.pack, "-w", place.home)
    _skinkit("models", "install", place.pack, "--sha256", body["sha256"], "-w", place.ward)
    _skinkit("predict", "-w", place.ward)
    predictions = open_artifact(place.ward / "artifacts" / "walk_in" / "predictions" / "logistic").table()
    good = predictions.loc[predictions["status"] == "ok", "malignancy"]
    if good.empty or not good.between(0, 1).all():
        raise _NotSoError("the predictions are no probabilities")
    return f"{body['bytes'] // 1024} KiB packed, installed elsewhere, {len(good)} rows predicted"


def _report(place: _Place) -> str:
    body = _skinkit("report", "--for", "clinic", "-w", place.ward)
    (page,) = map(Path, body["result"]["pages"])
    text = page.read_text(encoding="utf-8")
    if "Content-Security-Policy" not in text or "<script" in text:
        raise _NotSoError(f"{page} is not a safe page")
    return f"a worklist of {len(text) // 1024} KiB"


def _exit_codes(place: _Place) -> str:
    """Every exit code that scripts rely on."""
    _skinkit("predict", "--nonsense", "-w", place.ward, expect=2)
    photo = sorted((place.ward / "walk_in" / "images").iterdir())[0]
    whole = photo.read_bytes()
    photo.write_bytes(whole[: len(whole) // 2])
    _skinkit("predict", "-w", place.ward, expect=3)
    _skinkit("predict", "-w", place.ward)  # a case that failed once does not fail again
    _skinkit("predict", "--model", "absent", "-w", place.ward, expect=4)
    with lock(place.ward / "artifacts" / "walk_in" / "cases"):
        photo.write_bytes(whole)
        _skinkit("ingest", "-w", place.ward, expect=6)
    model = place.ward / "artifacts" / "models" / "logistic" / "fold_0" / "logistic.json"
    before = file_sha256(model)
    model.write_text(model.read_text(encoding="utf-8") + " ", encoding="utf-8")
    _skinkit("predict", "-w", place.ward, expect=5)
    _skinkit("models", "install", place.pack, "-w", place.ward)
    if file_sha256(model) != before:
        raise _NotSoError("a damaged model was not repaired by reinstalling it")
    _skinkit("predict", "-w", place.ward)
    return "0, 2, 3, 4, 5 and 6 where they belong"


_CHECKS: dict[str, Callable[[_Place], str]] = {
    "libraries": _libraries,
    "radiomics": _radiomics,
    "drawing": _drawing,
    "chain": _chain,
    "kill and resume": _killed,
    "a model travels": _travels,
    "report": _report,
    "exit codes": _exit_codes,
}
_ALONE = ("libraries", "radiomics", "drawing")
"""Checks that depend on no other."""
