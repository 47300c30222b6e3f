"""report: everything that was made -> pages that open offline.

For research: one report of all cohorts, answers first. With '--for clinic': the worklist of each inference cohort, most
urgent first, with one printable card per lesion. Parts that do not exist yet are listed as missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skinkit.artifacts.artifact import Artifact, as_written, exists, open_artifact
from skinkit.artifacts.files import digest, file_sha256, write_atomic
from skinkit.artifacts.tables import TABLE
from skinkit.errors import ConfigError, InputError, listed
from skinkit.learning.pack import trained
from skinkit.options import ONE_MODEL, Help
from skinkit.schemas import REPORT
from skinkit.stages import Job, Sources
from skinkit.stages.predict import fused_of
from skinkit.workers import map_cases
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    from skinkit.reporting.evidence import CohortEvidence, ModelEvidence
    from skinkit.reporting.html import Block
    from skinkit.reporting.research import ReportContext
    from skinkit.reporting.words import Words

VERSION = 8
SCHEMA = REPORT
CLINIC = "clinic-"
_LESIONS = {"research": 27, "clinic": 200}
_IMAGE_PX = {"research": 420, "clinic": 640}
_SMALL_SHARE = {"research": 0.72, "clinic": 0.5}  # outlined photo and heatmap against the photo
_POOL_FROM = 24  # fewer pictures are drawn sooner than a worker process starts


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    audience: Annotated[
        Literal["research", "clinic"], Help("research: all cohorts, answers first; clinic: a worklist", flag="--for")
    ] = "research"
    lang: Annotated[str, "language: en, zh-CN, or another whose texts stand in languages/LANG.toml"] = "en"
    model: Annotated[str, ONE_MODEL] = ""
    max_lesions: Annotated[
        int | None, "largest number of lesions with pictures; 0: all (default: 27 for research, 200 per worklist)"
    ] = None
    image_px: Annotated[int | None, "longer side of a photo, pixels (default: 420 for research, 640 on a card)"] = None
    page_mb: Annotated[float, Help("largest page size, MB, at most 20", rare=True)] = 10.0
    show_ids: Annotated[bool, "print lesion ids, and patient ids on the cards"] = True
    standard: Annotated[
        Literal["", "claim", "tripod-ai", "clear-derm", "metrics"],
        "write the checklist of a reporting standard instead, filled in where known",
    ] = ""


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """The research report, or one worklist per cohort (inference ones, else external ones)."""
    if config.model:
        trained(config.model, workspace)
    suffix = _suffix(config)
    if config.audience == "clinic":
        if config.standard:
            raise ConfigError(
                f"--standard {config.standard} with --for clinic", "a checklist, or a worklist", "leave one of them out"
            )
        if name:
            raise ConfigError(f"--name {name} with --for clinic", "no name: it is clinic-<cohort>", "leave --name out")
        chosen = [workspace.cohort(c).name for c in cohorts]
        chosen = chosen or workspace.with_role("inference") or workspace.with_role("external")
        return [Ref("report", name=f"{CLINIC}{cohort}{suffix}") for cohort in chosen]
    if cohorts:
        raise ConfigError(
            f"--cohort {cohorts[0]} with a research report",
            "no cohort: the report shows all of them",
            "leave --cohort out, or add --for clinic",
        )
    name = name or (f"standard-{config.standard}" if config.standard else "research") + suffix
    check_name(name, "name of the report")
    if name.startswith(CLINIC):
        raise ConfigError(f"--name {name}", f"a name that does not begin with {CLINIC}", "choose another name")
    return [Ref("report", name=name)]


def resolve(config: Config, target: Ref, workspace: Workspace) -> Config:
    """The workspace's model, and as many pictures of such a size as the audience needs."""
    return replace(
        config,
        model=config.model or workspace.defaults["model"],
        max_lesions=_LESIONS[config.audience] if config.max_lesions is None else config.max_lesions,
        image_px=_IMAGE_PX[config.audience] if config.image_px is None else config.image_px,
    )


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """Whatever has been made; a worklist also needs the predictions of its cohort, made or not."""
    model = config.model or workspace.defaults["model"]
    candidates: list[Ref] = []
    for cohort in workspace.cohorts:
        if config.audience == "research" or cohort == _cohort(config, target):
            candidates += _of_cohort(cohort, model, workspace)
        else:
            candidates += [
                Ref("cases", cohort),
                Ref("metrics", cohort, model),
            ]  # how well the alarm has worked elsewhere
    candidates.append(Ref("models", name=model))
    if config.audience == "research":
        split = _recorded(Ref("models", name=model), "split", workspace) or workspace.defaults["split"]
        fused = _fused(model, workspace)
        candidates += [Ref("split", name=split), Ref("signature", name=f"{split}/{fused}")]
    present = [ref for ref in candidates if exists(workspace.path(ref))]
    if config.audience == "research":
        return {str(ref): ref for ref in present}
    cohort = _cohort(config, target)
    required = [Ref("cases", cohort), Ref("predictions", cohort, model)]
    scored = {ref.cohort for ref in present if ref.kind == "metrics"} | {cohort}
    optional = [ref for ref in present if ref.kind != "cases" or ref.cohort in scored]
    return {str(ref): ref for ref in dict.fromkeys((*required, *optional))}


