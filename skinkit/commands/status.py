"""status: show what is up to date, stale, missing or failed.

It reads manifests and hashes tables, takes no lock and can run beside a writer. Failed cases are listed by reason;
'skinkit STAGE --retry-failed' processes them again.

Every key and value of skinkit.toml is checked; what is wrong is listed first, and the exit code is 2.

For monitoring, --json reports for every artifact its state, rows by outcome and by flag, newly failed rows of the run
that made it, that run's id, its date and age, and its current writer; 'totals' sums them up, and 'leftovers' names what
killed runs left and the next run removes.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.artifacts.flags import flags_text
from skinkit.artifacts.leftovers import leftovers
from skinkit.artifacts.locks import writer_of
from skinkit.audit import test_access_log
from skinkit.commands import Context
from skinkit.commands._checked_settings import problems
from skinkit.console import as_lines
from skinkit.errors import ConfigError, SkinkitError, listed
from skinkit.pipeline import Pipeline
from skinkit.schemas import FAILED, SCHEMAS
from skinkit.stages import MAKER
from skinkit.workspace import SETTINGS_FILE, UNFINISHED, Ref, Workspace

PANEL = "Start", 6


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    failed: Annotated[bool, "list every failed case with its reason"] = False


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """The state of every artifact of the workspace."""
    workspace = context.workspace()
    pipeline = context.pipeline(workspace)
    entries = [_entry(pipeline, workspace, ref, config) for ref in artifacts_of(workspace)]
    wrong = problems(workspace)
    lines = [f"workspace {workspace.root}", ""]
    for problem in wrong:
        lines += [f"  found:    {problem.found}", f"  expected: {problem.expected}", f"  fix:      {problem.fix}", ""]
    lines += [
        f"  {c.name:<16} {c.role:<12} {c.source:<14} {c.root}" + ("" if c.root.is_dir() else "  (no such folder)")
        for c in workspace.cohorts.values()
    ]
    lines.append("")
    for entry in entries:
        lines.append(f"  {entry['artifact']:<34} {entry['state']:<12} {_entry_text(entry)}".rstrip())
        lines += [f"      {case}: {reason}" for case, reason in entry.get("failed_cases", {}).items()]
    accesses = test_access_log.counts(workspace.root)
    if accesses:
        accesses_text = ", ".join(f"{cohort} {n}" for cohort, n in sorted(accesses.items()))
        lines += ["", f"accesses to test cases ({test_access_log.LEDGER}): {accesses_text}"]
    left = [path.relative_to(workspace.root).as_posix() for path in leftovers(workspace.root)]
    if left:
        lines += ["", f"left by a killed run, removed by the next one: {listed(left)}"]
    following = f"correct {SETTINGS_FILE}" if wrong else _next(workspace, entries)
    lines += ["", f"next: {following}"]
    cohorts = [{"name": c.name, "role": c.role, "source": c.source} for c in workspace.cohorts.values()]
    return {
        "exit_code": ConfigError.exit_code if wrong else 0,
        "workspace": str(workspace.root),
        "problems": [problem.as_dict() for problem in wrong],
        "cohorts": cohorts,
        "artifacts": entries,
        "totals": _totals(entries),
        "looks": accesses,
        "leftovers": left,
        "next": following,
        "text": as_lines(lines),
    }


def _totals(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals for monitoring: artifacts by state, failed rows, artifacts being written."""
    counts = [entry.get("counts", {}) for entry in entries]
    return {
        "states": dict(sorted(Counter(entry["state"] for entry in entries).items())),
        "failed": sum(count.get("failed", 0) for count in counts),
        "newly_failed": sum(count.get("newly_failed", 0) for count in counts),
        "busy": [entry["artifact"] for entry in entries if entry["busy"]],
        "unfinished": [entry["artifact"] for entry in entries if entry["unfinished"]],
    }


def artifacts_of(workspace: Workspace) -> Iterator[Ref]:
    """Every artifact that the workspace's defaults require, and every other one on disk, in the order of the chain."""
    segmenter, model, split = (workspace.defaults[key] for key in ("segmenter", "model", "split"))
    expected: list[Ref] = []
    for kind in MAKER:
        name = {"masks": segmenter, "features": segmenter, "fused": segmenter}.get(kind, model)
        if kind == "cases":
            expected += [Ref(kind, cohort) for cohort in workspace.cohorts]
        elif kind in ("split", "signature", "models"):
            if workspace.with_role("development"):
                expected.append(Ref(kind, name={"split": split, "models": model}.get(kind, f"{split}/{segmenter}")))
        elif kind in ("masks", "features", "fused", "predictions", "explanations"):
            expected += [Ref(kind, cohort, name) for cohort in workspace.cohorts]
        elif kind == "metrics":
            expected += [Ref(kind, cohort, name) for cohort in workspace.with_role("development", "external")]
    others = [ref for ref in on_disk(workspace) if ref not in expected]
    order = list(MAKER)
    yield from sorted(expected + others, key=lambda ref: order.index(ref.kind))


