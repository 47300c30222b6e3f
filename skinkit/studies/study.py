"""What a study consists of: the plain values of a paper, as ``skinkit.studies.reading`` reads them from its TOML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from skinkit.errors import ConfigError, did_you_mean
from skinkit.models.parts.weights import OF_MODEL

if TYPE_CHECKING:
    import pandas as pd

KINDS = (
    "ablation", "by_class", "external", "confusion", "flow", "segmentation", "signature", "candidates", "explanation",
    "faithfulness", "localisation", "halves", "literature", "none",
)  # fmt: skip
"""How the content of an exhibit is computed; ``none``: it cannot be."""
OF_TASKS = "accuracy, mean of"
"""How a printed figure begins that is a mean over the tasks of a model."""
UNITS = ("share", "%", "cases", "count", "s", "h", "years", "millions", "SHAP")
"""Units of printed numbers. Per cent are kept as shares, 0 to 1; every other number as it is printed."""


CITED_METRICS = ("accuracy", "sensitivity", "specificity", "auroc")
"""Metrics of other studies that a paper cites."""
SYNTHESISE, TRAIN = "synthesise", "train"


@dataclass(frozen=True)
class Prerequisite:
    """What arms are made from, once for each seed: a pretraining, a generator, or its images.

    Attributes:
        name: called ``<study>-<name>`` in the workspace.
        words: what it is.
        model: a registered model; of images the step that is their generator.
        stage: ``train`` or ``synthesise``.
        preset: its settings, or its place in :attr:`Study.presets`.
        settings: override those of the preset; of images the options of ``skinkit synthesise``.
        weights: as ``skinkit train`` takes them; ``model:NAME`` names a step before it.
        synthetic: the step whose images it learns from.
    """

    name: str
    words: str
    model: str
    stage: str = TRAIN
    preset: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    synthetic: str = ""


@dataclass(frozen=True)
class Arm:
    """One model of an ablation.

    Attributes:
        name: the model is called ``<study>-<name>`` in the workspace.
        words: its label in legends.
        model: a registered classifier.
        preset: its settings as in the paper, or their place in :attr:`Study.presets`; empty for a model without
            presets.
        settings: override those of the preset.
        attributes: encoder of the metadata, as ``skinkit train`` takes it.
        radiomics: radiomic features, as ``skinkit train`` takes them.
        extends: arms that lack one thing this one has; it is compared with each of them.
        tasks: what it answers beside the diagnosis, as ``skinkit train`` takes them.
        weights: as ``skinkit train`` takes them, whatever ``--weights`` says; ``model:NAME`` names a step, or an arm
            before it.
        synthetic: the step whose images it learns from.
        teacher: an arm before it, whose answers it learns.
        members: arms before it, whose answers it joins.
        optional: it is left out, with the reason, where its pretrained weights are not here.
    """

    name: str
    words: str
    model: str
    preset: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    attributes: str = "auto"
    radiomics: str = "auto"
    extends: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    weights: str = ""
    synthetic: str = ""
    teacher: str = ""
    members: tuple[str, ...] = ()
    optional: bool = False


def writes_images(one: Arm | Prerequisite) -> TypeGuard[Prerequisite]:
    """Whether it is images of a generator, and no training."""
    return isinstance(one, Prerequisite) and one.stage == SYNTHESISE


@dataclass(frozen=True)
class OutlineMethod:
    """What else outlines the lesions, to be compared with the study's segmenter on the same photos.

    Attributes:
        name: of the masks in the workspace, and of the model where it is trained.
        words: its label.
        model: a registered segmenter.
        settings_of: a segmenter whose settings under the preset it takes, as far as it has them; empty for its own.
    """

    name: str
    words: str
    model: str
    settings_of: str = ""


@dataclass(frozen=True)
class Wanted:
    """One cohort of the paper.

    Attributes:
        name: of the cohort in the workspace, and of its folder (case, ``-`` and ``_`` do not matter).
        role: ``development`` or ``external``.
        source: what reads the folder if it has no ``cohort.toml``; empty: it must have one.
        words: description for a person.
        options: further keys of its table in ``skinkit.toml``.
    """

    name: str
    role: str
    source: str
    words: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """One way to divide the development cases.

    Attributes:
        name: of the split.
        words: description for a person.
        settings: of ``skinkit split``.
        leaks: why it may be used although it leaks; empty for one that does not leak.
    """

    name: str
    words: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    leaks: str = ""


@dataclass(frozen=True)
class SelectionRule:
    """Which images a paper keeps: the rule behind ``skinkit ingest --selection STUDY``.

    Attributes:
        classes: class set whose classes are counted.
        fewest: images a class must have over all development cohorts.
        complete: columns of a case that must be known.
        modality: the only kind of photo that is kept; empty for all.
        paper: the paper's own counts: ``identified``, what each step leaves out, ``kept``.
    """

    classes: str
    fewest: int
    complete: tuple[str, ...] = ()
    modality: str = ""
    paper: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceTable:
    """The table of a public data set that a published split is drawn over, whatever photos are present.

    Attributes:
        source: the one source the development cohort must have.
        title: of the data set.
        image, patient, lesion, label: its columns.
        key: column of the cases that ``image`` holds, without its suffix.
        parts: part of the split -> file of the data set that lists its rows, counted from 0, below a header; then the
            split is not drawn.
    """

    source: str
    title: str
    image: str
    patient: str
    lesion: str
    label: str
    key: str = "image_id"
    parts: Mapping[str, str] = field(default_factory=dict)


Divide = Callable[[Sequence[str], float, int], "pd.DataFrame"]
"""(n,) class of every row, share for validation, seed -> (n,) rows of ``folder``.

