"""A receiver that keeps its token holds, in the end, what is there: no row is lost, and none comes twice."""

from __future__ import annotations

import datetime
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from written_artifacts import make_workspace

from skinkit.artifacts import row_dates
from skinkit.artifacts.artifact import ArtifactRecipe
from skinkit.artifacts.builder import Builder
from skinkit.artifacts.locks import lock
from skinkit.cli import main
from skinkit.commands import Context, export
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError
from skinkit.schemas import CASES, PREDICTIONS
from skinkit.workspace import Ref, Workspace

NO_CONTENT = {"time", "run", "skinkit", "change", "sequence"}
PHOTOS = ("a1", "b1", "c2", "d2", "e3")
"""The digit is the patient."""


def write_cases(workspace: Workspace, photos: Mapping[str, int], cohort: str = "ward") -> None:
    """Cases: photo -> number of its exam."""
    rows = [{"image_id": name, "accession": f"X{exam}", "patient_id": f"P{name[1]}"} for name, exam in photos.items()]
    recipe = ArtifactRecipe("cases", 1, "ingest", 1, {}, {"of": repr(rows)})
    with Builder(workspace.path(Ref("cases", cohort)), CASES, recipe) as build:
        todo = set(build.plan({(row["image_id"],): f"{row}" for row in rows}))
        for row in rows:
            if (row["image_id"],) in todo:
                build.add({"case_id": row["image_id"], "status": "ok", **row})
        build.finish()


def predict(workspace: Workspace, photos: Mapping[str, int], model: str = "m", cohort: str = "ward") -> None:
    """Predictions of photos and of their patients: photo -> malignancy in percent."""
    of = {("image", name): (name, value) for name, value in photos.items()}
    of |= {("patient", f"P{name[1]}"): (name, value) for name, value in photos.items()}
    recipe = ArtifactRecipe("predictions", 1, "predict", 1, {}, {"of": repr(sorted(photos.items()))})
    with Builder(workspace.path(Ref("predictions", cohort, model)), PREDICTIONS, recipe) as build:
        for key in build.plan({key: f"{model} {value}" for key, value in of.items()}):
            name, value = of[key]
            ids = {"level": key[0], "case_id": key[1], "image_id": name, "patient_id": f"P{name[1]}"}
            build.add({**ids, "malignancy": value / 100, "model": model, "status": "ok"})
        build.finish()


def answered(workspace: Workspace, since: str = "", cohorts: Sequence[str] = (), **options: Any) -> dict[str, Any]:
    """What ``skinkit export --json`` answers."""
    context = Context(workspace.root, Console(quiet=True, stream=io.StringIO()), cohorts=cohorts)
    return dict(export.run(export.Config(since=since, **options), context))


