"""reproduce: reproduce a paper and compare the numbers.

--data is a folder with one folder per cohort, named after it (case, '-', '_' and spaces do not matter), or the only
development cohort itself as downloaded. 'skinkit
reproduce PAPER' without --data lists the paper's cohorts; at least one development cohort is required. Public data sets
are read as downloaded. A folder with a cohort.toml is an external cohort unless it has the name of a development one.

The workspace is --out. Two protocols are run: one without leakage, and the paper's own with its leakage. The page is
reproduction/PAPER.md in that workspace: for each table and figure the command, the paper's numbers, ours with 95 %
intervals, and why they differ in meaning. Numbers that cannot be computed are listed with what is missing; those
without a counterpart are 'printed only'. Finished work is kept when the command is repeated. Use --preset quick on a
machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.artifacts.files import link_or_copy, write_atomic
from skinkit.commands import Context, ablate, load_command
from skinkit.commands._output import checked, write_study
from skinkit.commands._trainings import TrainingOptions, shared_settings
from skinkit.data.folder import DESCRIPTION
from skinkit.errors import ConfigError, InputError, SkinkitError, did_you_mean, listed
from skinkit.options import Help, make_config
from skinkit.pipeline import Pipeline
from skinkit.reporting import reproduction
from skinkit.reporting.reproduction import Run, Section
from skinkit.studies import Exhibit, OutlineMethod, Protocol, Published, Study, Wanted, load_study, studies
from skinkit.studies.protocols import HALF
from skinkit.studies.study import OF_TASKS
from skinkit.workspace import SETTINGS_FILE, Cohort, Ref, Workspace, check_name, load_workspace, settings_text

PANEL = "Model study", 13
SHARED_OPTIONS = ("jobs", "device")

FOLDER = "reproduction"
CENTRE = "centre"
"""Column of cases that say at which of several places a photo was taken."""
_MODELLED = (
    "ablation",
    "by_class",
    "confusion",
    "candidates",
    "external",
    "literature",
    "explanation",
    "faithfulness",
    "localisation",
    "halves",
)
"""Kinds of parts that need trained models."""
_PHOTO_PX = 320


@dataclass(frozen=True)
class Config(TrainingOptions):
    """Options of the command."""

    paper: Annotated[str, Help(f"paper: {' or '.join(studies())}", positional=True, flag="--paper")] = ""
    data: Annotated[str, Help("folder with one folder per cohort", metavar="DIR")] = ""
    out: Annotated[
        str, Help("workspace; created if absent (default: reproduction-PAPER)", metavar="DIR", writes="workspace")
    ] = ""
    only: Annotated[tuple[str, ...], "tables and figures to make, such as table2,fig7 (default: all)"] = ()
    protocols: Annotated[tuple[str, ...], "protocols to run (default: all of the paper's study)"] = ()
    segmenter: Annotated[str, "segmenter; a network is trained first (default: the paper's, or otsu)"] = ""
    segmenter_settings: Annotated[
        tuple[str, ...],
        Help("setting of the networks that outline lesions as NAME=VALUE, repeatable", metavar="NAME=VALUE", rare=True),
    ] = ()
    selection: Annotated[bool, "apply the paper's selection of images, if it states one"] = True
    case: Annotated[
        tuple[str, ...],
        Help("cases shown with their two candidate classes (default: one of each kind)", rare=True),
    ] = ()


@dataclass
class Reproduction:
    """One paper in one workspace.

    Attributes:
        config: options of the command.
        context: messages, processes, device.
        study: the paper.
        workspace: where it is run.
        pipeline: over that workspace.
        folder: of the page and its pictures.
        runs: protocol -> its ablation.
        not_run: protocol -> why it was not run.
    """

    config: Config
    context: Context
    study: Study
    workspace: Workspace
    pipeline: Pipeline
    folder: Path
    runs: dict[str, ablate.Ablation] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)

    @property
    def labelled(self) -> list[str]:
        """Cohorts with diagnoses."""
        return self.workspace.with_role("development", "external")


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Make the workspace, run the protocols, write the page."""
    study = load_study(config.paper)
    parts = [study.part(name) for name in config.only] or list(study.parts)
    protocols = _protocols(study, config)
    present = find_cohorts(study, config.data)
    whole_only = not any(part.kind == "ablation" for part in parts)
    ablations = {protocol.name: _ablation_config(study, config, protocol, whole_only) for protocol in protocols}
    for each in ablations.values():  # a wrong arm, preset or setting is reported before any work
        ablate.planned(study, each, each.split)
    workspace = _workspace(study, config, present, context)
    context = replace(context, folder=workspace.root)
    again = Reproduction(
        config, context, study, workspace, context.pipeline(workspace), workspace.root / FOLDER / study.name
    )
    if any(part.kind in _MODELLED for part in parts):
        for protocol in protocols:
            _run_protocol(again, protocol, ablations[protocol.name])
    else:
        again.pipeline.make("ingest", {})
    missing = [cohort for cohort in study.cohorts if cohort.name not in workspace.cohorts]
    how = Run(
        study,
        config.preset or study.preset,
        config.settings,
        config.weights,
        workspace.defaults["segmenter"],
        {name: _described(again, name) for name in workspace.cohorts},
        missing,
        [p for p in protocols if p.name in again.runs],
        again.not_run,
        config.seeds,
    )
    sections = [_section(again, how, part) for part in parts]
    page = workspace.root / FOLDER / f"{study.name}.md"
    body = {
        "paper": study.name,
        "workspace": str(workspace.root),
        "page": str(page),
        "protocols": [p.name for p in how.protocols],
        "not_run": again.not_run,
        "missing_cohorts": [cohort.name for cohort in missing],
        "parts": {section.part.name: section.as_dict() for section in sections},
    }
    trained = sum(step.stage == "train" and not step.fresh for step in again.pipeline.steps)
    absent = f"\nnot there: {', '.join(cohort.name for cohort in missing)}" if missing else ""
    text = f"{len(sections)} tables and figures, {trained} models trained{absent}\npage: {page}"
    written = write_study(page.parent, study.name, body, text, page=reproduction.page(how, sections))
    return {**written.body, "files": written.files, "text": text}


