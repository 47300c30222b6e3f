"""ablate: train ablations and compare them.

PAPER names the study. Each of its models (arms) is trained as PAPER-ARM on the same folds and scored on the
held-out development cases and every external cohort. It is compared with the arm that lacks one part and with the whole
system: paired differences with 95 % intervals over patients, p values with Holm's correction over the pairs of a
figure. Existing arms are reused, so an interrupted run can be resumed. Use --preset quick on a machine without a GPU,
where the paper's preset takes days. Files are written to 'ablate/PAPER' of the workspace: ablation.md (also as JSON),
arms.parquet, differences.parquet, by_class.md and .parquet (frozen thresholds, most probable class, and for comparison
thresholds tuned on the scored cases), roc.svg and .png.

With --seeds 0,1,2 every arm is trained with each seed, on the same folds. Rows are means over the seeds, intervals and
differences are those of these means over patients, and the standard deviation over seeds stands beside them.
--one-seed names arms that are trained with the first seed alone, such as those clearly apart; the table says how many
seeds a row has. Seed 0 is the model PAPER-ARM of a run without --seeds, which is reused; another one is
PAPER-ARM-sSEED. Files are written to 'ablate/PAPER/seeds'.

Arms of some papers are made from steps (a pretraining, a generator and its images) and from teachers. These are made
first, once for each fold and seed, and shared. --plan lists all of it, and what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.artifacts.files import write_atomic
from skinkit.commands import MODEL_STUDY, Context
from skinkit.commands._output import Written, write_study
from skinkit.commands._trainings import AblationOptions, PlannedArtifact, chosen_arms, left_out, seeds_by_arm, works
from skinkit.commands.compare import scored_side, side_of_seeds
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.evaluation.markdown import markdown_table, p_holm, with_interval
from skinkit.options import Help
from skinkit.pipeline import Pipeline
from skinkit.schemas import Schema
from skinkit.studies import Arm, Study, load_study, studies
from skinkit.studies.study import SYNTHESISE, TRAIN
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    import pandas as pd

    from skinkit.evaluation.comparison import ComparedModel
    from skinkit.stats.metrics import Floats

PANEL = "Model study", 10
SHARED_OPTIONS = MODEL_STUDY

FOLDER = "ablate"
SEEDS = "seeds"
"""Inside of it: what was computed of several seeds."""
TOGETHER = "development cohorts together"
_THERE = "there"
_MEAN = "mean"
"""Seed of the rows of means in ``arms.parquet``."""
_PAIR_TITLES = ("difference", "figure", "95 % interval", "p (Holm)")
_ARMS = Schema("arms", 1, ("cohort", "arm", "class", "average", "decision_rule", "metric"), ())
_DIFFERENCES = Schema("differences", 1, ("cohort", "a", "b", "figure"), ())
_BY_CLASS = Schema("by_class", 1, ("cohort", "arm", "mode", "class", "average"), ())


@dataclass(frozen=True)
class Config(AblationOptions):
    """Options of the command."""

    paper: Annotated[
        str,
        Help(
            f"paper whose models are compared: {' or '.join(studies())}",
            positional=True,
            flag="--paper",
            former="system",
        ),
    ] = ""
    split: Annotated[str, "name of the split all arms share (default: the workspace's)"] = ""
    minimum: Annotated[int, "fewest positives and negatives for which a class metric is given"] = 5
    plan: Annotated[bool, "list what would be made and what is there, in order, and write nothing"] = False


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Train, score and compare the arms."""
    study = load_study(config.paper)
    workspace = context.workspace()
    if config.plan:
        return _plan(study, config, workspace)
    cohorts = context.labelled(workspace)
    ablation = ablate(study, config, workspace, context.pipeline(workspace), cohorts)
    folder = folder_of_ablation(workspace, config, study)
    written = ablation.write(folder)
    return {**written.body, "folder": str(folder), "files": written.files, "text": written.text}


