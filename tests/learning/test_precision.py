"""Which arithmetic a network is trained and answers in: measured once, remembered, recorded, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cohort
import toy_network
import written_artifacts as written

from skinkit.artifacts.artifact import Artifact
from skinkit.commands import Context, doctor
from skinkit.console import Console
from skinkit.contract import Trial
from skinkit.errors import ConfigError
from skinkit.learning import forward, precision
from skinkit.learning.precision import Arithmetic
from skinkit.models import load_model, model_config
from skinkit.radiomics import kernel_cache, loaded
from skinkit.workspace import Workspace

QUIET = Console(quiet=True)
UNET = ("encoder=tu-mobilenetv3_small_050", "decoder=16", "frozen_stages=0", "recipe.epochs=1", "recipe.steps=2")
SMALL, LARGE = "side_px=32", "side_px=64"


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file in which ratios are remembered, in a cache of this test's own, on a processor that has bf16."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("SKINKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "native", lambda device: True)
    monkeypatch.setattr(precision, "SMALLEST_SIDE_PX", 64)  # so that trainings of the tests are short
    assert loaded  # the doctor measures a disc: not with kernels that are compiled anew into this cache
    kernel_cache.cache_folder.cache_clear()
    yield tmp_path / "cache" / "precision.json"
    monkeypatch.undo()
    kernel_cache.cache_folder.cache_clear()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photos with masks, and a split."""
    folder = tmp_path_factory.mktemp("made") / "w"
    written.run_stage(small_cohort.make(folder, folds=1, patients=12), "split", name="masks")
    return folder


def train(workspace: Workspace, *settings: str, **given: Any) -> tuple[Artifact, str]:
    asked = {"model": "unet", "weights": "none", "settings": (*UNET, *settings), **given}
    (artifact,), said = written.run_stage(workspace, "train", **asked)
    return artifact, said


def told(artifact: Artifact) -> Any:
    """What the model and its fold say; the same."""
    about = artifact.json("model.json")
    (fold,) = about["folds"]
    assert fold["precision"] == about["precision"]
    return about["precision"]


def timed(monkeypatch: pytest.MonkeyPatch, **ratios: float) -> list[str]:
    """Let these ratios be what is measured; the calls that were made."""
    calls: list[str] = []

    def ratio(work: Any, device: str) -> float:
        what = "answers" if "training" in calls[-1:] else "training"
        calls.append(what)
        for each in ("fp32", "bf16"):
            work(each)  # it can be timed
        return ratios[what]

    monkeypatch.setattr(precision, "_ratio", ratio)
    return calls