# ------------------------------------------------------------------------------------------------ data and workspace


def find_cohorts(study: Study, data: str) -> dict[str, tuple[Wanted, Path]]:
    """The cohorts of a study and further hospitals in a folder: name -> source and path.

    Raises:
        InputError: the folder does not exist, or has no development cohort.
    """
    wanted = ", ".join(f"{cohort.name} ({cohort.role})" for cohort in study.cohorts)
    fix = "name the folder that holds them with --data; see 'skinkit reproduce --help'"
    root = Path(data).expanduser().resolve()
    if not data or not root.is_dir():
        raise InputError(f"no folder {root}" if data else "no --data", f"a folder with the cohorts {wanted}", fix)
    folders = {_key(path.name): path for path in sorted(root.iterdir()) if path.is_dir()}
    present: dict[str, tuple[Wanted, Path]] = {}
    for cohort in study.cohorts:
        keys = [_key(cohort.name), *([_key(cohort.source)] if cohort.source else [])]
        path = next((folders.pop(key) for key in keys if key in folders), None)
        if path is not None and (cohort.source or (path / DESCRIPTION).is_file()):
            present[cohort.name] = (cohort, path)
    for path in folders.values():
        if (path / DESCRIPTION).is_file():
            check_name(path.name, f"cohort folder {path}")
            present[path.name] = (Wanted(path.name, "external", "", "a further hospital"), path)
    if not any(cohort.role == "development" for cohort, _ in present.values()):
        if (alone := _whole(study, root)) is not None:
            return present | {alone.name: (alone, root)}
        names = listed(path.name for path in sorted(root.iterdir()) if path.is_dir())
        raise InputError(
            f"nothing to learn from in {root} (folders: {names})", f"folders named after the cohorts {wanted}", fix
        )
    return present


def _whole(study: Study, root: Path) -> Wanted | None:
    """The only development cohort of a study, where the folder itself is its archive as downloaded."""
    from skinkit.data import find_files

    learnt = [cohort for cohort in study.cohorts if cohort.role == "development" and cohort.source]
    if len(learnt) != 1:
        return None
    (only,) = learnt
    try:
        find_files(Cohort(only.name, only.role, only.source, root, only.options))
    except SkinkitError:
        return None
    return only


def _key(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign.isalnum())


