"""ablate: train the models of a paper's ablation on one split, and measure what each part adds.

--system names the paper. Each of its models (arms) is trained as SYSTEM-ARM on the same folds and scored on the
held-out development cases and every external cohort. It is compared with the arm that lacks one part and with the whole
system: paired differences with 95 % intervals over patients, p values with Holm's correction over the pairs of a
figure. Existing arms are reused, so an interrupted run can be resumed. Use --preset quick on a machine without a GPU,
where the paper's preset takes days. Files are written to 'ablate/SYSTEM' of the workspace: ablation.md (also as JSON),
arms.parquet, differences.parquet, by_class.md and .parquet (frozen thresholds, most probable class, and for comparison
thresholds tuned on the scored cases), roc.svg and .png.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.artifacts.files import write_atomic
from skinkit.commands import Context
from skinkit.commands._output import Written, write_study
from skinkit.commands.compare import scored_side
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.evaluation.markdown import markdown_table, p_holm, with_interval
from skinkit.options import Help
from skinkit.pipeline import Pipeline
from skinkit.schemas import Schema
from skinkit.studies import Arm, Study, load_study, studies
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.evaluation.comparison import ComparedModel
    from skinkit.stats.metrics import Floats

FOLDER = "ablate"
TOGETHER = "development cohorts together"
_PAIR_TITLES = ("difference", "figure", "95 % interval", "p (Holm)")
_ARMS = Schema("arms", 1, ("cohort", "arm", "class", "average", "decision_rule", "metric"), ())
_DIFFERENCES = Schema("differences", 1, ("cohort", "a", "b", "figure"), ())
_BY_CLASS = Schema("by_class", 1, ("cohort", "arm", "mode", "class", "average"), ())


@dataclass(frozen=True)
class Training:
    """Options shared by commands that train and compare the arms of a paper."""

    arms: Annotated[tuple[str, ...], "arms to train and compare (default: all)"] = ()
    comparators: Annotated[bool, "include the paper's comparators, if it has any"] = False
    preset: Annotated[str, "preset of every network (default: the paper's); quick for a machine without a GPU"] = ""
    settings: Annotated[
        tuple[str, ...], Help("setting of every network as NAME=VALUE, repeatable", metavar="NAME=VALUE")
    ] = ()
    weights: Annotated[
        str, Help("pretrained weights of every network, as 'skinkit train' takes them", metavar="PATH")
    ] = ""
    folds: Annotated[int, "folds of a newly drawn split (default: the study's)"] = 0
    seed: Annotated[int, "seed of all models and random draws"] = 0
    bootstrap: Annotated[int, "draws of noise for the interval of the ECE"] = 1000
    allow_untrained: Annotated[
        str, Help("reason for comparing arms that have learnt nothing, as 'skinkit train' takes it", metavar="REASON")
    ] = ""
    each_fold: Annotated[
        bool,
        Help("also predict external cohorts with each fold alone, for the SD over folds in by_class", rare=True),
    ] = False


@dataclass(frozen=True)
class Config(Training):
    """Options of the command."""

    system: Annotated[str, f"paper whose models are compared: {' or '.join(studies())}"] = ""
    split: Annotated[str, "name of the split all arms share (default: the workspace's)"] = ""
    minimum: Annotated[int, "fewest positives and negatives for which a class metric is given"] = 5
    name: Annotated[str, "prefix of the models' and folder's names (default: the system's name)"] = ""
    replace: Annotated[bool, "retrain arms that exist with another configuration"] = False
    allow_leakage: Annotated[
        str, Help("reason for training on a split with a patient, lesion or image on both sides", metavar="REASON")
    ] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Train, score and compare the arms."""
    study = load_study(config.system)
    workspace = context.workspace()
    cohorts = context.labelled(workspace)
    ablation = ablate(study, config, workspace, context.pipeline(workspace), cohorts)
    folder = workspace.root / FOLDER / (config.name or study.name)
    written = ablation.write(folder)
    return {**written.body, "folder": str(folder), "files": written.files, "text": written.text}


