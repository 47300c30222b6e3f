"""verify: verify the hashes of artifacts and source files.

Other commands compare source files by size and time; this one reads every byte. Changed files are listed and the exit
code is 5.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from skinkit.artifacts import file_names
from skinkit.artifacts.artifact import SEAL, open_artifact, rehash
from skinkit.artifacts.files import file_sha256
from skinkit.commands import Context
from skinkit.commands.status import on_disk
from skinkit.console import as_lines
from skinkit.errors import RefusedError, SkinkitError
from skinkit.workspace import Ref, Workspace

PANEL = "Look", 3


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    sources: Annotated[bool, "also rehash the source images and masks"] = True


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Compare every file with the hash recorded when it was written."""
    workspace = context.workspace()
    refs = list(on_disk(workspace))
    with context.console.progress(len(refs), "verifying") as tick:
        changed = {}
        without_seal = 0
        for ref in refs:
            with contextlib.suppress(SkinkitError):
                without_seal += SEAL not in open_artifact(workspace.path(ref)).manifest
            changed[str(ref)] = changed_files(workspace, ref, sources=config.sources)
            tick(failed=bool(changed[str(ref)]))
    fix = "remove the folder of a changed artifact and run 'skinkit run'; for a source, ingest again"
    answer = verdict("artifacts", changed, fix)
    if without_seal:
        older = f"{without_seal} were written by an older skinkit: their counts, notes and dates have no checksum"
        answer["text"] = as_lines([answer["text"], older])
    return {**answer, "without_seal": without_seal}


def changed_files(workspace: Workspace, ref: Ref, *, sources: bool = False) -> list[str]:
    """Changed files of an artifact (and its source files), or why they cannot be verified."""
    try:
        bad = rehash(open_artifact(workspace.path(ref)))
        return bad + (_sources(workspace, ref) if sources and ref.kind == "cases" else [])
    except SkinkitError as error:
        return [error.found]


def verdict(what: str, results: Mapping[str, Sequence[str]], fix: str) -> dict[str, Any]:
    """The result of a verification, from name -> changed files."""
    changed = {name: list(files) for name, files in results.items() if files}
    lines = [f"{name}: {file} is not what was written" for name, files in changed.items() for file in files]
    lines.append(f"{len(results)} {what} verified, {len(changed)} changed")
    lines += [f"fix: {fix}"] if changed else []
    exit_code = RefusedError.exit_code if changed else 0
    return {"exit_code": exit_code, "verified": len(results), "changed": changed, "text": as_lines(lines)}


def _sources(workspace: Workspace, ref: Ref) -> list[str]:
    """Source files that are missing or have changed since ingest."""
    if ref.cohort not in workspace.cohorts:
        return []
    root = workspace.cohort(ref.cohort).root
    table = open_artifact(workspace.path(ref)).table(
        ["image_path", "image_sha256", "truth_mask_path", "truth_mask_sha256"]
    )
    bad = []
    for path_column, hash_column in (("image_path", "image_sha256"), ("truth_mask_path", "truth_mask_sha256")):
        for name, expected in zip(table[path_column], table[hash_column], strict=True):
            file = file_names.on_disk(root / str(name))
            if name and expected and (not file.is_file() or file_sha256(file) != expected):
                bad.append(f"source {name}")
    return bad