def _workspace(study: Study, config: Config, present: Mapping[str, tuple[Wanted, Path]], context: Context) -> Workspace:
    """The workspace, created if absent; an existing one keeps its settings."""
    from skinkit.commands.init import DECLARED
    from skinkit.models import load_model

    folder = checked("--out", "workspace", config.out or f"reproduction-{study.name}", context)
    file = folder / SETTINGS_FILE
    if not file.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder} has files, and none is {SETTINGS_FILE}", "a new folder, or a workspace", "name another --out"
            )
        for name, (_, source) in present.items():
            if folder.resolve().is_relative_to(source):
                raise ConfigError(f"{folder} is among the files of {name}", "a place outside", "name another --out")
        segmenter = config.segmenter or study.segmenter
        load_model(segmenter, "segment")
        cohorts = [
            {"name": name, "role": cohort.role, "source": _source(cohort, path), "path": str(path), **cohort.options}
            for name, (cohort, path) in present.items()
        ]
        defaults = {
            "segmenter": segmenter,
            "split": study.protocols[0].name,
            "model": study.whole.model,
            "classes": study.classes,
            "malignant": study.malignant,
        }
        selection = {"ingest": {"selection": study.name}} if study.selection and config.selection else {}
        folder.mkdir(exist_ok=True)
        write_atomic(file, settings_text(defaults, cohorts, {**DECLARED, **selection}).encode())
    workspace = load_workspace(folder)
    if config.segmenter and config.segmenter != workspace.defaults["segmenter"]:
        raise ConfigError(
            f"--segmenter {config.segmenter}, but {file} has {workspace.defaults['segmenter']}",
            "one segmenter per workspace",
            "name another --out, or change that file",
        )
    for name in present:
        if name not in workspace.cohorts:
            context.console.warn(f"{name} is in --data but not in {file}: add it there, or name another --out")
    return workspace


def _source(cohort: Wanted, path: Path) -> str:
    return "folder" if (path / DESCRIPTION).is_file() else cohort.source


def _described(again: Reproduction, name: str) -> str:
    """A cohort's source and number of cases."""
    cohort = again.workspace.cohort(name)
    path = again.workspace.path(Ref("cases", name))
    counts = open_artifact(path).manifest["counts"] if exists(path) else {}
    wanted = next((w for w in again.study.cohorts if w.name == name), None)
    words = wanted.words if wanted else "a further hospital"
    n = f", {counts.get('ok', counts.get('rows', 0))} images" if counts else ""
    return f"{words}; {cohort.role}, read as {cohort.source}{n}"


# ------------------------------------------------------------------------------------------------------ protocols


def _protocols(study: Study, config: Config) -> list[Protocol]:
    names = [protocol.name for protocol in study.protocols]
    for name in config.protocols:
        if name not in names:
            raise ConfigError(f"no protocol {name!r} of {study.name}", did_you_mean(name, names), "name another")
    return [p for p in study.protocols if not config.protocols or p.name in config.protocols]


def _name(study: Study, protocol: str) -> str:
    """Prefix of the names of a protocol's models."""
    return study.name if protocol == study.protocols[0].name else f"{study.name}-{protocol}"


def _ablation_config(study: Study, config: Config, protocol: Protocol, whole_only: bool) -> ablate.Config:
    """The ablation under a protocol; only the whole system if the parts need no more."""
    shared = {option.name: getattr(config, option.name) for option in fields(TrainingOptions)}
    arms = (study.whole.name,) if whole_only and not config.arms else config.arms
    own = {"arms": arms, "folds": 0}  # --folds is of the split without leakage, which is drawn before
    name = _name(study, protocol.name)
    return ablate.Config(
        **{**shared, **own}, paper=study.name, split=protocol.name, name=name, allow_leakage=protocol.leaks
    )


def _run_protocol(again: Reproduction, protocol: Protocol, arms: ablate.Config) -> None:
    """Draw the split, train and score the arms; record why the paper's own protocol cannot be run."""
    study = again.study
    try:
        again.pipeline.make("split", _split_settings(again, protocol), name=protocol.name)
    except SkinkitError as error:
        if not protocol.leaks:
            raise
        again.not_run[protocol.name] = error.found
        again.context.console.warn(f"protocol {protocol.name} is not run: {error.found}")
        return
    _train_segmenter(again)
    if not again.workspace.with_role("external") and not _holds_out(again, protocol.name):
        again.not_run[protocol.name] = "it holds no case out, and there is no external cohort to score"
        return
    ablation = ablate.ablate(study, arms, again.workspace, again.pipeline, again.labelled)
    ablation.write(ablate.folder_of_ablation(again.workspace, arms, study))
    again.runs[protocol.name] = ablation