def _plan(study: Study, config: Config, workspace: Workspace) -> dict[str, Any]:
    """What an ablation makes, in order, and what of it is there."""
    todo = planned(study, config, config.split or workspace.defaults["split"])
    rows = [{"stage": work.stage, "name": work.name, "state": _state(work, workspace)} for work in todo]
    absent = left_out(study, config)
    lines = [f"  {row['stage']:<10} {row['name']:<44} {row['state']}" for row in rows]
    lines += [f"  {TRAIN:<10} {study.name}-{arm:<{43 - len(study.name)}} not run: {why}" for arm, why in absent.items()]
    there = sum(row["state"] == _THERE for row in rows)
    lines.append(f"{len(rows) - there} would be made, {there} are there; nothing was written")
    return {"system": study.name, "plan": rows, "not_run": absent, "text": "\n".join(lines)}


def _state(work: PlannedArtifact, workspace: Workspace) -> str:
    path = workspace.path(Ref("synthetic" if work.stage == SYNTHESISE else "models", name=work.name))
    if exists(path):
        return _THERE
    return "begun" if path.with_name(path.name + ".partial").is_dir() else "to be made"


def folder_of_ablation(workspace: Workspace, config: Config, study: Study) -> Path:
    """Where the files of an ablation are; those of several seeds apart, so that neither replaces the other."""
    folder = workspace.root / FOLDER / (config.name or study.name)
    return folder / SEEDS if config.seeds else folder


