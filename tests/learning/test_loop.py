"""The training loop: what it keeps, that it can be killed at any time, and what it says when it cannot go on."""

from __future__ import annotations

import io
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_network
from toy_network import IoU, Toy, dark_squares, short, toy, train

from skinkit.console import Console
from skinkit.errors import ConfigError, InputError
from skinkit.learning import checkpoint, schedule
from skinkit.learning.examples import as_input
from skinkit.models.parts.protocol import Augment, Phase


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def told(**options: Any) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(stream=stream, **options), stream


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_to_segment_and_says_how(tmp_path: Path, precision: str) -> None:
    console, stream = told()
    trained = train(toy(), dark_squares(tmp_path), tmp_path / "c", precision=precision, console=console, label="toy")
    epochs = [row for row in trained.history if not math.isnan(row["train_loss"])]
    assert [(row["phase"], row["epoch"]) for row in epochs] == [
        ("head", 1),
        ("head", 2),
        *(("all", e) for e in range(1, 5)),
    ]
    assert epochs[-1]["train_loss"] < 0.75 * epochs[0]["train_loss"]
    assert trained.history[-1]["kept"]
    assert trained.best == trained.history[-1]
    assert trained.best["iou"] > 0.5
    assert sum(row["kept"] for row in trained.history) == 2
    assert "toy, head, epoch 1/2: loss" in stream.getvalue()
    assert "mean of the last" in stream.getvalue()


@pytest.mark.parametrize(("precision", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_training_computes_in_the_precision_asked_for(tmp_path: Path, precision: str, kind: torch.dtype) -> None:
    network, seen = toy(phases=short(epochs=1)), []
    network.output.register_forward_hook(lambda module, inputs, answer: seen.append((module.training, answer.dtype)))
    train(network, dark_squares(tmp_path), tmp_path / "c", precision=precision)
    assert set(seen) == {(True, kind), (False, torch.float32)}  # it answers in its own


def test_it_learns_to_classify(tmp_path: Path) -> None:
    examples = dark_squares(tmp_path)

    def right(answers: Any, rows: np.ndarray) -> dict[str, float]:
        return {"accuracy": float((answers["diagnosis"].argmax(1) == examples.classes[rows]).mean())}

    trained = train(toy("classify", short(epochs=8, rates={})), examples, tmp_path / "c", score=right)
    assert trained.best["accuracy"] == 1


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path: Path) -> None:
    examples, state = dark_squares(tmp_path), torch.get_rng_state()
    one, again, other = (toy(phases=short(epochs=1)) for _ in range(3))
    torch.set_rng_state(state)
    train(one, examples, tmp_path / "1")
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are his
    train(again, examples, tmp_path / "2")
    train(other, examples, tmp_path / "3", seed=1)
    assert same(one, again)
    assert not same(one, other)


def test_the_best_epoch_is_kept_and_patience_ends_the_phase(tmp_path: Path) -> None:
    examples, seen, scores = dark_squares(tmp_path), [], iter([0.1, 0.7, math.nan, 0.7, 0.3, 0.9])
    network = toy(phases=short(epochs=6, patience=3))

    def score(answers: Any, rows: np.ndarray) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"score": next(scores), "second": 1.0}

    trained = train(network, examples, tmp_path / "c", score=score)
    assert [row["epoch"] for row in trained.history] == [1, 2, 3, 4, 5]
    assert [row["kept"] for row in trained.history] == [False, True, False, False, False]
    assert trained.best["score"] == 0.7
    assert all(torch.equal(value, seen[1][name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "epochs", "kept"),
    [({"candidates": 0.5}, 5, 4), ({"candidates": 0.1}, 5, 5), ({"candidates": 0.1, "patience": 2}, 3, 1)],
)
def test_the_best_may_be_looked_for_among_the_last_epochs(
    tmp_path: Path, settings: dict[str, Any], epochs: int, kept: int
) -> None:
    """Unless patience ends the phase before they come."""
    scores = iter([0.9, 0.1, 0.5, 0.6, 0.4])
    network = toy(phases=short(epochs=5, **settings))
    trained = train(network, dark_squares(tmp_path), tmp_path / "c", score=lambda *_: {"score": next(scores)})
    assert len(trained.history) == epochs
    assert [row["epoch"] for row in trained.history if row["kept"]] == [kept]
    assert trained.best["epoch"] == kept


def test_a_share_of_no_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="candidates = 0"):
        train(toy(phases=short(epochs=2, candidates=0.0)), dark_squares(tmp_path), tmp_path / "c")