def _split_settings(again: Reproduction, protocol: Protocol) -> dict[str, Any]:
    """Options of ``skinkit split`` for a protocol; ``--folds`` is of one without leakage."""
    if protocol.leaks:
        return {**protocol.settings, "allow_leakage": protocol.leaks}
    return {**protocol.settings, **({"folds": again.config.folds} if again.config.folds else {})}


def _holds_out(again: Reproduction, split: str) -> bool:
    parts = open_artifact(again.workspace.path(Ref("split", name=split))).table(["part"])["part"]
    return bool((parts == "held_out").any())


def _train_segmenter(again: Reproduction) -> None:
    """Train a segmenter that needs training before anything is measured."""
    name = again.workspace.defaults["segmenter"]
    _train_outlines(again, OutlineMethod(name, name, name))


def _train_outlines(again: Reproduction, method: OutlineMethod) -> None:
    """Train what outlines lesions, if it learns and is not there, on the split without leakage.

    What classifiers are tested on is new to it too.
    """
    from skinkit.models import Network, load_model, model_config

    model = load_model(method.model, "segment")
    if not issubclass(model, Network) or exists(again.workspace.path(Ref("models", name=method.name))):
        return
    preset, settings = again.config.preset or again.study.preset, again.config.segmenter_settings
    options: dict[str, Any] = {"model": method.model}
    if method.settings_of:
        other = load_model(method.settings_of, "segment")
        config = model_config(other, settings, preset=preset if preset in other.PRESETS else "")
        options["settings"] = tuple(shared_settings(config, model.CONFIG))
    else:
        options |= {"settings": settings, "preset": preset if preset in model.PRESETS else ""}
    protocol = again.study.protocols[0]
    if not exists(again.workspace.path(Ref("split", name=protocol.name))):
        again.pipeline.make("split", _split_settings(again, protocol), name=protocol.name)
    again.pipeline.make("train", {**options, "split": protocol.name}, name=method.name)


# ----------------------------------------------------------------------------------------------- tables and figures


Ours = dict[str, dict[Published, Mapping[str, Any]]]
"""Protocol, or segmenter -> the paper's number -> our figure: ``estimate``, ``lower``, ``upper`` and ``n``."""


def _section(again: Reproduction, how: Run, part: Exhibit) -> Section:
    """One table or figure; its numbers are looked up in the metrics unless its maker has others."""
    section = _MAKERS[part.kind](again, how, Section(part))
    section.rows = section.rows or reproduction.beside(how, part, _numbers(again, part.name))
    return section


def _numbers(again: Reproduction, part: str) -> Ours:
    """The figures of the trained arms that the paper prints in one table or figure."""
    ours: Ours = {}
    for protocol, ablation in again.runs.items():
        for published in again.study.numbers(part):
            figure = None if published.printed_only else _figure(ablation, published)
            if figure is not None:
                ours.setdefault(protocol, {})[published] = figure
    return ours


def _figure(ablation: ablate.Ablation, published: Published) -> Mapping[str, Any] | None:
    """Our figure of the same name on the same cohort, of several seeds the mean; None if it was not computed."""
    from skinkit.evaluation.class_table import TUNED
    from skinkit.evaluation.endpoint import parse

    cohort, arm = published.cohort, published.arm
    if (cohort, arm) not in ablation.metrics:
        return None
    if published.figure.startswith(OF_TASKS):
        mean = ablation.mean_of_tasks(cohort, arm)
        return {**mean["accuracy"], "n": ablation.metrics[cohort, arm].info["n"]} if mean else None
    class_, word, *rest = published.figure.split()
    if word == "called":
        return _mean([_called(artifact, class_, rest[0]) for artifact in ablation.each_seed(cohort, arm).values()])
    if rest == ["@", TUNED]:
        rows = [row for (c, a, _), table in ablation.by_class.items() if (c, a) == (cohort, arm) for row in table]
        own = [row for row in rows if (row["mode"], row["class"]) == (TUNED, class_)]
        return _mean([{"estimate": row[word], "n": row["n"]} if row[word] is not None else None for row in own])
    return ablation.figure(cohort, arm, parse(published.figure))


