"""One fold of a classifier: encoder, scalers and model from its training rows, calibration and thresholds from others.

Encoder and imputer, scalers and model are fitted on the training rows; the calibration temperature and Youden
thresholds on the validation rows. Synthetic images are training rows of a network and nothing else. An estimator that
needs no validation rows to know when to stop may then be fitted once more on both. ``skinkit.learning.loop`` trains a
network and chooses an epoch by the validation rows.
Where there is one fold, a second one may be trained from the beginning on all rows: it answers for other cohorts and
never for a development case. But for that one, nothing is learnt from held-out rows; a backbone that is not trained
reads their photos, like all others, once for all folds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skinkit.artifacts.files import write_atomic
from skinkit.errors import CaseError
from skinkit.learning import forward, trained, untrained
from skinkit.learning.fold_network import Runtime, forget, train, with_replay
from skinkit.learning.rows import DevelopmentRows, Replay, drawn, truth_of
from skinkit.models.parts import protocol
from skinkit.models.parts.protocol import Estimator, Labelled, Model, Network, Objective, Sizes
from skinkit.models.parts.weights import Start
from skinkit.schemas import REPLAYED, SYNTHETIC_COHORT, UNTRAINED, UNUSED
from skinkit.stats import metrics
from skinkit.stats.calibration import Isotonic, conformal_level
from skinkit.stats.encoders import ZEROS, Encoder, Standardiser
from skinkit.stats.novelty import MOST_ROWS, Novelty, as_matrix
from skinkit.stats.thresholds import ThresholdRule, choose
from skinkit.taxonomy import ClassSet

if TYPE_CHECKING:
    import torch

    from skinkit.learning.examples import Examples

SOURCE = "validation:youden"
SPREAD = 0.5
"""Standard deviation of ln T before any validation row is seen: of few rows no extreme temperature is learnt."""


@dataclass(frozen=True)
class FoldInputs:
    """Everything the folds of a classifier are made of.

    Attributes:
        rows: the cases and the split.
        classes: the classes it distinguishes.
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
        objective: what a network's training makes small; None for its own.
        teacher: (fold, rows) -> what the same fold of a teacher says of these rows, name in batches -> (n, classes).
        members: the same of members beside each other, (rows, members x classes), where the model reads them.
        member_priors: fold -> of each member, (classes,) shares for which these answers hold.
        first: fold -> folder of the same fold of the classifier that a second training starts from, whose encoder and
            scalers go with its weights; empty for a training from the beginning.
        replay: share of an epoch's draws that are rows of earlier cohorts (part ``replay``); 0 for none.
        absent: cohort -> the classes it cannot have though another can; they are left out of its rows' loss.
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
    objective: Objective | None = None
    teacher: Callable[[int, np.ndarray], Mapping[str, np.ndarray]] | None = None
    members: Callable[[int, np.ndarray], np.ndarray] | None = None
    member_priors: Mapping[int, Sequence[np.ndarray]] = field(default_factory=dict)
    first: Mapping[int, Path] = field(default_factory=dict)
    replay: float = 0.0
    absent: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def replayed(self, fold: int) -> Replay | None:
        """The rows of earlier cohorts that a fold draws from; None without replay."""
        return Replay(tuple(self.rows.part(fold, REPLAYED).tolist()), self.replay) if self.replay else None

    def drawn_again(self, replay: Replay | None, own: int) -> np.ndarray:
        """(classes,) replayed rows of each class in an epoch that sees so many rows of its own, on average."""
        n = len(self.classes.classes)
        if replay is None:
            return np.zeros(n)
        counts = np.bincount(self.labels[list(replay.rows)], minlength=n)
        drawn: np.ndarray = replay.beside(own) * counts / counts.sum()
        return drawn

    @property
    def cohorts(self) -> tuple[str, ...]:
        """Names of the cohorts of the rows."""
        return tuple(sorted(set(self.rows.frame["cohort"])))

    @property
    def cohort_numbers(self) -> np.ndarray:
        """(rows,) the place of each row's cohort among these."""
        return np.searchsorted(np.array(self.cohorts), self.rows.frame["cohort"].to_numpy(dtype=str))

    @property
    def possible(self) -> np.ndarray | None:
        """(rows, classes) which classes the cohort of each row can have; None where every one can have all."""
        if not self.absent:
            return None
        of_cohort = {
            name: [code not in self.absent.get(name, ()) for code in self.classes.classes] for name in self.cohorts
        }
        return np.array([of_cohort[name] for name in self.rows.frame["cohort"]], dtype=bool)

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
        """Encoder of the attributes and scaler of the radiomic features, from these rows or as the first training's."""
        if fold in self.first:
            encoded, scaled = (
                json.loads((self.first[fold] / f"{name}.json").read_text(encoding="utf-8"))
                for name in ("attributes", "radiomics")
            )
            return Encoder.from_dict(encoded), Standardiser.from_dict(scaled)
        frame, features = self.rows.frame.iloc[chosen], list(self.features(fold))
        values = frame[features].to_numpy(dtype=np.float64, na_value=np.nan)
        return Encoder.fit(self.encoder, frame, self.missing), Standardiser.fit(
            features, values, [None] * len(features)
        )


