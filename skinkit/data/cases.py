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
              duplicate_file     a copy, byte by byte, of the image that a row names

One file that a case names as several of its views is no repeat: each view keeps its row.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from skinkit.artifacts.files import digest
from skinkit.console import Console
from skinkit.data.canonical import KEYS, Reader
from skinkit.data.files import CohortFiles
from skinkit.data.finders import failed, make_finder, without_extension
from skinkit.data.ids import DIFFERENT, SAME, as_recorded, look_like_names, reported, unsettled
from skinkit.data.ids import joined as joined_spellings
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
        unknown: canonical column -> the table's word for unknown -> rows that have it.
        spellings: ``patient_id`` and ``lesion_id`` -> ids that are perhaps one, as a manifest records them.
    """

    rows: list[dict[str, Any]]
    flow: dict[str, Any]
    unmapped: dict[str, dict[str, int]]
    id_space: str
    source: Source
    spellings: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, dict[str, int]] = field(default_factory=dict)


def list_cases(cohort: Cohort, files: CohortFiles, console: Console | None = None, *, private: bool = False) -> Listing:
    """Every image and table row of a cohort in canonical columns.

    Args:
        cohort: the cohort.
        files: its files.
        console: receives what was found.
        private: its ids will be pseudonyms, so that no message names one.
    """
    console = console or Console(quiet=True)
    source = files.source
    own = cohort.name if source.name == "folder" else source.name
    id_space = str(cohort.options.get("id_space") or source.id_space or own)
    tables = [read(path, source.dialect, _expected(source)) for path in files.tables]
    if source.listed is not None:
        tables = [_listed(files)]
    for table in tables:
        for note in table.notes:
            console.warn(f"{cohort.name}: {table.path.name}: {note}")
    reader = Reader(source, tables)
    if tables:
        reader.check()
        joined = _table_rows(source, tables)
        reader.scan(joined.rows)
        files = masks_apart(files, reader, joined.rows)
        rows = _joined_rows(files, reader, joined)
        _log_tables(cohort, reader, joined, console)
    else:
        rows = _image_rows(files, files.images)
    spellings = _settled_spellings(rows, str(cohort.options.get("spellings", "")))
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
        "images_named": sum(1 for row in rows if row["reason"] not in ("row_absent", "duplicate_file")),
        "images_used": sum(1 for row in rows if row["status"] == OK),
        "truth_masks": sum(1 for row in rows if row["truth_mask_path"] and row["status"] == OK),
        **({"left_out": dict(source.left_out)} if source.left_out else {}),
    }
    unmapped = {name: dict(counts.most_common()) for name, counts in sorted(reader.unmapped.items())}
    _log_flow(cohort, files, rows, flow, unmapped, console)
    record = as_recorded(spellings, private=private)
    _log_values(cohort, reader, console)
    _log_ids(cohort, rows, reader, record, console, private=private)
    unknown = {name: dict(counts.most_common()) for name, counts in sorted(reader.unknown.items())}
    return Listing(rows, flow, unmapped, id_space, source, record, unknown)


def _listed(files: CohortFiles) -> Table:
    """The rows of a source whose rows stand in no table, numbered in their order."""
    rows = tuple(
        TableRow(number, {"image": path, **cells})
        for number, (path, cells) in enumerate((files.source.listed or {}).items(), 1)
    )
    names = dict.fromkeys(name for row in rows for name in row.cells)
    return Table(files.root, tuple(names or files.source.mapped_columns), rows)


def _expected(source: Source) -> frozenset[str]:
    """The columns by which a hospital's table is recognised; archives have their headings in the first line."""
    return source.mapped_columns if source.words else frozenset()


def _settled_spellings(rows: Sequence[dict[str, Any]], chosen: str) -> dict[str, list[tuple[str, ...]]]:
    """Join the spellings of each id if the cohort says that they are the same; else the ids that are not settled."""
    if chosen == SAME:
        for name in ("patient_id", "lesion_id"):
            one = joined_spellings(row[name] for row in rows)
            for row in rows:
                row[name] = one.get(row[name], row[name])
    if chosen:
        return {}
    found = {name: unsettled(row[name] for row in rows) for name in ("patient_id", "lesion_id")}
    if found["patient_id"]:  # which the keys of their lesions repeat
        named = {each for same in found["patient_id"] for each in same}
        found["lesion_id"] = [s for s in found["lesion_id"] if not {each.split("|")[0] for each in s} <= named]
    return found