def _called(artifact: Artifact, truth: str, called: str) -> dict[str, Any] | None:
    """The share of the cases of a class whose most probable class is another."""
    curves = artifact.json("curves.json")
    classes, matrix = curves["classes"], curves["confusion"]
    if truth not in classes or called not in classes:
        return None
    row = matrix[classes.index(truth)]
    return {"estimate": row[classes.index(called)] / sum(row), "n": sum(row)} if sum(row) else None


def _mean(figures: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The mean of one figure over seeds, of as many cases each; None where a seed has none."""
    known = [figure for figure in figures if figure is not None]
    if not known or len(known) < len(figures):
        return None
    return {"estimate": sum(figure["estimate"] for figure in known) / len(known), "n": known[0]["n"]}


def _train_command(again: Reproduction, protocol: str, more: str = "") -> str:
    config = again.config
    parts = [f"skinkit ablate {again.study.name} --split {protocol} --name {_name(again.study, protocol)}"]
    parts += [f"--preset {config.preset}"] if config.preset else []
    parts += [f"--settings {setting}" for setting in config.settings]
    parts += [f"--weights {config.weights}"] if config.weights else []
    parts += [f"--weights-of {','.join(config.weights_of)}"] if config.weights_of else []
    parts += [f"--seeds {','.join(config.seeds)}"] if config.seeds else []
    parts += [f"--one-seed {','.join(config.one_seed)}"] if config.one_seed else []
    leaks = next(p.leaks for p in again.study.protocols if p.name == protocol)
    parts += [f"--allow-leakage '{leaks}'"] if leaks else []
    return " ".join([*parts, *([more] if more else [])])


def _ablation(again: Reproduction, how: Run, section: Section) -> Section:
    for name, ablation in again.runs.items():
        section.commands.append(_train_command(again, name))
        section.body += [f"### {name}", ablation.text("####")]
        files = ablation.roc(again.folder / name)
        if files:
            section.body.append(f"![ROC curves, protocol {name}]({_link(again, files['svg'])})")
        section.missing += [f"{arm} on {cohort} ({name}): {why}" for (cohort, arm), why in ablation.not_scored.items()]
    return section


def _by_class(again: Reproduction, how: Run, section: Section) -> Section:
    from skinkit.evaluation.class_table import MODES, markdown_of

    whole = again.study.whole
    for name, ablation in again.runs.items():
        section.commands.append(_train_command(again, name, f"--arms {whole.name}"))
        for (cohort, arm, seed), rows in ablation.by_class.items():
            if arm == whole.name:
                of = f", seed {seed}" if ablation.several else ""
                section.body.append(f"### {cohort}, protocol {name}{of}")
                section.body += [f"{words}:\n\n{markdown_of(rows, mode)}" for mode, words in MODES.items()]
    return section


def _external(again: Reproduction, how: Run, section: Section) -> Section:
    section.commands = [
        f"skinkit evaluate --model {_name(again.study, name)}-{again.study.whole.name}" for name in again.runs
    ]
    return section


def _halves(again: Reproduction, how: Run, section: Section) -> Section:
    """The sizes of the halves of a test set; their metrics are subgroups of ``skinkit evaluate``."""
    ours: Ours = {}
    for name, ablation in again.runs.items():
        split = open_artifact(again.workspace.path(Ref("split", name=name))).table()
        if HALF not in split:
            continue
        images = split.loc[split[HALF].notna(), ["cohort", "image_id", HALF]].drop_duplicates()
        for published in again.study.numbers(section.part.name):
            if not published.printed_only:
                half = published.figure.rpartition(" ")[2]
                n = int(((images["cohort"] == published.cohort) & (images[HALF] == half)).sum())
                ours.setdefault(name, {})[published] = {"estimate": float(n), "n": n}
        model = ablation.models.get(again.study.whole.name)
        section.commands += [f"skinkit evaluate --model {model}"] if model else []
        section.body.append(f"Protocol {name}: the halves are the subgroups `half=A` and `half=B` of that command.")
    section.rows = reproduction.beside(how, section.part, ours)
    return section


def _faithfulness(again: Reproduction, how: Run, section: Section) -> Section:
    """Insertion, deletion and drop of integrated gradients (``gfa``) and of Grad-CAM (``gradcam``)."""
    ours: Ours = {}
    for name, ablation in again.runs.items():
        model = ablation.models.get(again.study.whole.name)
        if model is None:
            continue
        answer = _by(again, section, "faithful", {"model": model})
        for published in again.study.numbers(section.part.name):
            of = answer.get("faithful", {}).get(published.cohort, {})
            for row in of.get("summary", ()):
                if f"{row['figure']} {row['method']}" == published.figure:
                    figure = {"estimate": row["mean"], "lower": row["lower"], "upper": row["upper"], "n": of["n"]}
                    ours.setdefault(name, {})[published] = figure
    section.rows = reproduction.beside(how, section.part, ours)
    return section


def _localisation(again: Reproduction, how: Run, section: Section) -> Section:
    """Heatmaps of the whole system and of its simplest arm against outlines that people drew."""
    for name, ablation in again.runs.items():
        of = again.study.whole
        first = next(arm for arm in again.study.arms if arm.model == of.model)  # one that reads photos as it does
        whole, simplest = (ablation.models.get(arm.name) for arm in (of, first))
        if whole is None:
            continue
        against = {"against": simplest} if simplest and simplest != whole else {}
        answer = _by(again, section, "localise", {"model": whole, **against})
        for cohort, found in answer.get("localisation", {}).items():
            for kind, words in (("svg", "figures"), ("sheet_png", "heatmaps")):
                source, said = Path(found["figures"][kind]), f"{words} of the encoders, {cohort}, protocol {name}"
                stem = f"localisation-{words}-{cohort}"
                section.body.append(_pictured(again, source, again.folder / name / f"{stem}{source.suffix}", said))
    return section


def _confusion(again: Reproduction, how: Run, section: Section) -> Section:
    whole = again.study.whole.name
    for name, ablation in again.runs.items():
        section.commands.append(f"skinkit evaluate --model {ablation.models.get(whole, whole)}")
        for (cohort, arm), artifact in ablation.metrics.items():
            for picture, words in (("confusion", "confusion matrix"), ("pr", "precision and recall")):
                if arm == whole and (artifact.path / "figures" / f"{picture}.svg").is_file():
                    source, said = artifact.path / "figures" / f"{picture}.svg", f"{words}, {cohort}, protocol {name}"
                    file = again.folder / name / f"{picture}-{cohort}.svg"
                    section.body.append(_pictured(again, source, file, said))
    return section


def _candidates(again: Reproduction, how: Run, section: Section) -> Section:
    from skinkit.figures import panels

    whole = again.study.whole.name
    section.commands.append(f"skinkit reproduce {again.study.name} --only {section.part.name} --data DIR")
    for name, ablation in again.runs.items():
        for (cohort, arm), artifact in ablation.metrics.items():
            if arm != whole:
                continue
            scored = artifact.table(file="scored.parquet")
            malignant = scored["class"].isin(artifact.info["classes"]["malignant"])
            images = scored.assign(is_malignant=malignant)[scored["level"] == "image"]
            rows = candidates(images.to_dict("records"), again.config.case)
            shown = [(row, photo) for row in rows if (photo := _photo(again, cohort, str(row["image_id"]))) is not None]
            if shown:
                labels = artifact.info["classes"].get("labels") or {}
                files = panels.candidate_panels(shown, labels, again.folder / name, f"candidates-{cohort}")
                section.body.append(f"![two candidates, {cohort}, protocol {name}]({_link(again, files['svg'])})")
    if not section.body:
        section.missing.append("no scored case has a photo that can be read")
    return section


def candidates(rows: Sequence[Mapping[Any, Any]], named: Sequence[str]) -> list[Mapping[Any, Any]]:
    """The named cases, or of each kind of call the one whose malignancy is the median of its kind.

    Kinds: malignant and called by its most probable class, by the veto, or missed; benign and called malignant, or not.

    Args:
        rows: predictions with ``case_id``, ``is_malignant``, ``call``, ``veto`` and ``malignancy``.
        named: ids of cases; ids not among the rows are skipped.
    """
    if named:
        return [row for row in rows if row["case_id"] in named]
    kinds: dict[tuple[bool, bool, bool], list[Mapping[Any, Any]]] = {}
    for row in rows:
        kind = (bool(row["is_malignant"]), row["call"] == "malignant", bool(row["veto"]))
        kinds.setdefault(kind, []).append(row)
    chosen = []
    for kind in sorted(kinds, reverse=True):
        ordered = sorted(kinds[kind], key=lambda row: (float(row["malignancy"]), str(row["case_id"])))
        chosen.append(ordered[len(ordered) // 2])
    return chosen


def _photo(again: Reproduction, cohort: str, image: str) -> Any:
    """The photo of an image, at most ``_PHOTO_PX`` at its longer side; None where it cannot be read."""
    from skinkit.errors import CaseError
    from skinkit.images.decode import read_rgb
    from skinkit.images.encode import resize

    cases = open_artifact(again.workspace.path(Ref("cases", cohort))).table(["image_id", "image_path"])
    paths = cases.loc[cases["image_id"] == image, "image_path"]
    if paths.empty:
        return None
    try:
        photo = read_rgb(again.workspace.cohort(cohort).root / str(paths.iloc[0]))
    except CaseError:
        return None
    height, width = photo.shape[:2]
    share = min(1.0, _PHOTO_PX / max(height, width))
    return resize(photo, (max(1, round(width * share)), max(1, round(height * share))))


def _segmentation(again: Reproduction, how: Run, section: Section) -> Section:
    """Masks of the segmenter against those of people, beside those of other methods on the same photos."""
    segmenter = again.workspace.defaults["segmenter"]
    _train_segmenter(again)
    ours: Ours = {segmenter: {}}
    for cohort in again.labelled:
        again.pipeline.bring(Ref("masks", cohort, segmenter))
        info = open_artifact(again.workspace.path(Ref("masks", cohort, segmenter))).info
        whole = next((row for row in info["agreement"] if row["modality"] == "all"), None)
        for published in again.study.numbers(section.part.name):
            if whole and published.cohort == cohort and not published.printed_only:
                ours[segmenter][published] = {**whole["iou_mean"], "n": whole["n"]}
    section.rows = reproduction.beside(how, section.part, ours)
    others = [method for method in again.study.outlines if method.name != segmenter]
    for method in others:
        _train_outlines(again, method)
        for cohort in again.labelled:
            again.pipeline.bring(Ref("masks", cohort, method.name))
    if not others:
        _by(again, section, "gallery", {"name": segmenter})
    by = {"by": CENTRE} if others and _has_centres(again) else {}
    answers = {}
    for i, method in enumerate(others):
        control = {"control": True} if i == 0 else {}
        options = {"name": segmenter, "against": method.name, **control, **by}
        answers[method.words] = _by(again, section, "gallery", options, shown=False).get("galleries", {})
    for cohort in again.labelled:
        of = {words: galleries[cohort] for words, galleries in answers.items() if cohort in galleries}
        section.body += [f"### {cohort}", reproduction.outline_table(segmenter, of)] if of else []
    learnt = [
        name
        for name in (segmenter, *(m.name for m in others))
        if exists(again.workspace.path(Ref("models", name=name)))
    ]
    if learnt:
        _by(again, section, "curves", {"models": tuple(learnt)})
    return section


def _has_centres(again: Reproduction) -> bool:
    """Whether the cases of every cohort say where photos come from."""
    cases = [open_artifact(again.workspace.path(Ref("cases", cohort))).table() for cohort in again.labelled]
    return all(CENTRE in table for table in cases)


def _by_command(name: str, options: Mapping[str, Any]) -> Callable[[Reproduction, Run, Section], Section]:
    """A part made by another command: its text, which names the files."""

    def make(again: Reproduction, how: Run, section: Section) -> Section:
        _by(again, section, name, options)
        return section

    return make


def _by(
    again: Reproduction, section: Section, name: str, options: Mapping[str, Any], *, shown: bool = True
) -> Mapping[str, Any]:
    """Run another command on the workspace, add its text or the reason it cannot be run, and return its result.

    Args:
        again: the paper in its workspace.
        section: gets the command and the text.
        name: of the command.
        options: of it; tuples are positional, True is a flag.
        shown: whether the text is put on the page.
    """
    words = [
        " ".join(value) if isinstance(value, tuple) else f"--{key}" if value is True else f"--{key} {value}"
        for key, value in options.items()
    ]
    section.commands.append(" ".join([f"skinkit {name}", *words]))
    command = load_command(name)
    try:
        answer: Mapping[str, Any] = command.run(make_config(command.Config, options, where="the study"), again.context)
    except SkinkitError as error:
        section.missing.append(error.found)
        return {}
    text = str(answer.get("text", "")).replace(str(again.workspace.root), "WORKSPACE")
    if shown:
        section.body.append(f"```text\n{text.strip()}\n```")
    return answer


def _signature(again: Reproduction, how: Run, section: Section) -> Section:
    split, fused = how.protocols[0].name if how.protocols else again.workspace.defaults["split"], how.segmenter
    if not exists(again.workspace.path(Ref("signature", name=f"{split}/{fused}"))):
        if not exists(again.workspace.path(Ref("split", name=split))):
            again.pipeline.make("split", dict(again.study.protocols[0].settings), name=split)
        again.pipeline.make("select", {})
    _by(again, section, "signature", {"name": f"{split}/{fused}"})
    return section


def _explanation(again: Reproduction, how: Run, section: Section) -> Section:
    whole = again.study.whole.name
    for name, ablation in again.runs.items():
        if (model := ablation.models.get(whole)) is None:
            continue
        section.commands.append(f"skinkit explain --model {model}")
        cohorts = again.workspace.with_role("development")
        for step in again.pipeline.make("explain", {}, cohorts=cohorts, name=model):
            if step.stage == "explain":
                n = step.artifact.manifest["counts"]["rows"]
                section.body.append(
                    f"{step.ref}, protocol {name}: {n} explained cases in `{_inside(again, step.artifact.path)}`."
                )
    return section


_OF_SEVERAL = {"accuracy": "accuracy", "auroc": "macro_auroc"}
"""Column of a table of other people's work -> mean over tasks of a model that answers several."""


def _literature(again: Reproduction, how: Run, section: Section) -> Section:
    from skinkit.stats.metrics import ALL

    keys = {
        "accuracy": (ALL, "none", "argmax", "accuracy"),
        "sensitivity": (ALL, "macro", "frozen_threshold", "sensitivity"),
        "specificity": (ALL, "macro", "frozen_threshold", "specificity"),
        "auroc": (ALL, "macro", "none", "auroc"),
    }
    ours = []
    for name, ablation in again.runs.items():
        for (cohort, arm), artifact in ablation.metrics.items():
            if arm == again.study.whole.name:
                figures = {title: ablation.figure(cohort, arm, key) or {} for title, key in keys.items()}
                if mean := artifact.info.get("average_over_tasks"):  # what such papers print
                    figures = {title: mean[of] for title, of in _OF_SEVERAL.items() if of in mean}
                classes = sum(n > 0 for n in artifact.info["n_by_class"].values())
                ours.append((f"skinkit, {name}", f"{cohort}, n = {artifact.info['n']}", classes, figures))
    section.body.append(reproduction.cited_table(again.study.cited, ours))
    means = "means over tasks" if again.study.whole.tasks else "macro means of the classes at frozen thresholds"
    section.body.append(f"Ours: accuracy of the most probable class; {means}.")
    return section


def _none(again: Reproduction, how: Run, section: Section) -> Section:
    section.missing += [section.part.missing] if section.part.missing else []
    return section


_MAKERS: dict[str, Callable[[Reproduction, Run, Section], Section]] = {
    "ablation": _ablation,
    "by_class": _by_class,
    "external": _external,
    "confusion": _confusion,
    "candidates": _candidates,
    "segmentation": _segmentation,
    "signature": _signature,
    "explanation": _explanation,
    "faithfulness": _faithfulness,
    "localisation": _localisation,
    "halves": _halves,
    "literature": _literature,
    "flow": _by_command("flow", {}),
    "none": _none,
}


def _inside(again: Reproduction, path: Path) -> str:
    """A path relative to the workspace."""
    return path.relative_to(again.workspace.root).as_posix()


def _pictured(again: Reproduction, source: Path, file: Path, said: str) -> str:
    """Put a picture beside the page, under this name, and show it there."""
    file.unlink(missing_ok=True)
    link_or_copy(source, file)
    return f"![{said}]({_link(again, str(file))})"


def _link(again: Reproduction, file: str) -> str:
    """A file's link target on the page."""
    return Path(file).relative_to(again.folder.parent).as_posix()