def test_training_and_answers_are_measured_apart_once_and_recorded(
    memory: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = timed(monkeypatch, training=0.7, answers=1.9)
    artifact, said = train(workspace, LARGE)
    assert calls == ["training", "answers"]
    assert told(artifact) == {"training": "fp32", "answers": "bf16"}
    assert "0.70x" in said
    assert not (artifact.path / precision.BEGUN).exists()
    ((name, ratios),) = precision.measured_ratios("cpu").items()
    assert ratios == {"training": 0.7, "answers": 1.9}
    assert name.startswith("UNet ")
    timed(monkeypatch, training=9.0, answers=0.1)  # would be another answer, if it were asked
    again, _ = train(workspace, LARGE, name="again")
    assert told(again) == told(artifact)
    networks = [(a.path / "fold_0" / "network.safetensors").read_bytes() for a in (artifact, again)]
    assert networks[0] == networks[1]
    wider, _ = train(workspace, LARGE, "decoder=32", name="wider")  # another network
    assert told(wider) == {"training": "bf16", "answers": "fp32"}
    memory.write_text("damaged")
    other, _ = train(workspace, LARGE, name="other")
    assert told(other) == {"training": "bf16", "answers": "fp32"}


def test_a_training_goes_on_in_what_it_began(
    memory: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, training=2.0, answers=0.5)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr("skinkit.learning.loop.save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, LARGE)
    memory.unlink()  # as on another machine
    calls = timed(monkeypatch, training=0.5, answers=2.0)
    artifact, _ = train(workspace, LARGE)
    assert calls == []
    assert told(artifact) == {"training": "bf16", "answers": "fp32"}


def test_what_is_asked_for_is_done_and_small_photos_are_not_measured(
    memory: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = timed(monkeypatch, training=9.0, answers=9.0)
    assert told(train(workspace, SMALL)[0]) == {"training": "fp32", "answers": "fp32"}
    asked, _ = train(workspace, LARGE, name="asked", precision="bf16")
    assert told(asked) == {"training": "bf16", "answers": "bf16"}
    monkeypatch.setattr(precision, "native", lambda device: False)
    assert told(train(workspace, LARGE, name="plain")[0]) == {"training": "fp32", "answers": "fp32"}
    assert calls == []
    assert not memory.exists()
    with pytest.raises(ConfigError) as error:
        train(workspace, SMALL, name="half", precision="fp16")
    assert "fp16" in error.value.found


def test_a_network_answers_in_what_its_model_names_where_the_device_can(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, network = toy_network.dark_squares(tmp_path, 2), toy_network.toy()

    def lesion(**given: Any) -> np.ndarray:
        answer: np.ndarray = forward.answers(network, examples, [0, 1], device="cpu", console=QUIET, **given)["lesion"]
        return answer

    exact, rounded = lesion(precision="fp32"), lesion(precision="bf16")
    assert not np.array_equal(exact, rounded)
    np.testing.assert_array_equal(lesion(), exact)
    network.answers_in = "bf16"
    np.testing.assert_array_equal(lesion(), rounded)
    monkeypatch.setattr(precision, "native", lambda device: False)
    np.testing.assert_array_equal(lesion(), exact)
    with pytest.raises(ConfigError) as error:
        lesion(precision="fp16")
    assert "fp16" in error.value.found


def test_masks_are_drawn_in_what_the_model_names(
    memory: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    plain = forward.autocast

    def recorded(device: str, name: str) -> Any:
        used.append(name)
        return plain(device, name)

    train(workspace, SMALL, precision="bf16")
    monkeypatch.setattr(forward, "autocast", recorded)
    written.run_stage(workspace, "segment", model="unet")
    assert set(used) == {"bf16"}


def test_models_of_older_versions_name_one_for_both_and_tables_none() -> None:
    assert Arithmetic.of_model({"precision": "bf16"}) == Arithmetic("bf16", "bf16")
    assert Arithmetic.of_model({"precision": None}) == Arithmetic.of_model({}) == Arithmetic("fp32", "fp32")
    mixed = Arithmetic("fp32", "bf16")
    assert Arithmetic.of_model({"precision": mixed.as_dict()}) == mixed


def test_little_gain_is_no_reason_to_round() -> None:
    assert precision.chosen({"training": 1.2, "answers": 1.2}) == Arithmetic("fp32", "bf16")
    assert precision.chosen({"training": 1.4, "answers": 1.05}) == Arithmetic("bf16", "fp32")
    assert precision.chosen({"training": 3.0}) == Arithmetic("bf16", "fp32")  # a pretraining answers nothing


def test_a_network_is_timed_and_the_doctor_names_what_was_found(memory: Path, tmp_path: Path) -> None:
    model = load_model("unet")
    trial = Trial(model, model_config(model, [*UNET, SMALL]))
    network, batch = trial.build(), trial.batch()
    name = precision.name_of(network, 32)
    ratios = precision.measured(network, name, lambda: network.loss(batch), lambda: network.answer(batch), "cpu")
    assert ratios.keys() == {"training", "answers"}
    assert min(ratios.values()) > 0
    assert json.loads(memory.read_text())
    answer = doctor.run(doctor.Config(), Context(tmp_path, QUIET))
    assert answer["precision"] == {"bf16": True, "file": str(memory), "measured": {name: dict(ratios)}}
    assert (
        f"{name}: bf16 against fp32 answers {ratios['answers']:.2f}x, training {ratios['training']:.2f}x"
        in answer["text"]
    )
