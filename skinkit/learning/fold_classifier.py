"""One fold of a classifier: encoder, scalers and model from its training rows, calibration and thresholds from others.

Encoder and imputer, scalers and model are fitted on the training rows; the calibration temperature and Youden
thresholds on the validation rows. An estimator that needs no validation rows to know when to stop may then be fitted
once more on both. ``skinkit.learning.loop`` trains a network and chooses an epoch by the validation rows; what it
has worked out from tables beforehand is worked out once more on both.
Where there is one fold, a second one may be trained from the beginning on all rows: it answers for other cohorts and
never for a development case. But for that one, nothing is learnt from held-out rows; a backbone that is not trained
looks at their photos, as at all others, once for all folds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skinkit.artifacts.files import write_atomic
from skinkit.errors import CaseError
from skinkit.learning import forward, trained
from skinkit.learning.fold_network import Training, forget, refit, train
from skinkit.learning.rows import DevelopmentRows, truth_of
from skinkit.models.parts import protocol
from skinkit.models.parts.protocol import Estimator, Labelled, Model, Network, Sizes
from skinkit.models.parts.weights import Start
from skinkit.stats import metrics
from skinkit.stats.calibration import Isotonic, conformal_level
from skinkit.stats.encoders import ZEROS, Encoder, Standardiser
from skinkit.stats.novelty import MOST_ROWS, Novelty, as_matrix
from skinkit.stats.thresholds import ThresholdRule, choose
from skinkit.taxonomy import ClassSet

if TYPE_CHECKING:
    from skinkit.learning.examples import Examples

SOURCE = "validation:youden"


@dataclass(frozen=True)
class FoldInputs:
    """Everything the folds of a classifier are made of.

    Attributes:
        rows: the cases and the split.
        classes: what is told apart.
        encoder: name of the encoder of the attributes.
        radiomics: names of the radiomic features, where every fold reads the same.
        signature: fold -> its features, where the model reads a signature.
        images: (rows, width) what a frozen network says of the photos, where the model reads that.
        examples: photos and masks, where a network is trained.
        missing: how the encoder writes what is unknown.
        calibration: ``temperature``, or ``isotonic`` after it: which of both, fitted and kept, is used.
        coverage: share of cases whose prediction set is to hold the truth.
        veto: the malignancy threshold, or the rule that chooses it on the validation rows.
        refit: whether, after calibrating, what can is fitted once more on more rows.
        tasks: further tasks that are answered.
    """

    rows: DevelopmentRows
    classes: ClassSet
    encoder: str
    radiomics: tuple[str, ...]
    signature: Mapping[int, tuple[str, ...]] | None
    images: np.ndarray | None = None
    examples: Examples | None = None
    missing: str = ZEROS
    calibration: str = "temperature"
    coverage: float = 0.9
    veto: float | ThresholdRule = 0.3
    refit: bool = True
    tasks: Mapping[str, ClassSet] = field(default_factory=dict)

    @cached_property
    def truths(self) -> dict[str, np.ndarray]:
        """Further task -> (rows,) class indices, -1 where unknown."""
        return {name: truth_of(self.rows.frame, classes)[0] for name, classes in self.tasks.items()}

    @property
    def labels(self) -> np.ndarray:
        """(rows,) class indices."""
        index = {code: i for i, code in enumerate(self.classes.classes)}
        return np.array([index[code] for code in self.rows.frame["class"]], dtype=np.int64)

    def features(self, fold: int) -> tuple[str, ...]:
        """Radiomic features a fold reads."""
        return self.radiomics if self.signature is None else self.signature[fold]

    def fitted_scalers(self, fold: int, chosen: np.ndarray) -> tuple[Encoder, Standardiser]:
        """Encoder of the attributes and scaler of the radiomic features, from these rows."""
        frame, features = self.rows.frame.iloc[chosen], list(self.features(fold))
        values = frame[features].to_numpy(dtype=np.float64, na_value=np.nan)
        return Encoder.fit(self.encoder, frame, self.missing), Standardiser.fit(
            features, values, [None] * len(features)
        )


def fit_estimator(
    fold: int, material: FoldInputs, model: type[Estimator], settings: Any, *, seed: int, folder: Path
) -> dict[str, Any]:
    """Fit an estimator on one fold, write its files, and describe it in a row of the model's table."""
    rows, labels, n = material.rows, material.labels, len(material.classes.classes)
    train_rows, validation = rows.part(fold, "train"), rows.part(fold, "validation")

    def batch(part: np.ndarray, encoder: Encoder, radiomics: Standardiser) -> dict[str, np.ndarray]:
        images = material.images[part] if material.images is not None else None
        return trained.batch_of(rows.frame.iloc[part], encoder, radiomics, images)

    def fitted_on(chosen: np.ndarray) -> tuple[Encoder, Standardiser, Any, np.ndarray]:
        """Encoder, scaler and model of these rows, and what they say of the validation rows."""
        encoder, radiomics = material.fitted_scalers(fold, chosen)
        held_back = Labelled(batch(validation, encoder, radiomics), labels[validation])
        learnt = batch(chosen, encoder, radiomics)
        learnt |= encoder.hidden(learnt["attributes"])
        fitted = model.fit(settings, Labelled(learnt, labels[chosen]), held_back, n_classes=n, seed=seed)
        scores = fitted.predict(held_back.inputs) if len(validation) else np.zeros((0, n))
        return encoder, radiomics, fitted, scores

    encoder, radiomics, fitted, scores = fitted_on(train_rows)
    about = _calibrated(fold, material, scores, np.ones(n) if model.BALANCED else None)
    if material.refit and model.REFITS and len(validation):
        encoder, radiomics, fitted, _ = fitted_on(np.sort(np.concatenate([train_rows, validation])))
    fitted.save(folder)
    _write(folder, encoder, radiomics, about)
    _write_novelty(folder, batch(train_rows, encoder, radiomics), batch(validation, encoder, radiomics))
    return _row(folder, about, scores, labels[validation])


