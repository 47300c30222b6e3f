"""The files of a study: JSON, Markdown or text, and an HTML page where there is anything to see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from skinkit.artifacts.files import json_values, write_atomic

_NO_DIAGNOSIS = "Research software. Nothing here is a diagnosis."


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


def write_study(
    folder: Path,
    stem: str,
    body: Mapping[str, Any],
    text: str,
    *,
    page: str = "",
    files: Mapping[str, str] | None = None,
) -> Written:
    """Write ``stem.json``, ``stem.txt`` or, of a page, ``stem.md``, and where there is anything to see ``stem.html``.

    Args:
        folder: output folder.
        stem: name of the files.
        body: for the JSON.
        text: for a terminal.
        page: the same in Markdown, if the study has a page of its own; figures that it does not name follow it.
        files: files already written, such as figures and tables: kind -> path.
    """
    whole = dict(json_values(body))
    paths = {"json": folder / f"{stem}.json", ("md" if page else "txt"): folder / f"{stem}.{'md' if page else 'txt'}"}
    data = json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False, default=str)
    words = f"{page.rstrip()}\n\n{_NO_DIAGNOSIS}" if page else text
    for path, content in zip(paths.values(), (data, words), strict=True):
        write_atomic(path, f"{content.rstrip()}\n".encode())
    pictures = _pictures(files or {}, page, folder)
    if page or pictures:
        from skinkit.reporting.study_page import study_page

        paths["html"] = folder / f"{stem}.html"
        lines = text.strip("\n")
        whole_page = page or f"# {stem}\n\n~~~text\n{lines}\n~~~"
        write_atomic(paths["html"], study_page("\n\n".join([whole_page, *pictures]), folder))
    written = {**{kind: str(path) for kind, path in paths.items()}, **(files or {})}
    return Written(written, whole, f"{text}\nfiles: {folder}")


def _pictures(files: Mapping[str, str], page: str, folder: Path) -> list[str]:
    """Links to the pictures in the folder that a page does not name, in Markdown."""
    names = [Path(file) for file in files.values() if file.endswith(".png")]
    return [f"![{f.stem}](<{f.name}>)" for f in names if f.parent == folder and f"({f.name})" not in page]
