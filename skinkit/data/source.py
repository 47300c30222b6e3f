"""A dataset described: its tables, columns, labels, images and masks. Nothing is read here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from skinkit.workspace import Cohort

OPTIONS = {
    "table": "table to read instead of the usual one, relative to the cohort's folder",
    "part": "which part of an archive with several: training, validation or test",
    "masks": "folder of truth masks, or a pattern such as masks/{stem}.png; empty for none",
    "id_space": "cohorts that share it share their patient and lesion ids",
    "phantom": "the lesions are drawn, not photographed",
}
"""Keys that any cohort of ``skinkit.toml`` may have beside role, source and path."""


class TableRow(NamedTuple):
    """One row of a table as text.

    Attributes:
        number: line of the text file or row of the sheet, from 1.
        cells: column name -> text, stripped; empty where there is none.
    """

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        encoding: of text files.
        delimiter: between cells; empty: tab for .tsv and .tab, otherwise a comma.
        decimal: decimal sign of its numbers.
        sheet: sheet of an XLSX file; empty for the first.
        date_format: ``strptime`` format of its dates; empty for unambiguous ones such as 1961-02-28 or 1961年2月28日.
        missing: words that mean nothing is known, beside the empty cell, NA, nan and null.
        headings: of tables that begin with their first row; it stands for those of just as many columns.
    """

    encoding: str = "utf-8"
    delimiter: str = ""
    decimal: str = "."
    sheet: str = ""
    date_format: str = ""
    missing: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arrangement:
    """One arrangement in which a source is found.

    Attributes:
        name: training, validation, test, or empty where a source has no such parts.
        tables: patterns of tables that are all needed; they are joined on the image.
        optional: patterns of tables that are joined where they are found.
        images: patterns of its images; empty for the source's own.
        masks: patterns of its truth masks; empty for the source's own.
    """

    name: str = ""
    tables: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Join:
    """How a row finds its images.

    Attributes:
        by: ``name`` (column ``image`` holds a file name, with or without folder and extension), ``pattern`` or
            ``dicom``.
        pattern: for example ``{accession}*/*.jpg``, filled with the row's values; every match is an image of the row.
        tag: DICOM keyword whose value equals column ``accession``.
        separator: splits several file names in one cell.
    """

    by: str = "name"
    pattern: str = ""
    tag: str = ""
    separator: str = ""


@dataclass(frozen=True)
class Draw:
    """A test set drawn from a dataset by class, with the metadata of PAD-UFES-20 drawn for it.

    Attributes:
        n: cases, unless the cohort says otherwise.
        diagnoses: classes that are drawn; the others stay out.
        published: diagnosis -> cases, where a paper reports numbers that are not proportional to the dataset.
    """

    n: int
    diagnoses: tuple[str, ...]
    published: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A dataset, or a hospital, described.

    Patterns use ``*``, ``?`` and ``**/``; in patterns of masks ``{stem}`` stands for the image's file name without
    extension, ``{path}`` for its path without extension and ``{image_id}`` for its id.

    Attributes:
        name: how it is called on the command line.
        title: one line for a reader.
        citation: what to cite.
        licence: licence of the data.
        parts: arrangements in which it is found, the most telling first.
        images: patterns of image files below the cohort's folder.
        masks: patterns of truth masks.
        columns: canonical column -> the table's column, or several that are joined by ``|`` to make a key. ``image``
            is the file name.
        required: canonical columns whose table column must be there.
        values: canonical column -> the table's word -> our value (empty: known to mean unknown).
        words: read the words of ``skinkit.data.words`` (English and Chinese) where ``values`` say nothing.
        one_hot: label columns of which one is 1; the label is that column's name.
        patterns: regular expressions for the diagnosis, as (expression, diagnosis), tried in order.
        icd10: ICD-10 prefix -> diagnosis; the longest prefix decides.
        constants: canonical column -> value of every row that has none of its own.
        extra: further columns to take over as text: our name -> the table's column.
        id_space: default id space; empty for the source's name (``folder``: the cohort's).
        dialect: how the tables are written.
        join: how a row finds its images.
        ids: what names an image that stands in no table: its file ``name``, unique in an archive, or its ``path``.
        rows: changes the rows of a table before they are read (one row into two views, for example).
        options: further cohort options it understands, with their help.
        configure: makes the source from the cohort's own files; ``folder`` reads ``cohort.toml``.
        file: table by its path below the cohort's folder, instead of the patterns of ``parts``.
        files: files beside the tables that decide the result (``cohort.toml``).
        draw: how many cases of each class are drawn, and metadata for them, where the source is made so.
        expected: diagnosis (or ``total``) -> usable images there should be; other counts are reported, never an error.
    """

    name: str
    title: str
    citation: str = ""
    licence: str = ""
    parts: tuple[Arrangement, ...] = (Arrangement(),)
    images: tuple[str, ...] = ("**/*",)
    masks: tuple[str, ...] = ()
    columns: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    words: bool = False
    one_hot: tuple[str, ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()
    icd10: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    id_space: str = ""
    dialect: Dialect = field(default_factory=Dialect)
    join: Join = field(default_factory=Join)
    ids: Literal["name", "path"] = "name"
    rows: Callable[[list[TableRow]], list[TableRow]] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    configure: Callable[[Source, Cohort], Source] | None = None
    file: str = ""
    files: tuple[str, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    draw: Draw | None = None