def check_values(config: Config, workspace: Workspace) -> None:
    """Refuse a language that has no texts.

    Raises:
        ConfigError: it is neither built in nor in the workspace.
    """
    from skinkit.reporting.words import LANGUAGES, language_file

    check_name(config.lang, "--lang")
    file = language_file(workspace.root, config.lang)
    if config.lang not in LANGUAGES and not file.is_file():
        raise ConfigError(
            f"--lang {config.lang}",
            f"{listed(LANGUAGES)}, or a language with texts in {file}",
            "name one of these, or write that file (docs/report.md says how)",
        )


def _suffix(config: Config) -> str:
    """What pages in another language than English have behind their name, so that they stand beside those."""
    return "" if config.lang == "en" else f".{config.lang}"


def _cohort(config: Config, target: Ref) -> str:
    return target.name.removeprefix(CLINIC).removesuffix(_suffix(config))


def _words(config: Config, workspace: Workspace) -> Words:
    from skinkit.reporting.words import LANGUAGES, Words, further_language, language_file

    if config.lang in LANGUAGES:
        return Words(config.lang)
    return Words(config.lang, further_language(language_file(workspace.root, config.lang)))


def _of_cohort(cohort: str, model: str, workspace: Workspace) -> list[Ref]:
    """Every artifact a cohort may have, along the names that were in force when each was made."""
    predictions = Ref("predictions", cohort, model)
    fused = Ref("fused", cohort, _recorded(predictions, "fused", workspace) or _fused(model, workspace))
    features = Ref("features", cohort, _recorded(fused, "features", workspace) or fused.name)
    masks = Ref("masks", cohort, _recorded(features, "masks", workspace) or features.name)
    beside = [Ref(kind, cohort, model) for kind in ("explanations", "metrics")]
    return [Ref("cases", cohort), masks, features, fused, predictions, *beside]


def _fused(model: str, workspace: Workspace) -> str:
    return fused_of(model, workspace)


def _recorded(ref: Ref, option: str, workspace: Workspace) -> str:
    path = workspace.path(ref)
    return str(open_artifact(path).config.get(option) or "") if exists(path) else ""


def sources(config: Config, target: Ref, workspace: Workspace) -> Sources:
    """What ``skinkit.toml`` says of the cohorts stands in the pages too, and how other models were scored.

    Their metrics are shown as they are: a report of one model is no reason to predict and score with another. That the
    model has learnt nothing, or from patients who withdrew their consent, is in their first lines.
    """
    from skinkit.audit.withdrawals import withdrawn_from
    from skinkit.learning import untrained
    from skinkit.reporting.words import language_file

    described = {c.name: [c.role, c.source, dict(c.options)] for c in workspace.cohorts.values()}
    inputs = {"cohorts": digest(described)}
    model = config.model or workspace.defaults["model"]
    path = workspace.path(Ref("models", name=model))
    if n := withdrawn_from(workspace, path):
        inputs["withdrawn"] = str(n)
    if exists(path) and (found := untrained.of_artifact(open_artifact(path))) is not None:
        inputs["untrained"] = digest(found.as_dict())
    if (texts := language_file(workspace.root, config.lang)).is_file():
        inputs["language"] = file_sha256(texts)
    if config.audience == "research":
        others = {str(ref): open_artifact(workspace.path(ref)).identity for ref in _beside(model, workspace)}
        inputs |= {"beside": digest(others)} if others else {}
    return Sources(inputs=inputs, watch="")