def test_a_phase_begins_with_the_best_weights_of_the_one_before(tmp_path: Path) -> None:
    examples, scores, begun = dark_squares(tmp_path), iter([0.9, 0.1, 0.2]), []
    phases = (*short(epochs=2), Phase("still", 1, batch=8, learning_rate=0.0))
    network = toy(phases=phases)

    def score(answers: Any, rows: np.ndarray) -> dict[str, float]:
        begun.append(network.output.weight.detach().clone())
        return {"score": next(scores)}

    train(network, examples, tmp_path / "c", score=score)
    assert torch.equal(begun[2], begun[0])
    assert not torch.equal(begun[2], begun[1])
    assert network.entered == ["only", "still"]


def test_without_validation_rows_the_last_epoch_is_kept_and_that_is_said(tmp_path: Path) -> None:
    console, stream = told()
    trained = train(
        toy(phases=short(epochs=2)), dark_squares(tmp_path), tmp_path / "c", validation_rows=(), console=console
    )
    assert [row["kept"] for row in trained.history] == [False, True]
    assert "the last epoch is kept" in stream.getvalue()


def test_the_average_is_the_mean_of_the_weights_with_statistics_of_its_own(tmp_path: Path) -> None:
    examples, network, seen = dark_squares(tmp_path), toy(phases=short(epochs=1, averaged=1.0)), []
    optimised = torch.optim.AdamW.step

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        done = optimised(self, *args, **kwargs)
        seen.append(network.output.weight.detach().clone())
        return done

    torch.optim.AdamW.step = watched  # type: ignore[method-assign]
    try:
        train(network, examples, tmp_path / "c")
    finally:
        torch.optim.AdamW.step = optimised  # type: ignore[method-assign]
    assert len(seen) == 2
    assert torch.allclose(network.output.weight, torch.stack(seen).mean(0), atol=1e-6)
    with torch.no_grad():
        inputs = as_input(examples.batch(range(16)), "cpu")
        before_norm = network.stem[0](inputs["image"] - 0.5)
    assert torch.allclose(network.stem[1].running_mean, before_norm.mean(dim=(0, 2, 3)), atol=1e-4)


def test_the_moving_mean_of_the_weights_is_kept(tmp_path: Path) -> None:
    """By d = min(D, (1 + n) / (10 + n)): of the first of two steps 3 / 12 stay, or D where it is less."""
    ends = {}
    for decay, kept in ((0.9, 3 / 12), (0.2, 0.2)):
        network, seen = toy(phases=short(epochs=1, ema=decay)), []
        optimised = torch.optim.AdamW.step

        def watched(self: Any, *args: Any, network: Any = network, seen: Any = seen, step: Any = optimised) -> Any:
            done = step(self, *args)
            seen.append(network.output.weight.detach().clone())
            return done

        torch.optim.AdamW.step = watched  # type: ignore[method-assign]
        try:
            train(network, dark_squares(tmp_path), tmp_path / f"c{decay}")
        finally:
            torch.optim.AdamW.step = optimised  # type: ignore[method-assign]
        assert len(seen) == 2
        ends[decay] = network.output.weight.detach()
        assert torch.allclose(ends[decay], kept * seen[0] + (1 - kept) * seen[1], atol=1e-6)


