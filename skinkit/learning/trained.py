"""Trained classifiers, segmenters and generators, opened for reading from their artifact."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifacts.artifact import MANIFEST, Artifact
from skinkit.artifacts.tables import read_table
from skinkit.errors import ConfigError, InputError, RefusedError, listed
from skinkit.learning import replay_features, untrained
from skinkit.learning.embeddings import EmbeddingStore, embedding_store
from skinkit.learning.pack import checked, refuse_other_task
from skinkit.learning.penultimate import Penultimate
from skinkit.learning.precision import Arithmetic
from skinkit.learning.untrained import Untrained
from skinkit.models import load_model, model_config, present_settings
from skinkit.models.parts.protocol import DIAGNOSIS, LESION, MEMBERS, Embedder, Estimator, Generator, Network, Sizes
from skinkit.schemas import LEARNT, LEARNT_BEFORE, TRAINED_ON_FILE, UNTRAINED
from skinkit.stats.calibration import Isotonic
from skinkit.stats.encoders import Encoder, Standardiser, missing_attributes
from skinkit.stats.metrics import Floats
from skinkit.stats.novelty import Novelty
from skinkit.stats.regression import log_softmax
from skinkit.stats.thresholds import mean_thresholds, threshold_of
from skinkit.taxonomy import ClassSet
from skinkit.workspace import check_name


# ------------------------------------------------------------------------------------------------ the classifier
def batch_of(
    frame: pd.DataFrame,
    encoder: Encoder,
    radiomics: Standardiser,
    images: npt.NDArray[Any] | None = None,
    members: npt.NDArray[Any] | None = None,
) -> dict[str, np.ndarray]:
    """The named inputs of these cases, encoded and standardised by a fold's own scalers.

    Args:
        frame: fused rows.
        encoder: of the attributes.
        radiomics: of the radiomic features.
        images: (n, width), where the model reads photos.
        members: (n, columns), where it reads the answers of other models.

    Raises:
        InputError: the table lacks a radiomic feature the model reads.
    """
    lacking = [name for name in radiomics.columns if name not in frame]
    if lacking:
        raise InputError(
            f"the fused table has no column {lacking[0]} ({len(lacking)} of {len(radiomics.columns)} lacking)",
            "the radiomic features the model was trained on",
            "run 'skinkit radiomics' for this cohort with the channels and bin width of the development cohorts",
        )
    values = frame[list(radiomics.columns)].to_numpy(dtype=np.float64, na_value=np.nan)
    batch: dict[str, np.ndarray] = {"attributes": encoder.encode(frame), "radiomics": radiomics.apply(values)}
    if images is not None:
        batch["image"] = images
    if members is not None:
        batch[MEMBERS] = members
    return batch


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What makes probabilities of a fold's scores, for one task."""

    temperature: float
    isotonic: Isotonic | None = None
    """Used after the temperature, where the model was trained so."""
    conformal_level: float = 0.0

    def __post_init__(self) -> None:
        level = self.conformal_level
        if not 0 < self.temperature < math.inf or not math.isfinite(level):
            raise ValueError(f"temperature {self.temperature} and level {level} of a calibration")

    def raw(self, probability: Floats) -> Floats:
        """(n, classes) probabilities before any calibration, from those with the fold's temperature."""
        return np.exp(log_softmax(np.log(np.maximum(probability, 1e-300)) * self.temperature))

    def finished(self, probability: Floats) -> Floats:
        """(n, classes) probabilities in use, from those with the fold's temperature."""
        return probability if self.isotonic is None else self.isotonic.apply(probability)

    def calibrated(self, scores: npt.ArrayLike) -> Floats:
        """(n, classes) log-probabilities from scores, with the fold's temperature.

        Raises:
            InputError: a score is not finite, so that nothing can be said of its case.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise InputError(
                "the model answers numbers that are not finite",
                "finite scores for every case",
                "install the model again from its source, or train it again with --replace",
            )
        return log_softmax(scores / self.temperature)


@dataclass(frozen=True, kw_only=True)
class Fold(Calibration):
    """What one fold fitted; of a network without the network, which :meth:`Classifier.network` loads.

    Its own calibration is that of the diagnosis.
    """

    number: int
    encoder: Encoder
    radiomics: Standardiser
    fitted: Estimator | None
    tasks: Mapping[str, Calibration]
    """Further task -> its calibration."""
    further: Mapping[str, Estimator]
    """Further task -> what an estimator fitted for it; empty of a network, which answers all tasks at once."""

    def scores(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, classes) calibrated log-probabilities of an estimator."""
        if self.fitted is None:
            raise TypeError("a network's scores come from the network")
        return self.calibrated(self.fitted.predict(batch))

    def for_task(self, task: str) -> Fold:
        """The same fold as if this further task were its diagnosis; of an estimator."""
        return replace(self, fitted=self.further[task], tasks={}, further={}, **vars(self.tasks[task]))


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, opened.

    Attributes:
        name: how it is called here, whatever it was called where it was trained.
        about: ``model.json``.
        identity: of the artifact.
        model_class: the model's class.
        config: its ``Config``.
        path: the artifact's folder.
    """

    name: str
    about: Mapping[str, Any]
    identity: str
    model_class: type[Any]
    config: Any
    path: Path


@dataclass(frozen=True)
class Classifier(TrainedModel):
    """A trained classifier, opened.

    Attributes:
        classes: the classes it distinguishes.
        tasks: the further tasks it answers.
        folds: one per fold, and last, where there is one, what learnt from all rows.
    """

    classes: ClassSet
    tasks: Mapping[str, ClassSet]
    folds: tuple[Fold, ...]
    members: tuple[Classifier, ...] = ()
    """The models whose answers it reads, which lie within it; each fold reads the same fold of them."""

    @cached_property
    def untrained(self) -> Untrained | None:
        """What it has not learnt, as far as its validation cases show; None where it has learnt."""
        return untrained.of_model(self.about)

    @property
    def knows_nothing(self) -> bool:
        """Whether it has not learnt the diagnosis (:func:`skinkit.learning.untrained.knows_nothing`)."""
        return untrained.knows_nothing(self.untrained)

    @property
    def uses_device(self) -> bool:
        """Whether photos are read, by it or by a member."""
        return self.reads_photos or self.is_network or any(member.uses_device for member in self.members)

    @property
    def malignant(self) -> npt.NDArray[np.bool_]:
        """(classes,) which count as malignant."""
        return self.classes.is_malignant

    @property
    def reads_photos(self) -> bool:
        """Whether an embedder stands before the folds."""
        return issubclass(self.model_class, Estimator) and "image" in self.model_class.READS

    @property
    def is_network(self) -> bool:
        """Whether the folds are networks."""
        return issubclass(self.model_class, Network)

    @property
    def measures(self) -> bool:
        """Whether it reads what was measured or drawn with the lesion's mask."""
        uses_mask = self.is_network and "mask" in self.model_class.READS
        own = uses_mask or any(fold.radiomics.columns for fold in self.folds)
        return own or any(member.measures for member in self.members)

    def refuse_members(self, what: str) -> None:
        """Refuse, with :class:`InputError`, what is not done with models that read others' answers."""
        if self.members:
            raise InputError(
                f"{self.name} reads the answers of {listed(member.name for member in self.members)}",
                f"a model that reads photos and tables, to {what}",
                f"{what} its members one by one",
            )

    @property
    def outside(self) -> tuple[int, ...]:
        """Numbers of the folds that answer for cohorts the model was not trained on."""
        numbers = tuple(fold.number for fold in self.folds)
        return (FINAL,) if FINAL in numbers else numbers

    @property
    def outlined_by(self) -> frozenset[str]:
        """Names of the segmenters whose masks it learnt from."""
        return frozenset(str(self.about["segmenter"] or "").split(","))

    def thresholds(self) -> dict[str, dict[str, Any]]:
        """Task -> the thresholds of its classes, as :func:`skinkit.stats.thresholds.mean_thresholds` has them."""
        folds = self.about["folds"]
        of = {name: [fold["tasks"][name] for fold in folds] for name in self.tasks}
        return {
            DIAGNOSIS: mean_thresholds(self.about["classes"], folds),
            **{name: mean_thresholds(classes.as_dict(), of[name]) for name, classes in self.tasks.items()},
        }

    def described(self) -> dict[str, Any]:
        """What predictions repeat of it, for whatever reads them."""
        thresholds = self.thresholds()
        tasks = {n: {"classes": of.as_dict(), "class_thresholds": thresholds[n]} for n, of in self.tasks.items()}
        return {
            "classes": self.classes.as_dict(),
            "threshold": self.about["threshold"],
            "class_thresholds": thresholds[DIAGNOSIS],
            **({"tasks": tasks} if tasks else {}),
            "model_kind": self.about["model"],
            "leakage_allowed": self.about["leakage_allowed"],
            **({UNTRAINED: self.untrained.as_dict()} if self.untrained is not None else {}),
            "folds": len(self.about["folds"]),
        }

    def folder(self, fold: Fold) -> Path:
        """Where a fold's files are."""
        return folder_of(self.path, fold.number)

    def for_task(self, task: str) -> Classifier:
        """The same model as if this further task were its diagnosis; of an estimator."""
        return replace(
            self, classes=self.tasks[task], tasks={}, folds=tuple(fold.for_task(task) for fold in self.folds)
        )

    def network(self, fold: Fold, device: str) -> Network:
        """A fold's network with its trained weights, ready to answer."""
        shelf = _SHELF.get()
        if shelf is None:
            return self._network(fold, device)
        return shelf.network(self.folder(fold), device, self.identity, lambda: self._network(fold, device))

    def _network(self, fold: Fold, device: str) -> Network:
        columns = {"attributes": len(fold.encoder.attributes), "radiomics": len(fold.radiomics.columns)}
        classes = self.classes.classes
        tasks = {name: of.classes for name, of in self.tasks.items()}
        counts = {name: (1,) * len(codes) for name, codes in tasks.items()}
        sizes = Sizes(
            classes, columns, (1,) * len(classes), fold.encoder.attributes, fold.encoder.unknown, tasks, counts
        )
        return _loaded(self.model_class.build(self.config, sizes), self.folder(fold), device, self.about)

    def embedder(self, device: str) -> Embedder:
        """The network before the folds, with the weights that lie in the model."""
        from skinkit.models.parts.weights import read_state

        file = self.path / BACKBONE
        module: Any = self.model_class.embedder(self.config, read_state(file), str(file))
        return module.to(device)  # type: ignore[no-any-return]

    def store(self, workspace_root: Path, device: str) -> EmbeddingStore:
        """Where what the embedder says is remembered."""
        return embedding_store(workspace_root, self.model_class, self.config, self.about["weights"]["sha256"], device)

    def chosen(self, numbers: Sequence[int]) -> tuple[Fold, ...]:
        """The folds of these numbers."""
        return tuple(fold for fold in self.folds if fold.number in numbers)

    def finished(self, scaled: Floats) -> Floats:
        """(rows, classes) probabilities in use: the mean over the folds that answered, each calibrated.

        Args:
            scaled: (folds, rows, classes) with the folds' temperatures, NaN where a fold did not answer.
        """
        calibrated = np.full_like(scaled, np.nan)
        for index, fold in enumerate(self.folds):
            rows = ~np.isnan(scaled[index]).any(axis=1)
            calibrated[index, rows] = fold.finished(scaled[index, rows])
        mean: Floats = np.nanmean(calibrated, axis=0)
        return mean

    def folds_for(self, frame: pd.DataFrame, cohort: str) -> tuple[list[tuple[int, ...]], bool]:
        """Which folds may predict each case of a cohort, and whether this is a cohort of the split it was trained on.

        Elsewhere all of them may, or the one that learnt from every row, where there is one; in a cohort of the split,
        trained on or not, only those that held the case out. A case that is in no part of the split, because it has no
        class, is left to the folds that have not learnt from the same patient.

        Args:
            frame: fused rows.
            cohort: they are of.

        Raises:
            RefusedError: the model knows the cohort's photos under other ids, so it is unknown who was held out.
        """
        every = {fold.number for fold in self.folds} - {FINAL}
        columns = ["fold", "cohort", "case_id", "part", "group_id", "pixel_sha256"]
        trained_on = read_table(self.path / TRAINED_ON_FILE, columns)
        here = trained_on["cohort"] == cohort
        if not here.any():
            return [self.outside] * len(frame), False
        if not frame["case_id"].isin(trained_on.loc[here, "case_id"]).any():
            _refuse_other_ids(frame, trained_on[here], cohort, self.name)
        divided = trained_on[here & (trained_on["part"] != LEARNT_BEFORE)]
        held_out: dict[str, set[int]] = {case: set() for case in divided["case_id"]}
        learnt: dict[str, set[int]] = {}
        for row in trained_on[here & (trained_on["part"] == "held_out")].to_dict("records"):
            held_out[row["case_id"]].add(int(row["fold"]))
        for row in trained_on[trained_on["part"].isin(LEARNT)].to_dict("records"):
            learnt.setdefault(row["group_id"], set()).add(int(row["fold"]))
        return [
            tuple(sorted(held_out[case] if case in held_out else every - learnt.get(group, set())))
            for case, group in zip(frame["case_id"], frame["group_id"], strict=True)
        ], True


