"""A workspace in Python: its artifacts as data frames, its stages as calls, and the prediction of one photo.

    from skinkit.api import open_workspace, predict_photo

    work = open_workspace("skinkit-demo")
    work.run("segment", cohort="jinan")
    masks = work.masks("jinan")
    answer = predict_photo("lightgbm", "photo.jpg", {"age_years": 63, "sex": "female"}, workspace=work)

Stages run through :mod:`skinkit.pipeline`, as on the command line: the same settings, artifacts and errors
(:mod:`skinkit.errors`). What a column means stands in :mod:`skinkit.schemas`.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import secrets
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.artifacts.tables import read_table
from skinkit.console import Console
from skinkit.data.folder import DESCRIPTION
from skinkit.errors import CaseError, ConfigError, InputError, did_you_mean, listed
from skinkit.images.advice import unusable
from skinkit.learning.pack import models_of, trained
from skinkit.models import load_model
from skinkit.pipeline import Pipeline, Step
from skinkit.privacy import permissions
from skinkit.schemas import IMAGE, OK, PROBABILITY, TRAINED_ON_FILE
from skinkit.stages import MAKER, STAGES, load_stage
from skinkit.workspace import DEFAULTS, Cohort, Ref, Workspace, find_workspace, load_workspace

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.learning.trained import Classifier
    from skinkit.taxonomy import ClassSet

Cohorts = str | Sequence[str] | None
"""One cohort, several, or None for all."""

IN_TRAINING, OTHER_MASK = "in_training_data", "mask_of_another_segmenter"
"""Flags of :class:`PhotoPrediction` beside those of the photo."""
UNCERTAINTY = ("entropy", "fold_sd", "uncertainty_variance", "uncertainty_entropy", "uncertainty_mutual_information")
"""Columns of the predictions that :attr:`PhotoPrediction.uncertainty` takes over."""

_ONE_LESION = ("image", "mask", "label", "mask_polarity", "attribute", "draft", "folder", "onnx", "csv")
"""Options of commands that work without a cohort; no settings of a stage."""
_SAME_PLACE = {"site": "region", "region": "site"}
"""One can be derived from the other."""


# ---------------------------------------------------------------------------------------------------- a workspace


def open_workspace(
    path: str | Path = ".", *, jobs: int = 1, device: str = "auto", console: Console | None = None
) -> OpenWorkspace:
    """Open the workspace at or above a folder.

    Args:
        path: folder with ``skinkit.toml``, or one inside it.
        jobs: worker processes of :meth:`OpenWorkspace.run`.
        device: where networks run: ``auto``, ``cpu`` or ``cuda``.
        console: where messages go; by default stderr. ``Console(quiet=True)`` shows warnings only.

    Raises:
        ConfigError: there is no ``skinkit.toml``, or it is not valid.
    """
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs}", "1 or more", "leave it out for one worker process")
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device = {device!r}", did_you_mean(device, ("auto", "cpu", "cuda")), "use one of these")
    return OpenWorkspace(load_workspace(find_workspace(Path(path))), jobs, device, console or Console())


@dataclass(frozen=True)
class OpenWorkspace:
    """A workspace, opened with :func:`open_workspace`.

    Tables are read from disk as they are; only :meth:`run` brings anything up to date. Given one ``cohort``, a table
    is that of its artifact. Given several, or None for all cohorts that have the artifact, the tables are
    concatenated and a first column ``cohort`` names their origin. A table that does not exist is an ``InputError``,
    an unknown cohort a ``ConfigError``.

    Attributes:
        workspace: settings and paths.
        jobs: worker processes.
        device: where networks run.
        console: where messages go.
    """

    workspace: Workspace
    jobs: int = 1
    device: str = "auto"
    console: Console = field(default_factory=Console, repr=False)

    # -- tables

    @property
    def cohorts(self) -> pd.DataFrame:
        """One row per cohort of ``skinkit.toml``: ``cohort``, ``role``, ``source``, ``path``, ``prevalence``."""
        import pandas as pd

        columns = ["cohort", "role", "source", "path", "prevalence"]
        cohorts = self.workspace.cohorts.values()
        rows = [(c.name, c.role, c.source, str(c.root), c.prevalence) for c in cohorts]
        return pd.DataFrame(rows, columns=columns).astype({"prevalence": float})

    def models(self) -> pd.DataFrame:
        """One row per trained or installed model, with the columns of ``skinkit models list --json``."""
        import pandas as pd

        return pd.DataFrame(described_models(self.workspace))

    def cases(self, cohort: Cohorts = None) -> pd.DataFrame:
        """One row per image: keys, subject, attributes, outcome of reading it."""
        return self._frame("cases", cohort)

    def masks(self, cohort: Cohorts = None, *, name: str = "") -> pd.DataFrame:
        """One row per segmented image: mask file, area, Dice and IoU; ``name`` defaults to the segmenter."""
        return self._frame("masks", cohort, name or self.workspace.defaults["segmenter"])

    def features(self, cohort: Cohorts = None, *, name: str = "") -> pd.DataFrame:
        """One row per measured image: the radiomic features; ``name`` defaults to the segmenter."""
        return self._frame("features", cohort, name or self.workspace.defaults["segmenter"])

    def fused(self, cohort: Cohorts = None, *, name: str = "") -> pd.DataFrame:
        """One row per case: what models read of it; ``name`` defaults to the segmenter."""
        return self._frame("fused", cohort, name or self.workspace.defaults["segmenter"])

    def predictions(self, model: str = "", cohort: Cohorts = None) -> pd.DataFrame:
        """One row per image, lesion and patient (column ``level``); ``model`` defaults to the workspace's."""
        return self._frame("predictions", cohort, model or self.workspace.defaults["model"])

    def metrics(self, model: str = "", cohort: Cohorts = None) -> pd.DataFrame:
        """One row per metric, class and subgroup, with its interval; ``model`` defaults to the workspace's."""
        return self._frame("metrics", cohort, model or self.workspace.defaults["model"])

    def _frame(self, kind: str, cohort: Cohorts, name: str = "") -> pd.DataFrame:
        if isinstance(cohort, str):
            return self._table(Ref(kind, self.workspace.cohort(cohort).name, name))
        cohorts = self.workspace.cohorts if cohort is None else cohort
        refs = [Ref(kind, self.workspace.cohort(one).name, name) for one in cohorts]
        if cohort is None:
            refs = [ref for ref in refs if exists(self.workspace.path(ref))]
        if not refs:
            raise InputError(
                f"no cohort of {self.workspace.root} has {Ref(kind, name=name)}",
                "at least one cohort with this artifact",
                f"run 'skinkit {MAKER[kind]}', or call run({MAKER[kind]!r})",
            )
        return _concatenated({ref: self._table(ref) for ref in refs})

    def _table(self, ref: Ref) -> pd.DataFrame:
        stage = MAKER[ref.kind]
        fix = f"run 'skinkit {stage} --cohort {ref.cohort}', or call run({stage!r}, cohort={ref.cohort!r})"
        return open_artifact(self.workspace.path(ref), fix).table()

    # -- stages

    def run(
        self,
        stage: str,
        cohort: Cohorts = None,
        *,
        name: str = "",
        upstream: bool = True,
        retry_failed: bool = False,
        **config: Any,
    ) -> pd.DataFrame:
        """Run a stage as its command does: inputs are brought up to date first, then the stage's own artifacts.

        Args:
            stage: name of the stage, a key of ``skinkit.stages.STAGES``.
            cohort: cohorts to work on; None for all that apply.
            name: name of what is made; as ``--name``.
            upstream: False uses inputs as they are; as ``--no-upstream``.
            retry_failed: compute rows again that failed before.
            **config: options of the command, with underscores: ``folds=5``, ``settings=["recipe.epochs=2"]``.

        Returns:
            The table of what was made or is up to date. Of several cohorts as the class describes. Cases that could
            not be processed are rows with ``status`` ``failed`` and a ``reason``.

        Raises:
            SkinkitError: the error with which the command would end.
        """
        if stage not in STAGES:
            raise ConfigError(f"stage {stage!r}", did_you_mean(stage, STAGES), "use one of these")
        _refuse_one_lesion(config)
        settings, name = named_by_model(stage, config, name)
        cohorts = [cohort] if isinstance(cohort, str) else list(cohort or ())
        pipeline = Pipeline(
            self.workspace, self.console, self.jobs, self.device, upstream=upstream, retry_failed=retry_failed
        )
        with permissions.restored(), _program_not_repeated():
            if self.workspace.private:
                permissions.keep_private(self.workspace.artifacts)
            pipeline.make(stage, settings, cohorts=cohorts, name=name)
        return _of_steps([step for step in pipeline.steps if step.stage == stage], alone=isinstance(cohort, str))