def test_a_network_measures_all_its_training_rows_once_before_the_first_step(tmp_path: Path) -> None:
    examples, network, seen = dark_squares(tmp_path), toy(phases=short(epochs=2)), []

    def measure(batches: Any) -> None:
        assert not seen
        seen.extend(batch["image"] for batch in batches)

    network.measure = measure
    train(network, examples, tmp_path / "c")
    expected = as_input(examples.batch(range(16)), "cpu")["image"]
    assert torch.equal(torch.cat(seen), expected)


def test_a_run_killed_in_mid_training_ends_with_the_same_bytes(tmp_path: Path) -> None:
    undisturbed, resumed = toy(), toy()
    whole = train(undisturbed, dark_squares(tmp_path / "other"), tmp_path / "other" / "checkpoint")
    path = tmp_path / "checkpoint" / checkpoint.CHECKPOINT
    process = subprocess.Popen([sys.executable, toy_network.__file__, str(tmp_path)])
    try:
        while not (path.exists() and json.loads(path.read_text())["progress"]["phase"] == 1):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    at = json.loads(path.read_text())["progress"]
    assert not at["done"]
    console, stream = told()
    trained = train(resumed, dark_squares(tmp_path / "photos"), tmp_path / "checkpoint", console=console)
    assert "going on after epoch" in stream.getvalue()
    assert same(undisturbed, resumed)
    without_time = [{k: v for k, v in row.items() if k != "seconds"} for row in trained.history]
    assert str(without_time) == str([{k: v for k, v in row.items() if k != "seconds"} for row in whole.history])


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    examples, one, again = dark_squares(tmp_path), toy(phases=short(epochs=1)), toy(phases=short(epochs=1))
    first = train(one, examples, tmp_path / "c")
    assert train(again, examples, tmp_path / "c") == first
    assert same(one, again)
    assert sorted(p.suffix for p in (tmp_path / "c").iterdir()) == [".json", ".safetensors"]


def test_a_damaged_or_foreign_checkpoint_is_left_aside_and_that_is_said(tmp_path: Path) -> None:
    examples, folder, phases = dark_squares(tmp_path), tmp_path / "c", short(epochs=1)

    def again(network: Toy, **options: Any) -> str:
        console, stream = told()
        train(network, examples, folder, console=console, **options)
        return stream.getvalue()

    train(toy(phases=phases), examples, folder)
    assert "another seed, other phases or other rows" in again(toy(phases=phases), seed=5)
    assert "another seed, other phases or other rows" in again(toy(phases=short(epochs=2)), seed=5)
    assert "another seed, other phases or other rows" in again(toy(phases=short(epochs=2)), seed=5, train_rows=range(9))
    wider = toy(phases=short(epochs=2))
    wider.output = torch.nn.Conv2d(8, 1, 5, padding=2)
    assert "size mismatch" in again(wider, seed=5, train_rows=range(9))
    state = next(folder.glob("state*.safetensors"))
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    assert "is damaged" in again(wider, seed=5, train_rows=range(9))
    values = json.loads((folder / checkpoint.CHECKPOINT).read_text())
    values["progress"]["best_score"] = 0.5
    (folder / checkpoint.CHECKPOINT).write_text(json.dumps(values))
    assert "checkpoint.json is damaged" in again(wider, seed=5, train_rows=range(9))
    (folder / checkpoint.CHECKPOINT).write_text("{")
    assert "starting anew" in again(wider, seed=5, train_rows=range(9))


def test_a_loss_that_is_no_number_ends_training(tmp_path: Path) -> None:
    network = toy(phases=short(epochs=1))
    with torch.no_grad():
        network.output.weight.fill_(math.inf)
    with pytest.raises(InputError) as error:
        train(network, dark_squares(tmp_path), tmp_path / "c")
    assert "nan" in error.value.found


def test_running_out_of_memory_names_the_setting(tmp_path: Path) -> None:
    class Greedy(Toy):
        def loss(self, batch: Any) -> torch.Tensor:
            torch.empty(1 << 60)
            return super().loss(batch)

    with pytest.raises(InputError, match="--settings batch=4"):
        train(Greedy(phases=short(epochs=1)), dark_squares(tmp_path), tmp_path / "c")