def _log_ids(
    cohort: Cohort, rows: Sequence[Mapping[str, Any]], reader: Reader, record: Mapping[str, Any], console: Console,
    *, private: bool,
) -> None:  # fmt: skip
    """Say what is not certain about the ids; they stay out of JSON logs and of pseudonymised cohorts."""
    hidden = private or console.is_json
    for name, entry in record.items():
        shown = {**entry, "ids": [] if hidden else entry["ids"]}
        console.warn(
            f"{cohort.name}: {reported(name, shown)}; until this is settled in the table, or by spellings = "
            f'"{SAME}" or "{DIFFERENT}" in [cohorts.{cohort.name}], split and train refuse'
        )
    for name in [name for name in KEYS if name in reader.unknown]:
        counts = reader.unknown[name]
        console.info(f"{cohort.name}: {name}: {sum(counts.values()):,} rows have a word for unknown, which is no id")
    if several := reader.lesions_of_several:
        within = reader.source.columns["lesion_id"][:-1] and not isinstance(reader.source.columns["lesion_id"], str)
        say = console.info if within else console.warn
        how = "a lesion is known by patient and number" if within else "photos of one lesion may be of two patients"
        say(f"{cohort.name}: lesion_id: {several:,} ids occur for several patients: {how}")
    if not private and look_like_names(row["patient_id"] for row in rows):
        console.warn(
            f"{cohort.name}: patient_id looks private: names of people; use study numbers, or pseudonymise = KEYFILE"
        )


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
    if files.source.left_out:
        why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(files.source.left_out.items()))
        console.info(f"{cohort.name}: not read: {why}")
    if files.archives and not flow["images_used"]:
        console.warn(f"{cohort.name}: no image was found, but {files.archives[0]} exists: unpack it first")
    for name, counts in unmapped.items():
        console.warn(f"{cohort.name}: {name}: words that are not mapped, with rows: {_examples(counts, console)}")


def _log_tables(cohort: Cohort, reader: Reader, joined: _Joined, console: Console) -> None:
    """Say what the tables lack: mapped columns, and rows of one that another one has."""
    for ours, theirs, near in reader.absent:
        hint = f"; did you mean {near!r}?" if near else ""
        console.warn(f"{cohort.name}: no column {theirs!r} in the table: {ours} is unknown{hint}")
    for name, count in joined.lacking.items():
        more = sum(table == name for table in joined.elsewhere.values())
        if count or more:
            console.info(
                f"{cohort.name}: {name} lacks {count:,} rows of the first table and has {more:,} images that the first "
                "lacks"
            )


def _log_values(cohort: Cohort, reader: Reader, console: Console) -> None:
    """Say which columns were converted, and which words mean unknown."""
    for name, heading in reader.converted.items():
        console.info(f"{cohort.name}: {name}: converted by the unit in the heading {heading!r}")
    for name, counts in sorted(reader.unknown.items()):
        if name not in KEYS:
            known = dict(counts.most_common())
            console.info(f"{cohort.name}: {name}: words for unknown, with rows: {_examples(known, console)}")


def _examples(counts: Mapping[str, int], console: Console) -> str:
    """The most frequent words with their rows; in a JSON log their number, because cells must not end up there."""
    if console.is_json:
        return f"{len(counts)} words in {sum(counts.values())} rows"
    more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    return ", ".join(f"{word!r} {count}" for word, count in list(counts.items())[:8]) + more


def group_of(id_space: str, row: Mapping[str, Any]) -> str:
    """The group a split keeps together: the patient where known, else the lesion, else the image."""
    for kind in ("patient", "lesion", "image"):
        if row[f"{kind}_id"]:
            return f"{id_space}:{kind}:{row[f'{kind}_id']}"
    raise AssertionError("every row has an image_id")


# --------------------------------------------------------------------------------------------------- table rows
@dataclass(frozen=True)
class _Joined:
    """The rows of all tables, joined on the image.

    Attributes:
        rows: those of the first table, filled from the others.
        disagreeing: number of a row -> why another table says two things of its image.
        elsewhere: name of an image -> the table that names it although the first does not.
        lacking: file name of another table -> rows of the first that it does not have.
    """

    rows: list[TableRow]
    disagreeing: dict[int, str]
    elsewhere: dict[str, str]
    lacking: dict[str, int]