@dataclass(frozen=True)
class _Prepared:
    """What a network learns from, as it reads it: encoded and standardised by these rows, and what it is built for."""

    encoder: Encoder
    radiomics: Standardiser
    arrays: Mapping[str, np.ndarray]
    examples: Examples
    sizes: Sizes


def _prepared(fold: int, material: FoldInputs, learnt: np.ndarray) -> _Prepared:
    encoder, radiomics = material.fitted_scalers(fold, learnt)
    arrays = trained.batch_of(material.rows.frame, encoder, radiomics)
    sizes = Sizes(
        answers=material.classes.classes,
        columns={name: values.shape[1] for name, values in arrays.items()},
        class_counts=_counts(material.labels[learnt], material.classes),
        attributes=encoder.attributes,
        unknown=encoder.unknown,
        tasks={name: classes.classes for name, classes in material.tasks.items()},
        task_counts={name: _counts(material.truths[name][learnt], c) for name, c in material.tasks.items()},
    )
    assert material.examples is not None
    examples = material.examples.with_arrays(arrays, classes=material.labels, truths=material.truths)
    return _Prepared(encoder, radiomics, arrays, examples, sizes)


def _counts(truth: np.ndarray, classes: ClassSet) -> tuple[int, ...]:
    """Rows of each class among those whose class is known."""
    return tuple(int(n) for n in np.bincount(truth[truth != protocol.UNKNOWN], minlength=len(classes.classes)))