@dataclass(frozen=True)
class ArmScores:
    """The scores of one arm on one cohort.

    Attributes:
        rows: the metrics table; of several seeds that of their means.
        roc: class -> its ROC curve, of several seeds the mean.
        n: cases.
        side: the predictions, as one side of a comparison.
    """

    rows: pd.DataFrame
    roc: Mapping[str, Any]
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
        seeds: arm -> seed -> name of its model.
        cohorts: cohort -> its role.
        metrics: (cohort, arm) -> its metrics artifact; of several seeds that of the first.
        again: (cohort, arm) -> the metrics of the further seeds.
        not_run: arm -> why it was not trained.
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
    seeds: Mapping[str, Mapping[int, str]]
    cohorts: Mapping[str, str]
    metrics: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    again: dict[tuple[str, str], tuple[Artifact, ...]] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)
    not_scored: dict[tuple[str, str], str] = field(default_factory=dict)
    differences: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    not_compared: dict[str, dict[tuple[str, str], str]] = field(default_factory=dict)
    of_tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def arms(self) -> list[Arm]:
        """The arms in order."""
        return [self.study.arm(name) for name in self.models]

    @property
    def models(self) -> dict[str, str]:
        """Arm -> name of its model; of several seeds that of the first."""
        return {arm: next(iter(of.values())) for arm, of in self.seeds.items()}

    @property
    def several(self) -> bool:
        """Whether some arm was trained with several seeds."""
        return bool(self.config.seeds)

    def each_seed(self, cohort: str, arm: str) -> dict[int, Artifact]:
        """Seed -> metrics of an arm on a cohort on which it was scored."""
        return dict(zip(self.seeds[arm], (self.metrics[cohort, arm], *self.again[cohort, arm]), strict=True))

    @cached_property
    def results(self) -> dict[str, dict[str, ArmScores]]:
        """Cohort -> arm -> its scores; first :data:`TOGETHER`, where there are several development cohorts."""
        scores: dict[str, dict[str, ArmScores]] = {cohort: {} for cohort in self.cohorts}
        for (cohort, arm), artifact in self.metrics.items():
            side = side_of_seeds(arm, list(self.each_seed(cohort, arm).values()))
            if side.again:
                scores[cohort][arm] = self._of_means(side)
                continue
            roc, n = artifact.json("curves.json")["roc"], int(artifact.info["n"])
            scores[cohort][arm] = ArmScores(artifact.table(), roc, n, side)
        development = [cohort for cohort, role in self.cohorts.items() if role == "development" and scores[cohort]]
        if len(development) < 2:
            return scores
        return {TOGETHER: self._together({cohort: scores[cohort] for cohort in development}), **scores}

    def _of_means(self, side: ComparedModel) -> ArmScores:
        """The means of an arm over its seeds on one cohort."""
        from skinkit.evaluation.ablation import cases_of, mean_roc, mean_rows

        rows = mean_rows(side, seed=self.config.seed, minimum=self.config.minimum)
        return ArmScores(rows, mean_roc(side, rows), len(cases_of(side)), side)

    def _together(self, separate: Mapping[str, Mapping[str, ArmScores]]) -> dict[str, ArmScores]:
        """The scores of arms that were scored on all of these cohorts, on the cases of all of them."""
        from skinkit.evaluation.ablation import together
        from skinkit.evaluation.scoring import ScoringSettings

        settings = ScoringSettings(self.config.bootstrap, self.config.seed, self.config.minimum, subgroups=False)
        joined = {}
        for arm in self.models:
            if all(arm in of for of in separate.values()):
                side = together(arm, {cohort: of[arm].side for cohort, of in separate.items()})
                if side.again:
                    joined[arm] = self._of_means(side)
                    continue
                scores = side.evaluation.scores(settings, cohort=TOGETHER, model=self.models[arm])
                joined[arm] = ArmScores(scores.rows, scores.curves["roc"], len(side.cases), side)
        return joined

    def role(self, cohort: str) -> str:
        """``development`` or ``external``."""
        return self.cohorts.get(cohort, "development")

    def summary(self, cohort: str, arm: str) -> dict[str, dict[str, Any]] | None:
        """The figures of one arm on one cohort; None where it was not scored."""
        from skinkit.evaluation.ablation import summary

        scores = self.results[cohort].get(arm)
        return summary(scores.rows, self.shown) if scores is not None else None

    @cached_property
    def shown(self) -> Mapping[str, Any]:
        """The columns of the table of arms: those of every study, and the study's own."""
        from skinkit.evaluation.ablation import SHOWN, further

        return {**SHOWN, **further(self.study.figures)}

    def figure(self, cohort: str, arm: str, key: tuple[str, str, str, str]) -> dict[str, Any] | None:
        """One figure of an arm on a cohort; of several seeds the mean, with an interval where means have one.

        Args:
            cohort: a cohort.
            arm: an arm.
            key: class, average, decision rule and metric.

        Returns:
            ``estimate``, ``lower``, ``upper``, ``n`` and ``note``; None where it was not scored.
        """
        from skinkit.evaluation.scoring import Answers

        if (cohort, arm) not in self.metrics:
            return None
        class_, average, rule, metric = key
        artifacts = self.each_seed(cohort, arm)
        tables = [Answers(artifact.table()) for artifact in artifacts.values()]
        figures = [table.get(class_, rule, metric, average) for table in tables]
        if any(figure["n"] is None for figure in figures):
            return None
        n = self.metrics[cohort, arm].info["n"]
        if len(figures) == 1:
            return {**figures[0], "n": n}
        mean = Answers(self.results[cohort][arm].rows).get(class_, rule, metric, average)
        if mean["n"] is not None:
            return {**mean, "n": n}
        estimates = [figure["estimate"] for figure in figures]
        unknown = next((figure["note"] for figure in figures if figure["estimate"] is None), None)
        estimate = None if None in estimates else sum(estimates) / len(estimates)
        return {"estimate": estimate, "lower": None, "upper": None, "n": n, "note": unknown}

    def compare(self) -> None:
        """Compare the arms with those that lack one part, and with the whole system."""
        from skinkit.evaluation.ablation import compare_pairs, pairs

        c = self.config
        chosen = pairs({arm.name: arm.extends for arm in self.arms()}, self.study.whole.name)
        for cohort, of in self.results.items():
            sides = {arm: scores.side for arm, scores in of.items()}
            rows, refused = compare_pairs(sides, chosen, seed=c.seed, minimum=c.minimum, watched=self.study.watched)
            self.differences[cohort], self.not_compared[cohort] = rows, refused
            self.of_tasks[cohort] = self._compared_tasks(cohort, chosen)

    def _compared_tasks(self, cohort: str, chosen: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        """Pairs of arms that answer several tasks, by their means over these."""
        from skinkit.evaluation import task_average
        from skinkit.evaluation.ablation import with_holm

        sides = {}
        for (of_cohort, arm), artifact in self.metrics.items():
            if of_cohort == cohort and (answered := artifact.info.get("tasks")):
                every = list(self.each_seed(cohort, arm).values())
                tasks = ["", *(task for task, of in answered.items() if "classes" in of)]
                sides[arm] = {task: side_of_seeds(arm, every, task) for task in tasks}
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
            **({"seeds": [int(seed) for seed in self.config.seeds]} if self.several else {}),
            "bootstrap": self.config.bootstrap,
            "arms": {
                arm.name: {
                    "model": self.models[arm.name],
                    "words": arm.words,
                    **(
                        {"models": {str(s): model for s, model in self.seeds[arm.name].items()}} if self.several else {}
                    ),
                }
                for arm in self.arms()
            },
            **({"not_run": dict(self.not_run)} if self.not_run else {}),
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
                    **({"taught": taught} if (taught := self.taught(cohort)) else {}),
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
            parts += [self._table(cohort), self._of_tasks(cohort), self._pairs(cohort), self._taught(cohort)]
            parts += [
                f"{arm.words}: not compared with its teacher, {arm.teacher}, which is not among the arms."
                for arm in self.arms()
                if arm.teacher and arm.teacher not in self.models
            ]
            parts += [f"{self.study.arm(arm).words}: not run: {why}." for arm, why in self.not_run.items()]
            parts += [f"{arm}: not scored: {why}." for (of, arm), why in self.not_scored.items() if of == cohort]
            refused = self.not_compared.get(cohort, {})
            parts += [f"{a} and {b} are not compared: {why}." for (a, b), why in refused.items()]
        return "\n\n".join(part for part in parts if part)

    def _table(self, cohort: str) -> str:
        rows = []
        for arm in self.arms():
            if (figures := self.summary(cohort, arm.name)) is not None:
                cells = [with_interval(figures[name]) + _spread(figures[name]) for name in self.shown]
                seeds = [str(len(self.seeds[arm.name]))] if self.several else []
                rows.append([arm.words, *seeds, str(self.results[cohort][arm.name].n), *cells])
        titles = ["arm", *(["seeds"] if self.several else []), "n", *(words[4] for words in self.shown.values())]
        absent = ["not run", *[""] * (len(titles) - 2)]
        return (
            markdown_table(titles, [*rows, *([self.study.arm(a).words, *absent] for a in self.not_run)]) if rows else ""
        )

    def _of_tasks(self, cohort: str) -> str:
        """The means over tasks of arms that answer several, after what always the most frequent class reaches."""
        from skinkit.evaluation.task_average import FIGURES

        means = {arm.words: mean for arm in self.arms() if (mean := self.mean_of_tasks(cohort, arm.name)) is not None}
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

    def mean_of_tasks(self, cohort: str, arm: str) -> Mapping[str, Any] | None:
        """The means over the tasks of an arm, as ``task_average.averaged`` gives them; None where it answers one."""
        from skinkit.artifacts.files import json_values
        from skinkit.evaluation import task_average
        from skinkit.schemas import PRIMARY_TASK

        artifact = self.metrics.get((cohort, arm))
        if artifact is None or "average_over_tasks" not in artifact.info:
            return None
        mean: Mapping[str, Any] = artifact.info["average_over_tasks"]
        if not self.again[cohort, arm]:
            return mean
        tasks = {task: "" if task == PRIMARY_TASK else task for task in mean["tasks"]}
        first, *again = (
            {task: scored_side(arm, each, asked).evaluation for task, asked in tasks.items()}
            for each in self.each_seed(cohort, arm).values()
        )
        c = self.config
        over_seeds = task_average.averaged(first, again=again, seed=c.seed, draws=c.bootstrap)
        answer: Mapping[str, Any] = json_values(over_seeds)
        return answer

    def _pairs(self, cohort: str) -> str:
        from skinkit.evaluation.comparison import of_classes

        shown = {"AUROC, macro", "malignant: AUROC", "balanced accuracy", "malignant: sensitivity, veto"}
        shown |= {self.shown[name][4] for name in self.study.figures}
        shown |= set(of_classes(self.study.watched).values())
        differences = self.differences.get(cohort, [])
        rows = [
            [*self._pair_row(row, row["figure"]), *([_by_seed(row)] if self.several else [])]
            for row in differences
            if row["figure"] in shown
        ]
        return markdown_table([*_PAIR_TITLES, *(["by seed"] if self.several else [])], rows) if rows else ""

    def taught(self, cohort: str) -> dict[str, dict[str, Any]]:
        """Student -> its teacher, and how far its answers are the teacher's, where both were scored on a cohort."""
        from skinkit.evaluation.ablation import agreement

        of, answers = self.results[cohort], {}
        for arm in self.arms():
            if arm.teacher and arm.name in of and arm.teacher in of:
                sides = of[arm.teacher].side, of[arm.name].side
                answers[arm.name] = {"teacher": arm.teacher, **agreement(*sides)}
        return answers

    def _taught(self, cohort: str) -> str:
        rows = [
            [self.study.arm(name).words, self.study.arm(row["teacher"]).words, str(row["n"]),
             with_interval(row["agreement"]), with_interval(row["divergence"])]
            for name, row in self.taught(cohort).items()
        ]  # fmt: skip
        titles = ["student", "its teacher", "n", "same most probable class", "KL divergence from the teacher, nats"]
        return markdown_table(titles, rows) if rows else ""

    def _pair_row(self, row: Mapping[str, Any], figure: str) -> list[str]:
        names = f"{self.study.arm(row['b']).words} minus {self.study.arm(row['a']).words}"
        return [names, figure, with_interval(row, "difference", signed=True), p_holm(row)]

    @cached_property
    def by_class(self) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
        """(cohort, arm, seed) -> the rows of its table of classes."""
        from skinkit.evaluation.class_table import class_table

        tables = {}
        for cohort, arm in self.metrics:
            for seed, artifact in self.each_seed(cohort, arm).items():
                name = self.seeds[arm][seed]
                about = open_artifact(self.workspace.path(Ref("models", name=name))).json("model.json")
                scored = artifact.table(file="scored.parquet")
                alone = len(about["folds"]) > 1 and self.config.each_fold and self.cohorts[cohort] == "external"
                cases = scored.loc[scored["level"] == "image", "case_id"].tolist()
                each = self._each_fold(cohort, name, cases) if alone else ()
                tables[cohort, arm, seed] = class_table(artifact.table(), scored, about, each)
        return tables

    def _each_fold(self, cohort: str, name: str, cases: Sequence[str]) -> list[Floats]:
        """Predictions of each fold of a model for external cases: (n, classes) calibrated probabilities."""
        from skinkit.learning import precision, trained
        from skinkit.learning.scorer import Scorer
        from skinkit.stages.predict import fused_of

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
                curves = of[arm.name].roc
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
            rows[rows["subgroup"] == "all"].assign(arm=arm, **about)
            for cohort, of in self.results.items()
            for arm, scores in of.items()
            for rows, about in self._rows(cohort, arm, scores)
        ]
        if arms:
            write_table(folder / "arms.parquet", _ARMS, pd.concat(arms, ignore_index=True))
            files["arms"] = str(folder / "arms.parquet")
        differences = [{"cohort": cohort, **_flat(row)} for cohort, rows in self.differences.items() for row in rows]
        if differences:
            write_table(folder / "differences.parquet", _DIFFERENCES, pd.DataFrame(differences))
            files["differences"] = str(folder / "differences.parquet")
        classes = self.by_class
        if classes:
            rows = [
                {"cohort": c, "arm": arm, **({"seed": seed} if self.several else {}), **row}
                for (c, arm, seed), table in classes.items()
                for row in table
            ]
            write_table(folder / "by_class.parquet", _BY_CLASS, pd.DataFrame(rows))
            write_atomic(folder / "by_class.md", (f"# Class by class\n\n{self._classes_text(classes)}\n").encode())
            files |= {f"by_class_{kind}": str(folder / f"by_class.{kind}") for kind in ("parquet", "md")}
        files |= self.roc(folder)
        return write_study(folder, "ablation", self.as_dict(), f"{self.text()}\n", page=head + self.text(), files=files)

    def _rows(self, cohort: str, arm: str, scores: ArmScores) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
        """Metrics tables of an arm on a cohort, and the columns that tell them apart: each seed's, and of the means."""
        if not self.several:
            return [(scores.rows, {})]
        each = self.each_seed(cohort, arm) if (cohort, arm) in self.metrics else {}
        tables = [(artifact.table(), {"seed": str(seed)}) for seed, artifact in each.items()]
        means = scores.rows.assign(cohort=cohort, model=arm)
        return [*tables, (means, {"seed": _MEAN})] if scores.side.again else tables

    def _classes_text(self, classes: Mapping[tuple[str, str, int], Sequence[Mapping[str, Any]]]) -> str:
        from skinkit.evaluation.class_table import MODES, markdown_of

        parts = []
        for (cohort, arm, seed), rows in classes.items():
            of = f", seed {seed}" if self.several else ""
            parts.append(f"## {cohort}: {self.study.arm(arm).words}{of}")
            parts += [f"{words}:\n\n{markdown_of(rows, mode)}" for mode, words in MODES.items()]
        return "\n\n".join(parts)

    def _how(self) -> str:
        of = f"preset {self.config.preset or self.study.preset}"
        with_settings = f" with {', '.join(self.config.settings)}" if self.config.settings else ""
        return (
            f"Networks: {of}{with_settings}. All arms learnt from the same folds. {self._how_many()}Intervals: 95 %, "
            "over patients; p after Holm's correction over the pairs of a figure on a cohort."
        )

    def _how_many(self) -> str:
        """What the page says of the seeds; nothing where there is one."""
        if not self.several:
            return ""
        few = [arm.words for arm in self.arms() if len(self.seeds[arm.name]) < len(self.config.seeds)]
        alone = f" Trained with seed {self.config.seeds[0]} alone: {'; '.join(few)}." if few else ""
        return (
            f"Seeds of the models: {', '.join(self.config.seeds)}; a row is the mean over its seeds, SD the standard "
            f"deviation over them, and the interval that of the mean.{alone} "
        )