def test_unreadable_photos_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    examples, (console, stream) = dark_squares(tmp_path), told()
    (tmp_path / "3.png").unlink()
    (tmp_path / "20_mask.png").write_bytes(b"")
    train(toy(phases=short(epochs=1)), examples, tmp_path / "c", console=console)
    assert "1 training cases are left out: image_missing" in stream.getvalue()
    assert "1 validation cases are left out: mask_empty" in stream.getvalue()


def test_phases_that_cannot_be_run_are_refused(tmp_path: Path) -> None:
    examples = dark_squares(tmp_path, 6)
    for changes in ({"optimiser": "lion"}, {"schedule": "linear"}, {"batch": 1}, {"epochs": 0}):
        with pytest.raises(ConfigError):
            train(toy(phases=short(**changes)), examples, tmp_path / "c")
    with pytest.raises(InputError) as error:
        train(toy(), examples, tmp_path / "c", train_rows=[0])
    assert "1 readable" in error.value.found


# ----------------------------------------------------------------------------------- order, rates, optimisers


def test_an_epoch_sees_every_row_once_and_drops_a_last_single_one() -> None:
    phase = Phase("p", 1, batch=4)
    groups = schedule.groups_of(range(9), phase, (0, 0, 1), 1)
    assert [len(group) for group in groups] == [4, 4]
    assert len({row for group in groups for row in group}) == 8
    assert groups == schedule.groups_of(range(9), phase, (0, 0, 1), 1)
    assert groups != schedule.groups_of(range(9), phase, (0, 0, 2), 1)
    assert [len(group) for group in schedule.groups_of(range(10), phase, (0, 0, 1), 1)] == [4, 4, 2]
    assert [len(group) for group in schedule.groups_of(range(11), phase, (0, 0, 1), 2)] == [4, 4]


def test_of_more_cases_than_an_epoch_may_have_steps_for_it_sees_a_random_part() -> None:
    few = Phase("all", 1, batch=4, most_steps=3)
    epochs = [schedule.groups_of(range(100), few, (0, 0, epoch), 1) for epoch in (1, 2)]
    assert [[len(group) for group in groups] for groups in epochs] == [[4, 4, 4], [4, 4, 4]]
    assert all(len({row for group in groups for row in group}) == 12 for groups in epochs)  # none twice
    assert epochs[0] != epochs[1]
    without = Phase("all", 1, batch=4)
    assert schedule.groups_of(range(11), few, (0, 0, 1), 1) == schedule.groups_of(range(11), without, (0, 0, 1), 1)


def test_steps_draw_rows_again_when_there_are_too_few() -> None:
    groups = schedule.groups_of(range(5), Phase("p", 1, batch=4, steps=5), (0, 0, 1), 1)
    assert [len(group) for group in groups] == [4] * 5
    assert {row: [row for group in groups for row in group].count(row) for row in range(5)} == dict.fromkeys(
        range(5), 4
    )


def test_a_balanced_epoch_draws_every_stratum_equally_often() -> None:
    rows, strata = range(100, 120), [0] * 16 + [7] * 3 + [3]

    def counts(share: float, epoch: int = 1, **settings: Any) -> tuple[dict[int, int], list[int]]:
        phase = Phase("p", 1, batch=4, balanced=share, **settings)
        drawn = [row for group in schedule.groups_of(rows, phase, (0, 0, epoch), 1, strata) for row in group]
        assert drawn == [row for group in schedule.groups_of(rows, phase, (0, 0, epoch), 1, strata) for row in group]
        of = dict(zip(rows, strata, strict=True))
        return {name: sum(of[row] == name for row in drawn) for name in (0, 7, 3)}, drawn

    found, drawn = counts(1.0, steps=9)
    assert found == {0: 12, 7: 12, 3: 12}
    assert [drawn.count(row) for row in (116, 117, 118)] == [4, 4, 4]  # all of a stratum before any comes again
    assert max(drawn.count(row) for row in range(100, 116)) == 1
    found, _ = counts(1.0)
    assert sum(found.values()) == 20
    assert max(found.values()) - min(found.values()) <= 1
    half, _ = counts(0.5, steps=9)
    assert half[0] >= 6 + 14
    assert half[3] in (6, 7)  # 6 of the balanced half, and at most one of the other
    assert counts(1.0, epoch=2)[1] != counts(1.0, epoch=1)[1]
    plain = schedule.groups_of(rows, Phase("p", 1, batch=4), (0, 0, 1), 1, strata)
    assert plain == schedule.groups_of(rows, Phase("p", 1, batch=4), (0, 0, 1), 1)