Folder 0 is the test set; fold k, from 0, validates on folder k + 1 and trains on the others. A column ``half`` may
divide the test set.
"""


@dataclass(frozen=True)
class PublishedSplit:
    """A split by image, as a paper drew it: ``skinkit split --protocol NAME``.

    Attributes:
        name: of the protocol; no two studies may share one.
        words: whose it is, for the help.
        divide: draws the folders; None: the table's data set lists its parts.
        folds: numbers of folds that were published.
        validation: the published share for validation.
        seed: the published seed, reported instead of ``--seed``; None if none was published.
        over: the table it is drawn over; None: the cases of the workspace, and external cohorts are the test set.
        overlap: what is known of images shared with external cohorts.
    """

    name: str
    words: str
    divide: Divide | None
    folds: tuple[int, ...] = (1,)
    validation: float = 0.2
    seed: int | None = None
    over: SourceTable | None = None
    overlap: str = ""


@dataclass(frozen=True)
class Published:
    """One printed number of the paper.

    Attributes:
        part: the table or figure (:class:`Exhibit`) it belongs to.
        cohort: name of a :class:`Wanted` cohort; empty if it is about none.
        arm: the arm it is closest to.
        figure: what it is: words of ``skinkit.evaluation.endpoint``, ``CLASS called CLASS``, ``CLASS threshold @
            tuned_on_scored``, ``accuracy, mean of`` so many tasks, ``mean iou``, or ``insertion``, ``deletion`` and
            ``drop`` of a method; free text if ``printed_only``.
        value: the number; per cent as a share, 0 to 1.
        sd: its standard deviation on the same scale, if one is printed.
        unit: the printed unit, one of :data:`UNITS`.
        source: where the paper prints it.
        printed_only: nothing that skinkit computes corresponds to it.
    """

    part: str
    cohort: str
    arm: str
    figure: str
    value: float
    sd: float | None = None
    unit: str = "share"
    source: str = ""
    printed_only: bool = False


@dataclass(frozen=True)
class Exhibit:
    """One table or figure of the paper.

    Attributes:
        name: as ``--only`` takes it.
        title: what it shows.
        kind: how it is computed, one of :data:`KINDS`.
        caution: why the paper's numbers and ours differ in kind, whatever the data.
        missing: what an exhibit of kind ``none`` lacks.
        findings: what the paper states without a number.
    """

    name: str
    title: str
    kind: str
    caution: str = ""
    missing: str = ""
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cited:
    """One row of a paper's table of other people's work.

    Attributes:
        who: first author.
        data: what it was tested on.
        classes: number of classes.
        values: metric -> value as a share; a metric that is not printed is absent.
        caution: why it is not comparable with ours.
    """

    who: str
    data: str
    classes: int
    values: Mapping[str, float]
    caution: str


@dataclass(frozen=True)
class Study:
    """A paper, as far as it can be run again.

    Attributes:
        name: as ``--paper`` takes it.
        title: of the paper.
        citation: authors, journal, year, identifier.
        classes: class set.
        malignant: malignant set.
        preset: the paper's preset.
        segmenter: what outlines its lesions, unless another is asked for.
        outlines: what that is compared with.
        cohorts: what it was trained and scored on.
        protocols: the first is the one without leakage.
        arms: the ablation, from the simplest; the last one is the whole system.
        comparators: other models of the same task.
        selection: which images it kept; None for all.
        splits: the protocols of ``skinkit split`` that it adds.
        parts: its tables and figures.
        published: its numbers.
        cited: its table of other people's work.
        remarks: what a reader must know before comparing two numbers.
        steps: what its arms are made from, each after what it is made from itself.
        presets: preset of the study -> place in it (``preset`` of an arm or step) -> preset of the model; empty where
            arms name presets of their models.
        figures: figures of the table of arms beside the usual ones, by the names of ``evaluation.scoring.HEADLINE``.
        watched: classes whose AUROC and sensitivity are compared too.
    """

    name: str
    title: str
    citation: str
    classes: str
    malignant: str
    preset: str
    cohorts: tuple[Wanted, ...]
    protocols: tuple[Protocol, ...]
    arms: tuple[Arm, ...]
    comparators: tuple[Arm, ...] = ()
    segmenter: str = "otsu"
    outlines: tuple[OutlineMethod, ...] = ()
    selection: SelectionRule | None = None
    splits: tuple[PublishedSplit, ...] = ()
    parts: tuple[Exhibit, ...] = ()
    published: tuple[Published, ...] = ()
    cited: tuple[Cited, ...] = ()
    remarks: tuple[str, ...] = ()
    steps: tuple[Prerequisite, ...] = ()
    presets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    figures: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()

    def preset_of(self, one: Arm | Prerequisite, asked: str) -> str:
        """The preset of an arm's or step's model.

        Args:
            one: an arm or a step.
            asked: ``--preset``; empty for the study's.

        Raises:
            ConfigError: the study has presets of its own, and none of that name.
        """
        if not self.presets:
            return asked or one.preset
        name = asked or self.preset
        if name not in self.presets:
            raise ConfigError(
                f"no preset {name!r} of {self.name}", did_you_mean(name, self.presets), "name another with --preset"
            )
        return self.presets[name].get(one.preset, one.preset)

    def made_from(self, one: Arm | Prerequisite) -> list[Arm | Prerequisite]:
        """The steps and arms that one is made from, directly."""
        names = [one.synthetic, one.weights.removeprefix(OF_MODEL) if one.weights.startswith(OF_MODEL) else ""]
        names += [one.teacher, *one.members] if isinstance(one, Arm) else [one.model if writes_images(one) else ""]
        every = {each.name: each for each in self.everything}
        return [every[name] for name in names if name]

    @property
    def everything(self) -> tuple[Arm | Prerequisite, ...]:
        """Steps, arms and comparators."""
        return (*self.steps, *self.arms, *self.comparators)

    @property
    def whole(self) -> Arm:
        """The arm that has everything."""
        return self.arms[-1]

    def arm(self, name: str) -> Arm:
        """The arm or comparator of that name.

        Raises:
            ConfigError: there is none.
        """
        arms = {arm.name: arm for arm in (*self.arms, *self.comparators)}
        if name not in arms:
            raise ConfigError(f"no arm {name!r} of {self.name}", did_you_mean(name, arms), "name another with --arms")
        return arms[name]

    def part(self, name: str) -> Exhibit:
        """The table or figure of that name.

        Raises:
            ConfigError: there is none.
        """
        parts = {part.name: part for part in self.parts}
        if name not in parts:
            raise ConfigError(
                f"no table or figure {name!r} of {self.name}", did_you_mean(name, parts), "name another with --only"
            )
        return parts[name]

    def numbers(self, part: str) -> list[Published]:
        """The paper's numbers of one table or figure."""
        return [number for number in self.published if number.part == part]
