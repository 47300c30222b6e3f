"""The ledger of looks counts what is new, nothing twice, and shows what was changed."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from skinkit.audit import test_access_log
from skinkit.cli import main
from skinkit.errors import BusyError, RefusedError


def look(**more: Any) -> dict[str, Any]:
    given = {"cohort": "jinan", "role": "external", "model": "probe", "model_identity": "m1", "content": "c1"}
    return {**given, "endpoint": "auroc", **more}


def test_the_same_content_is_no_new_look(tmp_path: Path) -> None:
    first = test_access_log.add(tmp_path, look())
    again = test_access_log.add(tmp_path, look(endpoint="sensitivity"))
    other_model = test_access_log.add(tmp_path, look(model_identity="m2"))
    other_content = test_access_log.add(tmp_path, look(content="c2"))
    elsewhere = test_access_log.add(tmp_path, look(cohort="pad", role="held_out"))
    assert [x.number for x in (first, again, other_model, other_content, elsewhere)] == [1, 1, 2, 3, 1]
    assert [x.new for x in (first, again, other_model, other_content, elsewhere)] == [True, False, True, True, True]
    assert again.entry["endpoint"] == "auroc"
    assert test_access_log.counts(tmp_path) == {"jinan": 3, "pad": 1}
    assert test_access_log.described(other_content) == "look 3 at the external cohort jinan"
    assert "no new look" in test_access_log.described(again)


def test_nothing_that_was_written_changes(tmp_path: Path) -> None:
    test_access_log.add(tmp_path, look())
    before = (tmp_path / test_access_log.LEDGER).read_bytes()
    test_access_log.add(tmp_path, look(content="c2"))
    assert (tmp_path / test_access_log.LEDGER).read_bytes().startswith(before)
    lines = (tmp_path / test_access_log.LEDGER).read_text().splitlines()
    assert all({"time", "previous", "cohort"} <= set(json.loads(line)) for line in lines)


@pytest.mark.parametrize("harm", ["change", "change_last", "remove", "reorder", "garbage"])
def test_tampering_shows(tmp_path: Path, harm: str) -> None:
    for content in ("c1", "c2", "c3"):
        test_access_log.add(tmp_path, look(content=content))
    file = tmp_path / test_access_log.LEDGER
    lines = file.read_bytes().splitlines(keepends=True)
    harmed = {
        "change": [lines[0].replace(b'"auroc"', b'"brier"'), *lines[1:]],
        "change_last": [*lines[:2], lines[2].replace(b'"auroc"', b'"brier"')],
        "remove": [lines[0], lines[2]],
        "reorder": [lines[1], lines[0], lines[2]],
        "garbage": [*lines[:2], b"no json\n"],
    }
    file.write_bytes(b"".join(harmed[harm]))
    with pytest.raises(RefusedError) as error:
        test_access_log.read(tmp_path)
    assert "line " in error.value.found
    with pytest.raises(RefusedError):
        test_access_log.add(tmp_path, look(content="c4"))


def _add(item: tuple[str, int]) -> bool:
    while True:
        try:
            return test_access_log.add(Path(item[0]), look(content=f"c{item[1]}")).new
        except BusyError:
            continue


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        assert all(pool.map(_add, [(str(tmp_path), n) for n in range(6)]))
    assert len(test_access_log.read(tmp_path)) == 6


def test_status_counts_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "skinkit.toml").write_text("[workspace]\n", encoding="utf-8")
    test_access_log.add(tmp_path, look())
    test_access_log.add(tmp_path, look(content="c2"))
    assert main(["status", "-w", str(tmp_path)]) == 0
    assert "accesses to test cases (test_access_log.jsonl): jinan 2" in capsys.readouterr().out