def test_balanced_draws_repeat_no_row_more_often_than_asked() -> None:
    strata = (0,) * 90 + (1,) * 8 + (2,) * 2
    for most, expected in ((0.0, [34, 33, 33]), (10.0, [40, 40, 20]), (2.0, [80, 16, 4]), (1.0, [90, 8, 2])):
        phase = Phase("p", 1, batch=10, steps=10, balanced=1.0, most_repeats=most)
        rows = [row for group in schedule.groups_of(range(100), phase, (0, 0, 1), 1, strata) for row in group]
        drawn = np.bincount(np.array(strata)[rows], minlength=3)
        assert sorted(drawn, reverse=True) == expected
        assert most == 0 or (drawn / np.bincount(strata) <= most).all()


def test_what_is_balanced_are_the_classes_unless_strata_are_told(tmp_path: Path) -> None:
    examples = dark_squares(tmp_path)
    seen: list[int] = []

    class Watched(Toy):
        def loss(self, batch: Any) -> torch.Tensor:
            seen.extend(batch["class"].tolist())
            return super().loss(batch)

    rare = np.flatnonzero(examples.classes == 1)[:1]
    rows = [*np.flatnonzero(examples.classes == 0)[:7], *rare]
    options: dict[str, Any] = {"train_rows": rows, "validation_rows": []}
    phases = short(epochs=1, steps=3, batch=4, balanced=1.0, augment=Augment(flips=False))
    train(Watched(phases=phases), examples, tmp_path / "a", **options)
    assert seen.count(1) == 6
    seen.clear()
    strata = np.arange(len(examples)) % 2
    strata[rows] = [0, 0, 0, 0, 0, 0, 1, 1]
    train(Watched(phases=phases), examples, tmp_path / "b", strata=strata, **options)
    assert seen.count(1) == 3
    unknown = examples.with_arrays({})
    with pytest.raises(ConfigError) as error:
        train(toy(phases=phases), unknown, tmp_path / "c")
    assert "stratum" in error.value.found


def test_plateau_takes_a_tenth_when_nothing_gets_better_also_after_a_kill(tmp_path: Path) -> None:
    settings = {"schedule": "plateau", "plateau": 1, "learning_rate": 0.1, "rates": {"stem": 0.01}}
    phases = short(epochs=8, final_rate=2e-3, balanced=0.5, **settings)
    examples, scores = dark_squares(tmp_path), [0.5, 0.4, 0.4, 0.6, 0.1, 0.2, 0.3, 0.3]

    def run(folder: Path, left: list[float | None]) -> tuple[Toy, list[float]]:
        network = toy(phases=phases)

        def score(answers: Any, rows: np.ndarray) -> dict[str, float]:
            value = left.pop(0)
            if value is None:
                raise KeyboardInterrupt
            return {"score": value}

        return network, [row["learning_rate"] for row in train(network, examples, folder, score=score).history]

    whole, rates = run(tmp_path / "a", list(scores))
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.002, 0.002])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", [*scores[:5], None])
    resumed, again = run(tmp_path / "b", list(scores[5:]))
    assert again == rates
    assert same(whole, resumed)


