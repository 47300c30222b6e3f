"""An artifact is a folder: ``table.parquet``, files, and ``manifest.json`` written last.

Its *recipe* determines the result: kind, schema version, stage and its VERSION, configuration, and identities of the
inputs. Its *identity* is the recipe plus the hashes of its files. An artifact is stale when its current recipe differs
from the recorded one. The manifest also holds what is no part of the identity and is still read and printed (counts,
notes, dates); its *seal* is a checksum of all of it.

Work goes to ``NAME.partial`` (part tables; a row's files are written before its row). A rerun resumes it and keeps rows
whose fingerprint is unchanged. The final table is merged from the part tables in sorted batches, so memory does not
grow with its size. Two renames (old to ``NAME.previous``, new to ``NAME``) put it in place, after files and folders are
flushed to disk; readers fall back to ``NAME.previous`` after a crash between the two. Shares of the rows (``--shard
i/n``) are computed by separate processes in ``NAME.partial``; the next run without ``--shard`` joins them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.artifacts import row_dates
from skinkit.artifacts.files import digest, file_sha256
from skinkit.artifacts.tables import TABLE, TableRows, opened_table, read_table
from skinkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
SEAL = "seal"
"""Entry of a manifest: checksum of its other entries; manifests of older versions have none."""
_REMAKE = "remove the artifact's folder and rerun its stage"
_ATTEMPTS = 5
"""How often an artifact is looked for that writers replace in the meantime."""


# ---------------------------------------------------------------------------------------------------- recipe
@dataclass(frozen=True)
class ArtifactRecipe:
    """Everything that determines an artifact's content.

    Attributes:
        kind: artifact kind, for example ``masks``.
        schema_version: version of its table schema.
        stage: the stage that makes it.
        stage_version: that stage's VERSION.
        config: the configuration that affects the result, as plain values.
        inputs: input name -> identity of that artifact or digest of that source.
    """

    kind: str
    schema_version: int
    stage: str
    stage_version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "kind": self.kind,
            "schema_version": self.schema_version,
            "stage": self.stage,
            "stage_version": self.stage_version,
            "config": dict(self.config),
            "inputs": dict(self.inputs),
        }

    @property
    def id(self) -> str:
        """Hash of the recipe."""
        return digest(self.as_dict())

    def fingerprint(self, *parts: object) -> str:
        """Hash of one row's own inputs under this recipe; the identities of whole input tables do not enter."""
        return digest([self.kind, self.schema_version, self.stage, self.stage_version, dict(self.config), parts])[:32]


