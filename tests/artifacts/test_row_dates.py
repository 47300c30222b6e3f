"""Since when a row has been as it is: kept over remakes, outside the identity, never running backwards."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from skinkit.artifacts import row_dates
from skinkit.artifacts.artifact import Artifact, ArtifactRecipe, open_artifact
from skinkit.artifacts.builder import Builder
from skinkit.artifacts.row_dates import Dating
from skinkit.schemas import PREDICTIONS


def _make(path: Path, prints: dict[str, str], run: str) -> Artifact:
    """Predictions of these cases: case -> what it was made from."""
    recipe = ArtifactRecipe("predictions", 1, "predict", 1, {}, {"of": str(sorted(prints.items()))})
    with Builder(path, PREDICTIONS, recipe, run=run) as build:
        for level, case in build.plan({("image", case): content for case, content in prints.items()}):
            build.add({"level": level, "case_id": case, "malignancy": 0.5})
        return build.finish()


def test_a_kept_row_keeps_its_date_and_a_changed_one_gets_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "predictions"
    _make(path, {"a": "1", "b": "1", "c": "1"}, "first")
    first = _runs(path)
    assert first == {"a": "first", "b": "first", "c": "first"}
    _make(path, {"a": "1", "b": "2", "c": "1", "d": "1"}, "second")
    assert _runs(path) == {"a": "first", "b": "second", "c": "first", "d": "second"}
    before, after = (
        {dating.run: dating.moment for dating in open_artifact(path).dates()}[r] for r in ("first", "second")
    )
    assert before < after


def _runs(path: Path) -> dict[str, str]:
    artifact = open_artifact(path)
    return dict(zip(artifact.table()["case_id"], (dating.run for dating in artifact.dates()), strict=True))


def test_dates_do_not_enter_the_identity(tmp_path: Path) -> None:
    one, two = (_make(tmp_path / name, {"a": "1"}, name) for name in ("one", "two"))
    assert one.identity == two.identity
    assert row_dates.FILE in one.manifest["beside"]


def test_rows_made_by_a_killed_run_have_the_date_of_the_run_that_finished(tmp_path: Path) -> None:
    path = tmp_path / "predictions"
    recipe = ArtifactRecipe("predictions", 1, "predict", 1, {}, {"of": "[('a', '1'), ('b', '1')]"})
    with pytest.raises(KeyboardInterrupt), Builder(path, PREDICTIONS, recipe, run="killed") as build:  # noqa: PT012
        build.plan({("image", "a"): "1", ("image", "b"): "1"})
        build.add({"level": "image", "case_id": "a"})
        raise KeyboardInterrupt
    made = _make(path, {"a": "1", "b": "1"}, "finished")
    assert made.manifest["counts"]["kept"] == 1
    assert _runs(path) == {"a": "finished", "b": "finished"}


def test_time_never_runs_backwards() -> None:
    ahead = Dating((datetime.datetime.now().astimezone() + datetime.timedelta(hours=3)).isoformat())
    assert row_dates.now("late", [ahead]).moment > ahead.moment


def test_an_artifact_without_dates_has_those_of_its_making(tmp_path: Path) -> None:
    path = tmp_path / "predictions"
    made = _make(path, {"a": "1", "b": "1"}, "old")
    (path / row_dates.FILE).unlink()
    assert {dating.at for dating in open_artifact(path).dates()} == {made.manifest["made"]["at"]}


def test_dates_are_written_by_the_stretch(tmp_path: Path) -> None:
    old, new = Dating("2026-01-01T00:00:00+00:00", "old"), Dating("2026-01-02T00:00:00+00:00", "new")
    datings = [old] * 50_000 + [new] + [old] * 50_000
    data = row_dates.to_json(datings)
    assert len(data) < 500
    assert row_dates.from_json(json.loads(data)) == datings


def test_damaged_dates_are_said_and_every_row_counts_as_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Delivered once too often is better than never."""
    path = tmp_path / "predictions"
    _make(path, {"a": "1", "b": "1"}, "first")
    file = path / row_dates.FILE
    file.write_bytes(file.read_bytes().replace(b'"first"', b'"firsd"'))
    made = _make(path, {"a": "1", "b": "1", "c": "1"}, "second")
    assert f"{file} is not the file that its manifest describes" in capsys.readouterr().err
    assert made.manifest["counts"]["kept"] == 2
    assert _runs(path) == {"a": "second", "b": "second", "c": "second"}
