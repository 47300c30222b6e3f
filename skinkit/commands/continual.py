"""continual: train through a sequence of cohorts; measure what is kept.

--order names the development cohorts as they are learnt, one after the other, on one split. Arms:

    alone    each cohort from the starting weights: what no transfer gives
    longer   the same, as many epochs as the whole sequence together
    plain    each step goes on from the one before, by itself
    replay   and a tenth of its draws come from the cohorts before
    guided   and the model before is its teacher (distillation, T = 2)
    joint    all cohorts at once

Classes that a cohort cannot have stay out of its loss. Every model is scored on the held-out cases of every cohort; the
table gives the average after the last step, forgetting and backward transfer, and paired differences of arms with 95 %
intervals over patients. Models that exist are reused. --start NAME begins with a pretraining of the workspace. Files
are written to 'continual/NAME' of the workspace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from skinkit.artifacts.artifact import Artifact
from skinkit.commands import Context
from skinkit.commands._output import write_study
from skinkit.commands._trainings import settings_for, weights_for
from skinkit.commands.ablate import scored
from skinkit.commands.compare import scored_side
from skinkit.errors import ConfigError, did_you_mean
from skinkit.evaluation.markdown import markdown_table, p_holm, with_interval
from skinkit.options import Help
from skinkit.workspace import Workspace, check_name

PANEL = "Model study", 12
SHARED_OPTIONS = ("workspace", "jobs", "device", "no_upstream")

FOLDER = "continual"
ARMS = ("alone", "longer", "plain", "replay", "guided", "joint")
FIGURES = {"balanced_accuracy": "balanced accuracy", "macro_auroc": "AUROC, macro", "accuracy": "accuracy"}
_SEQUENTIAL = ("plain", "replay", "guided")
_REPLAY = 0.1
_GUIDED = ("objective.temperature=2", "objective.share=0.5")


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    model: Annotated[str, Help("kind of network that is trained", metavar="KIND")] = "concat"
    order: Annotated[
        tuple[str, ...], Help("development cohorts in the order they are learnt (default: as in skinkit.toml)",
                              metavar="NAME[,NAME]")
    ] = ()  # fmt: skip
    arms: Annotated[tuple[str, ...], f"arms: {', '.join(ARMS)}"] = (
        "alone", "plain", "guided", "joint",
    )  # fmt: skip
    start: Annotated[
        str, Help("pretraining of the workspace that every arm starts from (default: --weights)", metavar="NAME")
    ] = ""
    weights: Annotated[str, weights_for("the network")] = ""
    preset: Annotated[str, "preset of the network, such as quick"] = ""
    settings: Annotated[tuple[str, ...], settings_for("the network")] = ()
    replay: Annotated[float, "share of the draws from earlier cohorts in replay and guided"] = _REPLAY
    attributes: Annotated[
        Literal["auto", "pad81", "pad45", "pad17", "isic", "isic_ordinal", "none"],
        "encoder of the metadata, of every cohort",
    ] = "none"
    split: Annotated[str, "split of all arms (default: the workspace's)"] = ""
    seed: Annotated[int, "seed of all models"] = 0
    bootstrap: Annotated[int, "draws of noise for the interval of the ECE"] = 1000
    name: Annotated[str, "prefix of the models' and the folder's names"] = FOLDER


@dataclass(frozen=True)
class ArmTraining:
    """One training.

    Attributes:
        arm: of it; that on the first cohort is shared by all arms that begin alike.
        model: its name in the workspace.
        options: of ``skinkit train``.
    """

    arm: str
    model: str
    options: Mapping[str, Any]


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Train and score every step of every arm."""
    workspace = context.workspace()
    order = _order(config, workspace)
    steps = planned(config, order)
    pipeline = context.pipeline(workspace)
    metrics: dict[tuple[str, str], Artifact] = {}
    scoring = {"bootstrap": config.bootstrap, "seed": config.seed}
    for step in {step.model: step for step in steps}.values():
        pipeline.make("train", dict(step.options), name=step.model)
        for cohort in order:
            metrics[step.model, cohort] = scored(pipeline, cohort, step.model, scoring)
    answer = _answer(config, order, steps, metrics)
    folder = workspace.root / FOLDER / config.name
    files = _drawn(order, answer, folder)
    text = text_of(order, answer)
    how = f"{config.model}, preset {config.preset or 'none'}, order {', '.join(order)}, seed {config.seed}"
    picture = f"![balanced accuracy after each step]({FOLDER}.png)\n\n" if files else ""
    title = f"{' -> '.join(order)}: gained, kept, forgotten"
    page = f"# {title}\n\n{how}. Intervals: 95 %, over patients.\n\n{picture}{text}"
    written = write_study(folder, FOLDER, answer, text, page=page, files=files)
    return {**written.body, "files": written.files, "text": written.text}