class Receiver:
    """A hospital's system that keeps its token and does what each row says."""

    def __init__(self, workspace: Workspace, **options: Any) -> None:
        self.workspace, self.options, self.token = workspace, options, ""
        self.rows: dict[tuple[str, str, str], dict[str, Any]] = {}

    def fetch(self) -> list[dict[str, Any]]:
        """Take one delivery; a row that says something untrue fails the test."""
        answer = answered(self.workspace, self.token, **self.options)
        assert answer["redelivered"] == []
        for row in answer["cases"]:
            key = (row["cohort"], row["level"], row["case"] if row["level"] == "image" else row[row["level"]])
            content = {column: value for column, value in row.items() if column not in NO_CONTENT}
            if row["change"] == "new":
                assert key not in self.rows
                self.rows[key] = content
            elif row["change"] == "corrected":
                assert self.rows[key] != content
                self.rows[key] = content
            else:
                assert row["change"] == row["status"] == "withdrawn"
                del self.rows[key]
        self.token = answer["token"]
        return list(answer["cases"])

    def changes(self) -> list[tuple[str, str]]:
        """Take one delivery: case and change of each row."""
        return [(row["case"], row["change"]) for row in self.fetch()]

    def assert_complete(self) -> None:
        """It holds what a new receiver gets, and nothing else."""
        fresh = Receiver(self.workspace, **self.options)
        fresh.fetch()
        assert self.rows == fresh.rows


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An inference cohort of two photos, both predicted."""
    made = make_workspace(tmp_path / "w", {"ward": "inference"}, model="m")
    write_cases(made, {"a1": 1, "c2": 1})
    predict(made, {"a1": 10, "c2": 20})
    return made


def test_what_changed_is_delivered_once_with_what_it_means(workspace: Workspace) -> None:
    receiver = Receiver(workspace)
    assert receiver.changes() == [("a1", "new"), ("c2", "new")]
    assert receiver.changes() == []
    write_cases(workspace, {"c2": 1, "d2": 1})
    assert sorted(receiver.changes()) == [("a1", "withdrawn"), ("d2", "new")]  # though the predictions still have a1
    predict(workspace, {"c2": 25, "d2": 30})
    assert receiver.changes() == [("c2", "corrected"), ("d2", "corrected")]
    assert receiver.changes() == []
    receiver.assert_complete()


def test_an_exam_number_is_content_though_no_prediction_changes(workspace: Workspace) -> None:
    receiver = Receiver(workspace)
    receiver.fetch()
    write_cases(workspace, {"a1": 1, "c2": 7})
    (row,) = receiver.fetch()
    assert (row["accession"], row["change"], row["malignancy"]) == ("X7", "corrected", 0.2)
    write_cases(workspace, {"a1": 1, "c2": 1})
    assert receiver.changes() == [("c2", "corrected")]


def test_what_came_and_went_between_two_deliveries_is_not_delivered(workspace: Workspace) -> None:
    slow, quick = Receiver(workspace), Receiver(workspace)
    slow.fetch()
    quick.fetch()
    predict(workspace, {"a1": 11, "c2": 20})
    assert quick.changes() == [("a1", "corrected")]
    predict(workspace, {"a1": 10, "c2": 20})
    assert quick.changes() == [("a1", "corrected")]
    assert slow.changes() == []


def test_a_rebuilt_artifact_with_the_same_content_delivers_nothing(workspace: Workspace) -> None:
    receiver = Receiver(workspace)
    receiver.fetch()
    for kind in ("predictions", "cases"):
        shutil.rmtree(workspace.artifacts / "ward" / kind)
    write_cases(workspace, {"a1": 1, "c2": 1})
    predict(workspace, {"a1": 10, "c2": 20})
    assert receiver.changes() == []


def test_another_model_and_another_level_are_changes_of_what_is_held(workspace: Workspace) -> None:
    receiver = Receiver(workspace)
    write_cases(workspace, {"a1": 1, "c2": 1, "e3": 1})
    receiver.fetch()
    predict(workspace, {"a1": 50, "c2": 60}, model="other")
    receiver.options = {"model": "other"}
    assert receiver.changes() == [("a1", "corrected"), ("c2", "corrected")]  # e3 waits for a prediction of either
    receiver.options = {"model": "other", "level": "patient"}
    changes = sorted((row["patient"], row["level"], row["change"]) for row in receiver.fetch())
    patients = ("P1", "P2", "P3")
    assert changes == [
        (patient, *what) for patient in patients for what in (("image", "withdrawn"), ("patient", "new"))
    ]
    receiver.assert_complete()


def test_a_cohort_that_is_not_asked_for_keeps_its_place_in_the_token(tmp_path: Path) -> None:
    made = make_workspace(tmp_path / "w", {"ward": "inference", "clinic": "inference"}, model="m")
    for cohort in ("ward", "clinic"):
        write_cases(made, {"a1": 1}, cohort)
        predict(made, {"a1": 10}, cohort=cohort)
    receiver = Receiver(made)
    assert len(receiver.fetch()) == 2
    for cohort in ("ward", "clinic"):
        predict(made, {"a1": 99}, cohort=cohort)
    Receiver(made).fetch()  # another receiver, for whom both changes are recorded
    receiver.options = {"cohorts": ["ward"]}
    assert [row["cohort"] for row in receiver.fetch()] == ["ward"]
    receiver.options = {}
    assert [row["cohort"] for row in receiver.fetch()] == ["clinic"]


def test_a_state_that_is_not_on_record_is_delivered_again_and_said_aloud(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver = Receiver(workspace)
    receiver.fetch()
    ledger = workspace.artifacts / "ward" / "deliveries" / "m" / "image.json"
    backup = ledger.read_bytes()
    predict(workspace, {"a1": 10, "c2": 21})
    receiver.fetch()
    predict(workspace, {"a1": 10, "c2": 22})
    ledger.write_bytes(backup)  # and with it a numbering that goes another way from here on
    answered(workspace)
    capsys.readouterr()
    assert main(["export", "-w", str(workspace.root), "--since", receiver.token, "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert [row["change"] for row in answer["cases"]] == ["new", "new"]
    assert answer["redelivered"] == ["ward"]
    assert "no record of the export" in said.err
    receiver.rows, receiver.token = {}, answer["token"]
    assert receiver.changes() == []
    ledger.unlink()
    assert answered(workspace, receiver.token)["redelivered"] == ["ward"]


def test_a_damaged_record_is_refused_and_what_to_do_is_said(workspace: Workspace) -> None:
    token = answered(workspace)["token"]
    ledger = workspace.artifacts / "ward" / "deliveries" / "m" / "image.json"
    whole = ledger.read_bytes()
    place = whole.rindex(b'"P')
    for damaged in (whole[: len(whole) // 2], whole[:place] + b'"Q' + whole[place + 2 :], b"[]"):
        ledger.write_bytes(damaged)
        with pytest.raises(InputError) as refused:
            answered(workspace, token)
        assert str(ledger) in refused.value.found
        assert "remove it" in refused.value.fix
        assert ledger.read_bytes() == damaged


@pytest.mark.parametrize(
    "text", ["ward/m/image/12", "ward/m/image/0-00000000", "a/b", "../m/image/1-00000000", "ward/m/photo/1-00000000"]
)
def test_what_is_no_token_is_refused(workspace: Workspace, text: str) -> None:
    token = answered(workspace)["token"]
    for wrong in (text, f"{token}+{text}", f"{token}+{token}"):
        with pytest.raises(ConfigError) as refused:
            answered(workspace, wrong)
        assert wrong in refused.value.found


def test_ids_that_become_pseudonyms_begin_a_new_record(workspace: Workspace) -> None:
    receiver = Receiver(workspace)
    receiver.fetch()
    recipe = ArtifactRecipe("cases", 1, "ingest", 1, {}, {"of": "pseudonyms"})
    with Builder(workspace.path(Ref("cases", "ward")), CASES, recipe) as build:
        build.plan({("keyed",): "1"})
        build.add({"image_id": "keyed", "case_id": "keyed", "status": "ok"})
        build.finish(info={"pseudonyms": {"key_check": "abc"}})
    predict(workspace, {})
    answer = answered(workspace, receiver.token)
    assert answer["redelivered"] == ["ward"]
    assert [row["case"] for row in answer["cases"]] == ["keyed"]
    assert b'"a1"' not in (workspace.artifacts / "ward" / "deliveries" / "m" / "image.json").read_bytes()


def test_a_workspace_from_before_the_numbers_goes_on_from_a_time(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("cases", "predictions/m"):
        (workspace.artifacts / "ward" / kind / row_dates.FILE).unlink()
    assert main(["export", "-w", str(workspace.root), "--since", "2000-01-01", "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert [row["case"] for row in answer["cases"]] == ["a1", "c2"]
    assert "goes by the clock" in said.err
    predict(workspace, {"a1": 10, "c2": 21})
    assert [row["case"] for row in answered(workspace, answer["token"])["cases"]] == ["c2"]


def _read_only(folder: Path) -> list[str]:
    """The start of a command line in which a folder may only be read; empty where this machine cannot do that."""
    if os.geteuid() != 0:
        return ["sh", "-c", 'chmod -R a-w "$0" && exec "$@"', str(folder)]
    mounted = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mounted, str(folder)]
    possible = shutil.which("unshare") and subprocess.run([*command, "true"], check=False, capture_output=True)
    return command if possible and possible.returncode == 0 else []


def test_who_may_only_read_gets_the_rows_and_no_token(workspace: Workspace) -> None:
    start = _read_only(workspace.artifacts)
    if not start:
        pytest.skip("root may write everywhere here")
    command = [*start, sys.executable, "-m", "skinkit", "export", "-w", str(workspace.root), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    body = json.loads(answer.stdout)
    assert [row["case"] for row in body["cases"]] == ["a1", "c2"]
    assert body["token"] is None
    assert "nothing was recorded" in answer.stderr
    refused = subprocess.run([*command, "--since", "ward/m/image/1-00000000"], capture_output=True, check=False)
    assert refused.returncode == 4


class _Clock(datetime.datetime):
    """A clock that a test sets."""

    ahead = datetime.timedelta()

    @classmethod
    def now(cls, tz: Any = None) -> datetime.datetime:
        return datetime.datetime.now(tz) + cls.ahead


class Hospital(RuleBasedStateMachine):
    """Any order of what can happen to a cohort, with two receivers of its cases and one of its patients."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        for module in (row_dates, export):
            self.patch.setattr(module, "datetime", SimpleNamespace(**{**vars(datetime), "datetime": _Clock}))
        self.workspace = make_workspace(Path(self.folder.name) / "w", {"ward": "inference"}, model="m")
        self.exams: dict[str, int] = {}
        self.values = dict.fromkeys(PHOTOS, 0)
        self.receivers = [Receiver(self.workspace), Receiver(self.workspace), Receiver(self.workspace, level="patient")]
        write_cases(self.workspace, {})
        predict(self.workspace, {})

    def teardown(self) -> None:
        self.predict()
        for receiver in self.receivers:
            receiver.fetch()
            receiver.assert_complete()
        image = {key[2]: row for key, row in self.receivers[0].rows.items()}
        assert {name: row["accession"] for name, row in image.items()} == {n: f"X{e}" for n, e in self.exams.items()}
        assert {name: row["malignancy"] for name, row in image.items()} == {n: self.values[n] / 100 for n in self.exams}
        self.patch.undo()
        self.folder.cleanup()

    @rule(name=st.sampled_from(PHOTOS), exam=st.integers(1, 2))
    def add_or_renumber(self, name: str, exam: int) -> None:
        self.exams[name] = exam
        write_cases(self.workspace, self.exams)

    @rule(name=st.sampled_from(PHOTOS))
    def withdraw(self, name: str) -> None:
        if self.exams.pop(name, None):
            write_cases(self.workspace, self.exams)

    @rule(name=st.sampled_from(PHOTOS), value=st.integers(1, 2))
    def photo_exported_again(self, name: str, value: int) -> None:
        self.values[name] = value

    @rule()
    def predict(self) -> None:
        predict(self.workspace, {name: self.values[name] for name in self.exams})

    @rule()
    def killed_between_the_renames(self) -> None:
        for path in (self.workspace.path(Ref("cases", "ward")), self.workspace.path(Ref("predictions", "ward", "m"))):
            if path.exists():
                os.rename(path, path.with_name(path.name + ".previous"))

    @rule()
    def everything_computed_again(self) -> None:
        shutil.rmtree(self.workspace.artifacts / "ward" / "predictions")
        self.predict()

    @rule(hours=st.sampled_from([-100_000, -24, 24, 100_000]))
    def clock_jumps(self, hours: int) -> None:
        _Clock.ahead = datetime.timedelta(hours=hours)

    @rule(number=st.integers(0, 2))
    def delivery(self, number: int) -> None:
        self.receivers[number].fetch()

    @rule(number=st.integers(0, 2))
    def delivery_that_never_arrived(self, number: int) -> None:
        receiver = self.receivers[number]
        answered(self.workspace, receiver.token, **receiver.options)