def fit_network(
    fold: int, material: FoldInputs, model: type[Network], settings: Any, start: Start, training: Training, folder: Path
) -> dict[str, Any]:
    """Train a network on one fold, write its files, and describe it in a row of the model's table."""
    rows, labels = material.rows, material.labels
    train_rows, validation = rows.part(fold, "train"), rows.part(fold, "validation")
    prepared = _prepared(fold, material, train_rows)

    def score(answers: Mapping[str, np.ndarray], positions: np.ndarray) -> dict[str, float]:
        probability = metrics.softmax(answers[protocol.DIAGNOSIS], 1.0)
        figures = {
            "macro_auroc": metrics.macro_auroc(probability, labels[positions]),
            "balanced_accuracy": metrics.balanced_accuracy(labels[positions], probability.argmax(axis=1)),
        }
        areas = [figures["macro_auroc"]]
        for name, truth in material.truths.items():
            known = truth[positions] != protocol.UNKNOWN
            areas.append(metrics.macro_auroc(metrics.softmax(answers[name][known], 1.0), truth[positions][known]))
        areas = [area for area in areas if area == area]
        if not material.tasks or not areas:
            return figures
        return {"mean_macro_auroc": float(np.mean(areas)), **figures}

    places: dict[str, Any] = {"start": start, "training": training, "folder": folder}
    network, course = train(model, settings, prepared.sizes, prepared.examples, train_rows, validation, score, **places)
    answers = forward.answers(network, prepared.examples, validation, seen=True, label="validating", **training.passes)
    scores = answers.get(protocol.DIAGNOSIS, np.zeros((0, len(prepared.sizes.answers))))
    effective = network.effective_class_prior()
    prior = None if effective is None else effective.double().cpu().numpy()
    sizes = {"columns": dict(prepared.sizes.columns)}
    about = {**_calibrated(fold, material, scores, prior), **course, "sizes": sizes}
    if material.tasks:
        about["tasks"] = {name: _task_calibrated(fold, material, name, answers.get(name)) for name in material.tasks}
    _write(folder, prepared.encoder, prepared.radiomics, about)
    if len(validation):
        train_encoded = _encoded(network, prepared.examples, train_rows, training)
        encoded = dict(zip(validation, answers[protocol.SEEN], strict=True))
        _write_novelty(folder, _inputs(prepared.arrays, train_encoded), _inputs(prepared.arrays, encoded))
    if material.refit and len(validation):
        refit(network, prepared.examples, np.sort(np.concatenate([train_rows, validation])), training, folder)
    if trains_finally(model, settings, material):
        about["final"] = _fit_finally(material, model, settings, start, training, folder, about)
        _write(folder, prepared.encoder, prepared.radiomics, about)
    forget(folder)
    return _row(folder, about, scores, labels[validation])


def trains_finally(model: type[Model], settings: Any, material: FoldInputs) -> bool:
    """Whether a second network learns from all rows, for other cohorts."""
    final = model.final_config(settings) if issubclass(model, Network) else None
    return material.refit and final is not None and material.rows.folds == [0]