def test_rates_follow_their_schedules() -> None:
    def rates(**settings: Any) -> list[float]:
        return [schedule.rate_share(Phase("p", 1, **settings), step, 11, 0.1) for step in range(11)]

    assert rates() == [1.0] * 11
    cosine = rates(schedule="cosine", final_rate=0.01)
    assert cosine[0] == 1
    assert cosine[5] == pytest.approx(0.55)
    assert cosine[10] == pytest.approx(0.1)
    cycle = rates(schedule="one_cycle", warm_up=0.3)
    assert cycle[0] == pytest.approx(1 / 25)
    assert np.argmax(cycle) == 3
    assert cycle[3] == pytest.approx(1)
    assert cycle[10] == pytest.approx(0)


def test_rates_by_name_and_frozen_parameters() -> None:
    network = toy()
    network.stem[1].requires_grad_(False)
    phase = Phase("p", 1, learning_rate=0.1, rates={"stem": 0.01, "stem.0.bias": 0.5}, weight_decay=0.2)
    groups = schedule.optimiser_of(network, phase).param_groups
    assert {group["lr"]: [tuple(p.shape) for p in group["params"]] for group in groups} == {
        0.01: [(8, 3, 3, 3)], 0.5: [(8,)], 0.1: [(1, 8, 3, 3), (1,)],
    }  # fmt: skip
    assert {group["weight_decay"] for group in groups} == {0.2}
    with pytest.raises(ConfigError) as error:
        schedule.optimiser_of(network.requires_grad_(False), phase)
    assert "no parameter" in error.value.found


# ------------------------------------------------------------------------------------------------ two processes


@pytest.mark.slow
def test_two_processes_learn_together_what_one_does(tmp_path: Path) -> None:
    """Gradients are averaged: without BatchNorm and dropout a step of two halves is the step of the whole."""
    phase = Phase("one", 1, batch=8, steps=2, optimiser="sgd", learning_rate=0.5, augment=Augment(flips=False))
    phases = (phase, replace(phase, name="two"))
    examples, networks = dark_squares(tmp_path / "p"), []
    for _ in range(2):
        network = toy(phases=phases)
        network.stem[1], network.drop = torch.nn.Identity(), torch.nn.Identity()
        networks.append(network)

    def score(answers: Any, rows: np.ndarray) -> dict[str, float]:  # cannot be sent to another process
        return IoU(examples)(answers, rows)

    alone = train(networks[0], examples, tmp_path / "1")
    together = train(networks[1], examples, tmp_path / "2", devices=2, score=score)
    assert [row["iou"] for row in together.history] == pytest.approx([row["iou"] for row in alone.history], abs=1e-3)
    for (name, one), other in zip(networks[0].state_dict().items(), networks[1].state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name
    assert not torch.equal(networks[0].output.weight, toy().output.weight)


class Watched(Toy):
    """Keeps the mean brightness of the validation rows, and the first of them."""

    def snapshot(self, batches: Any) -> dict[str, Any]:
        seen = [float(batch["image"].mean()) for batch in batches]
        return {"brightness": seen, "weight": float(self.output.weight.detach().abs().sum()), "cases": [{"index": 0}]}


def test_snapshots_are_taken_every_so_many_epochs_also_after_a_kill(tmp_path: Path) -> None:
    def run(folder: Path, stop_after: int = 0) -> Any:
        network = Watched("classify", short(epochs=5, snapshot_every=2))
        network.load_state_dict(toy("classify").state_dict())
        calls = []

        def score(answers: Any, rows: Any) -> dict[str, float]:
            calls.append(1)
            if len(calls) == stop_after:
                raise KeyboardInterrupt
            return {"score": float(len(rows))}

        return train(network, examples, folder, score=score)

    examples = dark_squares(tmp_path / "photos")
    whole = run(tmp_path / "a")
    assert [shot["epoch"] for shot in whole.snapshots] == [2, 4, 5]
    assert [shot["phase"] for shot in whole.snapshots] == ["only"] * 3
    assert whole.snapshots[0]["cases"] == [{"pixel_sha256": examples.photos[16].pixel_sha256}]
    assert whole.snapshots[0]["weight"] != whole.snapshots[2]["weight"]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", stop_after=4)
    assert run(tmp_path / "b").snapshots == whole.snapshots