@dataclass(frozen=True)
class ArmScores:
    """The scores of one arm on one cohort.

    Attributes:
        rows: the metrics table.
        curves: data of the figures.
        n: cases.
        side: the predictions, as one side of a comparison.
    """

    rows: pd.DataFrame
    curves: Mapping[str, Any]
    n: int
    side: ComparedModel


@dataclass
class Ablation:
    """Arms that were scored on the same cases.

    Attributes:
        study: the paper.
        config: settings of training and comparison.
        workspace: their workspace.
        console: messages and progress.
        device: ``auto``, ``cpu`` or ``cuda``.
        models: arm -> name of its model.
        cohorts: cohort -> its role.
        metrics: (cohort, arm) -> its metrics artifact.
        not_scored: (cohort, arm) -> why it has no metrics.
        differences: cohort -> rows of ``evaluation.ablation.compare_pairs``.
        not_compared: cohort -> pair -> why.
        of_tasks: cohort -> rows of ``evaluation.task_average.differences``, with ``a``, ``b`` (arms), ``value_a``,
            ``value_b`` and ``p_holm``.
    """

    study: Study
    config: Config
    workspace: Workspace
    console: Console
    device: str
    models: Mapping[str, str]
    cohorts: Mapping[str, str]
    metrics: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    not_scored: dict[tuple[str, str], str] = field(default_factory=dict)
    differences: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    not_compared: dict[str, dict[tuple[str, str], str]] = field(default_factory=dict)
    of_tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def arms(self) -> list[Arm]:
        """The arms in order."""
        return [self.study.arm(name) for name in self.models]

    @cached_property
    def results(self) -> dict[str, dict[str, ArmScores]]:
        """Cohort -> arm -> its scores; first :data:`TOGETHER`, where there are several development cohorts."""
        scores: dict[str, dict[str, ArmScores]] = {cohort: {} for cohort in self.cohorts}
        for (cohort, arm), artifact in self.metrics.items():
            curves, n = artifact.json("curves.json"), int(artifact.info["n"])
            scores[cohort][arm] = ArmScores(artifact.table(), curves, n, scored_side(arm, artifact))
        development = [cohort for cohort, role in self.cohorts.items() if role == "development" and scores[cohort]]
        if len(development) < 2:
            return scores
        return {TOGETHER: self._together({cohort: scores[cohort] for cohort in development}), **scores}

    def _together(self, separate: Mapping[str, Mapping[str, ArmScores]]) -> dict[str, ArmScores]:
        """The scores of arms that were scored on all of these cohorts, on the cases of all of them."""
        from skinkit.evaluation.ablation import together
        from skinkit.evaluation.scoring import ScoringSettings

        settings = ScoringSettings(self.config.bootstrap, self.config.seed, self.config.minimum, subgroups=False)
        joined = {}
        for arm in self.models:
            if all(arm in of for of in separate.values()):
                side = together(arm, {cohort: of[arm].side for cohort, of in separate.items()})
                scores = side.evaluation.scores(settings, cohort=TOGETHER, model=self.models[arm])
                joined[arm] = ArmScores(scores.rows, scores.curves, len(side.cases), side)
        return joined

    def role(self, cohort: str) -> str:
        """``development`` or ``external``."""
        return self.cohorts.get(cohort, "development")

    def summary(self, cohort: str, arm: str) -> dict[str, dict[str, Any]] | None:
        """The figures of one arm on one cohort; None where it was not scored."""
        from skinkit.evaluation.ablation import summary

        scores = self.results[cohort].get(arm)
        return summary(scores.rows) if scores is not None else None

    def compare(self) -> None:
        """Compare the arms with those that lack one part, and with the whole system."""
        from skinkit.evaluation.ablation import compare_pairs, pairs

        c = self.config
        chosen = pairs({arm.name: arm.extends for arm in self.arms()}, self.study.whole.name)
        for cohort, of in self.results.items():
            sides = {arm: scores.side for arm, scores in of.items()}
            rows, refused = compare_pairs(sides, chosen, seed=c.seed, minimum=c.minimum)
            self.differences[cohort], self.not_compared[cohort] = rows, refused
            self.of_tasks[cohort] = self._compared_tasks(cohort, chosen)

    def _compared_tasks(self, cohort: str, chosen: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        """Pairs of arms that answer several tasks, by their means over these."""
        from skinkit.evaluation import task_average
        from skinkit.evaluation.ablation import with_holm

        sides = {
            arm: {
                "": scored_side(arm, artifact),
                **{
                    task: scored_side(arm, artifact, task)
                    for task, of in artifact.info["tasks"].items()
                    if "classes" in of
                },
            }
            for (of_cohort, arm), artifact in self.metrics.items()
            if of_cohort == cohort and artifact.info.get("tasks")
        }
        rows = []
        for a, b in chosen:
            if a not in sides or b not in sides:
                continue
            try:
                compared = task_average.differences(sides[a], sides[b], seed=self.config.seed)
            except (RefusedError, InputError) as error:
                self.not_compared[cohort].setdefault((a, b), error.found)
                continue
            rows += [{**row, "a": a, "b": b, "value_a": row["a"], "value_b": row["b"]} for row in compared]
        return with_holm(rows)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "system": self.study.name,
            "preset": self.config.preset or self.study.preset,
            "settings": list(self.config.settings),
            "seed": self.config.seed,
            "bootstrap": self.config.bootstrap,
            "arms": {arm.name: {"model": self.models[arm.name], "words": arm.words} for arm in self.arms()},
            "cohorts": {
                cohort: {
                    "role": self.role(cohort),
                    "arms": {
                        arm: {**figures, "n": of[arm].n}
                        for arm in self.models
                        if (figures := self.summary(cohort, arm)) is not None
                    },
                    "differences": self.differences.get(cohort, []),
                    "task_differences": self.of_tasks.get(cohort, []),
                    "not_scored": {arm: why for (at, arm), why in self.not_scored.items() if at == cohort},
                    "not_compared": {f"{a}, {b}": why for (a, b), why in self.not_compared.get(cohort, {}).items()},
                }
                for cohort, of in self.results.items()
            },
        }

    def text(self, heading: str = "##") -> str:
        """The tables as Markdown, each cohort under a heading of this level."""
        parts = []
        for cohort in self.results:
            held_out = "held-out cases" if self.role(cohort) == "development" else "external cohort"
            parts.append(f"{heading} {cohort} ({held_out})")
            parts += [self._table(cohort), self._of_tasks(cohort), self._pairs(cohort)]
            parts += [f"{arm}: not scored: {why}." for (of, arm), why in self.not_scored.items() if of == cohort]
            refused = self.not_compared.get(cohort, {})
            parts += [f"{a} and {b} are not compared: {why}." for (a, b), why in refused.items()]
        return "\n\n".join(part for part in parts if part)

    def _table(self, cohort: str) -> str:
        from skinkit.evaluation.ablation import SHOWN

        rows = []
        for arm in self.arms():
            if (figures := self.summary(cohort, arm.name)) is not None:
                cells = [with_interval(figures[name]) for name in SHOWN]
                rows.append([arm.words, str(self.results[cohort][arm.name].n), *cells])
        return markdown_table(["arm", "n", *(words[4] for words in SHOWN.values())], rows) if rows else ""

    def _of_tasks(self, cohort: str) -> str:
        """The means over tasks of arms that answer several, after what always the most frequent class reaches."""
        from skinkit.evaluation.task_average import FIGURES

        means = {
            arm.words: artifact.info["average_over_tasks"]
            for arm in self.arms()
            if (artifact := self.metrics.get((cohort, arm.name))) and "average_over_tasks" in artifact.info
        }
        if not means:
            return ""
        first = next(iter(means.values()))
        rows = [["always the most frequent class", f"{first['majority_accuracy']:.3f}", "", ""]]
        rows += [[words, *(with_interval(of[name]) for name in FIGURES)] for words, of in means.items()]
        titles = dict(zip(FIGURES, ("accuracy", "balanced accuracy", "AUROC, macro"), strict=True))
        table = markdown_table([f"mean of {len(first['tasks'])} tasks", *titles.values()], rows)
        pairs = [
            self._pair_row(row, f"{titles[row['figure']]}, mean of {row['n_tasks']} tasks")
            for row in self.of_tasks.get(cohort, [])
        ]
        return f"{table}\n\n{markdown_table(_PAIR_TITLES, pairs)}" if pairs else table

    def _pairs(self, cohort: str) -> str:
        shown = {"AUROC, macro", "malignant: AUROC", "balanced accuracy", "malignant: sensitivity, veto"}
        differences = self.differences.get(cohort, [])
        rows = [self._pair_row(row, row["figure"]) for row in differences if row["figure"] in shown]
        return markdown_table(_PAIR_TITLES, rows) if rows else ""

    def _pair_row(self, row: Mapping[str, Any], figure: str) -> list[str]:
        names = f"{self.study.arm(row['b']).words} minus {self.study.arm(row['a']).words}"
        return [names, figure, with_interval(row, "difference", signed=True), p_holm(row)]

    @cached_property
    def by_class(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """(cohort, arm) -> the rows of its table of classes."""
        from skinkit.evaluation.class_table import class_table

        tables = {}
        for (cohort, arm), artifact in self.metrics.items():
            about = open_artifact(self.workspace.path(Ref("models", name=self.models[arm]))).json("model.json")
            scored = artifact.table(file="scored.parquet")
            alone = len(about["folds"]) > 1 and self.config.each_fold and self.cohorts[cohort] == "external"
            each = (
                self._each_fold(cohort, arm, scored.loc[scored["level"] == "image", "case_id"].tolist())
                if alone
                else ()
            )
            tables[cohort, arm] = class_table(artifact.table(), scored, about, each)
        return tables

    def _each_fold(self, cohort: str, arm: str, cases: Sequence[str]) -> list[Floats]:
        """Predictions of each fold of an arm for external cases: (n, classes) calibrated probabilities."""
        from skinkit.learning import precision, trained
        from skinkit.learning.scorer import Scorer
        from skinkit.stages.predict import fused_of

        name = self.models[arm]
        model = trained.open_classifier(open_artifact(self.workspace.path(Ref("models", name=name))), name)
        fused = open_artifact(self.workspace.path(Ref("fused", cohort, fused_of(name, self.workspace)))).table()
        frame = fused.set_index("case_id", drop=False).loc[list(cases)].reset_index(drop=True)
        device = precision.pick_device(self.device) if model.uses_device else "cpu"
        scorer = Scorer(model, self.workspace.root, device, self.console)
        every = [[fold.number for fold in model.folds]] * len(frame)
        probability = scorer.scored(frame, every, self.workspace.cohort(cohort).root).probability
        return [fold.finished(probability[index]) for index, fold in enumerate(model.folds)]

    def roc(self, folder: Path) -> dict[str, str]:
        """Draw ROC curves, macro-averaged and malignant against benign; a panel a cohort, development together."""
        from skinkit.evaluation.ablation import macro_roc
        from skinkit.figures.panels import roc_panels
        from skinkit.stats.metrics import MALIGNANT

        of_classes: dict[str, dict[str, Any]] = {}
        of_malignancy: dict[str, dict[str, Any]] = {}
        pooled = TOGETHER in self.results
        for cohort, of in self.results.items():
            held_out = self.role(cohort) == "development"
            if pooled and held_out and cohort != TOGETHER:
                continue  # shown together
            title = f"{cohort}, held out" if held_out else cohort
            for arm in self.arms():
                figures = self.summary(cohort, arm.name)
                if figures is None:
                    continue
                curves = of[arm.name].curves["roc"]
                area = {name: figures["macro_auroc"][end] for name, end in _AREA.items()}
                of_classes.setdefault(title, {})[arm.words] = {**macro_roc(curves), **area}
                if MALIGNANT in curves:
                    of_malignancy.setdefault(title, {})[arm.words] = curves[MALIGNANT]
        if not of_classes:
            return {}
        questions = [("mean of the classes", of_classes), ("malignant or benign", of_malignancy)]
        return roc_panels([row for row in questions if row[1]], folder, "roc")

    def write(self, folder: Path) -> Written:
        """Write tables and figure."""
        import pandas as pd

        from skinkit.artifacts.tables import write_table

        head = f"# What each part of {self.study.name} adds\n\n{self.study.citation}. {self._how()}\n\n"
        files: dict[str, str] = {}
        arms = [
            scores.rows[scores.rows["subgroup"] == "all"].assign(arm=arm)
            for of in self.results.values()
            for arm, scores in of.items()
        ]
        if arms:
            write_table(folder / "arms.parquet", _ARMS, pd.concat(arms, ignore_index=True))
            files["arms"] = str(folder / "arms.parquet")
        differences = [{"cohort": cohort, **row} for cohort, rows in self.differences.items() for row in rows]
        if differences:
            write_table(folder / "differences.parquet", _DIFFERENCES, pd.DataFrame(differences))
            files["differences"] = str(folder / "differences.parquet")
        classes = self.by_class
        if classes:
            rows = [{"cohort": c, "arm": arm, **row} for (c, arm), table in classes.items() for row in table]
            write_table(folder / "by_class.parquet", _BY_CLASS, pd.DataFrame(rows))
            write_atomic(folder / "by_class.md", (f"# Class by class\n\n{self._classes_text(classes)}\n").encode())
            files |= {f"by_class_{kind}": str(folder / f"by_class.{kind}") for kind in ("parquet", "md")}
        files |= self.roc(folder)
        return write_study(folder, "ablation", self.as_dict(), f"{self.text()}\n", page=head + self.text(), files=files)

    def _classes_text(self, classes: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> str:
        from skinkit.evaluation.class_table import MODES, markdown_of

        parts = []
        for (cohort, arm), rows in classes.items():
            parts.append(f"## {cohort}: {self.study.arm(arm).words}")
            parts += [f"{words}:\n\n{markdown_of(rows, mode)}" for mode, words in MODES.items()]
        return "\n\n".join(parts)

    def _how(self) -> str:
        of = f"preset {self.config.preset or self.study.preset}"
        with_settings = f" with {', '.join(self.config.settings)}" if self.config.settings else ""
        return (
            f"Networks: {of}{with_settings}. All arms learnt from the same folds. Intervals: 95 %, over patients; "
            "p after Holm's correction over the pairs of a figure on a cohort."
        )


_AREA = {"auroc": "estimate", "lower": "lower", "upper": "upper"}


def ablate(study: Study, config: Config, workspace: Workspace, pipeline: Pipeline, cohorts: Sequence[str]) -> Ablation:
    """Train the missing arms, score all arms on the cohorts, and compare them.

    Raises:
        ConfigError: an unknown arm, or a bootstrap without replicates.
        InputError: the workspace has no development cohort, or no arm could be scored.
        RefusedError: an arm exists with another configuration, and ``replace`` is not set.
    """
    split = config.split or workspace.defaults["split"]
    trainings = planned(study, config, split)
    if not workspace.with_role("development"):
        raise InputError(f"{workspace.root} has no development cohort", "cases to train on", "add one to skinkit.toml")
    chosen = [study.arm(name) for name in trainings]
    models = {arm.name: f"{config.name or study.name}-{arm.name}" for arm in chosen}
    for model in models.values():
        check_name(model, "name of an arm's model")
    if config.folds and not exists(workspace.path(Ref("split", name=split))):
        pipeline.make("split", {"folds": config.folds}, name=split)
    for name, options in trainings.items():
        pipeline.make("train", options, name=models[name])
    ablation = Ablation(
        study,
        config,
        workspace,
        pipeline.console,
        pipeline.device,
        models,
        {cohort: workspace.cohort(cohort).role for cohort in cohorts},
    )
    for cohort in cohorts:
        for arm in chosen:
            _score(ablation, cohort, arm.name, pipeline)
    if not ablation.metrics:
        raise InputError(
            "no arm could be scored: " + "; ".join(sorted(set(ablation.not_scored.values()))),
            "held-out development cases or an external cohort with diagnoses that the models know",
            "draw a split that holds cases out, or add an external cohort",
        )
    ablation.compare()
    return ablation


def planned(study: Study, config: Config, split: str) -> dict[str, dict[str, Any]]:
    """Arm -> its options of ``skinkit train``, so that a wrong one is reported before any work.

    Raises:
        ConfigError: an unknown arm, preset or setting, or a bootstrap without replicates.
    """
    for option, least in (("bootstrap", 1), ("minimum", 1)):
        if getattr(config, option) < least:
            raise ConfigError(f"--{option} {getattr(config, option)}", f"{least} or more", f"correct --{option}")
    return {arm.name: _training(arm, config, split) for arm in _chosen(study, config)}


def _chosen(study: Study, config: Config) -> list[Arm]:
    """The chosen arms, in the study's order."""
    if config.arms:
        names = {study.arm(name).name for name in config.arms}
        return [arm for arm in (*study.arms, *study.comparators) if arm.name in names]
    return [*study.arms, *(study.comparators if config.comparators else ())]


def _training(arm: Arm, config: Config, split: str) -> dict[str, Any]:
    """Options of ``skinkit train`` for an arm.

    Raises:
        ConfigError: its model has no such preset or setting.
    """
    from skinkit.models import Network, model_config, trainable

    model = trainable(arm.model)
    is_network = issubclass(model, Network)
    options: dict[str, Any] = {
        "model": arm.model,
        "attributes": arm.attributes,
        "radiomics": arm.radiomics,
        "split": split,
        "seed": config.seed,
        "replace": config.replace,
        "allow_leakage": config.allow_leakage,
    }
    if config.folds:
        options["folds"] = config.folds
    if config.allow_untrained:
        options["allow_untrained"] = config.allow_untrained
    if arm.tasks:
        options["tasks"] = arm.tasks
    fixed = [f"{key}={_toml(value)}" for key, value in arm.settings.items()]
    options["settings"] = (*(config.settings if is_network else ()), *fixed)
    options["preset"] = (config.preset or arm.preset) if is_network else ""
    model_config(model, options["settings"], preset=options["preset"])
    reads_weights = is_network or ("image" in model.READS and config.weights != "none")
    if config.weights and reads_weights:
        options["weights"] = config.weights
    return options


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _score(ablation: Ablation, cohort: str, arm: str, pipeline: Pipeline) -> None:
    """Bring the metrics of one arm on one cohort up to date; record the reason if it cannot be scored."""
    config, model = ablation.config, ablation.models[arm]
    options = {
        "bootstrap": config.bootstrap,
        "seed": config.seed,
        "minimum": config.minimum,
        "allow_leakage": config.allow_leakage,
    }
    try:
        ablation.metrics[cohort, arm] = scored(pipeline, cohort, model, options)
    except (InputError, RefusedError) as error:
        ablation.not_scored[cohort, arm] = error.found
        pipeline.console.warn(f"{model} is not scored on {cohort}: {error.found}")


def scored(pipeline: Pipeline, cohort: str, model: str, options: Mapping[str, Any]) -> Artifact:
    """The metrics of a model on a cohort, brought up to date, without subgroups and shortcuts."""
    pipeline.make("predict", {}, cohorts=[cohort], name=model)
    whole = {**options, "subgroups": False, "shortcuts": False}
    pipeline.make("evaluate", whole, cohorts=[cohort], name=model)
    return open_artifact(pipeline.workspace.path(Ref("metrics", cohort, model)))
