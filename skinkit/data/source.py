"""The description of a dataset: its tables, columns, labels, images and masks. Nothing is read here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from skinkit.workspace import Cohort

OPTIONS = {
    "table": "table to read instead of the usual one, relative to the cohort's folder",
    "part": "part of an archive that has several: training, validation or test",
    "masks": "folder of truth masks, or a pattern such as masks/{stem}.png; empty for none",
    "label": "the value that is the lesion, in truth masks of several labels",
    "mask_polarity": "dark: the lower values of the truth masks are lesion; light: the higher, however they look",
    "id_space": "cohorts that share it share their patient and lesion ids",
    "spellings": "ids written in several ways (7, 007; p1, P1) are the same or different; empty: not settled",
    "phantom": "the images are synthetic drawings, not photos",
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
        sheet: sheet of an XLSX file; empty for the one visible sheet that has the columns.
        hidden_rows: whether hidden rows of a sheet are read.
        heading_rows: numbers of the rows that hold the headings; empty: the first row with the columns.
        date_format: ``strptime`` format of its dates; empty for unambiguous ones such as 1961-02-28 or 1961年2月28日.
        missing: words for a missing value, besides the empty cell, NA, nan and null.
        headings: column names of tables without a header line, used for tables with exactly this many columns.
    """

    encoding: str = "utf-8"
    delimiter: str = ""
    decimal: str = "."
    sheet: str = ""
    hidden_rows: bool = False
    heading_rows: tuple[int, ...] = ()
    date_format: str = ""
    missing: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arrangement:
    """One layout of a source's files.

    Attributes:
        name: training, validation, test, or empty where a source has no such parts.
        tables: patterns of required tables; they are joined on the image.
        optional: patterns of tables that are joined if they exist.
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
        n: default number of cases.
        diagnoses: classes to draw; other classes are left out.
        published: diagnosis -> number of cases, where a paper's numbers are not proportional to the dataset.
    """

    n: int
    diagnoses: tuple[str, ...]
    published: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """The description of a dataset or of a hospital's folder.

    Patterns use ``*``, ``?`` and ``**/``; in patterns of masks ``{stem}`` stands for the image's file name without
    extension, ``{path}`` for its path without extension and ``{image_id}`` for its id.

    Attributes:
        name: its name on the command line.
        title: one line for people.
        citation: the reference to cite.
        licence: licence of the data.
        parts: layouts of its files, the most specific first.
        images: patterns of image files below the cohort's folder.
        masks: patterns of truth masks.
        columns: canonical column -> the table's column, or several that are joined by ``|`` to make a key. ``image``
            is the file name.
        required: canonical columns whose table column must exist.
        values: canonical column -> the table's word -> our value (empty: the word means unknown).
        words: use the words of ``skinkit.data.words`` (English and Chinese) for words not in ``values``.
        one_hot: label columns of which one is 1; the label is that column's name.
        patterns: regular expressions for the diagnosis, as (expression, diagnosis), tried in order.
        icd10: ICD-10 prefix -> diagnosis; the longest prefix decides.
        constants: canonical column -> value of rows without one of their own.
        extra: further columns to take over as text: our name -> the table's column. Where ``values`` names one, words
            that are not mapped become null and are counted.
        flags: the table's column -> (regular expression, flag) of rows in which it is found.
        id_space: default id space; empty for the source's name (``folder``: the cohort's).
        dialect: how the tables are written.
        join: how a row finds its images.
        ids: id of an image that no table names: its file ``name``, unique in an archive, or its ``path``.
        rows: changes the rows of a table before they are read (one row into two views, for example).
        options: further cohort options, with their help.
        configure: builds the source from the cohort's own files; ``folder`` reads ``cohort.toml``.
        file: path of the table below the cohort's folder, instead of the patterns of ``parts``.
        files: files besides the tables that affect the result (``cohort.toml``).
        diagnoses: the only ones its cases can have; empty for those that its labels stand for (``values``,
            ``patterns``, ``icd10``), or for any where it takes ``words``. What a cohort cannot have is left out of its
            loss.
        draw: which cases are drawn, for a source that draws its cases and their metadata.
        expected: diagnosis (or ``total``) -> expected usable images; other counts are reported, never an error.
        listed: path of an image -> the cells of its row, where rows stand in no table (``capture``); only these images
            are read. ``configure`` fills it.
        left_out: why a row of such a source is not read -> how many are not.
        pseudonymous: ids and file names in the cohort's folder are pseudonyms already, made with its key.
        revision: raised when the same files give other rows, so that cohorts of the source are read again.
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
    flags: Mapping[str, tuple[str, str]] = field(default_factory=dict)
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
    diagnoses: tuple[str, ...] = ()
    draw: Draw | None = None
    listed: Mapping[str, Mapping[str, str]] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    pseudonymous: bool = False
    revision: int = 0

    @property
    def mapped_columns(self) -> frozenset[str]:
        """The table's own columns that ``columns`` and ``extra`` name."""
        named = (*self.columns.values(), *self.extra.values())
        return frozenset(name for theirs in named for name in ((theirs,) if isinstance(theirs, str) else theirs))