def _refuse_one_lesion(config: Mapping[str, Any]) -> None:
    """Refuse the options of commands that work without a cohort: here they would have no effect."""
    if wrong := next((option for option in _ONE_LESION if option in config), ""):
        raise ConfigError(
            f"the setting {wrong} = {config[wrong]!r}",
            "settings that apply to cohorts",
            "for one photo, pass photo, attributes and mask to predict_photo, or call skinkit.radiomics.extract",
        )


def named_by_model(stage: str, settings: Mapping[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """Settings and name of a stage's artifacts; where they are named after a model, ``model`` is the name.

    Args:
        stage: name of the stage.
        settings: those given explicitly.
        name: the name given explicitly, or empty.

    Raises:
        ConfigError: two names are given.
    """
    settings = dict(settings)
    # A model given by name is the name of what is made of it, never a setting in its recipe.
    model = settings.pop("model", "") if getattr(load_stage(stage), "OF_MODEL", False) else ""
    if name and model and name != model:
        raise ConfigError(f"--name {name} and --model {model}", "one model", f"leave --name {name} out")
    return settings, model or name


def described_models(workspace: Workspace) -> list[dict[str, Any]]:
    """What is known of each model of a workspace, as plain values."""
    return [_described(workspace, name) for name in models_of(workspace)]


def _described(workspace: Workspace, name: str) -> dict[str, Any]:
    from skinkit.audit import withdrawals
    from skinkit.learning import replay_features, untrained

    artifact = open_artifact(workspace.path(Ref("models", name=name)))
    about = artifact.json("model.json")
    files = [file for file in artifact.path.rglob("*") if file.is_file()]
    return {
        "name": name,
        "kind": about["model"],
        "task": about.get("task", "classify"),
        "origin": "installed" if artifact.installed else "trained",
        "identity": artifact.identity,
        "default": name == workspace.defaults["model"],
        "classes": (about.get("classes") or {}).get("classes"),
        "malignant": (about.get("classes") or {}).get("malignant"),
        "threshold": about.get("threshold"),
        "synthetic": (about.get("synthetic") or {}).get("name"),
        "untrained": None if (found := untrained.of_artifact(artifact)) is None else str(found),
        "withdrawn_images": withdrawals.marks(workspace).get(artifact.identity, {}).get("images", 0),
        "replay_cases": sum(map(len, replay_features.of_artifact(artifact).values())),
        "made_at": artifact.manifest["made"]["at"],
        "pack_sha256": (artifact.installed or {}).get("pack_sha256"),
        "mib": round(sum(file.stat().st_size for file in files) / 2**20, 2),
        "path": str(artifact.path),
    }


def _of_steps(steps: Sequence[Step], *, alone: bool) -> pd.DataFrame:
    """The tables of what a stage made: one as it is where one cohort was named or it is of no cohort."""
    tables = {step.ref: step.artifact.table() for step in steps}
    if len(tables) == 1 and (alone or not next(iter(tables)).cohort):
        return next(iter(tables.values()))
    return _concatenated(tables)


def _concatenated(tables: Mapping[Ref, pd.DataFrame]) -> pd.DataFrame:
    """Tables of several cohorts below each other; a column that one lacks is unknown there."""
    import pandas as pd

    named = [
        table if "cohort" in table or not ref.cohort else pd.concat([_column(ref.cohort, len(table)), table], axis=1)
        for ref, table in tables.items()
    ]
    frame = pd.concat(named, ignore_index=True)
    texts = [name for name in frame if frame[name].dtype == object]
    return frame.assign(**{str(name): frame[name].where(frame[name].notna(), None) for name in texts})


def _column(cohort: str, rows: int) -> pd.Series:
    import pandas as pd

    return pd.Series([cohort] * rows, name="cohort", dtype=object)


@contextlib.contextmanager
def _program_not_repeated() -> Iterator[None]:
    """Keep worker processes from running the calling script.

    Each worker imports the main module of the program that starts it. A script that is written like a notebook has no
    ``if __name__ == "__main__"``, so that its calls would run again in every worker. The workers need nothing of it.
    """
    main = sys.modules["__main__"]
    before = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    main.__spec__ = None
    if "__file__" in before:
        del main.__file__
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(main, name, value)


# ------------------------------------------------------------------------------------------------------ one photo


@dataclass(frozen=True)
class PhotoPrediction:
    """What a classifier predicts for one photo. It is no diagnosis.

    Attributes:
        photo: the file.
        model: name of the model.
        model_identity: identity of its artifact.
        probabilities: class -> calibrated probability, in the model's order; they sum to 1.
        malignant_classes: the classes that count as malignant.
        malignancy: sum of the probabilities of those, 0 to 1.
        malignancy_raw: the same before calibration.
        effective_prevalence: prevalence of malignancy for which malignancy holds, 0 to 1; None where unknown. Where
            malignant lesions are rarer, it is too high.
        threshold: a malignancy from here on is called malignant, whatever the most probable class.
        call: ``malignant`` or ``benign``.
        veto: called malignant although the most probable class is benign.
        prediction_set: conformal set: the classes that together are to hold the truth.
        uncertainty: ``entropy`` (over ln(classes), 0 to 1), ``fold_sd`` (of the malignancy over folds), and
            ``uncertainty_...`` of networks that have it; only those the model gives.
        unlike_training: percentage of the validation cases that are more like the training cases, 0 to 100; None
            where the model cannot say.
        refer: a dermatologist should look at the lesion.
        refer_reasons: why: ``malignant_call``, ``undecided``, ``mask_failed``, ``features_missing``,
            ``unlike_training``, ``untrained`` (the model has learnt nothing).
        missing_attributes: attributes the model reads that are unknown here.
        not_read: what was given that the model does not read: names of attributes, or ``mask``.
        flags: what was done to the photo while reading it (``docs/input.md``); ``in_training_data``, the model learnt
            from this very photo; ``mask_of_another_segmenter``, the given mask takes the place of the model's own.
    """

    photo: str
    model: str
    model_identity: str
    probabilities: Mapping[str, float]
    malignant_classes: tuple[str, ...]
    malignancy: float
    malignancy_raw: float
    effective_prevalence: float | None
    threshold: float
    call: str
    veto: bool
    prediction_set: tuple[str, ...]
    uncertainty: Mapping[str, float]
    unlike_training: float | None
    refer: bool
    refer_reasons: tuple[str, ...]
    missing_attributes: tuple[str, ...]
    not_read: tuple[str, ...]
    flags: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def predict_photo(
    model: str,
    photo: str | Path,
    attributes: Mapping[str, Any] | None = None,
    mask: str | Path | None = None,
    workspace: OpenWorkspace | str | Path = ".",
    *,
    label: int | None = None,
    mask_polarity: str = "",
    **config: Any,
) -> PhotoPrediction:
    """Predict one lesion that is in no cohort, with the numbers that ``skinkit predict`` gives for it in one.

    The photo becomes an inference cohort of one row in a temporary folder, where the stages run as for any cohort; the
    lesion is segmented as the model's training cases were. The folder is removed afterwards, and nothing is written
    into the workspace. All folds answer, also for a photo the model was trained on (see ``flags``).

    Args:
        model: name of a trained classifier; empty for the workspace's.
        photo: an image file of any kind that ``skinkit ingest`` reads.
        attributes: canonical name -> value, such as ``{"age_years": 63, "sex": "female", "bleed": True}``; words are
            understood as in a hospital's table. None and NaN stand for unknown.
        mask: file of the lesion's mask, used in place of a segmenter's.
        workspace: the workspace of the model, opened or as a folder.
        label: value of the mask that is the lesion, where it holds several labels.
        mask_polarity: ``dark`` where the mask's lower values are lesion; ``light`` where the higher are, however it
            looks.
        **config: options of ``skinkit predict``, such as ``undecided=0.7``.

    Raises:
        ConfigError: an attribute that does not exist, a value that is not understood, or a model that was trained
            with masks drawn by people and no mask.
        InputError: the photo or the mask cannot be read, or there is no such classifier.
        RefusedError: a file of the model is damaged, or its segmenter has been replaced.
    """
    from skinkit.learning.trained import open_classifier

    _refuse_one_lesion(config)
    opened = workspace if isinstance(workspace, OpenWorkspace) else open_workspace(workspace)
    artifact = trained(model or opened.workspace.defaults["model"], opened.workspace)
    classifier = open_classifier(artifact, model or opened.workspace.defaults["model"])
    reads = {name for fold in classifier.folds for name in fold.encoder.reads}
    cells = _cells(attributes or {}, classifier.name, reads)
    with _program_not_repeated(), tempfile.TemporaryDirectory(prefix="skinkit-") as folder:
        cohort = _write_cohort(Path(folder), Path(photo), cells, None if mask is None else Path(mask))
        reading = {"label": label} if label is not None else {}
        cohort = replace(cohort, options={**reading, **({"mask_polarity": mask_polarity} if mask_polarity else {})})
        console = copy.copy(opened.console)
        console.quiet = True
        pipeline = Pipeline(
            _photo_workspace(Path(folder), cohort, opened.workspace, artifact), console, device=opened.device
        )
        case = _usable(pipeline.bring(Ref("cases", cohort.name)), photo)
        flags = {flag for flag in str(case["flags"] or "").split(",") if flag}
        target = Ref("predictions", cohort.name, classifier.name)
        segmenter, mask_flags = _prepare_masks(pipeline, target, classifier, mask, config, opened.workspace)
        flags |= mask_flags
        if mask is not None:
            config = {**config, "allow_segmenter_mismatch": True}
            if classifier.measures and segmenter not in classifier.outlined_by:
                flags.add(OTHER_MASK)
        (*_, step) = pipeline.make("predict", config, cohorts=[cohort.name], name=classifier.name)
        row = _usable(step.artifact, photo)
    if (read_table(classifier.path / TRAINED_ON_FILE, ["pixel_sha256"]) == case["pixel_sha256"]).any(axis=None):
        flags.add(IN_TRAINING)
    not_read = _not_read(cells, reads)
    not_read += ["mask"] if mask is not None and not classifier.measures else []
    return _prediction(str(photo), classifier.classes, row, tuple(not_read), tuple(sorted(flags)))


def predict_photo_onnx(
    file: str | Path,
    photo: str | Path,
    attributes: Mapping[str, Any] | None = None,
    *,
    undecided: float = 0.8,
    console: Console | None = None,
) -> PhotoPrediction:
    """As :func:`predict_photo`, by a file of ``skinkit models export``: without torch, and without a workspace.

    It cannot tell how unlike its training cases the photo is.

    Args:
        file: the ONNX file.
        photo: as of :func:`predict_photo`.
        attributes: as of :func:`predict_photo`.
        undecided: entropy, as a share of the largest, above which the lesion is referred.
        console: where messages go; by default stderr.

    Raises:
        ConfigError: onnxruntime is not installed, or an attribute as of :func:`predict_photo`.
        InputError: the photo cannot be read, or the file is damaged or none of skinkit's.
        RefusedError: the file holds what could reach outside of it.
    """
    from skinkit.learning.examples import Photo, resized
    from skinkit.learning.onnx_file import open_onnx
    from skinkit.stages.predict import answered_row, refuse_share

    refuse_share(undecided)
    model = open_onnx(Path(file).expanduser())
    cells = _cells(attributes or {}, model.contract.name, model.contract.reads)
    with _program_not_repeated(), tempfile.TemporaryDirectory(prefix="skinkit-") as folder:
        cohort = _write_cohort(Path(folder), Path(photo), cells, None)
        quiet = copy.copy(console or Console())
        quiet.quiet = True
        pipeline = Pipeline(Workspace(Path(folder), dict(DEFAULTS), {cohort.name: cohort}, {}), quiet)
        case = _usable(pipeline.bring(Ref("cases", cohort.name)), photo)
        picture = resized(Photo(case["pixel_sha256"], cohort.root / _PHOTO).read(), model.contract.side_px)
        row = answered_row(model.answer(picture, case), model.contract, case, undecided, None)
    flags = {flag for flag in str(case["flags"] or "").split(",") if flag}
    flags |= {IN_TRAINING} if model.has_learnt(case["pixel_sha256"]) else set()
    not_read = tuple(_not_read(cells, model.contract.reads))
    return _prediction(str(photo), model.contract.classes, row, not_read, tuple(sorted(flags)))


def _not_read(cells: Iterable[str], reads: Collection[str]) -> list[str]:
    """The attributes that were given and that a model does not read."""
    return [name for name in cells if name not in reads and _SAME_PLACE.get(name) not in reads]


def _prediction(
    photo: str, classes: ClassSet, row: Mapping[str, Any], not_read: tuple[str, ...], flags: tuple[str, ...]
) -> PhotoPrediction:
    """The row of a predictions table."""

    def parts(column: str) -> tuple[str, ...]:
        return tuple(filter(None, str(row[column] or "").split(",")))

    same = (
        "model",
        "model_identity",
        "malignancy",
        "malignancy_raw",
        "effective_prevalence",
        "threshold",
        "call",
        "unlike_training",
    )

    return PhotoPrediction(
        photo=photo,
        probabilities={code: row[f"{PROBABILITY}{code}"] for code in classes.classes},
        malignant_classes=tuple(code for code in classes.classes if code in classes.malignant),
        veto=bool(row["veto"]),
        prediction_set=parts("prediction_set"),
        uncertainty={name: row[name] for name in UNCERTAINTY if row[name] is not None},
        refer=bool(row["refer"]),
        refer_reasons=parts("refer_reason"),
        missing_attributes=parts("missing_attributes"),
        not_read=not_read,
        flags=flags,
        **{name: row[name] for name in same},
    )


def _cells(attributes: Mapping[str, Any], model: str, reads: Iterable[str]) -> dict[str, str]:
    """The attributes that are known, as cells of a table whose every value is understood.

    Args:
        attributes: canonical name -> value.
        model: for messages.
        reads: what it reads of them.

    Raises:
        ConfigError: naming the attribute.
    """
    import pandas as pd

    from skinkit.data import load_source
    from skinkit.data.canonical import ALLOWED, Reader
    from skinkit.data.source import TableRow
    from skinkit.data.tables import Table
    from skinkit.stats.encoders import ENCODERS

    names = {attribute.name for encoder in ENCODERS.values() for attribute in encoder}
    cells = {}
    for name, value in attributes.items():
        if name not in names:
            what = f"{model} reads {listed(sorted(reads), most=len(names))}"
            raise ConfigError(f"attribute {name!r}", did_you_mean(name, names), f"rename it; {what}")
        text = "" if pd.isna(value) else str(value).strip()
        if not text:
            continue
        source = replace(load_source("folder"), columns={name: name})
        expected = (
            did_you_mean(text, ALLOWED[name]) if name in ALLOWED else "a possible number, in the unit of its name"
        )
        try:
            flags = Reader(source, [Table(Path("attributes"), (name,), ())]).values(TableRow(1, {name: text}))["flags"]
        except InputError as error:
            flags, expected = [name], error.expected
        if flags:
            raise ConfigError(f"attribute {name} = {value!r}", expected, "correct the value, or leave it out")
        cells[name] = text
    return cells


_PHOTO, _MASKS, _TABLE = "photo.jpg", "masks", "attributes.csv"  # the content decides the type, not the name


def _write_cohort(folder: Path, photo: Path, cells: Mapping[str, str], mask: Path | None) -> Cohort:
    """A cohort of one photo, with its table and ``cohort.toml``; no model can know its name.

    Raises:
        InputError: a file cannot be read.
    """
    root = folder / "source"
    root.mkdir()
    _copy(photo, root / _PHOTO, "photo")
    if mask is not None:
        (root / _MASKS).mkdir()
        _copy(mask, root / _MASKS / _PHOTO, "mask")
    with (root / _TABLE).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("image", *cells), (_PHOTO, *cells.values())])
    columns = "".join(f'{name} = "{name}"\n' for name in ("image", *cells))
    masks = f'masks = "{_MASKS}/{{stem}}.jpg"\n' if mask is not None else ""
    (root / DESCRIPTION).write_text(f'file = "{_TABLE}"\n{masks}[columns]\n{columns}', encoding="utf-8")
    return Cohort(f"photo-{secrets.token_hex(8)}", "inference", "folder", root)


