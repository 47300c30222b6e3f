"""What must be brought up to date, and in which order; the only place that chains stages.

``Pipeline.make`` runs one command: it brings the inputs of each target up to date, then the target. An upstream
artifact that exists keeps the settings in its manifest, overlaid by ``skinkit.toml`` and by what an installed model
asks for. Models are frozen: they are made by ``skinkit train`` (or ``run``) only, and a missing one is an error that
names the command.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skinkit.artifacts.artifact import (
    MANIFEST,
    Artifact,
    ArtifactRecipe,
    as_written,
    exists,
    follows,
    gone,
    open_artifact,
)
from skinkit.artifacts.builder import Counts, Share, ShareDone
from skinkit.artifacts.files import file_sha256
from skinkit.artifacts.leftovers import sweep
from skinkit.artifacts.tables import TABLE
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, SkinkitError, did_you_mean, listed
from skinkit.learning.pack import asked_for, checked, models_of, trained
from skinkit.models import registered
from skinkit.options import identity_of, make_config, options_of, renamed_settings
from skinkit.stages import MAKER, Job, Sources, Stage, load_stage
from skinkit.workspace import SETTINGS_FILE, Ref, Workspace

if TYPE_CHECKING:
    from skinkit.workers import Cluster

_MEASURED = {"masks": "segment", "features": "radiomics", "fused": "fuse"}
"""Kinds that are named after a segmenter unless a command names them otherwise -> the command that does."""
FROZEN = frozenset({"models"})
"""Kinds that are never remade as an input of another artifact."""


@dataclass
class Step:
    """What happened to one artifact."""

    ref: Ref
    stage: str
    artifact: Artifact
    fresh: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "artifact": str(self.ref),
            "stage": self.stage,
            "path": str(self.artifact.path),
            "identity": self.artifact.identity,
            "up_to_date": self.fresh,
            "counts": dict(self.artifact.manifest["counts"]),
        }


@dataclass(frozen=True)
class SharedStep:
    """A share of an artifact that was worked out."""

    ref: Ref
    stage: str
    share: Share
    counts: Counts

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "artifact": str(self.ref),
            "stage": self.stage,
            "share": self.share.number,
            "of": self.share.total,
            "counts": self.counts.as_dict(),
        }


@contextmanager
def _errors_of(stage_name: str) -> Iterator[None]:
    """Errors that leave this block name the stage they are of: the innermost, where one needs another."""
    try:
        yield
    except SkinkitError as error:
        error.stage = error.stage or stage_name
        raise


@dataclass
class Pipeline:
    """One invocation: remembers what it has brought up to date.

    Attributes:
        workspace: the workspace.
        console: messages and progress.
        jobs: processes to use.
        device: ``auto``, ``cpu`` or ``cuda``.
        upstream: bring inputs up to date first; otherwise they are used as they are.
        retry_failed: compute failed rows again.
        case_seconds: how long a case may take in a worker process; 0 for as long as it likes.
        share: work out only this share of the rows, of inputs as they are.
        cluster: where cases are worked out; None for processes of this machine.
        steps: every artifact touched, in order.
        shared: every share that was worked out.
    """

    workspace: Workspace
    console: Console
    jobs: int = 1
    device: str = "auto"
    upstream: bool = True
    retry_failed: bool = False
    case_seconds: float = 120.0
    share: Share | None = None
    cluster: Cluster | None = None
    steps: list[Step] = field(default_factory=list)
    shared: list[SharedStep] = field(default_factory=list)
    _done: dict[Ref, Artifact] = field(default_factory=dict)
    _swept: bool = False

    def make(
        self, stage_name: str, overrides: Mapping[str, Any], *, cohorts: Sequence[str] = (), name: str = ""
    ) -> list[Step]:
        """Run a stage as its command does: every target, inputs first.

        Args:
            stage_name: the stage.
            overrides: option values that were given explicitly; they win over ``skinkit.toml``.
            cohorts: cohorts named by the caller; empty means all that apply.
            name: ``--name``, or empty.

        Raises:
            SkinkitError: of the first target that failed; where the stage names the error in ``GOES_ON``, the other
                targets are made first.
        """
        stage = load_stage(stage_name)
        with _errors_of(stage_name):
            config = self.config(stage_name, stage, {}, overrides)
            company = getattr(stage, "company", None)
            with company(config, self.device) if company is not None else nullcontext(True) as leads:
                return self._make(stage_name, config, overrides, cohorts, name) if leads else []

    def _make(
        self, stage_name: str, config: Any, overrides: Mapping[str, Any], cohorts: Sequence[str], name: str
    ) -> list[Step]:
        """:meth:`make` in the process that leads, of those that were started for the command."""
        stage = load_stage(stage_name)
        targets = stage.targets(config, self.workspace, cohorts, name)
        if not targets:
            raise ConfigError(
                f"nothing to {stage_name}: no cohort of {self.workspace.root / SETTINGS_FILE} applies",
                "at least one cohort of a fitting role",
                f"add one to {SETTINGS_FILE} (see 'skinkit help init'), or name it with --cohort",
            )
        before = len(self.steps)
        failed: list[SkinkitError] = []
        for target in targets:
            try:
                self._take_up(target, self.config(stage_name, stage, {}, overrides, target))
            except ShareDone as done:
                self._note(SharedStep(target, stage_name, done.share, done.counts))
            except getattr(stage, "GOES_ON", ()) as error:
                if len(targets) > 1:
                    self.console.warn(f"{target}: {error.found}")
                failed.append(error)
        if failed:
            raise max(failed, key=lambda error: error.exit_code)
        return self.steps[before:]

    def bring(self, ref: Ref) -> Artifact:
        """Bring one artifact up to date as an input of another artifact, with its own or the workspace's settings."""
        return self._bring(ref, None)

    def config(
        self,
        stage_name: str,
        stage: Stage,
        recorded: Mapping[str, Any],
        overrides: Mapping[str, Any],
        ref: Ref | None = None,
    ) -> Any:
        """Settings: defaults, those recorded in the artifact, ``skinkit.toml``, an installed model's, those given."""
        names = {option.name for option in options_of(stage.Config)}
        previous = {key: value for key, value in renamed_settings(stage.Config, recorded).items() if key in names}
        settings = self.workspace.stage_settings(stage_name, "" if ref is None else ref.name)
        where = f"[stage.{stage_name}] of {SETTINGS_FILE}"
        required = asked_for(self.workspace, ref) if ref is not None else {}
        return make_config(stage.Config, previous, settings, required, overrides, where=where)

    def plan(self, ref: Ref, requested: Any | None = None) -> tuple[Stage, Any, dict[str, Ref]]:
        """Stage, settings and inputs of an artifact, without touching anything.

        Args:
            ref: the artifact.
            requested: settings that a command asks for; by default its own and the workspace's.
        """
        stage_name = MAKER[ref.kind]
        stage = load_stage(stage_name)
        if requested is None:
            path = self.workspace.path(ref)
            recorded = open_artifact(path).config if exists(path) else {}
            requested = self.config(stage_name, stage, recorded, {}, ref)
        config = self._resolve(stage, requested, ref)
        return stage, config, stage.needs(config, ref, self.workspace)

    def staleness(self, ref: Ref) -> str | None:
        """Why an artifact is not up to date, looking at its inputs as they are; None when it is."""
        path = self.workspace.path(ref)
        if not exists(path):
            return "absent"
        artifact = open_artifact(path)
        if artifact.installed:
            return _missing(artifact)
        stage, config, needs = self.plan(ref)
        inputs = {}
        for name, need in needs.items():
            if not exists(self.workspace.path(need)):
                return f"input {need} is absent"
            inputs[name] = open_artifact(self.workspace.path(need))
        sources = self._sources(stage, config, ref)
        return self._stale(artifact, self._recipe(ref, stage, config, inputs, sources), sources)

    def _resolve(self, stage: Stage, config: Any, ref: Ref) -> Any:
        """Fill in what the workspace decides, so that the recipe names it."""
        resolve = getattr(stage, "resolve", None)
        return resolve(config, ref, self.workspace) if resolve is not None else config

    # -- the work

    def _take_up(self, target: Ref, config: Any) -> None:
        """What :meth:`make` does with one of its targets."""
        if not self._swept:
            self._swept = True
            sweep(self.workspace.root)
        self._bring(target, config)

    def _bring(self, ref: Ref, requested: Any | None) -> Artifact:
        if ref in self._done:
            return self._done[ref]
        with _errors_of(MAKER[ref.kind]):
            return self._brought(ref, requested)

    def _brought(self, ref: Ref, requested: Any | None) -> Artifact:
        """An artifact that is not done yet."""
        stage_name = MAKER[ref.kind]
        if requested is None and ref.kind in FROZEN:
            model = _as_written(ref, trained(ref.name, self.workspace))
            self._warn_of_withdrawals(ref.name, model)
            return self._settle(Step(ref, stage_name, model, fresh=True))
        if requested is None:
            self._refuse_unknown(ref)
        stage, config, needs = self.plan(ref, requested)
        # Before the inputs, so that what is wrong is said before hours of work.
        sources = self._sources(stage, config, ref)
        if requested is not None:
            self._check(stage, config, ref, needs, sources)
        inputs = self._inputs(stage, config, ref, needs)
        job = Job(
            workspace=self.workspace,
            target=ref,
            inputs=inputs,
            recipe=self._recipe(ref, stage, config, inputs, sources),
            schema=stage.SCHEMA,
            jobs=self.jobs,
            device=self.device,
            console=self.console,
            retry_failed=self.retry_failed,
            sources=sources,
            case_seconds=self.case_seconds,
            share=self.share,
            cluster=self.cluster,
        )
        artifact = self._remade(stage, config, job, requested=requested is not None)
        audit = getattr(stage, "audit", None)
        if requested is not None and audit is not None:
            audit(config, job)
        return artifact

    def _warn_of_withdrawals(self, name: str, model: Artifact) -> None:
        """Say that a model has learnt from patients who have withdrawn their consent since."""
        from skinkit.audit.withdrawals import withdrawn_from

        if n := withdrawn_from(self.workspace, model.path):
            self.console.warn(
                f"{name} has learnt from {n} photos whose patients have withdrawn their consent since: train it again "
                f"(skinkit train --name {name} --replace)"
            )

    def _refuse_unknown(self, ref: Ref) -> None:
        """Refuse to make an input under a name that nothing has: a misspelt one would quietly become a second set.

        Raises:
            ConfigError: it is absent, and no segmenter, model or other artifact of the workspace has its name.
        """
        if ref.kind not in _MEASURED or exists(self.workspace.path(ref)) or asked_for(self.workspace, ref):
            return
        models = [open_artifact(self.workspace.path(Ref("models", name=name))) for name in models_of(self.workspace)]
        known = {self.workspace.defaults["segmenter"], *registered("segment"), *(model.path.name for model in models)}
        known |= {str(model.json("model.json").get("fused")) for model in models}
        for kind in _MEASURED:
            for cohort in self.workspace.cohorts:
                folder = self.workspace.path(Ref(kind, cohort, ref.name)).parent
                known |= {path.name for path in folder.glob("*") if exists(path)}
        if ref.name not in known:
            raise ConfigError(
                f"no {ref.kind} {ref.name!r} of {ref.cohort}, and no segmenter of that name",
                did_you_mean(ref.name, known),
                f"name another, or make them first with 'skinkit {_MEASURED[ref.kind]} --name {ref.name}'",
            )

    def _check(self, stage: Stage, config: Any, ref: Ref, needs: Mapping[str, Ref], sources: Sources | None) -> None:
        """What a stage refuses whatever its inputs will be."""
        check_values(stage, config, self.workspace)
        check, guard = getattr(stage, "check", None), getattr(stage, "guard", None)
        path = self.workspace.path(ref)
        if guard is not None and exists(path):
            frozen = {name: need for name, need in needs.items() if need.kind in FROZEN}
            inputs = {name: trained(need.name, self.workspace) for name, need in frozen.items()}
            guard(config, open_artifact(path), self._recipe(ref, stage, config, inputs, sources))
        if check is not None:
            check(config, ref, self.workspace)

    def _remade(self, stage: Stage, config: Any, job: Job, *, requested: bool) -> Artifact:
        """The artifact of a job: the one on disk when it is up to date, else a new one."""
        ref, path = job.target, self.workspace.path(job.target)
        stage_name = MAKER[ref.kind]
        if exists(path):
            artifact = open_artifact(path)
            # The stage itself looks at files that were touched, once, and records their new times.
            why = self._stale(artifact, job.recipe, job.sources, by_content=False)
            if why is None and not self._to_retry(artifact):
                if requested:
                    self.console.info(f"{ref}: up to date")
                return self._settle(Step(ref, stage_name, artifact, fresh=True))
        self.console.stage, self.console.artifact = stage_name, str(ref)
        needed = "" if requested else " (needed first)"
        self.console.info(f"{ref}: {stage_name}{needed}", event="started")
        began = time.monotonic()
        artifact = stage.run(config, job)
        seconds = time.monotonic() - began
        self.console.info(
            f"{ref}: {_summary(artifact)}, {seconds:.1f} s",
            event="finished",
            duration_s=round(seconds, 3),
            counts=artifact.manifest["counts"],
        )
        return self._settle(Step(ref, stage_name, artifact, fresh=False))

    def _settle(self, step: Step) -> Artifact:
        self._done[step.ref] = step.artifact
        self.steps.append(step)
        return step.artifact

    def _note(self, step: SharedStep) -> None:
        self.shared.append(step)
        share, rows = step.share, step.counts.total
        self.console.info(
            f"{step.ref}: share {share.number} of {share.total} is done, {rows} rows; when all are, "
            f"'skinkit {step.stage}' without --shard joins them"
        )

    def _inputs(self, stage: Stage, config: Any, ref: Ref, needs: Mapping[str, Ref]) -> dict[str, Artifact]:
        """The inputs, brought up to date.

        A report reads whatever exists, so a stage is asked again what it needs until making it brings nothing new.
        """
        made: dict[Ref, Artifact] = {}
        while new := [need for need in needs.values() if need not in made]:
            made |= {need: self._input(need) for need in new}
            needs = stage.needs(config, ref, self.workspace)
        return {name: made[need] for name, need in needs.items()}

    def _input(self, need: Ref) -> Artifact:
        if self.upstream and self.share is None:
            return self._bring(need, None)
        path = self.workspace.path(need)
        if not exists(path):
            raise InputError(
                f"no {need} at {path}",
                f"an existing artifact, because {'--no-upstream' if self.share is None else '--shard'} was given",
                f"run 'skinkit {MAKER[need.kind]}' first",
            )
        return _as_written(need, open_artifact(path))

    def _sources(self, stage: Stage, config: Any, ref: Ref) -> Sources | None:
        sources = getattr(stage, "sources", None)
        answer: Sources | None = sources(config, ref, self.workspace) if sources else None
        return answer

    def _recipe(
        self, ref: Ref, stage: Stage, config: Any, inputs: Mapping[str, Artifact], sources: Sources | None
    ) -> ArtifactRecipe:
        identities = {name: artifact.identity for name, artifact in inputs.items()}
        return ArtifactRecipe(
            kind=ref.kind,
            schema_version=stage.SCHEMA.version,
            stage=MAKER[ref.kind],
            stage_version=stage.VERSION,
            config=identity_of(config),
            inputs={**identities, **(sources.inputs if sources else {})},
        )

    def _to_retry(self, artifact: Artifact) -> bool:
        return self.retry_failed and bool(artifact.manifest["counts"].get("failed"))

    @staticmethod
    def _stale(
        artifact: Artifact, recipe: ArtifactRecipe, sources: Sources | None, *, by_content: bool = True
    ) -> str | None:
        """Why an artifact is not what this recipe and these sources give; None where it is.

        Args:
            artifact: the finished one.
            recipe: of now.
            sources: of now.
            by_content: read source files whose times are new; else these are reason enough.
        """
        if artifact.recipe["schema_version"] > recipe.schema_version:
            raise InputError(
                f"{artifact.path} has schema version {artifact.recipe['schema_version']}",
                f"version {recipe.schema_version} or older",
                "use the newer skinkit that wrote it",
            )
        if missing := _missing(artifact):
            return missing
        if artifact.recipe_id != recipe.id:
            old, new = artifact.recipe, recipe.as_dict()
            changed = [_changed(key, old.get(key), new[key]) for key in new if old.get(key) != new[key]]
            return f"changed: {', '.join(changed)}"
        if file_sha256(artifact.path / TABLE) != artifact.manifest["files"].get(TABLE):
            return f"damaged: {TABLE} is not as it was written"
        if sources is None:
            unsettled = artifact.manifest["sources"].get("watch", "") is None
            return "rows that failed for a reason that may be gone" if unsettled else None
        if artifact.manifest["sources"].get("watch") == sources.watch:
            return None
        same = by_content and sources.unchanged is not None and sources.unchanged(artifact)
        return None if same else "source files changed"


