"""show: show one artifact: rows and provenance.

Name it as in 'skinkit status' (pad/cases, jinan/masks/otsu, models/frozen_probe), by the beginning of that name or of
its parts (jin/mask) where only one fits, or by its folder. --row ID prints the rows of that case column by column.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from skinkit.artifacts.artifact import MANIFEST, Artifact, as_written, open_artifact
from skinkit.commands import Context
from skinkit.commands.status import on_disk
from skinkit.console import as_lines
from skinkit.errors import InputError, did_you_mean, listed
from skinkit.options import Help

PANEL = "Look", 2


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    artifact: Annotated[str, Help("artifact, for example pad/cases, or its folder", positional=True)] = ""
    row: Annotated[str, "print the rows whose first key or case is this id"] = ""
    rows: Annotated[int, "rows to print"] = 10


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Show one artifact."""
    from skinkit.learning import replay_features  # it loads numpy

    artifact = as_written(_find(config.artifact, context))
    table = artifact.table()
    manifest = artifact.manifest
    answer: dict[str, Any] = {
        "path": str(artifact.path),
        "identity": artifact.identity,
        "recipe": manifest["recipe"],
        "counts": manifest["counts"],
        "made": manifest["made"],
        "info": manifest["info"],
        "columns": list(table.columns),
    }
    replay = {folder: len(of) for folder, of in replay_features.of_artifact(artifact).items()}
    answer |= {"replay_cases": replay} if replay else {}
    if config.row:
        ids = [c for c in ("image_id", "case_id", "lesion_id", "patient_id", "feature", "fold") if c in table]
        hit = table[(table[ids].astype(str) == config.row).any(axis=1)]
        if hit.empty:
            raise InputError(
                f"no row {config.row!r} in {artifact.path}",
                "an id of the table",
                "see its ids with 'skinkit show' without --row",
            )
        answer["rows"] = json.loads(hit.to_json(orient="records"))
        blocks = [as_lines(f"{k:<32} {v}" for k, v in row.items() if v is not None) for row in answer["rows"]]
        return {**answer, "text": "\n\n".join(blocks)}
    head = table.head(config.rows)
    answer["rows"] = json.loads(head.to_json(orient="records"))
    columns = [c for c in head.columns if head[c].notna().any() and c != "fingerprint"][:9]
    provenance, counts = manifest["made"], ", ".join(f"{v} {k}" for k, v in manifest["counts"].items() if v)
    lines = [
        f"{artifact.path}",
        f"identity  {artifact.identity[:16]}, made {provenance['at']} in {provenance['seconds']} s "
        f"by skinkit {provenance['skinkit']}",
        f"stage     {artifact.recipe['stage']} {artifact.recipe['stage_version']}, settings {dict(artifact.config)}",
        *(f"input     {name} {identity[:16]}" for name, identity in artifact.recipe["inputs"].items()),
        f"counts    {counts}",
        *([f"note      {manifest['info']['note']}"] if "note" in manifest["info"] else []),
        *([f"replay    {_replay_text(replay)}"] if replay else []),
        f"columns   {len(table.columns)}: {', '.join(list(table.columns)[:12])}"
        + (", ..." if len(table.columns) > 12 else ""),
        "",
        head[columns].to_string(index=False, max_colwidth=28),
    ]
    return {**answer, "text": "\n".join(lines)}


def _replay_text(replay: Mapping[str, int]) -> str:
    each = ", ".join(f"{folder} {n}" for folder, n in replay.items())
    return f"features of {sum(replay.values())} training cases ({each})"


def _find(name: str, context: Context) -> Artifact:
    if not name:
        raise InputError("no artifact named", "for example 'skinkit show pad/cases'", "see 'skinkit list artifacts'")
    if (Path(name) / MANIFEST).is_file():
        return open_artifact(Path(name))
    workspace = context.workspace()
    refs = {str(ref): ref for ref in on_disk(workspace)}
    below = Path(name).absolute()
    inside = [each for each, ref in refs.items() if workspace.path(ref).is_relative_to(below)]
    fitting = _fitting(name.rstrip("/"), refs) or inside
    if len(fitting) > 1:
        raise InputError(f"{len(fitting)} artifacts that begin with {name!r}", listed(fitting), "name one of them")
    if not fitting:
        raise InputError(f"no artifact {name!r}", did_you_mean(name, refs), "see 'skinkit status'")
    return open_artifact(workspace.path(refs[fitting[0]]))


def _fitting(name: str, known: Iterable[str]) -> list[str]:
    """The artifact of that name; else those whose name, or each part of it, begins so."""
    known = list(known)
    parts = name.split("/")
    if not name or name in known:
        return [name] if name else []
    return [whole for whole in known if whole.startswith(name)] or [
        whole
        for whole in known
        if len(whole.split("/")) >= len(parts)
        and all(full.startswith(part) for full, part in zip(whole.split("/"), parts, strict=False))
    ]