def _copy(source: Path, target: Path, what: str) -> None:
    source = source.expanduser()
    if not source.is_file():
        raise InputError(f"no {what} {source}", "an image file", "correct the path")
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise InputError(f"{source}: {error.strerror}", f"a {what} this user may read", "correct it") from None


@dataclass(frozen=True)
class _PhotoWorkspace(Workspace):
    """A temporary workspace that reads the models of another one."""

    models: Workspace | None = None

    def path(self, ref: Ref) -> Path:
        """Where an artifact lives."""
        return self.models.path(ref) if self.models is not None and ref.kind == "models" else super().path(ref)


def _photo_workspace(folder: Path, cohort: Cohort, workspace: Workspace, model: Artifact) -> _PhotoWorkspace:
    """The workspace of one photo: settings of the other one, overlaid by how the model's cases were prepared.

    An installed model says so itself (``skinkit.learning.pack.asked_for``).
    """
    settings = {stage: dict(values) for stage, values in workspace.settings.items()}
    if not model.installed:
        about = model.json("model.json")
        measured = {name: about["radiomics"].get(name) for name in ("channels", "bin_width", "engine")}
        settings.setdefault("radiomics", {}).update({name: v for name, v in measured.items() if v is not None})
        segmenter = str(about["segmenter"] or "")
        if segmenter and "," not in segmenter:
            settings.setdefault("segment", {})["model"] = segmenter
    return _PhotoWorkspace(folder, workspace.defaults, {cohort.name: cohort}, settings, models=workspace)


