"""How far an ONNX file answers otherwise than the network it was made of, on photos of the workspace, and how fast.

The torch model answers as ``skinkit predict`` lets it answer for a cohort it was not trained on, in float32; the files
read the same photos and attributes as their contract says. So the table also tests the contract.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.console import Console
from skinkit.errors import CaseError, RefusedError
from skinkit.learning.examples import Photo, photos_of, resized
from skinkit.learning.onnx_file import IMAGE, OnnxModel
from skinkit.learning.precision import Arithmetic, native
from skinkit.learning.scorer import Scorer
from skinkit.learning.trained import Classifier, batch_of
from skinkit.models.parts.protocol import DIAGNOSIS

TORCH, FLOAT, INT8 = "torch", "onnx", "int8"
PASSES, WARM_UP = 100, 10
MOST_APART = 1e-3
"""A float file may answer no further from the network."""
AGREEMENT = 0.98
"""Share of photos from which int8 names the same class often enough."""


@dataclass(frozen=True)
class PhotoSample:
    """Photos of a workspace that can be read, with what is known of their cases.

    Attributes:
        frame: rows of cases tables.
        roots: of each row, the folder of its cohort's files.
        pictures: of each row, uint8 (side, side, 3).
    """

    frame: pd.DataFrame
    roots: Sequence[Path]
    pictures: Sequence[npt.NDArray[np.uint8]]

    @classmethod
    def read(cls, frame: pd.DataFrame, roots: Sequence[Path], side_px: int, most: int) -> PhotoSample:
        """Some of the rows, chosen by the hashes of their pixels: a few of every kind, and the same ones each time.

        Args:
            frame: rows of cases tables.
            roots: of each row, the folder of its cohort's files.
            side_px: side of the square.
            most: at most so many.
        """
        order = np.argsort(frame["pixel_sha256"].to_numpy(dtype=str), kind="stable")
        chosen: list[int] = []
        pictures = []
        for row in order:
            if len(chosen) == most:
                break
            (photo,) = photos_of(frame.iloc[[row]], [roots[row]])
            picture = _picture(photo, side_px)
            if picture is not None:
                chosen.append(int(row))
                pictures.append(picture)
        return cls(frame.iloc[chosen].reset_index(drop=True), [roots[row] for row in chosen], pictures)

    def cases(self) -> list[dict[str, Any]]:
        """Of each row, column -> value, None where unknown."""
        known: list[dict[str, Any]] = self.frame.astype(object).where(self.frame.notna(), None).to_dict("records")  # type: ignore[assignment]
        return known


def _picture(photo: Photo, side_px: int) -> npt.NDArray[np.uint8] | None:
    try:
        return resized(photo.read(), side_px)
    except CaseError:
        return None


Answers = Mapping[str, npt.NDArray[np.float64]]
"""Task -> (photos, classes) probabilities."""


def torch_answers(model: Classifier, photos: PhotoSample, workspace: Path, console: Console, precision: str) -> Answers:
    """What the model says, as a mean over its calibrated folds.

    Args:
        model: the network.
        photos: to answer for.
        workspace: its root.
        console: progress.
        precision: ``fp32``, or ``bf16`` where the processor computes in it.
    """
    alike = replace(model, about={**model.about, "precision": Arithmetic("fp32", precision).as_dict()})
    rows = len(photos.frame)
    scored = Scorer(alike, workspace, "cpu", console).scored(photos.frame, [model.outside] * rows, list(photos.roots))
    answers: dict[str, npt.NDArray[np.float64]] = {}
    for task, probability in {DIAGNOSIS: scored.probability, **scored.tasks}.items():
        parts = [
            (fold if task == DIAGNOSIS else fold.tasks[task]).finished(probability[index])
            for index, fold in enumerate(model.folds)
            if fold.number in model.outside
        ]
        answers[task] = np.mean(parts, axis=0)
    return answers


def onnx_answers(file: OnnxModel, photos: PhotoSample) -> Answers:
    """What a file says."""
    said = [file.answer(picture, case) for picture, case in zip(photos.pictures, photos.cases(), strict=True)]
    return {task: np.array([answer.probability[task] for answer in said]) for task in file.contract.tasks}


def apart(answers: Answers, truth: Answers) -> dict[str, Any]:
    """``max_difference`` of the probabilities over all tasks, and the share of photos with the same first class."""
    difference = max(float(np.abs(answers[task] - truth[task]).max()) for task in truth)
    same = {task: float((answers[task].argmax(1) == truth[task].argmax(1)).mean()) for task in truth}
    return {"max_difference": difference, "same_class": same}


def refuse_apart(found: Mapping[str, Any], name: str) -> None:
    """Refuse, with :class:`RefusedError`, a float file that does not answer as its network does."""
    if not found["max_difference"] <= MOST_APART:
        raise RefusedError(
            f"the ONNX file of {name} answers up to {found['max_difference']:.2g} from the network",
            f"at most {MOST_APART:g}; nothing was written",
            "report it, with the model's settings; bring the model itself: 'skinkit models pack'",
        )


def bf16_answers(model: Classifier, photos: PhotoSample, workspace: Path, console: Console) -> Answers | None:
    """What the model says where it answers in bfloat16 on this processor; None where it answers in float32."""
    if Arithmetic.of_model(model.about).answers != "bf16" or not native("cpu"):
        return None
    return torch_answers(model, photos, workspace, console, "bf16")


# -------------------------------------------------------------------------------------------------------- latency
def latencies(model: Classifier, files: Mapping[str, OnnxModel], photos: PhotoSample) -> dict[str, float]:
    """Name -> median seconds of a pass over one photo; all take turns, so that other work disturbs them alike.

    Args:
        model: the network, in float32.
        files: name -> opened file.
        photos: the first is timed.
    """
    import torch

    case = photos.cases()[0]
    turns: dict[str, Callable[[], Any]] = {TORCH: _torch_pass(model, photos)}
    turns |= {name: _onnx_pass(file, file.feeds(photos.pictures[0], case)) for name, file in files.items()}
    taken: dict[str, list[float]] = {name: [] for name in turns}
    with torch.inference_mode():
        for turn in range(WARM_UP + PASSES):
            for name, work in turns.items():
                began = time.perf_counter()
                work()
                if turn >= WARM_UP:
                    taken[name].append(time.perf_counter() - began)
    return {name: median(of) for name, of in taken.items()}


def _onnx_pass(file: OnnxModel, feeds: Mapping[str, npt.NDArray[np.float32]]) -> Callable[[], Any]:
    names = list(file.contract.outputs)
    return lambda: file.session.run(names, feeds)


def _torch_pass(model: Classifier, photos: PhotoSample) -> Callable[[], Any]:
    """All folds of the network, one after another."""
    import torch

    folds = model.chosen(model.outside)
    image = torch.from_numpy(photos.pictures[0].transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255))
    networks = []
    for fold in folds:
        network: Any = model.network(fold, "cpu")
        table = batch_of(photos.frame.iloc[:1], fold.encoder, fold.radiomics)["attributes"]
        batch = {IMAGE: image.to(memory_format=torch.channels_last), "attributes": torch.from_numpy(table).float()}
        networks.append((network.to(memory_format=torch.channels_last), batch))

    def work() -> None:
        for network, batch in networks:
            network.answer(batch)

    return work