def fit_estimator(
    fold: int, material: FoldInputs, model: type[Estimator], settings: Any, *, seed: int, folder: Path
) -> dict[str, Any]:
    """Fit an estimator on one fold, write its files, and describe it in a row of the model's table."""
    rows, labels = material.rows, material.labels
    truths = {protocol.DIAGNOSIS: labels, **material.truths}
    sizes = {protocol.DIAGNOSIS: len(material.classes.classes)}
    sizes |= {name: len(of.classes) for name, of in material.tasks.items()}
    train_rows, validation = rows.part(fold, "train"), rows.part(fold, "validation")
    every = np.concatenate([train_rows, validation])
    members = material.members(fold, every) if material.members is not None else None

    def batch(part: np.ndarray, encoder: Encoder, radiomics: Standardiser) -> dict[str, np.ndarray]:
        images = material.images[part] if material.images is not None else None
        others = members[part] if members is not None else None
        return trained.batch_of(rows.frame.iloc[part], encoder, radiomics, images, others)

    def fitted_on(chosen: np.ndarray) -> tuple[Encoder, Standardiser, dict[str, Any], dict[str, np.ndarray]]:
        """Encoder, scaler and, for each task, the model of these rows and what it says of the validation rows."""
        encoder, radiomics = material.fitted_scalers(fold, chosen)
        learnt, watched = batch(chosen, encoder, radiomics), batch(validation, encoder, radiomics)
        learnt |= encoder.hidden(learnt["attributes"])
        groups = rows.frame["group_id"].to_numpy(dtype=str)
        fitted, scores = {}, {}
        for task, truth in truths.items():
            known, held_back = (np.flatnonzero(truth[part] != protocol.UNKNOWN) for part in (chosen, validation))
            fitted[task] = model.fit(
                settings,
                Labelled(_rows_of(learnt, known), truth[chosen[known]], groups[chosen[known]]),
                Labelled(_rows_of(watched, held_back), truth[validation[held_back]]),
                n_classes=sizes[task],
                seed=seed,
            )
            empty = np.zeros((0, sizes[task]))
            scores[task] = fitted[task].predict(watched) if len(validation) else empty
        return encoder, radiomics, fitted, scores

    def prior(task: str) -> np.ndarray | None:
        return _effective_prior(fold, material, fitted[task], truths[task][train_rows], sizes[task])

    encoder, radiomics, fitted, scores = fitted_on(train_rows)
    about = _calibrated(fold, material, scores[protocol.DIAGNOSIS], prior(protocol.DIAGNOSIS))
    if material.tasks:
        about["tasks"] = {
            name: _task_calibrated(fold, material, name, scores[name], prior(name)) for name in material.tasks
        }
    if material.refit and model.REFITS and len(validation):
        encoder, radiomics, fitted, _ = fitted_on(np.sort(np.concatenate([train_rows, validation])))
    for task, of_task in fitted.items():
        of_task.save(folder if task == protocol.DIAGNOSIS else folder / trained.TASKS_FOLDER / task)
    _write(folder, encoder, radiomics, about)
    _write_novelty(folder, batch(train_rows, encoder, radiomics), batch(validation, encoder, radiomics))
    return _row(folder, about, scores[protocol.DIAGNOSIS], labels[validation])


def _rows_of(batch: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[chosen] for name, values in batch.items()}