def _beside(model: str, workspace: Workspace) -> list[Ref]:
    """The metrics of all other models."""
    found = []
    for cohort in workspace.cohorts:
        folder = workspace.path(Ref("metrics", cohort, model)).parent
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        refs = [Ref("metrics", cohort, name) for name in names if name != model]
        found += [ref for ref in refs if exists(workspace.path(ref))]
    return found


def run(config: Config, job: Job) -> Artifact:
    """Write the pages."""
    import pandas as pd

    from skinkit.reporting.checklist import Checklist
    from skinkit.reporting.html import checked_limit, compose
    from skinkit.reporting.standards import load_standard

    if not any(artifact.recipe["kind"] == "cases" for artifact in job.inputs.values()):
        raise InputError(
            f"no cohort of {job.workspace.root} has been read",
            "cases to report on",
            "run 'skinkit ingest', or 'skinkit run'",
        )
    limit = checked_limit(config.page_mb)
    if not 64 <= (config.image_px or 0) <= 4096 or (config.max_lesions or 0) < 0:
        raise ConfigError(
            f"image_px = {config.image_px}, max_lesions = {config.max_lesions}",
            "64 to 4096 pixels, and 0 or more lesions",
            "correct the values",
        )
    words = _words(config, job.workspace)
    cohorts, model = _evidence(config, job)
    files: dict[str, bytes] = {}
    if config.audience == "clinic":
        title = words("worklist.title", cohort=_cohort(config, job.target))
        blocks = _clinic(config, job, cohorts, model)
    else:
        title = words("report.title")
        drift = _drift(cohorts, model)
        files["drift.json"] = json.dumps(drift, ensure_ascii=False, indent=1).encode()
        context = _context(config, job, cohorts, model, drift)
        if config.standard:
            checklist = Checklist(load_standard(config.standard), context)
            files["checklist.json"] = json.dumps(checklist.as_dict(), ensure_ascii=False, indent=1).encode()
            files["checklist.md"] = checklist.markdown().encode()
            title = words("standard.title", standard=checklist.standard.title)
            blocks = list(checklist.blocks())
        else:
            blocks = context.blocks(_pictures(config, job, context.picture_items()))
    pages = compose(blocks, title=title, words=words, limit_bytes=limit, kind=config.audience)
    with job.build() as build:
        build.clear()
        for page in pages:
            write_atomic(build.partial / page.name, page.data)
        for name, data in files.items():
            write_atomic(build.partial / name, data)
        rows = [{"page": page.name, "title": page.title, "bytes": len(page.data)} for page in pages]
        info = {"audience": config.audience, "lang": config.lang}
        return build.finish(pd.DataFrame(rows), info=info, beside=tuple(files))