def _order(config: Config, workspace: Workspace) -> tuple[str, ...]:
    known = workspace.with_role("development")
    order = config.order or tuple(known)
    for name in order:
        if name not in known:
            raise ConfigError(
                f"--order {','.join(order)}: {name!r} is no development cohort", did_you_mean(name, known), "correct it"
            )
    if len(order) < 2 or len(set(order)) < len(order):
        raise ConfigError(
            f"--order {','.join(order)}", "two or more development cohorts, each once", "name them, or add a cohort"
        )
    return order


def planned(config: Config, order: Sequence[str]) -> list[ArmTraining]:
    """The trainings, each after those it goes on from.

    Raises:
        ConfigError: an unknown arm.
    """
    for arm in config.arms:
        if arm not in ARMS:
            raise ConfigError(f"--arms {arm!r}", did_you_mean(arm, ARMS), "name arms with commas")
    check_name(config.name, "prefix of the models' names")
    refuse_no_network(config.model)
    shared: dict[str, Any] = {
        "model": config.model, "preset": config.preset, "attributes": config.attributes, "split": config.split,
        "seed": config.seed, "radiomics": "none",
    }  # fmt: skip
    begin = f"model:{config.start}" if config.start else config.weights
    steps = []
    for arm in (arm for arm in ARMS if arm in config.arms):
        if arm == "joint":
            options = {**shared, "settings": config.settings, "cohorts": tuple(order), "weights": begin}
            steps.append(ArmTraining(arm, f"{config.name}-{arm}", options))
            continue
        before = ""
        for cohort in order:
            model = f"{config.name}-{arm if before or arm == 'longer' else 'first'}-{cohort}"
            settings = config.settings
            options = {**shared, "cohorts": (cohort,), "weights": begin}
            if arm in _SEQUENTIAL and before:
                options["weights"] = f"model:{before}"
                options |= {"replay": config.replay} if arm != "plain" else {}
                if arm == "guided":
                    options |= {"teacher": before, "objective": "distillation"}
                    settings = (*settings, *_GUIDED)
            if arm == "longer":
                settings = (*settings, f"recipe.epochs={len(order) * _epochs(config)}")
            steps.append(ArmTraining(arm, model, {**options, "settings": settings}))
            before = model
    return steps


def refuse_no_network(name: str) -> None:
    """Refuse, with :class:`ConfigError`, a kind of model that is no network that classifies."""
    from skinkit.models import Network, trainable

    kind = trainable(name)
    if not issubclass(kind, Network) or kind.TASK != "classify":
        raise ConfigError(
            f"--model {name}, which is no network that classifies",
            "a network that goes on from a trained one",
            "name another, such as concat or dual_network",
        )


def _epochs(config: Config) -> int:
    from skinkit.models import model_config, trainable

    settings = model_config(trainable(config.model), list(config.settings), preset=config.preset)
    return int(settings.recipe.epochs)