def check_values(stage: Stage, config: Any, workspace: Workspace) -> None:
    """Refuse values that are wrong whatever the stage makes, where it has such a check; quick.

    Raises:
        ConfigError: naming the first one.
    """
    refuse = getattr(stage, "check_values", None)
    if refuse is not None:
        refuse(config, workspace)


def _as_written(ref: Ref, artifact: Artifact) -> Artifact:
    """The artifact, unless its manifest was changed, which is refused; of a model as a changed file of it is."""
    return checked(artifact) if ref.kind in FROZEN and not follows(artifact) else as_written(artifact)


def _missing(artifact: Artifact) -> str | None:
    """That files of an artifact are gone, with one of them, or its manifest was changed; None where neither is so."""
    if not follows(artifact):
        return f"damaged: {MANIFEST} is not as it was written"
    missing = gone(artifact)
    return f"{len(missing)} of its files gone, such as {missing[0]}" if missing else None


def _changed(part: str, old: Any, new: Any) -> str:
    """A part of a recipe, with the names of the settings or inputs in it that differ."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return part
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return f"{part} ({listed(names)})"


@dataclass(frozen=True)
class Planned:
    """An artifact that a run would make, and why."""

    ref: Ref
    stage: str
    why: str

    def as_dict(self) -> dict[str, str]:
        """Plain values for ``--json``."""
        return {"artifact": str(self.ref), "stage": self.stage, "why": self.why}


@dataclass
class Plan(Pipeline):
    """A pipeline that makes nothing: it collects what the same calls of :class:`Pipeline` would make.

    Attributes:
        planned: what would be made, inputs first.
        fresh: what is up to date.
    """

    planned: list[Planned] = field(default_factory=list)
    fresh: list[Ref] = field(default_factory=list)
    _why: dict[Ref, str | None] = field(default_factory=dict)

    def _take_up(self, target: Ref, config: Any) -> None:
        self._foresee(target, config)

    def _foresee(self, ref: Ref, requested: Any | None = None) -> str | None:
        """Why an artifact would be made; None where it is up to date. Its inputs are looked at first."""
        if ref not in self._why:
            why = self._reason(ref, requested)
            self._why[ref] = why
            if why is None:
                self.fresh.append(ref)
            else:
                self.planned.append(Planned(ref, MAKER[ref.kind], why))
        return self._why[ref]

    def _reason(self, ref: Ref, requested: Any | None) -> str | None:
        path = self.workspace.path(ref)
        if requested is None and ref.kind in FROZEN:
            trained(ref.name, self.workspace)
            return None
        stage, config, needs = self.plan(ref, requested)
        remade = [need for need in needs.values() if self._foresee(need) is not None]
        if not exists(path):
            begun = path.with_name(path.name + ".partial").is_dir()
            return "absent; an interrupted run goes on" if begun else "absent"
        artifact = open_artifact(path)
        if artifact.installed:
            return None
        if remade:
            return f"input {remade[0]} will be remade"
        if MAKER[ref.kind] == "report" and (new := [one.ref for one in self.planned if one.stage != "report"]):
            return f"{new[0]} will be made"  # a report reads every artifact, so any new one makes it stale
        sources = self._sources(stage, config, ref)
        inputs = {name: open_artifact(self.workspace.path(need)) for name, need in needs.items()}
        why = self._stale(artifact, self._recipe(ref, stage, config, inputs, sources), sources)
        if why is None and self._to_retry(artifact):
            return f"{artifact.manifest['counts']['failed']} failed rows are tried again"
        return why


def _summary(artifact: Artifact) -> str:
    counts = artifact.manifest["counts"]
    parts = [f"{counts['rows']} rows"]
    parts += [f"{counts[status]} {status}" for status in ("excluded", "failed", "pending") if counts.get(status)]
    if counts["kept"]:
        parts.append(f"{counts['kept']} kept")
    return ", ".join(parts)