def _spread(figure: Mapping[str, Any]) -> str:
    """The standard deviation over the seeds behind a figure; nothing without one."""
    return f", SD {figure['sd']:.3f}" if figure.get("sd") is not None and figure["estimate"] is not None else ""


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A difference as a row of a table: what it is in each seed as text."""
    of_seeds = any(isinstance(value, list) for value in row.values())
    cells = {name: value for name, value in row.items() if not isinstance(value, list)}
    return {**cells, "by_seed": _by_seed(row)} if of_seeds else cells


def _by_seed(row: Mapping[str, Any]) -> str:
    """The difference of each seed; where the arms have unequal numbers of them, the values of both."""
    if of := row.get("by_seed"):
        return ", ".join(f"{value:+.3f}" for value in of)
    sides = [row.get(name) or () for name in ("a_by_seed", "b_by_seed")]
    return "; ".join(", ".join(f"{value:.3f}" for value in side) for side in reversed(sides)) if all(sides) else "-"


_AREA = {"auroc": "estimate", "lower": "lower", "upper": "upper"}


def ablate(study: Study, config: Config, workspace: Workspace, pipeline: Pipeline, cohorts: Sequence[str]) -> Ablation:
    """Train the missing arms, score all arms on the cohorts, and compare them.

    Raises:
        ConfigError: an unknown arm, or a bootstrap without replicates.
        InputError: the workspace has no development cohort, or no arm could be scored.
        RefusedError: an arm exists with another configuration, and ``replace`` is not set.
    """
    split = config.split or workspace.defaults["split"]
    todo = planned(study, config, split)
    if not workspace.with_role("development"):
        raise InputError(f"{workspace.root} has no development cohort", "cases to train on", "add one to skinkit.toml")
    for work in todo:
        check_name(work.name, "name of an arm's model")
    if config.folds and not exists(workspace.path(Ref("split", name=split))):
        pipeline.make("split", {"folds": config.folds}, name=split)
    for work in todo:
        pipeline.make(work.stage, work.options, name=work.name)
    chosen = chosen_arms(study, config)
    ablation = Ablation(
        study,
        config,
        workspace,
        pipeline.console,
        pipeline.device,
        seeds_by_arm(study, config),
        {cohort: workspace.cohort(cohort).role for cohort in cohorts},
        not_run=left_out(study, config),
    )
    for cohort in cohorts:
        for arm in chosen:
            _score(ablation, cohort, arm.name, pipeline)
    if not ablation.metrics:
        raise InputError(
            "no arm could be scored: " + "; ".join(sorted({*ablation.not_scored.values(), *ablation.not_run.values()})),
            "held-out development cases or an external cohort with diagnoses that the models know",
            "draw a split that holds cases out, or add an external cohort",
        )
    ablation.compare()
    return ablation


def planned(study: Study, config: Config, split: str) -> list[PlannedArtifact]:
    """What is made, in order, so that a wrong option is reported before any work.

    Raises:
        ConfigError: an unknown arm, preset or setting, wrong seeds, or a bootstrap without replicates.
    """
    for option, least in (("bootstrap", 1), ("minimum", 1)):
        if getattr(config, option) < least:
            raise ConfigError(f"--{option} {getattr(config, option)}", f"{least} or more", f"correct --{option}")
    return works(study, config, split)


def _score(ablation: Ablation, cohort: str, arm: str, pipeline: Pipeline) -> None:
    """Bring the metrics of one arm on one cohort up to date; record the reason if a seed of it cannot be scored."""
    config = ablation.config
    options = {name: getattr(config, name) for name in ("bootstrap", "seed", "minimum", "allow_leakage")}
    every = []
    for seed, model in ablation.seeds[arm].items():
        try:
            every.append(scored(pipeline, cohort, model, options))
        except (InputError, RefusedError) as error:
            of = f"seed {seed}: " if ablation.several else ""
            ablation.not_scored[cohort, arm] = of + error.found
            pipeline.console.warn(f"{model} is not scored on {cohort}: {error.found}")
            return
    first, *again = every
    ablation.metrics[cohort, arm], ablation.again[cohort, arm] = first, tuple(again)


def scored(pipeline: Pipeline, cohort: str, model: str, options: Mapping[str, Any]) -> Artifact:
    """The metrics of a model on a cohort, brought up to date, without subgroups and shortcuts."""
    pipeline.make("predict", {}, cohorts=[cohort], name=model)
    whole = {**options, "subgroups": False, "shortcuts": False}
    pipeline.make("evaluate", whole, cohorts=[cohort], name=model)
    return open_artifact(pipeline.workspace.path(Ref("metrics", cohort, model)))
