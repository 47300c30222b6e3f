"""Replay features: what the head of a fold reads of some of its training cases, kept in a packed model.

A model that goes on learning from the cases of another hospital forgets those it was made of, unless it is shown some
of them again. Replay features show them to the head alone, without a photo.

    fold_<number>/replay.safetensors        and fold_0/final/replay.safetensors, where there is one
        inputs.<name>   float16 (n, columns)  what the head reads, under the names of ``Estimator.predict``: ``image``
                                              (what the frozen backbone says of the photo), ``attributes`` (encoded),
                                              ``radiomics`` (standardised); of a network ``features``, what its last
                                              linear layer reads. float32 where float16 would move an answer
        labels          uint16 (n,)           the diagnosis: places in the classes of ``model.json``
        answers         float32 (n, classes)  log-probabilities of the fold before calibration: soft targets

The rows are of the fold's training part alone, at most one of a patient. Their order follows from their content and
says nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.tensors import load_tensors
from skinkit.errors import InputError
from skinkit.models.parts.protocol import MEMBERS
from skinkit.stats.metrics import Floats, softmax

FILE = "replay.safetensors"
ROUNDING = 0.005
"""Most that float16 may move a probability of the head; else float32 is kept."""
APART = 0.05
"""Most that a probability of the head may differ from the fold's own answer, which a network gives in bfloat16."""
NOTE = (
    "Features of training cases, computed from photos and metadata of patients: no photo can be seen in them, and "
    "still they are data of patients, under the licence and the consent of those photos and metadata."
)
"""Stands in every file."""
_INPUT = "inputs."
_SUM = 1e-3
"""Most that the probabilities of a row may differ from 1 together."""
Head = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Scores (n, classes) of inputs, up to a constant of each row."""


@dataclass(frozen=True)
class ReplayFeatures:
    """The replay features of one fold.

    Attributes:
        inputs: name -> (n, columns) what its head reads.
        labels: (n,) class indices.
        answers: (n, classes) the fold's log-probabilities, before calibration.
    """

    inputs: Mapping[str, Floats]
    labels: npt.NDArray[np.int64]
    answers: Floats

    def __len__(self) -> int:
        return len(self.labels)

    def rows_by_class(self, codes: Sequence[str]) -> dict[str, int]:
        """Class -> its rows.

        Args:
            codes: of the model's classes, in order.
        """
        counts = np.bincount(self.labels, minlength=len(codes))
        return {code: int(n) for code, n in zip(codes, counts, strict=True)}

    def difference(self, head: Head) -> float:
        """Largest difference between a probability of the head, which reads the inputs, and the answer.

        Raises:
            ValueError: the head answers other classes.
        """
        scores = head(self.inputs)
        if scores.shape != self.answers.shape:
            raise ValueError(f"{FILE}: answers {self.answers.shape} beside a head that answers {scores.shape}")
        return _moved(scores, self.answers)

    def check(self, head: Head) -> None:
        """Check that they belong to a head.

        Raises:
            ValueError: the head does not answer as these answers say.
        """
        difference = self.difference(head)
        if not difference <= APART:
            raise ValueError(f"{FILE}: the head answers otherwise, by {difference:.3f} of a probability")

    def as_bytes(self, head: Head) -> bytes:
        """The file: the same bytes for the same rows, in whatever order they come.

        Args:
            head: decides whether float16 is enough.
        """
        from safetensors.numpy import save

        kept: dict[str, np.ndarray] = {
            name: np.asarray(values, dtype=np.float32) for name, values in self.inputs.items()
        }
        with np.errstate(over="ignore"):
            half: dict[str, np.ndarray] = {name: values.astype(np.float16) for name, values in kept.items()}
        if all(np.isfinite(values).all() for values in half.values()):
            kept = half if _moved(head(self.inputs), head(_exact(half))) <= ROUNDING else kept
        answers = self.answers.astype(np.float32)
        rows = [
            hashlib.sha256(b"".join(values[row].tobytes() for values in (*kept.values(), answers))).digest()
            for row in range(len(self))
        ]
        order = sorted(range(len(self)), key=rows.__getitem__)
        tensors = {f"{_INPUT}{name}": values[order] for name, values in sorted(kept.items())}
        tensors |= {"labels": self.labels[order].astype(np.uint16), "answers": answers[order]}
        return save({name: np.ascontiguousarray(values) for name, values in tensors.items()}, {"note": NOTE})


def read(folder: Path) -> ReplayFeatures | None:
    """The replay features of a fold; None where it has none.

    Args:
        folder: of the fold (:meth:`skinkit.learning.trained.Classifier.folder`).

    Raises:
        InputError: the file is not what it should be.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return _checked(load_tensors(file))
    except (KeyError, OSError, ValueError) as error:
        raise InputError(
            f"the replay features {file} cannot be read ({error})",
            "a file written by 'skinkit models pack'",
            "run 'skinkit verify', then install the model again from its source",
        ) from None


def of_artifact(artifact: Artifact) -> dict[str, ReplayFeatures]:
    """Folder of a fold -> its replay features, of a model that has some; the hashes in its manifest are checked.

    Args:
        artifact: the model.

    Raises:
        InputError: a file is not what it should be.
    """
    out: dict[str, ReplayFeatures] = {}
    for name in sorted(artifact.manifest.get("beside", {})):
        folder, _, file = name.rpartition("/")
        if file == FILE and not folder.startswith(MEMBERS):
            artifact.data(name)
            found = read(artifact.path / folder)
            out |= {} if found is None else {folder: found}
    return out


def _checked(tensors: Mapping[str, np.ndarray]) -> ReplayFeatures:
    inputs = {name.removeprefix(_INPUT): values for name, values in tensors.items() if name.startswith(_INPUT)}
    others = {name: values for name, values in tensors.items() if not name.startswith(_INPUT)}
    if set(others) != {"labels", "answers"} or not inputs:
        raise ValueError(f"{FILE}: tensors {', '.join(sorted(tensors))[:200]}")
    labels, answers = others["labels"], others["answers"]
    n, classes = answers.shape if answers.ndim == 2 else (0, 0)
    dtypes = {values.dtype.name for values in inputs.values()}
    if labels.dtype != np.uint16 or answers.dtype != np.float32 or not dtypes <= {"float16", "float32"}:
        raise ValueError(f"{FILE}: labels of {labels.dtype}, answers of {answers.dtype}, inputs of {sorted(dtypes)}")
    if n < 1 or classes < 2 or labels.shape != (n,) or any(x.ndim != 2 or len(x) != n for x in inputs.values()):
        shapes = {name: values.shape for name, values in tensors.items()}
        raise ValueError(f"{FILE}: shapes {shapes}")
    if labels.max() >= classes:
        raise ValueError(f"{FILE}: the label {labels.max()} of {classes} classes")
    total = np.exp(answers.astype(np.float64)).sum(1)
    if not (np.abs(total - 1) <= _SUM).all():
        raise ValueError(f"{FILE}: answers that are no log-probabilities")
    return ReplayFeatures(_exact(inputs), labels.astype(np.int64), answers.astype(np.float64))


def _moved(scores: np.ndarray, others: np.ndarray) -> float:
    """Largest difference of a probability between two scores (n, classes)."""
    return float(np.abs(softmax(scores) - softmax(others)).max(initial=0.0))


def _exact(inputs: Mapping[str, np.ndarray]) -> dict[str, Floats]:
    """The same numbers in float64, in which heads compute."""
    return {name: values.astype(np.float64) for name, values in inputs.items()}