def _fit_finally(
    material: FoldInputs,
    model: type[Network],
    settings: Any,
    start: Start,
    training: Training,
    fold: Path,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Train the network of all rows, write its files into the fold's folder, and say how that went.

    Calibration and thresholds are the fold's: no row is left to learn them from.
    """
    rows, folder = material.rows, fold / trained.FINAL_FOLDER
    every = np.sort(rows.split["row"].to_numpy(dtype=int))
    prepared = _prepared(0, material, every)
    network, course = train(
        model,
        model.final_config(settings),
        prepared.sizes,
        prepared.examples,
        every,
        np.zeros(0, dtype=int),
        lambda *_: {},
        start=start,
        training=training,
        folder=folder,
        checkpoint=fold.with_name(f"{fold.name}.{trained.FINAL_FOLDER}"),
    )
    _write(folder, prepared.encoder, prepared.radiomics, about)
    learnt = rows.part(0, "train")
    # The others were learnt from too, but the distances are those of cases that the directions were not drawn from.
    encoded = (_encoded(network, prepared.examples, part, training) for part in (learnt, np.setdiff1d(every, learnt)))
    _write_novelty(folder, *(_inputs(prepared.arrays, part) for part in encoded))
    return {"rows": len(every), **course}


def _encoded(network: Network, examples: Examples, rows: np.ndarray, training: Training) -> dict[int, np.ndarray]:
    """Row -> what the network makes of its photo, of as many readable rows as the novelty needs."""
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_ROWS, replace=False))
    answers = forward.run(network, examples, rows, seen=True, label="reading training photos", **training.passes)
    return {row: answer[protocol.SEEN] for row, answer in answers if not isinstance(answer, CaseError)}


def _inputs(arrays: Mapping[str, np.ndarray], encoded: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """The named inputs of rows, with what the network makes of their photos in the place of these."""
    return {**{name: values[list(encoded)] for name, values in arrays.items()}, "image": list(encoded.values())}


def _write_novelty(folder: Path, train_inputs: Mapping[str, Any], validation: Mapping[str, Any]) -> None:
    """What predicting needs to say how unlike the training rows a case is; nothing where there are too few rows."""
    novelty = Novelty.fit(as_matrix(train_inputs), as_matrix(validation))
    if novelty is not None:
        novelty.save(folder)


def _calibrated(fold: int, material: FoldInputs, scores: np.ndarray, prior: np.ndarray | None) -> dict[str, Any]:
    """Calibration, thresholds and conformal level from the validation rows' scores, and how many rows each part has.

    ``prior`` are the shares of the classes, up to a factor, for which the scores hold; None for those learnt from.
    """
    rows, n = material.rows, {part: material.rows.part(fold, part) for part in ("train", "validation", "held_out")}
    calibration, probability = _calibration(material, material.classes, scores, material.labels[n["validation"]])
    development = np.concatenate([material.labels[n[part]] for part in ("train", "validation")])
    counts = np.bincount(development, minlength=len(material.classes.classes))
    shares = counts if prior is None or material.calibration == "isotonic" else prior * (counts > 0)
    return {
        "fold": fold,
        **calibration,
        "class_counts": {code: int(k) for code, k in zip(material.classes.classes, counts, strict=True)},
        "effective_class_prior": {
            code: float(share) for code, share in zip(material.classes.classes, shares / shares.sum(), strict=True)
        },
        "signature": list(material.features(fold)) if material.signature is not None else None,
        **({"veto": _veto(material, probability, n["validation"])} if isinstance(material.veto, ThresholdRule) else {}),
        **{f"n_{part}": len(rows.part(fold, part)) for part in n},
    }


def _task_calibrated(fold: int, material: FoldInputs, task: str, scores: np.ndarray | None) -> dict[str, Any]:
    """The same for a further task, from the rows whose truth is known; ``scores`` None without validation rows."""
    classes, truth = material.tasks[task], material.truths[task]
    validation = material.rows.part(fold, "validation")
    known = truth[validation] != protocol.UNKNOWN
    chosen = np.zeros((0, len(classes.classes))) if scores is None else scores[known]
    calibration, _ = _calibration(material, classes, chosen, truth[validation[known]])
    development = np.concatenate([material.rows.part(fold, "train"), validation])
    counts = _counts(truth[development], classes)
    return {
        **calibration,
        "class_counts": dict(zip(classes.classes, counts, strict=True)),
        "n_validation": int(known.sum()),
    }


def _calibration(
    material: FoldInputs, classes: ClassSet, scores: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """What is fitted to the validation rows of one task, and their calibrated probabilities."""
    temperature = metrics.fit_temperature(scores, labels)
    if (scores.argmax(axis=1) == labels).all():
        temperature = max(1.0, temperature)  # without one error the best temperature is 0: nothing to learn it from
    probability = metrics.softmax(scores, temperature) if len(labels) else scores
    isotonic = Isotonic.fit(probability, labels)
    if material.calibration == "isotonic":
        probability = isotonic.apply(probability)
    thresholds = [metrics.youden_threshold(probability[:, k], labels == k) for k in range(probability.shape[1])]
    return {
        "temperature": temperature,
        "isotonic": isotonic.as_dict(),
        "calibration": material.calibration,
        "conformal": {
            "coverage": material.coverage,
            "level": conformal_level(probability, labels, material.coverage),
        },
        "class_thresholds": {
            code: {"threshold": None if value != value else float(value), "source": SOURCE}
            for code, value in zip(classes.classes, thresholds, strict=True)
        },
    }, probability


def _veto(material: FoldInputs, probability: np.ndarray, validation: np.ndarray) -> dict[str, Any]:
    """The malignancy threshold that the rule chooses on the validation rows."""
    assert isinstance(material.veto, ThresholdRule)
    malignant = np.array([code in material.classes.malignant for code in material.classes.classes])
    by_class = malignant[probability.argmax(axis=1)] if len(validation) else np.zeros(0, dtype=bool)
    patients = material.rows.frame["group_id"].to_numpy(dtype=str)[validation]
    malignancy = probability[:, malignant].sum(axis=1)
    return choose(material.veto, malignancy, by_class, malignant[material.labels[validation]], patients)


def _write(folder: Path, encoder: Encoder, radiomics: Standardiser, about: Mapping[str, Any]) -> None:
    for name, content in (("attributes", encoder.as_dict()), ("radiomics", radiomics.as_dict()), ("fold", about)):
        write_atomic(folder / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False).encode())


def _row(folder: Path, about: Mapping[str, Any], scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    probability = metrics.softmax(scores, about["temperature"]) if len(labels) else scores
    return {
        **{name: about[name] for name in ("fold", "temperature", "n_train", "n_validation", "n_held_out")},
        "validation_balanced_accuracy": metrics.balanced_accuracy(labels, probability.argmax(axis=1)),
        "validation_macro_auroc": metrics.macro_auroc(probability, labels) if len(labels) else None,
        "path": folder.name,
    }