def _table_rows(source: Source, tables: Sequence[Table]) -> _Joined:
    """The rows of the first table, adapted by the source and filled from the other tables."""
    change = source.rows or (lambda rows: rows)
    rows = change(list(tables[0].rows))
    key = source.columns.get("image")
    joined = _Joined(rows, {}, {}, {})
    for table in tables[1:]:
        assert isinstance(key, str)
        others: dict[str, TableRow] = {}
        repeated: dict[str, str] = {}
        for row in change(list(table.rows)):
            if key not in row.cells:
                table.require(key, "the image, on which the tables are joined")
            name = without_extension(row.cells[key].casefold())
            first = others.setdefault(name, row)
            if {**first.cells, key: ""} != {**row.cells, key: ""}:
                repeated[name] = f"rows {first.number} and {row.number} of {table.path.name} disagree; keep one of them"
        names = [without_extension(row.cells.get(key, "").casefold()) for row in rows]
        joined.disagreeing.update(
            {row.number: repeated[name] for row, name in zip(rows, names, strict=True) if name in repeated}
        )
        joined.elsewhere.update(dict.fromkeys(others.keys() - {*names}, table.path.name))
        joined.lacking[table.path.name] = sum(name not in others for name in names)
        rows = [
            _widened(row, others[name].cells if name in others else {}) for row, name in zip(rows, names, strict=True)
        ]
    if source.one_hot:
        rows = [_with_label(row, source, tables[0].path) for row in rows]
    return replace(joined, rows=rows)


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
def _joined_rows(files: CohortFiles, reader: Reader, joined: _Joined) -> list[dict[str, Any]]:
    """One row per (table row, image), then the images that no table row names."""
    finder = make_finder(files, reader)
    rows: list[dict[str, Any]] = []
    for line in joined.rows:
        values = reader.values(line)
        for place in finder(line):
            row = {**_empty(), **values, **place, "flags": [*values["flags"]], "_number": line.number}
            if line.number in joined.disagreeing and row["status"] == OK:
                row |= failed(row["image_id"], "duplicate_id", joined.disagreeing[line.number])
            row["_mask_name"] = reader.text(line.cells, "mask")
            rows.append(row)
    rows = _settle_repeats(rows)
    for row in rows:
        row["case_id"] = row["case_id"] or row["image_id"]
    taken = {row["image_path"] for row in rows}
    alone = {path: file for path, file in files.images.items() if path not in taken}
    strays = _image_rows(files, alone)
    used = {row["image_id"] for row in rows}
    for row in strays:
        while row["image_id"] in used:
            row["image_id"] += "~"
        used.add(row["image_id"])
        if row["image_path"] in finder.copies:
            detail = f"the same bytes as {finder.copies[row['image_path']]}"
            row |= {"case_id": row["image_id"], "status": EXCLUDED, "reason": "duplicate_file", "detail": detail}
            continue
        other = joined.elsewhere.get(without_extension(PurePosixPath(row["image_path"]).name.casefold()))
        beside = f", only in {other}" if other else ""
        detail = f"{row['image_path']} stands in no row of {files.tables[0].name}{beside}"
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
    Views of one case may share a file; then only rows of the same view are compared.
    """
    by_id: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_id[row["image_id"]].append(row)
    used = set(by_id)
    for image_id, same in by_id.items():
        repeats = _apart_by_view(same)
        agree = [_agree(each) for each in repeats]  # before they get ids of their own
        for row in same[1:]:
            row["image_id"] = f"{image_id}#{row['view'] if len(repeats) > 1 else 'row' + str(row['_number'])}"
            while row["image_id"] in used:
                row["image_id"] += "~"  # the same image twice in one row
            used.add(row["image_id"])
        for each, equal in zip(repeats, agree, strict=True):
            _settle_same(each, agree=equal)
    settled = [row for same in by_id.values() for row in same]
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in settled:
        if row["status"] == OK and row["image_path"]:
            by_file[row["image_path"]].append(row)
    for same in by_file.values():
        for each in _apart_by_view(same):
            _settle_same(each, agree=_agree(each, "image_id", "case_id"))
    return settled


def _apart_by_view(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows of one image, apart by view if all are views of one case and name the same file; else together."""
    by_view: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_view[row["view"]].append(row)
    one = len({(row["case_id"], row["image_path"]) for row in rows}) == 1
    return list(by_view.values()) if one and rows[0]["case_id"] and None not in by_view else [rows]


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