def _answer(
    config: Config, order: Sequence[str], steps: Sequence[ArmTraining], metrics: Mapping[tuple[str, str], Artifact]
) -> dict[str, Any]:
    """Scores, metrics of continual learning, and paired differences."""
    import numpy as np

    from skinkit.evaluation.ablation import compare_pairs
    from skinkit.evaluation.continual import continual_metrics

    def figure(model: str, cohort: str, name: str) -> dict[str, Any]:
        return dict(metrics[model, cohort].info["headline"][name])

    arms: dict[str, Any] = {}
    for arm in dict.fromkeys(step.arm for step in steps):
        models = [step.model for step in steps if step.arm == arm]
        scores = {
            name: {model: {cohort: figure(model, cohort, name) for cohort in order} for model in models}
            for name in FIGURES
        }
        arms[arm] = {"models": models, "scores": scores}
        if arm in _SEQUENTIAL:
            arms[arm]["continual"] = {
                name: continual_metrics(
                    np.array([[scores[name][m][cohort]["estimate"] for cohort in order] for m in models]), order
                )
                for name in FIGURES
            }
    last = {arm: of["models"][-1] for arm, of in arms.items()}
    differences, not_compared = [], []
    for place, cohort in enumerate(order):
        # Of arms that learn one cohort at a time, the model that has learnt this one; of sequences, the last.
        chosen = {arm: arms[arm]["models"][place] if arm in ("alone", "longer") else last[arm] for arm in arms}
        chosen |= {
            f"{arm} after {cohort}": arms[arm]["models"][place]
            for arm in _SEQUENTIAL
            # On the first cohort that is the model of alone, which is compared with the arm already.
            if arm in arms and place < len(order) - 1 and (place or "alone" not in arms)
        }
        sides = {label: scored_side(label, metrics[model, cohort]) for label, model in chosen.items()}
        pairs = {(a, b): "arms" for a, b in _PAIRS if a in sides and b in sides}
        pairs |= {(f"{arm} after {cohort}", arm): "kept" for arm in _SEQUENTIAL if f"{arm} after {cohort}" in sides}
        rows, refused = compare_pairs(sides, pairs, seed=config.seed, minimum=5)
        differences += [{"cohort": cohort, **row} for row in rows]
        not_compared += [{"cohort": cohort, "a": a, "b": b, "why": why} for (a, b), why in refused.items()]
    return {
        "order": list(order),
        "model": config.model,
        "preset": config.preset,
        "settings": list(config.settings),
        "seed": config.seed,
        "arms": arms,
        "differences": differences,
        "not_compared": not_compared,
    }


_PAIRS = (
    ("alone", "longer"), ("alone", "plain"), ("longer", "plain"), ("alone", "guided"), ("longer", "guided"),
    ("plain", "replay"), ("plain", "guided"), ("replay", "guided"), ("joint", "guided"),
)  # fmt: skip
_SHOWN = ("balanced accuracy", "AUROC, macro")


def text_of(order: Sequence[str], answer: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    parts = ["## Scores after each step"]
    for name, words in FIGURES.items():
        rows = [
            [arm, after, *(with_interval(by[c]) for c in order)]
            for arm, of in answer["arms"].items()
            for after, by in zip(order if len(of["models"]) > 1 else ["all"], of["scores"][name].values(), strict=True)
        ]
        parts.append(markdown_table(["arm", f"{words} after", *(f"on {cohort}" for cohort in order)], rows))
    rows = []
    for arm, of in answer["arms"].items():
        for name, found in of.get("continual", {}).items():
            kept = ", ".join(f"{cohort} {value:+.3f}" for cohort, value in found["forgetting"].items())
            cells = [f"{found['average']:.3f}", kept, f"{found['backward_transfer']:+.3f}"]
            rows.append([arm, FIGURES[name], *cells])
    if rows:
        parts.append("## Kept and forgotten")
        parts.append(markdown_table(["arm", "figure", "average", "forgetting of", "backward transfer"], rows))
    rows = [
        [
            row["cohort"],
            f"{row['b']} minus {row['a']}",
            row["figure"],
            with_interval(row, "difference", signed=True),
            p_holm(row),
        ]
        for row in answer["differences"]
        if row["figure"] in _SHOWN
    ]
    if rows:
        parts.append("## Differences between arms")
        parts.append(markdown_table(["on", "difference", "figure", "95 % interval", "p (Holm)"], rows))
    parts += [f"{r['a']} and {r['b']} are not compared on {r['cohort']}: {r['why']}." for r in answer["not_compared"]]
    return "\n\n".join(parts)


def _drawn(order: Sequence[str], answer: Mapping[str, Any], folder: Any) -> dict[str, str]:
    """The course of the balanced accuracy on each cohort, arm beside arm."""
    from skinkit.figures.panels import continual_panels

    courses = {
        arm: [[of["scores"]["balanced_accuracy"][m][cohort]["estimate"] for m in of["models"]] for cohort in order]
        for arm, of in answer["arms"].items()
        if arm in _SEQUENTIAL
    }
    if not courses:
        return {}
    alone = answer["arms"].get("alone")
    level = None
    if alone:
        by_model = alone["scores"]["balanced_accuracy"]
        level = [by_model[m][c]["estimate"] for m, c in zip(alone["models"], order, strict=True)]
    return continual_panels(courses, order, level, folder, FOLDER)