def on_disk(workspace: Workspace) -> Iterator[Ref]:
    """Every artifact of the workspace."""
    root = workspace.artifacts
    for manifest in sorted(root.rglob("manifest.json")):
        parts = manifest.parent.relative_to(root).parts
        if any(part.endswith(UNFINISHED) for part in parts):
            continue
        match parts:
            case ("synthetic" | "models" | "report" as kind, name):
                yield Ref(kind, name=name)
            case ("splits", name, "split"):
                yield Ref("split", name=name)
            case ("splits", name, "signature", signature):
                yield Ref("signature", name=f"{name}/{signature}")
            case (cohort, "cases"):
                yield Ref("cases", cohort)
            case (cohort, kind, name) if kind in MAKER:
                yield Ref(kind, cohort, name)


def _entry(pipeline: Pipeline, workspace: Workspace, ref: Ref, config: Config) -> dict[str, Any]:
    path = workspace.path(ref)
    unfinished = path.with_name(path.name + ".partial").is_dir()
    entry: dict[str, Any] = {
        "artifact": str(ref),
        "stage": MAKER[ref.kind],
        "path": str(path),
        "unfinished": unfinished,
        "busy": writer_of(path),
    }
    if not exists(path):
        return {**entry, "state": "unfinished" if unfinished else "absent", "why": None}
    if ref.cohort and ref.cohort not in workspace.cohorts:
        return {**entry, "state": "orphan", "why": f"no cohort {ref.cohort} in skinkit.toml"}
    try:
        artifact = open_artifact(path)
        why = pipeline.staleness(ref)
        failed = _failed(artifact, SCHEMAS[ref.kind].key[-1])
    except SkinkitError as error:
        return {**entry, "state": "unusable", "why": error.found}
    entry |= {"state": "stale" if why else "up to date", "why": why, "counts": dict(artifact.manifest["counts"])}
    entry |= _provenance(artifact)
    entry |= {"installed": artifact.installed is not None} if ref.kind == "models" else {}
    if artifact.info.get("flags"):
        entry["flags"] = dict(artifact.info["flags"])
    if failed:
        entry["failed_reasons"] = dict(Counter(failed.values()))
        if config.failed:
            entry["failed_cases"] = failed
    return entry


def _failed(artifact: Artifact, key: str) -> dict[str, str]:
    """Failed case -> reason."""
    if not artifact.manifest["counts"].get("failed"):
        return {}
    rows = artifact.rows([key, "status", "reason"])
    return {str(row[key]): str(row["reason"] or "unknown") for row in rows if row["status"] == FAILED}


def _provenance(artifact: Artifact) -> dict[str, Any]:
    """When an artifact was made, how old it is, and by which run."""
    provenance = artifact.manifest["made"]
    at = datetime.datetime.strptime(provenance["at"], "%Y-%m-%dT%H:%M:%S%z")
    age = datetime.datetime.now(datetime.UTC) - at
    return {
        "made_at": at.isoformat(),
        "age_s": max(int(age.total_seconds()), 0),
        "run_id": provenance.get("run") or None,
    }


def _entry_text(entry: Mapping[str, Any]) -> str:
    if entry["state"] == "absent" and not entry["busy"]:
        return ""
    parts = [str(entry["why"])] if entry.get("why") else []
    counts = entry.get("counts", {})
    parts += ["installed"] if entry.get("installed") else []
    parts += [f"{counts['rows']} rows"] if counts else []
    parts += [f"{counts[s]} {s}" for s in ("excluded", "pending") if counts.get(s)]
    reasons = entry.get("failed_reasons", {})
    if reasons:
        parts.append("failed: " + ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items())))
    if entry.get("flags"):
        parts.append(f"flags: {flags_text(entry['flags'])}")
    if entry["busy"]:
        parts.append(f"being written by {entry['busy']}")
    elif entry["unfinished"]:
        parts.append("an interrupted run will be resumed")
    return ", ".join(parts)


def _next(workspace: Workspace, entries: list[dict[str, Any]]) -> str:
    if not workspace.cohorts:
        return "add a cohort to skinkit.toml"
    behind = [entry for entry in entries if entry["state"] in ("absent", "stale", "unfinished")]
    if any(entry["stage"] != "train" or entry["state"] != "stale" for entry in behind):
        return "skinkit run"
    if behind:
        return "skinkit run --retrain to learn from the new cases; until then the model is used as it is"
    return "nothing to do; open the report, or add cases and run 'skinkit run'"