@dataclass(frozen=True)
class Artifact:
    """A finished artifact on disk, opened for reading."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Hash of recipe and files."""
        return str(self.manifest["identity"])

    @property
    def recipe_id(self) -> str:
        """Hash of the recipe it was made with."""
        return str(self.manifest["recipe_id"])

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe as plain values."""
        recipe: Mapping[str, Any] = self.manifest["recipe"]
        return recipe

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration it was made with."""
        config: Mapping[str, Any] = self.recipe["config"]
        return config

    @property
    def installed(self) -> Mapping[str, Any] | None:
        """For a model installed from a pack: its origin and requirements (``skinkit.learning.pack``); else None."""
        installed: Mapping[str, Any] | None = self.manifest.get("installed")
        return installed

    @property
    def info(self) -> Mapping[str, Any]:
        """What the stage recorded beside the identity (timings, notes, counts)."""
        info: Mapping[str, Any] = self.manifest.get("info", {})
        return info

    def table(self, columns: Sequence[str] | None = None, file: str = TABLE) -> pd.DataFrame:
        """The artifact's table, or another one of its Parquet files.

        Raises:
            InputError: it is absent or damaged, or another run has replaced the artifact in the meantime.
        """
        return read_table(self.path / file, columns, sha256=self.sha256_of(file))

    def sha256_of(self, name: str) -> str:
        """The hash of a file in the manifest; empty where it has none."""
        return str(self.manifest["files"].get(name) or self.manifest.get("beside", {}).get(name, ""))

    def rows(self, columns: Sequence[str] | None = None) -> TableRows:
        """The artifact's table as plain rows, read in one thread to limit memory."""
        import pyarrow as pa

        names = list(columns) if columns else None
        with opened_table(self.path / TABLE, self.sha256_of(TABLE)) as file:
            groups = range(file.num_row_groups)
            pieces = [file.read_row_group(group, columns=names, use_threads=False) for group in groups]
            return TableRows(pa.concat_tables(pieces) if pieces else file.schema_arrow.empty_table())

    def dates(self) -> list[row_dates.Dating]:
        """When each row last changed, in the order of the table; the artifact's date if that was not recorded."""
        if (self.path / row_dates.FILE).is_file():
            return row_dates.from_json(self.json(row_dates.FILE))
        record = self.manifest["made"]
        with opened_table(self.path / TABLE, self.sha256_of(TABLE)) as file:
            return [row_dates.Dating(str(record["at"]), str(record.get("run", "")), str(record["skinkit"]))] * (
                file.metadata.num_rows
            )

    def json(self, name: str) -> Any:
        """A JSON file of the artifact.

        Raises:
            InputError: as :meth:`data`, or it is not JSON.
        """
        try:
            return json.loads(self.data(name).decode("utf-8"))
        except ValueError as error:
            raise InputError(
                f"{self.path / name} cannot be read ({error})", "a JSON file written by skinkit", _REMAKE
            ) from None

    def data(self, name: str) -> bytes:
        """The bytes of one of its files.

        Raises:
            InputError: it is absent, or not the file that the manifest describes.
        """
        expected = self.sha256_of(name)
        try:
            data = (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise InputError(
                f"{self.path / name} cannot be read ({error})", "a file written by skinkit", _REMAKE
            ) from None
        if expected and hashlib.sha256(data).hexdigest() != expected:
            raise InputError(
                f"{self.path / name} is not the file that its manifest describes",
                "an artifact as its stage wrote it",
                f"rerun, if another run has just replaced it; else {_REMAKE}",
            )
        return data


def exists(path: Path) -> bool:
    """Whether a finished artifact (or its predecessor, after a crash between the two renames) exists."""
    return settled(path) is not None


def settled(path: Path) -> Path | None:
    """The folder of the finished artifact: its own, or ``NAME.previous`` while a writer renames.

    A manifest whose table is gone is no artifact.
    """
    # A writer may finish its two renames between the first two checks; the third then finds the folder.
    for candidate in (path, path.with_name(path.name + ".previous"), path):
        if (candidate / MANIFEST).is_file() and (candidate / TABLE).is_file():
            return candidate
    return None


def open_artifact(path: Path, fix: str = "run the stage that makes it") -> Artifact:
    """Open a finished artifact.

    Raises:
        InputError: it is absent, truncated, or written by a newer skinkit.
    """
    place, text = _manifest_of(path)
    if place is None:
        found = f"no {TABLE} in {path}" if (path / MANIFEST).is_file() else f"no artifact at {path}"
        raise InputError(found, f"a folder with {TABLE} and {MANIFEST}", fix)
    try:
        manifest = json.loads(text.decode("utf-8"))
        version = int(manifest["manifest_version"])
        if version <= MANIFEST_VERSION:
            _check_entries(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{place / MANIFEST} cannot be read ({error})", "a manifest written by skinkit", f"remove {place} and {fix}"
        ) from None
    if version > MANIFEST_VERSION:
        raise InputError(
            f"{place} has manifest version {version}",
            f"version {MANIFEST_VERSION} or older",
            "use the newer skinkit that wrote it, or another workspace",
        )
    return Artifact(place, manifest)


def _manifest_of(path: Path) -> tuple[Path | None, bytes]:
    """The folder of a finished artifact and its manifest; no folder if there is none.

    A writer may put another artifact in place after the folder was found: it is then looked for again.
    """
    for _ in range(_ATTEMPTS):
        place = settled(path)
        if place is None:
            break
        with contextlib.suppress(FileNotFoundError):
            return place, (place / MANIFEST).read_bytes()
    return None, b""


_ENTRIES = {
    "identity": str,
    "recipe_id": str,
    "recipe": dict,
    "files": dict,
    "counts": dict,
    "info": dict,
    "made": dict,
}
_OF_RECIPE = {"kind": str, "schema_version": int, "stage": str, "stage_version": int, "config": dict, "inputs": dict}


def _check_entries(manifest: Mapping[str, Any]) -> None:
    """Refuse a manifest without the required entries.

    Raises:
        ValueError: naming the first entry that is absent or of the wrong type.
    """
    for entries, where in ((_ENTRIES, manifest), (_OF_RECIPE, manifest.get("recipe", {}))):
        for name, kind in entries.items():
            if not isinstance(where.get(name), kind):
                raise ValueError(f"{name} is {where.get(name)!r:.60}")


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as it is written, with its seal."""
    return json.dumps({**manifest, SEAL: _seal(manifest)}, indent=1, ensure_ascii=False).encode()


def _seal(manifest: Mapping[str, Any]) -> str:
    """Checksum of all entries but the seal."""
    plain: dict[str, Any] = json.loads(json.dumps(manifest, ensure_ascii=False))
    return digest({name: value for name, value in plain.items() if name != SEAL})


def gone(artifact: Artifact) -> list[str]:
    """Names of files of its identity that are not there; no content is read."""
    return [name for name in artifact.manifest["files"] if not (artifact.path / name).is_file()]


def follows(artifact: Artifact) -> bool:
    """Whether the manifest has its seal, and its identity follows from its recipe and its hashes; no file is read.

    The identity of an installed model is that of its original files, from where it was trained. Of a manifest of an
    older version, which has no seal, only the identity can be checked.
    """
    manifest = artifact.manifest
    hashes = (artifact.installed or manifest).get("files", {})
    whole = SEAL not in manifest or manifest[SEAL] == _seal(manifest)
    return whole and bool(artifact.identity == digest([artifact.recipe, hashes]))


def as_written(artifact: Artifact) -> Artifact:
    """The artifact, whose manifest is as it was written: what it says beside the identity may be printed.

    Raises:
        InputError: it was changed.
    """
    if not follows(artifact):
        raise InputError(
            f"{artifact.path / MANIFEST} is not as it was written",
            "the manifest that its stage, or 'skinkit models install', wrote",
            "run 'skinkit run', which makes the artifact again; a model: train it again or install it with --replace",
        )
    return artifact


def rehash(artifact: Artifact) -> list[str]:
    """Names of files whose content differs from the manifest's hashes, missing files included.

    The manifest is among them if it was changed (:func:`follows`).
    """
    manifest = artifact.manifest
    bad = [] if follows(artifact) else [MANIFEST]
    for name, expected in {**manifest["files"], **manifest.get("beside", {})}.items():
        file = artifact.path / name
        if not file.is_file() or file_sha256(file) != expected:
            bad.append(str(name))
    return bad