def _refuse_other_ids(frame: pd.DataFrame, trained_on: pd.DataFrame, cohort: str, model: str) -> None:
    """Cases of which none has an id that the model was trained on, though it has learnt from their photos."""
    same_photo = frame["pixel_sha256"].dropna().isin(trained_on["pixel_sha256"].dropna())
    if same_photo.any():
        raise RefusedError(
            f"{model} has learnt from {int(same_photo.sum())} photos of {cohort} under other ids than they have now",
            "the ids it was trained with: without them it is unknown which cases a fold held out",
            f"train again ('skinkit train --name {model} --replace'): the ids became pseudonyms, or their key changed",
        )


BACKBONE, NETWORK = "backbone.safetensors", "network.safetensors"
FOLD = "fold_{}"
TASKS_FOLDER = "tasks"
"""Folder, within a fold's, of what an estimator fitted for further tasks."""
FINAL, FINAL_FOLDER = -1, "final"
"""Number and folder, within the only fold's, of what learnt from all rows and answers for other cohorts alone."""


def open_classifier(artifact: Artifact, name: str = "") -> Classifier:
    """Open a trained classifier, after every file of it was hashed again.

    Args:
        artifact: the model.
        name: how it is called here; by default as it was trained.

    Raises:
        InputError: it is no classifier, cannot be read, or has settings that this version no longer takes.
        RefusedError: a file of it is missing or is not what was written.
    """
    shelf = _SHELF.get()
    if shelf is None:
        return _classifier(_opened(artifact, "classify", name))
    return shelf.classifier(artifact, name)


