"""Write the files of a study: JSON without NaN, text, and the paths of figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from skinkit.artifacts.files import json_values, write_atomic
from skinkit.workspace import Workspace


class Written(NamedTuple):
    """A study that was written.

    Attributes:
        files: kind of file -> path.
        body: content of the JSON file.
        text: for a terminal; its last line names the folder.
    """

    files: dict[str, str]
    body: dict[str, Any]
    text: str


def folder_of(out: str, workspace: Workspace, *inside: str) -> Path:
    """The output folder: ``--out`` replaces the first part, a folder of the workspace."""
    first, *rest = inside
    return (Path(out) if out else workspace.root / first).joinpath(*rest)


def write_study(
    folder: Path,
    stem: str,
    body: Mapping[str, Any],
    text: str,
    *,
    page: str = "",
    files: Mapping[str, str] | None = None,
) -> Written:
    """Write ``stem.json``, and ``stem.txt`` or, of a page, ``stem.md``.

    Args:
        folder: output folder.
        stem: name of the files.
        body: for the JSON.
        text: for a terminal.
        page: the same in Markdown, if the study has a page of its own.
        files: files already written, such as figures and tables: kind -> path.
    """
    whole = dict(json_values(body))
    paths = {"json": folder / f"{stem}.json", ("md" if page else "txt"): folder / f"{stem}.{'md' if page else 'txt'}"}
    data = json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False, default=str)
    for path, content in zip(paths.values(), (data, page or text), strict=True):
        write_atomic(path, f"{content.rstrip()}\n".encode())
    written = {**{kind: str(path) for kind, path in paths.items()}, **(files or {})}
    return Written(written, whole, f"{text}\nfiles: {folder}")