TestHospital = Hospital.TestCase
TestHospital.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_artifacts_are_read_when_the_export_before_has_recorded_its_state(workspace: Workspace) -> None:
    ledger = workspace.artifacts / "ward" / "deliveries" / "m" / "image.json"
    received = []
    with lock(ledger):
        second = threading.Thread(target=lambda: received.extend(Receiver(workspace).fetch()))
        second.start()
        second.join(timeout=1.0)  # it waits: what it has read by now would be old
        predict(workspace, {"a1": 77, "c2": 20})
    second.join()
    assert [row["malignancy"] for row in received] == [0.77, 0.2]


def _receive(workspace: Workspace, ended: Any, failures: Any) -> None:
    """Take deliveries until the writer has ended, and one more; what is delivered never goes back."""
    receiver = Receiver(workspace)
    exams = [0]
    try:
        last = False
        while not last:
            last = ended.is_set()
            receiver.fetch()
            exams.append(int(receiver.rows["ward", "image", "a1"]["accession"].removeprefix("X")))
        assert exams == sorted(exams)
        receiver.assert_complete()
        assert receiver.rows["ward", "image", "a1"]["malignancy"] == 0.3
    except BaseException as error:
        failures.put(repr(error))
        raise


def test_exports_beside_each_other_and_beside_a_writer_lose_and_double_nothing(workspace: Workspace) -> None:
    processes = multiprocessing.get_context("fork")
    ended, failures = processes.Event(), processes.Queue()
    readers = [processes.Process(target=_receive, args=(workspace, ended, failures)) for _ in range(3)]
    for reader in readers:
        reader.start()
    for value in range(1, 31):
        write_cases(workspace, {"a1": value, "c2": 1, **({"e3": value} if value % 3 else {})})
        predict(workspace, {"a1": value, "c2": 20, **({"d2": value} if value % 2 else {})})
    ended.set()
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0, 0, 0], failures.get()