def _prepare_masks(
    pipeline: Pipeline,
    target: Ref,
    classifier: Classifier,
    mask: str | Path | None,
    config: Mapping[str, Any],
    home: Workspace,
) -> tuple[str, set[str]]:
    """Check that the lesion can be segmented, take over a given mask; the name of the segmenter, and the mask's flags.

    Args:
        pipeline: of the temporary workspace.
        target: the predictions to be made.
        classifier: what predicts.
        mask: file of the mask, or None.
        config: options of the prediction.
        home: the workspace of the models.

    Raises:
        ConfigError: the model reads masks drawn by people, and none is given.
        InputError: the mask cannot be read, or the segmenter is absent.
    """
    fused = Ref("fused", target.cohort, str(config.get("fused") or pipeline.plan(target)[2]["fused"].name))
    masks = pipeline.plan(pipeline.plan(fused)[2]["features"])[2]["masks"]
    if mask is not None:
        steps = pipeline.make("segment", {"model": "truth", "settings": ()}, cohorts=[masks.cohort], name=masks.name)
        row = _usable(steps[-1].artifact, mask)
        return "truth", {flag for flag in str(row["flags"] or "").split(",") if flag}
    _, settings, needs = pipeline.plan(masks)
    if "model" in needs:
        trained(needs["model"].name, home)
    elif classifier.measures and "truth_mask" in load_model(settings.model, task="segment").READS:
        raise ConfigError(
            f"no mask for {classifier.name}, which was trained with masks drawn by people",
            "a mask of the lesion",
            "give the file of its mask (--mask FILE)",
        )
    return str(settings.model), set()


def _usable(artifact: Artifact, file: str | Path) -> dict[str, Any]:
    """The row of the photo, None for what is unknown.

    Raises:
        InputError: the file cannot be used, with the reason code.
    """
    frame = artifact.table()
    frame = frame[frame["level"] == IMAGE] if "level" in frame else frame
    row = {str(name): value for name, value in frame.astype(object).where(frame.notna(), None).iloc[0].items()}
    if row["status"] != OK:
        reason, detail = str(row["reason"]), str(row["detail"] or "")
        raise unusable(CaseError(reason, detail), file, file)
    return row
