"""The test access log counts what is new, nothing twice, and shows what was changed."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skinkit.artifacts.files import digest
from skinkit.audit import test_access_log
from skinkit.cli import main
from skinkit.errors import BusyError, RefusedError


def use(**more: Any) -> dict[str, Any]:
    given = {"cohort": "jinan", "role": "external", "model": "probe", "model_identity": "m1", "content": "c1"}
    return {**given, "endpoint": "auroc", **more}


def test_the_same_content_is_no_new_use(tmp_path: Path) -> None:
    first = test_access_log.add(tmp_path, use())
    again = test_access_log.add(tmp_path, use(endpoint="sensitivity"))
    other_model = test_access_log.add(tmp_path, use(model_identity="m2"))
    other_content = test_access_log.add(tmp_path, use(content="c2"))
    elsewhere = test_access_log.add(tmp_path, use(cohort="pad", role="held_out"))
    assert [x.number for x in (first, again, other_model, other_content, elsewhere)] == [1, 1, 2, 3, 1]
    assert [x.new for x in (first, again, other_model, other_content, elsewhere)] == [True, False, True, True, True]
    assert again.entry["endpoint"] == "auroc"
    assert test_access_log.counts(tmp_path) == {"jinan": 3, "pad": 1}
    assert test_access_log.described(other_content).startswith(
        "3rd access to the external cohort jinan; the first was on"
    )
    assert "no new access" in test_access_log.described(again)


def test_nothing_that_was_written_changes(tmp_path: Path) -> None:
    test_access_log.add(tmp_path, use())
    before = (tmp_path / test_access_log.LEDGER).read_bytes()
    test_access_log.add(tmp_path, use(content="c2"))
    assert (tmp_path / test_access_log.LEDGER).read_bytes().startswith(before)
    lines = (tmp_path / test_access_log.LEDGER).read_text().splitlines()
    assert all({"time", "previous", "cohort"} <= set(json.loads(line)) for line in lines)


@pytest.mark.parametrize("harm", ["change", "change_last", "remove", "reorder", "garbage"])
def test_tampering_shows(tmp_path: Path, harm: str) -> None:
    for content in ("c1", "c2", "c3"):
        test_access_log.add(tmp_path, use(content=content))
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
        test_access_log.add(tmp_path, use(content="c4"))


def _add(item: tuple[str, int]) -> bool:
    while True:
        try:
            return test_access_log.add(Path(item[0]), use(content=f"c{item[1]}")).new
        except BusyError:
            continue


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        assert all(pool.map(_add, [(str(tmp_path), n) for n in range(6)]))
    assert len(test_access_log.read(tmp_path)) == 6


def test_status_counts_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "skinkit.toml").write_text("[workspace]\n", encoding="utf-8")
    test_access_log.add(tmp_path, use())
    test_access_log.add(tmp_path, use(content="c2"))
    assert main(["status", "-w", str(tmp_path)]) == 0
    assert "accesses to test cases (test_access_log.jsonl): jinan 2" in capsys.readouterr().out


def scored(n: int = 20, seed: int = 0, cohort: str = "") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    table = pd.DataFrame({"case_id": [f"c{i:02d}" for i in range(n)], "class": ["MEL", "NEV"] * (n // 2)})
    return table.assign(level="image", cohort=cohort, malignancy=p, p__diagnosis__MEL=p, p__diagnosis__NEV=1 - p)


def of(table: pd.DataFrame, **more: Any) -> dict[str, Any]:
    return use(content=more.pop("content", "c"), **test_access_log.of_scored(table), **more)


def test_another_name_or_other_settings_are_no_new_use(tmp_path: Path) -> None:
    first = test_access_log.add(tmp_path, of(scored(), command="evaluate", settings={"bootstrap": 100}))
    settings = test_access_log.add(tmp_path, of(scored(), command="evaluate", settings={"bootstrap": 200}))
    renamed = test_access_log.add(tmp_path, of(scored(), model="b", model_identity="m9", content="x", command="score"))
    cohort = test_access_log.add(tmp_path, of(scored(seed=1), cohort="copy", model_identity="m9", content="y"))
    shuffled = test_access_log.add(tmp_path, of(scored().iloc[::-1], command="evaluate", settings={"bootstrap": 100}))
    assert [x.number for x in (first, settings, renamed, cohort, shuffled)] == [1, 1, 1, 2, 1]
    assert [x.new for x in (first, settings, renamed, cohort, shuffled)] == [True, False, False, True, False]
    assert len(test_access_log.read(tmp_path)) == 4  # the last says what the first did
    assert test_access_log.counts(tmp_path) == {"jinan": 1, "copy": 2}


def test_a_use_without_new_answers_is_logged_and_not_counted(tmp_path: Path) -> None:
    assert test_access_log.add(tmp_path, of(scored())).number == 1
    drawn = test_access_log.add(tmp_path, of(scored(), command="embed", look=False, content=None))
    after = test_access_log.add(tmp_path, of(scored(seed=2), content="n"))
    assert (drawn.number, drawn.new, after.number) == (1, False, 2)
    assert [entry["number"] for entry in test_access_log.read(tmp_path)] == [1, 1, 2]


def test_a_log_that_was_cut_or_taken_away_does_not_restart_the_count(tmp_path: Path) -> None:
    accesses = [test_access_log.add(tmp_path, of(scored(seed=n), content=str(n))) for n in range(3)]
    kept = [{"number": each.number, "own": each.entry["own"]} for each in accesses]
    file = tmp_path / test_access_log.LEDGER
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:1]))
    cut = test_access_log.add(tmp_path, of(scored(seed=9), content="9"), kept)
    assert (cut.number, cut.lost) == (4, 2)
    assert "restore it" in test_access_log.described(cut)
    file.unlink()
    assert test_access_log.add(tmp_path, of(scored(seed=8), content="8"), kept).number == 4


def test_older_lines_are_read_and_counted(tmp_path: Path) -> None:
    """Lines without answers, settings, user or number, as an older version wrote them."""
    before, lines = "0" * 64, []
    for n in range(2):
        entry = {**use(content=f"c{n}", time=f"2024-01-0{n + 1}T10:00:00+0000"), "cases": 20, "previous": before}
        entry["own"] = digest(entry)
        lines.append(json.dumps(entry, ensure_ascii=False, sort_keys=True).encode())
        before = hashlib.sha256(lines[-1]).hexdigest()
    (tmp_path / test_access_log.FORMER_LEDGER).write_bytes(b"\n".join(lines) + b"\n")
    same = test_access_log.add(tmp_path, of(scored(), content="c1", command="evaluate", settings={}))
    new = test_access_log.add(tmp_path, of(scored(seed=3), content="c7", command="evaluate", settings={}))
    assert (same.number, same.new, new.number) == (2, False, 3)
    assert new.first.startswith("2024-01-01")
    assert not (tmp_path / test_access_log.LEDGER).exists()


@pytest.mark.parametrize(("name", "kept"), [("reader 2", "reader 2"), ("", None)])
def test_who_looked_is_what_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: str | None
) -> None:
    monkeypatch.setenv(test_access_log.USER, name)
    assert test_access_log.add(tmp_path, use()).entry.get("user") == kept


def test_an_endpoint_counts_as_declared_only_with_the_first_access(tmp_path: Path) -> None:
    first = test_access_log.add(tmp_path, of(scored(), endpoint="a", settings={"primary": "a"}))
    later = test_access_log.add(tmp_path, of(scored(), endpoint="b", settings={"primary": "b"}))
    model = test_access_log.add(tmp_path, of(scored(seed=1), endpoint="a", content="2", settings={"primary": "a"}))
    none = test_access_log.add(tmp_path, of(scored(), endpoint=None, settings={"primary": ""}))
    assert [x.declared_first for x in (first, later, model, none)] == [True, False, True, False]
    assert later.declared is not None
    assert none.declared is None


@pytest.mark.parametrize(
    ("number", "said"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd")]
)
def test_ordinals(number: int, said: str) -> None:
    assert test_access_log.ordinal(number) == said


def test_a_table_is_logged_in_the_workspace_or_beside_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scored(60).drop(columns=["level", "cohort"]).rename(columns={"class": "diagnosis"}).to_csv(
        "theirs.csv", index=False
    )
    command = ["score", "theirs.csv", "--classes", "pad6", "--bootstrap", "20", "--no-shortcuts"]
    assert main(command) == 0
    assert "no test access log" in capsys.readouterr().out
    assert main([*command, "--out", "out"]) == 0
    assert "1st access" in capsys.readouterr().out
    assert len(test_access_log.read(tmp_path / "out")) == 1
    (tmp_path / "skinkit.toml").write_text("[workspace]\n", encoding="utf-8")
    for _ in range(2):
        assert main([*command, "--json", "--out", "out"]) == 0
        assert json.loads(capsys.readouterr().out)["look"]["number"] == 1
    (entry,) = test_access_log.read(tmp_path)
    assert (entry["command"], entry["cohort"], entry["settings"]["bootstrap"]) == ("score", "theirs", 20)