def _effective_prior(
    fold: int, material: FoldInputs, fitted: Estimator, learnt: np.ndarray, n: int
) -> np.ndarray | None:
    """(n,) class mix for which an estimator's scores hold; 0 for a class it has not learnt. None: that of its rows."""
    of_members = np.array(material.member_priors[fold]) if material.members is not None else None
    prior = fitted.effective_class_prior(n, of_members)
    if prior is None or of_members is not None:
        return prior
    learnt_counts = np.bincount(learnt[learnt != protocol.UNKNOWN], minlength=n)
    effective: np.ndarray = np.where(learnt_counts > 0, prior, 0.0)
    return effective


@dataclass(frozen=True)
class _Prepared:
    """What a network learns from, as it reads it: encoded and standardised by these rows, and what it is built for.

    Attributes:
        shown: the rows that an epoch sees once.
        beside: those that it draws as well.
    """

    encoder: Encoder
    radiomics: Standardiser
    arrays: Mapping[str, np.ndarray]
    examples: Examples
    sizes: Sizes
    shown: np.ndarray
    beside: Replay | None


def _prepared(
    fold: int, material: FoldInputs, model: type[Network], settings: Any, learnt: np.ndarray, replay: Replay | None
) -> _Prepared:
    """Scalers are fitted to the real rows; the loss also sees synthetic and replayed ones, so its classes count all."""
    synthetic = material.rows.learnt_synthetic(fold)
    shown, beside = drawn(learnt, synthetic, settings.recipe.synthetic_share, replay)
    encoder, radiomics = material.fitted_scalers(fold, learnt)
    arrays = trained.batch_of(material.rows.frame, encoder, radiomics)
    sizes = Sizes(
        answers=material.classes.classes,
        columns={name: values.shape[1] for name, values in arrays.items()},
        class_counts=_class_counts(material, settings, model.synthetic_weight(settings), shown, beside),
        attributes=encoder.attributes,
        unknown=encoder.unknown,
        tasks={name: classes.classes for name, classes in material.tasks.items()},
        task_counts={name: _counts(material.truths[name][learnt], c) for name, c in material.tasks.items()},
        cohorts=material.cohorts,
    )
    assert material.examples is not None
    taught = material.teacher(fold, with_replay(learnt, replay)) if material.teacher is not None else {}
    examples = material.examples.with_arrays(
        arrays,
        classes=material.labels,
        truths=material.truths,
        beside=taught,
        cohorts=material.cohort_numbers,
        possible=material.possible,
    )
    return _Prepared(encoder, radiomics, arrays, examples, sizes, shown, beside)


def _class_counts(
    material: FoldInputs, settings: Any, weight: float, shown: np.ndarray, beside: Replay | None
) -> tuple[float, ...]:
    """Rows of each class as often as an epoch draws them; a synthetic image counts with its weight in the loss.

    A class that only some rows can have counts as often as if all could: the loss weighs it against the others among
    the rows that can, where it is no rarer for the rows that cannot.
    """
    rows, draws = shown, np.ones(len(shown))  # how often an epoch draws each row
    if _strata(material, settings) is not None and settings.recipe.balanced:
        names, cohort = np.unique(material.cohort_numbers[shown], return_inverse=True)
        even = len(shown) / (len(names) * np.bincount(cohort))
        draws = 1 + settings.recipe.balanced * (even[cohort] - 1)
    if beside is not None:
        again = np.full(len(beside.rows), beside.beside(len(shown)) / len(beside.rows))
        rows, draws = np.concatenate([shown, np.array(beside.rows, dtype=int)]), np.concatenate([draws, again])
    synthetic = material.rows.frame["cohort"].iloc[rows].astype(str).str.startswith(SYNTHETIC_COHORT)
    weights = draws * np.where(synthetic, weight, 1.0)
    counts = np.bincount(material.labels[rows], weights, minlength=len(material.classes.classes))
    if material.possible is not None:
        share = draws @ material.possible[rows] / draws.sum()
        counts = np.divide(counts, share, out=counts, where=share > 0)
    return tuple(counts.tolist())


def _strata(material: FoldInputs, settings: Any) -> np.ndarray | None:
    """(rows,) cohort of each row, where draws are balanced over these; None for classes."""
    return material.cohort_numbers if settings.recipe.strata() == "cohort" else None


