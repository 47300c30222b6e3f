"""From tables and files to cases: every table row and every image becomes a row in canonical columns.

Only tables are opened, and DICOM headers where rows are joined on a DICOM tag. A row that cannot be used is kept, with
a status and a reason:

    pending   image_absent       the image named by the table does not exist
              image_unnamed      the table row names no image
              row_absent         no table row names the image
    failed    path_outside_root  the name points outside the cohort's folder
              image_ambiguous    the name matches several files
              duplicate_id       several rows name this image and disagree
              folder_unreadable  the user has no permission to list the folder
    excluded  duplicate_row      an identical row comes earlier
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from skinkit.artifacts.files import digest
from skinkit.console import Console
from skinkit.data import words
from skinkit.data.canonical import Reader
from skinkit.data.files import CohortFiles
from skinkit.data.finders import failed, make_finder, without_extension
from skinkit.data.masks import masks_apart, with_masks
from skinkit.data.source import Source, TableRow
from skinkit.data.tables import Table, number, read
from skinkit.errors import InputError
from skinkit.schemas import CASES, EXCLUDED, FAILED, OK, PENDING
from skinkit.workspace import Cohort


@dataclass
class Listing:
    """The cases of a cohort before their images are opened.

    Attributes:
        rows: one per case image, sorted by image_id; columns of ``schemas.CASES`` plus extra ones.
        flow: counts of table rows, images and masks.
        unmapped: canonical column -> the table's word -> rows that have it.
        id_space: prefix of every group id.
        source: the source as configured.
    """

    rows: list[dict[str, Any]]
    flow: dict[str, Any]
    unmapped: dict[str, dict[str, int]]
    id_space: str
    source: Source


def list_cases(cohort: Cohort, files: CohortFiles, console: Console | None = None) -> Listing:
    """Every image and table row of a cohort in canonical columns."""
    console = console or Console(quiet=True)
    source = files.source
    own = cohort.name if source.name == "folder" else source.name
    id_space = str(cohort.options.get("id_space") or source.id_space or own)
    tables = [read(path, source.dialect) for path in files.tables]
    reader = Reader(source, tables)
    if tables:
        reader.check()
        lines = _table_rows(source, tables)
        files = masks_apart(files, reader, lines)
        rows = _joined_rows(files, reader, lines)
    else:
        rows = _image_rows(files, files.images)
    with_masks(rows, files)
    rows += [_closed(folder) for folder in files.closed]
    for row in rows:
        row["group_id"] = group_of(id_space, row)
    rows.sort(key=lambda row: str(row["image_id"]))
    for row in rows:
        row["flags"] = ",".join(sorted(set(row["flags"]))) or None
    flow = {
        "tables": [path.name for path in files.tables],
        "table_rows": sum(len(table.rows) for table in tables[:1]),
        "images_found": len(files.images),
        "images_named": sum(1 for row in rows if row["reason"] != "row_absent"),
        "images_used": sum(1 for row in rows if row["status"] == OK),
        "truth_masks": sum(1 for row in rows if row["truth_mask_path"] and row["status"] == OK),
    }
    unmapped = {name: dict(counts.most_common()) for name, counts in sorted(reader.unmapped.items())}
    _log_flow(cohort, files, rows, flow, unmapped, console)
    return Listing(rows, flow, unmapped, id_space, source)


def _log_flow(
    cohort: Cohort,
    files: CohortFiles,
    rows: Sequence[Mapping[str, Any]],
    flow: Mapping[str, Any],
    unmapped: Mapping[str, Mapping[str, int]],
    console: Console,
) -> None:
    reasons = Counter(row["reason"] for row in rows)
    named = f"{flow['images_named']:,}"
    if flow["tables"]:
        present = flow["images_named"] - reasons["image_absent"] - reasons["image_unnamed"]
        text = f"{flow['table_rows']:,} rows in {', '.join(flow['tables'])}; {present:,} of {named} images found"
    else:
        text = f"no table; {flow['images_found']:,} images found"
    console.info(f"{cohort.name}: {files.source.title}: {text}, {flow['truth_masks']:,} truth masks")
    if reasons["image_absent"]:
        console.info(f"{cohort.name}: waiting for their image (looked for next time): {reasons['image_absent']:,} rows")
    if reasons["row_absent"]:
        console.info(f"{cohort.name}: waiting for a table row (looked for next time): {reasons['row_absent']:,} images")
    if files.archives and not flow["images_used"]:
        console.warn(f"{cohort.name}: no image was found, but {files.archives[0]} exists: unpack it first")
    if several := _written_in_several_ways(row["patient_id"] for row in rows):
        console.warn(
            f"{cohort.name}: patient_id: {several} ids are written in several ways (7, 007, 7.0; p1, P1) and count as "
            "several patients: write each id in one way, or photos of one patient may be on both sides of a split"
        )
    for name, counts in unmapped.items():
        examples = ", ".join(f"{word!r} {count}" for word, count in list(counts.items())[:8])
        more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
        if console.is_json:  # cells of a patient table must not end up in a log
            examples, more = f"{len(counts)} words in {sum(counts.values())} rows", ""
        console.warn(f"{cohort.name}: {name}: words that are not mapped, with rows: {examples}{more}")


def _written_in_several_ways(ids: Iterable[str | None]) -> int:
    """Number of ids that differ only in case, width, leading zeros or a trailing ``.0``; ids stay out of the log."""
    ways: dict[str, set[str]] = defaultdict(set)
    for word in filter(None, ids):
        ways[words.plain(word).removesuffix(".0").lstrip("0")].add(word)
    return sum(len(same) > 1 for same in ways.values())


def group_of(id_space: str, row: Mapping[str, Any]) -> str:
    """The group a split keeps together: the patient where known, else the lesion, else the image."""
    for kind in ("patient", "lesion", "image"):
        if row[f"{kind}_id"]:
            return f"{id_space}:{kind}:{row[f'{kind}_id']}"
    raise AssertionError("every row has an image_id")


# --------------------------------------------------------------------------------------------------- table rows
def _table_rows(source: Source, tables: Sequence[Table]) -> list[TableRow]:
    """The rows of the first table, adapted by the source and filled from the other tables."""
    change = source.rows or (lambda rows: rows)
    rows = change(list(tables[0].rows))
    key = source.columns.get("image")
    for table in tables[1:]:
        assert isinstance(key, str)
        others = {}
        for row in change(list(table.rows)):
            if key not in row.cells:
                table.require(key, "the image, on which the tables are joined")
            others[row.cells[key].casefold()] = row.cells
        rows = [_widened(row, others.get(row.cells[key].casefold(), {})) for row in rows]
    if source.one_hot:
        rows = [_with_label(row, source, tables[0].path) for row in rows]
    return rows


def _widened(row: TableRow, other: Mapping[str, str]) -> TableRow:
    """A row whose empty cells are filled from another table."""
    return TableRow(
        row.number, {**row.cells, **{name: text for name, text in other.items() if not row.cells.get(name)}}
    )


def _with_label(row: TableRow, source: Source, path: Path) -> TableRow:
    """Write the one-hot label into the diagnosis column, unless that column already has a value."""
    chosen = []
    for column in source.one_hot:
        text = row.cells.get(column, "")
        try:
            if text and number(text, source.dialect.decimal) > 0.5:
                chosen.append(column)
        except ValueError:
            raise InputError(
                f"{path}, row {row.number}, column {column}: {text!r}", "0 or 1", "correct the table"
            ) from None
    if len(chosen) > 1:
        raise InputError(
            f"{path}, row {row.number}: {' and '.join(chosen)} are both 1", "one label", "correct the table"
        )
    column = str(source.columns["diagnosis"])
    label = row.cells.get(column) or (chosen[0] if chosen else "")
    return TableRow(row.number, {**row.cells, column: label} if label else row.cells)


# -------------------------------------------------------------------------------------------- rows and their images
def _joined_rows(files: CohortFiles, reader: Reader, table: Sequence[TableRow]) -> list[dict[str, Any]]:
    """One row per (table row, image), then the images that no table row names."""
    finder = make_finder(files, reader)
    rows: list[dict[str, Any]] = []
    for line in table:
        values = reader.values(line)
        for place in finder(line):
            row = {**_empty(), **values, **place, "flags": [*values["flags"]], "_number": line.number}
            row["case_id"] = values["case_id"] or row["image_id"]
            row["_mask_name"] = reader.text(line.cells, "mask")
            rows.append(row)
    rows = _settle_repeats(rows)
    taken = {row["image_path"] for row in rows}
    alone = {path: file for path, file in files.images.items() if path not in taken}
    strays = _image_rows(files, alone)
    used = {row["image_id"] for row in rows}
    for row in strays:
        while row["image_id"] in used:
            row["image_id"] += "~"
        used.add(row["image_id"])
        detail = f"{row['image_path']} stands in no row of {', '.join(path.name for path in files.tables)}"
        row |= {"case_id": row["image_id"], "status": PENDING, "reason": "row_absent", "detail": detail}
    return rows + strays


def _empty() -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(CASES.names)
    del row["fingerprint"]
    return {**row, "status": OK, "flags": []}


def _closed(folder: str) -> dict[str, Any]:
    place = f"{folder}/"
    detail = "this user may not list the folder"
    return {**_empty(), "case_id": place, **failed(place, "folder_unreadable", detail)}


def _image_rows(files: CohortFiles, images: Iterable[str]) -> list[dict[str, Any]]:
    """One row per image; the id is its path or file name without extension, or the full path where not unique."""
    paths = list(images)
    every = set(paths)
    whole = files.source.ids == "path"
    named = {path: without_extension(path if whole else PurePosixPath(path).name) for path in paths}
    times = Counter(named.values())
    rows = []
    for path in paths:
        bare = named[path]
        image_id = bare if times[bare] == 1 and bare not in every else path
        constants = {name: value for name, value in files.source.constants.items() if name in CASES.names}
        rows.append({**_empty(), **constants, "image_id": image_id, "case_id": image_id, "image_path": path})
    return rows


def _settle_repeats(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Settle rows that name the same image: of equal rows the first is kept, rows that disagree all fail.

    Two rows name the same image if they share its id, or if their ids (two spellings of a name) point to one file.
    """
    by_id: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_id[row["image_id"]].append(row)
    settled = []
    for image_id, same in by_id.items():
        first, *others = same
        agree = _agree(same)
        settled.append(first)
        for row in others:
            row["image_id"] = f"{image_id}#row{row['_number']}"
            row["case_id"] = row["image_id"] if row["case_id"] == image_id else row["case_id"]
            while any(row["image_id"] == previous["image_id"] for previous in settled[-len(same) :]):
                row["image_id"] += "~"  # the same image twice in one row
            settled.append(row)
        _settle_same(same, agree=agree)
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in settled:
        if row["status"] == OK and row["image_path"]:
            by_file[row["image_path"]].append(row)
    for same in by_file.values():
        _settle_same(same, agree=_agree(same, "image_id", "case_id"))
    return settled


def _agree(rows: Sequence[Mapping[str, Any]], *ignored: str) -> bool:
    """Whether rows are equal in every column except the ignored ones and the line number."""
    if len(rows) == 1:
        return True
    contents = {
        digest({name: value for name, value in row.items() if name not in (*ignored, "_number")}) for row in rows
    }
    return len(contents) == 1


def _settle_same(rows: Sequence[dict[str, Any]], *, agree: bool) -> None:
    """Set the outcome of rows of one image: repeats are excluded if all agree, otherwise every row fails."""
    numbers = ", ".join(str(row["_number"]) for row in rows)
    for row in rows[1:] if agree else rows:
        if agree:
            row |= {"status": EXCLUDED, "reason": "duplicate_row", "detail": f"rows {numbers} say the same"}
        else:
            detail = f"rows {numbers} name this image and disagree; keep one of them"
            row |= {"status": FAILED, "reason": "duplicate_id", "detail": detail}