class Shelf:
    """Models that a long-lived process has opened, so that the next photo does not wait for them.

    A model is opened anew, and its files hashed again, once its identity or the size, time or inode of one of its files
    is another. Only for predictions, one at a time: whoever changes a network changes it for the next photo.
    """

    def __init__(self) -> None:
        self._classifiers: dict[Path, tuple[object, Classifier]] = {}
        self._networks: dict[tuple[Path, str], tuple[object, Network]] = {}

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it, :func:`open_classifier` and :meth:`Classifier.network` answer from here in this thread."""
        before = _SHELF.set(self)
        try:
            yield
        finally:
            _SHELF.reset(before)

    def classifier(self, artifact: Artifact, name: str) -> Classifier:
        """As :func:`open_classifier`."""
        files = [MANIFEST, *artifact.manifest["files"], *artifact.manifest.get("beside", {})]
        stamp = (artifact.identity, name, tuple(_stamp(artifact.path / file) for file in files))
        kept = self._classifiers.get(artifact.path)
        if kept is None or kept[0] != stamp:
            kept = self._classifiers[artifact.path] = stamp, _classifier(_opened(artifact, "classify", name))
        return kept[1]

    def network(self, folder: Path, device: str, identity: str, load: Callable[[], Network]) -> Network:
        """The network of a fold's folder."""
        stamp = (identity, _stamp(folder / NETWORK))
        kept = self._networks.get((folder, device))
        if kept is None or kept[0] != stamp:
            kept = self._networks[folder, device] = stamp, load()
        return kept[1]