def summary(artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """Where the pages are."""
    pages = [str(artifact.path / "index.html") for artifact in artifacts]
    return {"pages": pages, "text": "\n".join(f"report: {page}" for page in pages)}


def _evidence(config: Config, job: Job) -> tuple[list[CohortEvidence], ModelEvidence]:
    """The inputs, cohort by cohort, in the order of ``skinkit.toml``."""
    from skinkit.audit.withdrawals import withdrawn_from
    from skinkit.reporting.evidence import COHORT_KINDS, CohortEvidence, model_evidence

    by_cohort: dict[str, dict[str, Artifact]] = {}
    for name, artifact in job.inputs.items():
        kind = str(artifact.recipe["kind"])
        if kind in COHORT_KINDS:
            by_cohort.setdefault(name.partition("/")[0], {})[kind] = artifact
    cohorts = [
        CohortEvidence(cohort, by_cohort[cohort.name])
        for cohort in job.workspace.cohorts.values()
        if "cases" in by_cohort.get(cohort.name, {})
    ]
    model = job.inputs.get(str(Ref("models", name=config.model)))
    withdrawn = withdrawn_from(job.workspace, job.workspace.path(Ref("models", name=config.model)))
    return cohorts, model_evidence(config.model, model, cohorts, withdrawn)


def _context(
    config: Config,
    job: Job,
    cohorts: Sequence[CohortEvidence],
    model: ModelEvidence,
    drift: Mapping[str, Mapping[str, Any]],
) -> ReportContext:
    from skinkit.reporting.evidence import CohortEvidence
    from skinkit.reporting.html import checked_limit
    from skinkit.reporting.research import ReportContext

    workspace, others = job.workspace, _beside(config.model, job.workspace)
    scored = {ref: as_written(open_artifact(workspace.path(ref))) for ref in others}
    beside = [(ref.name, CohortEvidence(workspace.cohort(ref.cohort), {"metrics": of})) for ref, of in scored.items()]
    return ReportContext(
        cohorts,
        model,
        job.inputs,
        _words(config, workspace),
        show_ids=config.show_ids,
        max_lesions=config.max_lesions or 0,
        page_bytes=checked_limit(config.page_mb),
        root=job.workspace.root,
        drift=drift,
        beside=beside,
    )


def _drift(cohorts: Sequence[CohortEvidence], model: ModelEvidence) -> dict[str, dict[str, Any]]:
    """Every external cohort against the development cohorts, from what was scored and measured of both."""
    import pandas as pd

    from skinkit.audit import drift

    def together(own: Sequence[CohortEvidence], kind: str, file: str) -> pd.DataFrame | None:
        artifacts = [c.artifacts[kind] for c in own if c.has(kind)]
        tables = [one.table(file=file) for one in artifacts if (one.path / file).is_file()]
        return pd.concat(tables, ignore_index=True) if tables else None

    inside = [c for c in cohorts if c.cohort.role == "development"]
    comparisons = {}
    for outside in (c for c in cohorts if c.cohort.role == "external"):
        pairs = []
        for kind, file in (("metrics", "scored.parquet"), ("fused", TABLE)):
            sides = together(inside, kind, file), together([outside], kind, file)
            pairs.append(None if sides[0] is None or sides[1] is None else (sides[0], sides[1]))
        if any(pair is not None for pair in pairs):
            malignant = sorted(model.classes.malignant) if model.classes else []
            comparisons[outside.name] = drift.compare(pairs[0], pairs[1], malignant)
    return comparisons


def _clinic(config: Config, job: Job, cohorts: Sequence[CohortEvidence], model: ModelEvidence) -> list[Block]:
    from skinkit.reporting.cards import picture_item
    from skinkit.reporting.clinic import Ward

    name = _cohort(config, job.target)
    cohort = next(c for c in cohorts if c.name == name)
    scored = [c for c in cohorts if c.has("metrics")]
    ward = Ward(cohort, scored, model, _words(config, job.workspace), config.show_ids, config.max_lesions or 0)
    items = [picture_item(lesion, cohort) for lesion in ward.with_card(ward.lesions())]
    return ward.blocks(_pictures(config, job, items))


def _pictures(config: Config, job: Job, items: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The pictures by key; one that cannot be drawn is a row that says why."""
    from skinkit.reporting.cards import draw_pictures

    image_px = config.image_px or 0
    work = partial(draw_pictures, image_px=image_px, small_px=round(image_px * _SMALL_SHARE[config.audience]))
    jobs = job.jobs if len(items) >= _POOL_FROM else 0
    rows: Iterable[Mapping[str, Any]] = map_cases(
        work, items, key=("key",), jobs=jobs, console=job.console, label="drawing lesions"
    )
    return {row["key"]: row for row in rows}