def _numbers(values: torch.Tensor | None) -> np.ndarray | None:
    return None if values is None else values.double().cpu().numpy()


def _counts(truth: np.ndarray, classes: ClassSet) -> tuple[int, ...]:
    """Rows of each class among those whose class is known."""
    return tuple(int(n) for n in np.bincount(truth[truth != protocol.UNKNOWN], minlength=len(classes.classes)))


def fit_network(
    fold: int, material: FoldInputs, model: type[Network], settings: Any, start: Start, training: Runtime, folder: Path
) -> dict[str, Any]:
    """Train a network on one fold, write its files, and describe it in a row of the model's table."""
    rows, labels = material.rows, material.labels
    train_rows, validation = rows.part(fold, "train"), rows.part(fold, "validation")
    synthetic, replay = rows.learnt_synthetic(fold), material.replayed(fold)
    prepared = _prepared(fold, material, model, settings, train_rows, replay)

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

    places: dict[str, Any] = {"start": start, "training": training, "folder": folder, "objective": material.objective}
    places |= {"replay": prepared.beside, "strata": _strata(material, settings)}
    network, course = train(
        model, settings, prepared.sizes, prepared.examples, prepared.shown, validation, score, **places
    )
    answers = forward.answers(network, prepared.examples, validation, seen=True, label="validating", **training.passes)
    scores = answers.get(protocol.DIAGNOSIS, np.zeros((0, len(prepared.sizes.answers))))
    prior = _numbers(network.effective_class_prior())
    if prior is None and (
        len(synthetic) or replay is not None
    ):  # the mix that the loss has seen, and for which the scores hold
        prior = np.array(prepared.sizes.class_counts, dtype=np.float64)
    sizes = {"columns": dict(prepared.sizes.columns)}
    about = {**_calibrated(fold, material, scores, prior), **course, "sizes": sizes}
    if len(synthetic):
        about["n_synthetic"] = len(synthetic)
    if material.tasks:
        priors = {name: _numbers(network.effective_task_prior(name)) for name in material.tasks}
        about["tasks"] = {
            name: _task_calibrated(fold, material, name, answers.get(name), prior) for name, prior in priors.items()
        }
    _write(folder, prepared.encoder, prepared.radiomics, about)
    if len(validation):
        train_encoded = _encoded(network, prepared.examples, with_replay(train_rows, replay), training)
        encoded = dict(zip(validation, answers[protocol.SEEN], strict=True))
        _write_novelty(folder, _inputs(prepared.arrays, train_encoded), _inputs(prepared.arrays, encoded))
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
    training: Runtime,
    fold: Path,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Train the network of all rows, write its files into the fold's folder, and say how that went.

    Calibration and thresholds are the fold's: no row is left to learn them from.
    """
    rows, folder = material.rows, fold / trained.FINAL_FOLDER
    every = np.sort(rows.split.loc[~rows.split["part"].isin((REPLAYED, UNUSED)), "row"].to_numpy(dtype=int))
    replay = material.replayed(0)
    final = model.final_config(settings)
    prepared = _prepared(0, material, model, final, every, replay)
    network, course = train(
        model,
        final,
        prepared.sizes,
        prepared.examples,
        prepared.shown,
        np.zeros(0, dtype=int),
        lambda *_: {},
        start=start,
        training=training,
        folder=folder,
        checkpoint=fold.with_name(f"{fold.name}.{trained.FINAL_FOLDER}"),
        strata=_strata(material, final),
        objective=material.objective,
        replay=prepared.beside,
    )
    _write(folder, prepared.encoder, prepared.radiomics, about)
    learnt = with_replay(rows.part(0, "train"), replay)
    # The others were learnt from too, but the distances are those of cases that the directions were not drawn from.
    encoded = (_encoded(network, prepared.examples, part, training) for part in (learnt, np.setdiff1d(every, learnt)))
    _write_novelty(folder, *(_inputs(prepared.arrays, part) for part in encoded))
    return {"rows": len(every), **course}


def _encoded(network: Network, examples: Examples, rows: np.ndarray, training: Runtime) -> dict[int, np.ndarray]:
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
    validation = n["validation"]
    possible = None if material.possible is None else material.possible[validation]
    calibration, probability = _calibration(
        material, material.classes, scores, material.labels[validation], prior, possible
    )
    development = np.concatenate([material.labels[n[part]] for part in ("train", "validation")])
    counts = np.bincount(development, minlength=len(material.classes.classes))
    replay = material.replayed(fold)
    effective = counts if prior is None else prior * (counts + material.drawn_again(replay, len(n["train"])) > 0)
    # Isotonic maps are fitted to the validation rows, whose mix is that of the model's own cohorts.
    shares = counts if material.calibration == "isotonic" else effective
    return {
        "fold": fold,
        **calibration,
        "class_counts": {code: int(k) for code, k in zip(material.classes.classes, counts, strict=True)},
        "effective_class_prior": _shares(material.classes, shares),
        "temperature_prior": _shares(material.classes, effective),
        **({} if replay is None else {"n_replayed": len(replay.rows)}),
        "signature": list(material.features(fold)) if material.signature is not None else None,
        **({"veto": _veto(material, probability, n["validation"])} if isinstance(material.veto, ThresholdRule) else {}),
        **{f"n_{part}": len(rows.part(fold, part)) for part in n},
    }


def _shares(classes: ClassSet, shares: np.ndarray) -> dict[str, float]:
    """Class -> share, summing to 1."""
    return {code: float(share) for code, share in zip(classes.classes, shares / shares.sum(), strict=True)}


def _task_calibrated(
    fold: int, material: FoldInputs, task: str, scores: np.ndarray | None, prior: np.ndarray | None
) -> dict[str, Any]:
    """The same for a further task, from the rows whose truth is known; ``scores`` None without validation rows."""
    classes, truth = material.tasks[task], material.truths[task]
    validation = material.rows.part(fold, "validation")
    known = truth[validation] != protocol.UNKNOWN
    chosen = np.zeros((0, len(classes.classes))) if scores is None else scores[known]
    calibration, _ = _calibration(material, classes, chosen, truth[validation[known]], prior)
    development = np.concatenate([material.rows.part(fold, "train"), validation])
    counts = _counts(truth[development], classes)
    return {
        **calibration,
        "class_counts": dict(zip(classes.classes, counts, strict=True)),
        "n_validation": int(known.sum()),
    }


def _calibration(
    material: FoldInputs,
    classes: ClassSet,
    scores: np.ndarray,
    labels: np.ndarray,
    prior: np.ndarray | None,
    possible: np.ndarray | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """What is fitted to the validation rows of one task, and their calibrated probabilities.

    Where they show that nothing was learnt, the reasons are named. The temperature is that of the mix ``prior``, for
    which the scores hold. What comes after it needs no such move:
    thresholds by sensitivity and specificity and the level of the prediction sets are read from the probabilities as
    they will be, and hold for cases mixed like the validation rows.
    """
    temperature = metrics.fit_temperature(scores, labels, prior, possible=possible, spread=SPREAD)
    chosen = scores if possible is None else np.where(possible, scores, -np.inf)
    if (chosen.argmax(axis=1) == labels).all():
        temperature = max(1.0, temperature)  # without one error the best temperature is 0: nothing to learn it from
    probability = metrics.softmax(scores, temperature) if len(labels) else scores
    isotonic = Isotonic.fit(probability, labels)
    if material.calibration == "isotonic":
        probability = isotonic.apply(probability)
    thresholds = [metrics.youden_threshold(probability[:, k], labels == k) for k in range(probability.shape[1])]
    level = conformal_level(probability, labels, material.coverage)
    unlearnt = untrained.reasons_of(probability, level, material.coverage)
    return {
        "temperature": temperature,
        "isotonic": isotonic.as_dict(),
        "calibration": material.calibration,
        "conformal": {
            "coverage": material.coverage,
            "level": level,
        },
        "class_thresholds": {
            code: {"threshold": None if value != value else float(value), "source": SOURCE}
            for code, value in zip(classes.classes, thresholds, strict=True)
        },
        **({UNTRAINED: unlearnt} if unlearnt else {}),
    }, probability


def _veto(material: FoldInputs, probability: np.ndarray, validation: np.ndarray) -> dict[str, Any]:
    """The malignancy threshold that the rule chooses on the validation rows."""
    assert isinstance(material.veto, ThresholdRule)
    malignant = material.classes.is_malignant
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
        **({"n_synthetic": about["n_synthetic"]} if "n_synthetic" in about else {}),
        "path": folder.name,
    }