_SHELF: ContextVar[Shelf | None] = ContextVar("shelf", default=None)


def _stamp(file: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where there is none."""
    try:
        about = file.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def open_whole(artifact: Artifact, task: str) -> None:
    """Open a model with all its networks, to find out whether it can be opened.

    Args:
        artifact: the model.
        task: ``classify`` or ``segment``.

    Raises:
        InputError: it has another task, or a file of it is not what it should be.
        RefusedError: a file of it is missing or is not what was written.
    """
    _check_networks(open_segmenter(artifact) if task == "segment" else open_classifier(artifact))


def _check_networks(model: Classifier | Segmenter) -> None:
    if isinstance(model, Segmenter):
        for number in model.folds:
            model.network(number, "cpu")
        return
    if model.reads_photos:
        model.embedder("cpu")
    for fold in model.folds:
        network = model.network(fold, "cpu") if model.is_network else None
        _check_replay(model, fold, network)
    own = {model.folder(fold) for fold in model.folds}
    for file in model.path.rglob(replay_features.FILE):
        if file.parent not in own and MEMBERS not in file.relative_to(model.path).parts:
            raise _unreadable(model.path, ValueError(f"{file.relative_to(model.path)} of no fold"))
    for member in model.members:
        _check_networks(member)


def _check_replay(model: Classifier, fold: Fold, network: Network | None) -> None:
    """Check that the replay features of a fold, if it has any, are what its head reads and answers."""
    replay = replay_features.read(model.folder(fold))
    if replay is None:
        return
    try:
        if not model.reads_photos and network is None:
            raise ValueError(f"{replay_features.FILE} of a model without a backbone")
        replay.check(fold.fitted.predict if fold.fitted else Penultimate(network, len(model.classes.classes)).scores)
    except _DAMAGE as error:
        raise _unreadable(model.path, error) from None


def _classifier(model: TrainedModel) -> Classifier:
    try:
        rows = list(model.about["folds"])
        rows += [{**row, "fold": FINAL} for row in rows if "final" in row]
        folds = tuple(_open_fold(folder_of(model.path, int(row["fold"])), row, model.model_class) for row in rows)
        classes = ClassSet.from_dict(model.about["classes"])
        tasks = {name: ClassSet.from_dict(of) for name, of in (model.about.get("tasks") or {}).items()}
        members = tuple(_member(model, of) for of in model.about.get(MEMBERS, ()))
        classifier = Classifier(**vars(model), classes=classes, tasks=tasks, folds=folds, members=members)
        _check_answers(classifier)
        return classifier
    except _DAMAGE as error:
        raise _unreadable(model.path, error) from None
    except ConfigError as error:
        raise InputError(f"the model {model.name!r}: {error.found}", error.expected, error.fix) from None


def _member(model: TrainedModel, of: Mapping[str, Any]) -> Classifier:
    """A model that lies within another one."""
    check_name(of["name"], "member")
    return _classifier(_read(model.path / MEMBERS / of["name"], "classify", of["name"], of["identity"]))


def _check_answers(model: Classifier) -> None:
    """Have every fold answer for a case of which nothing is known, and read what predictions read of ``model.json``.

    Files that fit neither each other nor the model are noticed here, before the first case. Photos and other models'
    answers are not made up: what reads them is only asked what it makes of scores.

    Raises:
        ValueError: an answer is of another shape, or not finite.
    """
    about, codes = model.about, model.classes.classes
    numbers = [about["threshold"], *(threshold_of(about, fold.number) for fold in model.folds)]
    numbers += [effective_prevalence(about, model.classes.malignant) or 0.0]
    if len(codes) < 2 or not model.folds or not np.isfinite(np.asarray(numbers, dtype=np.float64)).all():
        raise ValueError(f"{len(codes)} classes, {len(model.folds)} folds, thresholds {numbers}")
    known = set(model.model_class.READS) <= {"attributes", "radiomics"} and not model.members
    for fold in model.folds:
        nothing = np.full((1, len(fold.radiomics.columns)), np.nan)
        batch = {"attributes": np.array([fold.encoder.unknown]), "radiomics": fold.radiomics.apply(nothing)}
        if not all(np.isfinite(values).all() for values in batch.values()):
            raise ValueError(f"fold {fold.number} does not know what to write for an unknown value")
        novelty = Novelty.load(model.folder(fold))
        if novelty is not None and not np.isfinite(novelty.percentile(np.zeros((1, len(novelty.mean))))).all():
            raise ValueError(f"fold {fold.number} cannot say how unlike its training rows a case is")
        own: dict[str, tuple[Estimator | None, Calibration, tuple[str, ...]]] = {DIAGNOSIS: (fold.fitted, fold, codes)}
        own |= {name: (fold.further.get(name), fold.tasks[name], of.classes) for name, of in model.tasks.items()}
        for name, (fitted, calibration, expected) in own.items():
            scores = np.zeros((1, len(expected))) if fitted is None or not known else fitted.predict(batch)
            answer = calibration.finished(np.exp(calibration.calibrated(scores)))
            if answer.shape != (1, len(expected)) or not np.isfinite(answer).all():
                raise ValueError(f"fold {fold.number} answers {answer.shape[1:]} of {len(expected)} classes for {name}")
    # What predictions repeat of it.
    missing_attributes({}, about["attributes"])
    model.described()
    if not all(isinstance(one, str) for one in (*model.outlined_by, *about.get("segmenter_identities", []))):
        raise ValueError(f"segmenters {about['segmenter_identities']}")


def folder_of(model: Path, fold: int) -> Path:
    """Where the files of a fold, or of what learnt from all rows, are in a model's folder."""
    return model / FOLD.format(0) / FINAL_FOLDER if fold == FINAL else model / FOLD.format(fold)


def _open_fold(folder: Path, about: Mapping[str, Any], model: type[Any]) -> Fold:
    def plain(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    tasks: Mapping[str, Any] = about.get("tasks") or {}
    estimator = issubclass(model, Estimator)
    return Fold(
        number=int(about["fold"]),
        encoder=Encoder.from_dict(plain("attributes.json")),
        radiomics=Standardiser.from_dict(plain("radiomics.json")),
        fitted=model.load(folder) if estimator else None,
        tasks={name: Calibration(**_calibration(of)) for name, of in tasks.items()},
        further={name: model.load(folder / TASKS_FOLDER / name) for name in tasks} if estimator else {},
        **_calibration(about),
    )


def _calibration(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "temperature": float(about["temperature"]),
        "isotonic": Isotonic.from_dict(about["isotonic"]) if about.get("calibration") == "isotonic" else None,
        "conformal_level": float((about.get("conformal") or {}).get("level", 0.0)),
    }


_SAME_SHARE = 0.05
_PRIORS = ("effective_class_prior", "supposed_shares", "class_counts")
"""Where ``model.json`` says for which mix of classes a fold's probabilities hold; the second in older versions."""


def class_prior(fold: Mapping[str, Any]) -> dict[str, float]:
    """Class -> its share in the mix for which a fold's probabilities hold; empty where that is not known.

    Args:
        fold: what ``model.json`` says of it.
    """
    shares: Mapping[str, float] = next((fold[name] for name in _PRIORS if fold.get(name)), {})
    total = sum(shares.values())
    return {code: float(share) / total for code, share in shares.items()} if total else {}


def effective_prevalence(about: Mapping[str, Any], malignant: Collection[str]) -> float | None:
    """Prevalence of malignancy for which a model's probabilities hold: the mean over its folds; None where unknown.

    Args:
        about: ``model.json``.
        malignant: the malignant classes.
    """
    priors = [class_prior(fold) for fold in about.get("folds") or ()]
    if not priors or not all(priors):
        return None
    return sum(share for prior in priors for code, share in prior.items() if code in malignant) / len(priors)


def has_other_temperature(about: Mapping[str, Any]) -> bool:
    """Whether an older version fitted temperatures to another mix than that for which the scores hold."""
    return any(
        "temperature_prior" not in fold
        and any(
            abs(share - class_prior({"class_counts": fold["class_counts"]})[code]) > _SAME_SHARE
            for code, share in class_prior(fold).items()
        )
        for fold in about.get("folds") or ()
        if fold.get("class_counts")
    )


def temperature_prior(fold: Mapping[str, Any]) -> dict[str, float]:
    """The same of its probabilities with the temperature alone, before isotonic maps.

    Older versions did not write it: their temperatures were fitted to the mix of the validation rows.
    """
    return class_prior({"effective_class_prior": fold["temperature_prior"]} if "temperature_prior" in fold else fold)


@dataclass(frozen=True)
class Segmenter(TrainedModel):
    """A trained network that draws masks, opened.

    Attributes:
        folds: numbers of the folds.
    """

    folds: tuple[int, ...]

    def network(self, fold: int, device: str) -> Network:
        """A fold's network with its trained weights, ready to answer."""
        network = self.model_class.build(self.config, Sizes((LESION,)))
        return _loaded(network, self.path / FOLD.format(fold), device, self.about)


def open_segmenter(artifact: Artifact, name: str = "") -> Segmenter:
    """Open a trained segmenter; arguments and errors as of :func:`open_classifier`."""
    model = _opened(artifact, "segment", name)
    try:
        return Segmenter(**vars(model), folds=tuple(int(row["fold"]) for row in model.about["folds"]))
    except _DAMAGE as error:
        raise _unreadable(model.path, error) from None


@dataclass(frozen=True)
class TrainedGenerator(TrainedModel):
    """A trained generator, opened.

    Attributes:
        classes: the classes it writes images of.
        class_counts: fold -> class -> training cases it has learnt from.
    """

    classes: ClassSet
    class_counts: Mapping[int, Mapping[str, int]]

    def generator(self, fold: int, device: str) -> Generator:
        """What one fold has learnt, ready to write images."""
        folder, counts = self.path / FOLD.format(fold), self.class_counts[fold]
        if not issubclass(self.model_class, Network):
            fitted: Generator = self.model_class.load(folder)
            return fitted
        codes = self.classes.classes
        sizes = Sizes(codes, class_counts=tuple(counts[code] for code in codes))
        network: Any = _loaded(self.model_class.build(self.config, sizes), folder, device, self.about)
        return network  # type: ignore[no-any-return]


def open_generator(artifact: Artifact, name: str = "") -> TrainedGenerator:
    """Open a trained generator; arguments and errors as of :func:`open_classifier`."""
    model = _opened(artifact, "generate", name)
    try:
        counts = {int(row["fold"]): row["class_counts"] for row in model.about["folds"]}
        return TrainedGenerator(**vars(model), classes=ClassSet.from_dict(model.about["classes"]), class_counts=counts)
    except _DAMAGE as error:
        raise _unreadable(model.path, error) from None


def _opened(artifact: Artifact, task: str, name: str) -> TrainedModel:
    """What models of every task have in common; refuses those of another task."""
    checked(artifact)
    return _read(artifact.path, task, name, artifact.identity)


def _read(path: Path, task: str, name: str, identity: str) -> TrainedModel:
    """A model of a folder whose files were checked."""
    try:
        about: dict[str, Any] = json.loads((path / "model.json").read_text(encoding="utf-8"))
        refuse_other_task(about, task, name or path.name)
        model = load_model(about["model"], task=task)
        settings = present_settings(model, about["settings"])
        config = model_config(model, settings, where="model.json")
        return TrainedModel(name or about["name"], about, identity, model, config, path)
    except ConfigError as error:
        raise InputError(f"the model {name or path.name!r}: {error.found}", error.expected, error.fix) from None
    except _DAMAGE as error:
        raise _unreadable(path, error) from None


_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What reading files raises that are not what they should be."""


def _unreadable(path: Path, error: Exception) -> InputError:
    said = str(error) if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__} {error}"
    return InputError(
        f"the model at {path} cannot be read ({said[:400]})",
        "a whole model written by 'skinkit train'",
        "run 'skinkit verify', then bring the model again or train it anew with --replace",
    )


def _loaded(network: Any, folder: Path, device: str, about: Mapping[str, Any]) -> Network:
    """A network with the weights of a fold's folder, which answers in the arithmetic that its model names."""
    from skinkit.models.parts.weights import load_state

    try:
        network.load_state_dict(present_tensors(load_state(folder / NETWORK), network.FORMER_TENSORS))
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(folder, error) from None
    network.answers_in = Arithmetic.of_model(about).answers
    out: Network = network.eval().to(device)
    return out


def present_tensors(state: Mapping[str, Any], former: Mapping[str, str]) -> dict[str, Any]:
    """Weights of a model that an older version may have written, under their present names."""
    out = {}
    for name, value in state.items():
        begins = next((begin for begin in former if name == begin or (begin[-1] == "." and name.startswith(begin))), "")
        out[former[begins] + name.removeprefix(begins) if begins else name] = value
    return out
