"""A trained model in one file, for machines that only predict: writes, checks and installs packs.

A pack is a ZIP archive of uncompressed members: ``pack.json`` first, then the files it lists with size and SHA-256.
Packing the same model twice gives the same bytes. A pack holds the classifier, its segmenter if it has one, and the
settings of the stages between photo and prediction.

A pack names nobody of the training data: it holds no ids of cases, lesions or patients, and no curves or snapshots of
training. In ``trained_on.parquet`` hashes of photos replace the names of cases and groups, so the leakage guard still
recognises a training photo. What a head reads of some training cases is in it only where it was asked for
(``skinkit.learning.replay_features``). The model keeps its identity, so predictions are the same on every machine.

An installed model is frozen: it is never stale and never retrained. The stages before it use the settings it requires,
whatever ``skinkit.toml`` says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import stat
import struct
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from skinkit import __version__
from skinkit.artifacts.artifact import (
    MANIFEST,
    MANIFEST_VERSION,
    Artifact,
    exists,
    manifest_bytes,
    open_artifact,
    rehash,
)
from skinkit.artifacts.files import digest, file_sha256, put_in_place, write_atomic, written_whole
from skinkit.artifacts.leftovers import refuse_links
from skinkit.artifacts.locks import lock
from skinkit.errors import ConfigError, InputError, RefusedError, did_you_mean, listed
from skinkit.models.parts.protocol import MEMBERS
from skinkit.schemas import TRAINED_ON_FILE
from skinkit.workspace import UNFINISHED, Ref, Workspace, check_name

FORMAT, VERSION = "skinkit-model", 1
INDEX = "pack.json"
CLASSIFIER, SEGMENTER = "classifier", "segmenter"
STAYS = (TRAINED_ON_FILE, "left_out.csv", "snapshots.json", "history.parquet", "curve.png")
"""Files of a model that are left out of a pack or changed for it."""
_MEMBER = re.compile(
    rf"(?P<part>{CLASSIFIER}|{SEGMENTER})/(?P<file>({MEMBERS}/[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}/)?"
    r"(fold_[0-9]{1,4}/(final/)?)?[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.(json|md|txt|safetensors|parquet))"
)
_MOST_MEMBERS = 2000
_LARGEST_INDEX = 16 << 20
_LARGEST_DIRECTORY = 4 << 20
_LARGEST = {".safetensors": 1 << 62, ".json": 32 << 20, ".md": 32 << 20}
_LARGEST_PLAIN = 256 << 20
"""Maximum size of files that are read into memory whole: all but safetensors; of JSON what it becomes is larger."""
_CHUNK = 1 << 20
_BEGINNING = (1980, 1, 1, 0, 0, 0)
_CHAIN = ("masks", "features", "fused")
Changed = Callable[[str, Artifact], Mapping[str, bytes | None]]
"""Part and its model -> file -> what it holds in the pack, where that is not what it holds here; None leaves it out."""
Opens = Callable[[Artifact, str], object]
"""Opens a model of a task as predictions do; :class:`InputError` where a file of it is not what it should be."""


@dataclass(frozen=True)
class Pack:
    """The content of ``pack.json``.

    Attributes:
        name: of the model in the workspace that packed it.
        parts: ``classifier`` or ``segmenter``, or both -> name and manifest.
        asks_for: kind of artifact -> its name and settings, for the artifacts that the classifier depends on.
        files: member -> ``bytes`` and ``sha256``.
        skinkit: version of skinkit that packed it.
    """

    name: str
    parts: Mapping[str, Mapping[str, Any]]
    asks_for: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, Mapping[str, Any]]
    skinkit: str

    @property
    def main(self) -> Mapping[str, Any]:
        """The part the pack is named after."""
        return self.parts[CLASSIFIER if CLASSIFIER in self.parts else SEGMENTER]

    @property
    def identity(self) -> str:
        """Identity of the model the pack is named after."""
        return str(self.main["manifest"]["identity"])

    def as_dict(self) -> dict[str, Any]:
        """``pack.json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "skinkit": self.skinkit,
            "name": self.name,
            "parts": self.parts,
            "asks_for": self.asks_for,
            "files": self.files,
        }


# ------------------------------------------------------------------------------------------------------- packing


def write(workspace: Workspace, name: str, output: Path, changed: Changed | None = None) -> tuple[Pack, str]:
    """Pack a model of a workspace, with its segmenter.

    Args:
        workspace: where the model is.
        name: of the model.
        output: the file; written atomically.
        changed: files that travel with another content than the model's own, beside it or not at all; only such as do
            not enter its identity.

    Returns:
        The content of the pack, and the SHA-256 of the file.

    Raises:
        InputError: there is no such model, or an artifact it depends on is missing.
        RefusedError: a file of it has changed, or its segmenter is not the one it was trained with.
    """
    model = checked(trained(name, workspace))
    about = model.json("model.json")
    if about.get("task") in ("pretrain", "generate"):
        refuse_other_task(about, "classify", name)
    parts = {CLASSIFIER if about.get("task", "classify") == "classify" else SEGMENTER: (name, model)}
    asks_for: dict[str, dict[str, Any]] = {}
    if CLASSIFIER in parts:
        asks_for = _chain(workspace, model, about)
        drawn_by = str(asks_for["masks"]["config"].get("model", ""))
        if about.get("segmenter_identities"):
            parts[SEGMENTER] = (drawn_by, _segmenter(workspace, drawn_by, name, about))
    sources: dict[str, Path | bytes] = {}
    described = {}
    for part, (called, artifact) in parts.items():
        others = changed(part, artifact) if changed else {}
        own = {file: source for file, source in {**_travelling(artifact), **others}.items() if source is not None}
        sources |= {f"{part}/{file}": source for file, source in own.items()}
        described[part] = {"name": called, "manifest": _manifest(artifact, own)}
    for member in sources:
        if not _MEMBER.fullmatch(member):
            raise InputError(
                f"{name} has a file {member.partition('/')[2]}",
                "JSON, Markdown, text, Parquet and safetensors, in the model's folder or in one of a fold",
                "change how the model saves its files",
            )
    files = {member: {"bytes": _size(source), "sha256": _sha256(source)} for member, source in sorted(sources.items())}
    pack = Pack(name, described, asks_for, files, __version__)
    index = json.dumps(pack.as_dict(), ensure_ascii=False, sort_keys=True, indent=1).encode()
    with written_whole(output, outside=True) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, INDEX, index)
        for member in files:
            _add(archive, member, sources[member])
    return pack, file_sha256(output)


def _travelling(artifact: Artifact) -> dict[str, Path | bytes]:
    """Name -> content of the model files that go into a pack."""
    named = [*artifact.manifest["files"], *artifact.manifest.get("beside", {})]
    contents: dict[str, Path | bytes] = {n: artifact.path / n for n in named if n.rpartition("/")[2] not in STAYS}
    if TRAINED_ON_FILE in named:
        contents[TRAINED_ON_FILE] = (
            artifact.path / TRAINED_ON_FILE if artifact.installed else _nameless(artifact.path / TRAINED_ON_FILE)
        )
    return contents


def _nameless(file: Path) -> bytes:
    """``trained_on.parquet`` without ids: cases and groups are named after the hashes of their photos.

    Cohorts get names that no cohort of a workspace can have, so that none is mistaken for the one trained on.
    """
    import tempfile

    import pandas as pd

    from skinkit import schemas
    from skinkit.artifacts.tables import read_table, write_table

    table = read_table(file)
    named = table["pixel_sha256"].notna() | table["image_sha256"].notna()
    table = table[named | table["part"].isin(schemas.LEARNT)]  # of a cohort it was not trained on, nothing travels
    photos = [
        pixels or content or "" for pixels, content in zip(table["pixel_sha256"], table["image_sha256"], strict=True)
    ]
    alike: dict[tuple[str, str], set[str]] = {}
    groups: dict[str | None, set[str]] = {}
    for cohort, case, group, photo in zip(table["cohort"], table["case_id"], table["group_id"], photos, strict=True):
        alike.setdefault((cohort, photo), set()).add(case)
        groups.setdefault(group, set()).add(photo)
    kept = {
        "fold": table["fold"],
        "cohort": [f"packed:{cohort}" for cohort in table["cohort"]],
        # Cases with identical photos are numbered.
        "case_id": [
            f"{_short('case', photo)}-{sorted(alike[cohort, photo]).index(case)}"
            for cohort, case, photo in zip(table["cohort"], table["case_id"], photos, strict=True)
        ],
        "part": table["part"],
        "group_id": [f"packed:image:{_short('group', *sorted(groups[group]))}" for group in table["group_id"]],
        **{name: table[name] for name in ("image_sha256", "pixel_sha256", "dhash")},
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / TRAINED_ON_FILE
        write_table(place, schemas.TRAINED_ON, pd.DataFrame(kept))
        return place.read_bytes()


def _short(*parts: str) -> str:
    return digest(parts)[:24]


def _manifest(artifact: Artifact, travelling: Mapping[str, Path | bytes]) -> dict[str, Any]:
    """The manifest of the installed model; the hashes of the files as trained prove its identity."""
    manifest = artifact.manifest
    hashes = {name: _sha256(source) for name, source in sorted(travelling.items())}
    trained = artifact.installed or manifest
    return {
        **{key: manifest[key] for key in ("manifest_version", "identity", "recipe_id", "recipe", "counts", "made")},
        "files": {name: value for name, value in hashes.items() if name in manifest["files"]},
        "beside": {name: value for name, value in hashes.items() if name not in manifest["files"]},
        "sources": {},
        "info": {"leakage_allowed": artifact.info.get("leakage_allowed")},
        "installed": {"files": dict(trained["files"])},
    }


def _chain(workspace: Workspace, model: Artifact, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name and settings of the masks, features and fused tables that the model was trained on."""
    if model.installed:
        return {kind: dict(settings) for kind, settings in model.installed["asks_for"].items()}
    chains: list[dict[str, dict[str, Any]]] = []
    for cohort in about["cohorts"]:
        chain: dict[str, dict[str, Any]] = {}
        name = str(about["fused"])
        for kind, before in (("fused", "features"), ("features", "masks"), ("masks", "")):
            place = workspace.path(Ref(kind, cohort, name))
            recorded = open_artifact(place, fix=f"run 'skinkit fuse --cohort {cohort}', then pack again").config
            chain[kind] = {"name": name, "config": dict(recorded)}
            name = str(recorded.get(before) or name) if before else name
        chains.append(chain)
    differing = [c for c, chain in zip(about["cohorts"], chains, strict=True) if chain != chains[0]]
    if differing:
        raise InputError(
            f"{about['name']} was trained on {about['cohorts'][0]} and {differing[0]}, which were segmented or "
            "measured with different settings",
            "the same settings for all cohorts: predictions can use only one of them",
            "segment and measure them the same way, and train again",
        )
    chain = chains[0]
    measured = about["radiomics"]
    as_trained = {name: measured[name] for name in ("channels", "bin_width", "engine") if name in measured}
    now = chain["features"]["config"]
    changed = [name for name, value in as_trained.items() if now.get(name) != value]
    if changed:
        raise RefusedError(
            f"the features {chain['features']['name']} are now measured with {changed[0]} {now.get(changed[0])!r}",
            f"{as_trained[changed[0]]!r}, as when {about['name']} was trained",
            "measure them with those settings again, or retrain the model",
        )
    settings = workspace.settings.get("predict", {})
    refer = {name: settings[name] for name in ("undecided", "unlike") if name in settings}
    return {**chain, "predictions": {"name": about["name"], "config": refer}}


def _segmenter(workspace: Workspace, segmenter: str, model: str, about: Mapping[str, Any]) -> Artifact:
    """The network that drew the masks the model was trained with."""
    place = workspace.path(Ref("models", name=segmenter))
    artifact = checked(open_artifact(place, fix=f"restore the segmenter {segmenter!r}, then pack again"))
    if artifact.identity not in about["segmenter_identities"]:
        raise RefusedError(
            f"the segmenter {segmenter!r} has the identity {artifact.identity[:12]}",
            f"the one {model} was trained with: " + listed(k[:12] for k in about["segmenter_identities"]),
            f"restore the old segmenter, or train {model} with the new masks",
        )
    return artifact


def _size(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _sha256(source: Path | bytes) -> str:
    return hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else file_sha256(source)


def _add(archive: zipfile.ZipFile, member: str, source: Path | bytes) -> None:
    entry = zipfile.ZipInfo(member, _BEGINNING)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.create_system = 3
    entry.file_size = _size(source)
    with archive.open(entry, "w") as target:
        if isinstance(source, bytes):
            target.write(source)
            return
        with source.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                target.write(chunk)


# ------------------------------------------------------------------------------------------------------ checking


def checked(artifact: Artifact, expected: str = "model files that match their manifest", fix: str = "") -> Artifact:
    """The artifact, after verifying the hash of every file.

    Args:
        artifact: a trained model, or what was made with one.
        expected: what its files should be, for the message.
        fix: how to mend it, for the message; by default that of a model.

    Raises:
        RefusedError: a file is missing or has changed.
    """
    bad = rehash(artifact)
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise RefusedError(
            f"{artifact.path / bad[0]}{more} does not match its recorded SHA-256",
            expected,
            fix or f"install its file with --replace, or run 'skinkit train --name {artifact.path.name} --replace'",
        )
    return artifact


def verify(path: Path, sha256: str = "") -> Pack:
    """Check every byte of a pack and return its content.

    Args:
        path: the file.
        sha256: expected hash of the file, as ``pack`` printed it; empty skips this check.

    Raises:
        InputError: it is not a pack, or a newer skinkit wrote it.
        RefusedError: a member is corrupted, or the file has another SHA-256.
    """
    with _opened(path, sha256) as (pack, archive, _):
        for member, listed in pack.files.items():
            with archive.open(member) as stream:
                _copied(stream, None, listed, f"{path}: {member}")
    return pack


@contextlib.contextmanager
def _opened(path: Path, sha256: str) -> Iterator[tuple[Pack, zipfile.ZipFile, str]]:
    """A pack with a valid index and valid members, its archive, and the SHA-256 of the file.

    One handle serves for hashing and reading, so that the bytes read are the bytes hashed.
    """
    wanted = sha256.strip().lower()
    if wanted and not re.fullmatch("[0-9a-f]{64}", wanted):
        raise ConfigError(f"--sha256 {sha256}", "64 hexadecimal digits", "copy what 'skinkit models pack' printed")
    try:
        stream = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InputError(f"no file {path}", "a file written by 'skinkit models pack'", "check the path") from None
    with stream:
        file_hash = hashlib.file_digest(stream, "sha256").hexdigest()
        if wanted and file_hash != wanted:
            raise RefusedError(
                f"{path} has SHA-256 {file_hash}",
                f"{wanted}; nothing was installed",
                "copy the file again from its source",
            )
        size = _check_directory(stream, path)
        try:
            archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
            raise _no_pack(path, str(error)) from None
        try:
            with archive:
                yield _index(archive, path, size), archive, file_hash
        except (NotImplementedError, zipfile.BadZipFile, EOFError, struct.error, UnicodeDecodeError) as error:
            raise _no_pack(path, str(error)) from None


def _check_directory(stream: IO[bytes], path: Path) -> int:
    """Size of an archive; refuses one whose directory is too large for memory, because ``zipfile`` reads it whole.

    A ZIP file without a comment ends with a record of 22 bytes; ZIP64 has two more before it, of 20 and 56 bytes.
    """
    stream.seek(0, 2)
    size = stream.tell()
    stream.seek(max(0, size - 98))
    tail = stream.read().rjust(98, b"\0")
    end, locator, record = tail[76:], tail[56:76], tail[:56]
    if end[:4] != b"PK\5\6" or end[20:] != b"\0\0":
        raise _no_pack(path, "it does not end like a ZIP archive")
    count, length = struct.unpack("<HI", end[10:16])
    if locator[:4] == b"PK\6\7":
        count, length = struct.unpack("<QQ", record[32:48])
    if count > _MOST_MEMBERS + 1 or length > _LARGEST_DIRECTORY:
        raise _no_pack(path, f"{count} members")
    return size


def _index(archive: zipfile.ZipFile, path: Path, size: int) -> Pack:
    """``pack.json``, after checking the names and storage of all members."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if not names or names[0] != INDEX or len(set(names)) != len(names) or entries[0].file_size > _LARGEST_INDEX:
        raise _no_pack(path, f"it does not begin with one {INDEX}")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        plain = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
        if not 0 <= entry.header_offset < size:
            raise _no_pack(path, f"{entry.filename!r} lies outside of it")
        if not plain or entry.flag_bits & 0x1 or kind not in (0, stat.S_IFREG):
            raise _no_pack(path, f"{entry.filename!r} is compressed, encrypted or not a regular file")
        match = _MEMBER.fullmatch(entry.filename)
        if entry.filename != INDEX and not match:
            raise _no_pack(path, f"it has a member {entry.filename!r}")
        if entry.file_size > _LARGEST.get(Path(entry.filename).suffix, _LARGEST_PLAIN):
            raise _no_pack(path, f"{entry.filename!r} has {entry.file_size} bytes")
    try:
        index = json.loads(archive.read(INDEX).decode("utf-8"))
        if index["format"] != FORMAT:
            raise _no_pack(path, f"its format is {index['format']!r}")
        if index["version"] > VERSION:
            raise InputError(f"{path} is a pack of version {index['version']}", f"{VERSION} or older", "update skinkit")
        pack = Pack(index["name"], index["parts"], index["asks_for"], index["files"], index["skinkit"])
        check_name(pack.name, f"name in {path}")
        sizes = {member: int(listed["bytes"]) for member, listed in pack.files.items()}
        _check_parts(pack, path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_pack(path, f"{INDEX}: {type(error).__name__} {error}") from None
    if sizes != {entry.filename: entry.file_size for entry in entries[1:]}:
        raise _no_pack(path, f"its members are not those that {INDEX} lists")
    return pack


def _check_parts(pack: Pack, path: Path) -> None:
    """Check that the manifests list exactly the members and match their identities."""
    listed = {member: str(entry["sha256"]) for member, entry in pack.files.items()}
    claimed: dict[str, str] = {}
    for part, described in pack.parts.items():
        check_name(described["name"], f"name in {path}")
        manifest = described["manifest"]
        claimed |= {f"{part}/{n}": value for n, value in {**manifest["files"], **manifest["beside"]}.items()}
        trained = manifest["installed"]["files"]
        as_trained = {name: trained.get(name) for name in manifest["files"] if name != TRAINED_ON_FILE}
        same = as_trained == {name: value for name, value in manifest["files"].items() if name != TRAINED_ON_FILE}
        if not same or manifest["identity"] != digest([manifest["recipe"], trained]):
            raise RefusedError(
                f"the identity of {described['name']} in {path} does not match its files",
                "an unchanged model",
                "copy the file again from its source",
            )
        if manifest["manifest_version"] > MANIFEST_VERSION or f"{part}/model.json" not in pack.files:
            raise _no_pack(path, f"{part} was written by a newer skinkit, or is not a model")
    if claimed != listed or not pack.parts or set(pack.parts) - {CLASSIFIER, SEGMENTER}:
        raise _no_pack(path, f"its manifests do not match the members that {INDEX} lists")
    if CLASSIFIER in pack.parts and set(pack.asks_for) != {*_CHAIN, "predictions"}:
        raise _no_pack(path, "it lacks the settings of the stages before the model")
    for wanted in pack.asks_for.values():
        check_name(wanted["name"], f"name in {path}")
        dict(wanted["config"])


def _no_pack(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not a complete pack ({why})", "a file written by 'skinkit models pack'", "copy the file again"
    )


def _copied(stream: IO[bytes], target: IO[bytes] | None, listed: Mapping[str, Any], what: str) -> None:
    """Read a whole member, optionally into a file, and check its size and hash."""
    hashed, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        hashed.update(chunk)
        size += len(chunk)
        if target is not None:
            target.write(chunk)
    if size != int(listed["bytes"]) or hashed.hexdigest() != listed["sha256"]:
        raise RefusedError(
            f"{what} has SHA-256 {hashed.hexdigest()[:16]}...",
            f"{str(listed['sha256'])[:16]}...",
            "copy the file again",
        )


# ---------------------------------------------------------------------------------------------------- installing


def install(
    workspace: Workspace, path: Path, opens: Opens, *, name: str = "", sha256: str = "", replace: bool = False
) -> tuple[Pack, dict[str, str]]:
    """Put the models of a pack into a workspace, all of them or none, after each was opened once.

    If another model already uses the name of the segmenter or of its masks, those of the pack are named after the
    model.

    Args:
        workspace: to install into.
        path: the pack.
        opens: ``skinkit.learning.trained.open_whole``.
        name: of the model in this workspace; default: its name in the pack.
        sha256: expected hash of the file; empty skips this check.
        replace: replace a different model of that name.

    Returns:
        The content of the pack, and part -> its name in this workspace.

    Raises:
        InputError: it is not a pack, or it holds a model that this skinkit does not support or cannot open.
        RefusedError: a member is corrupted, or another model has the name.
    """
    with _opened(path, sha256) as (pack, archive, pack_hash):
        name = name or pack.name
        check_name(name, "name of the model")
        names, asks_for = _named(workspace, pack, name)
        for part, called in names.items():
            if not replace:
                _refuse_other(workspace, called, pack.parts[part]["manifest"]["identity"])
        marks = {"pack_sha256": pack_hash, "packed_as": pack.name, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        with contextlib.ExitStack() as stack:
            unpacked = []
            for part in sorted(names, reverse=True):  # segmenter first, so an installed classifier is always usable
                of_part = {**marks, "asks_for": asks_for if part == CLASSIFIER else {}}
                place = workspace.path(Ref("models", name=names[part]))
                unpacked.append((stack.enter_context(_unpacked(place, archive, pack, part, of_part)), place))
                _refuse_unusable(unpacked[-1][0], opens, part, path)
            for partial, place in unpacked:
                put_in_place(partial, place)
    return pack, names


def _refuse_unusable(partial: Path, opens: Opens, part: str, pack: Path) -> None:
    """Refuse a model whose files are those that its maker listed, and no model."""
    try:
        opens(open_artifact(partial), "classify" if part == CLASSIFIER else "segment")
    except InputError as error:
        raise InputError(
            f"the {part} in {pack} cannot be opened: {error.found}",
            error.expected,
            "nothing was installed: do not use this file, and ask whoever packed it",
        ) from None


def _named(workspace: Workspace, pack: Pack, name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The names in this workspace of each part and of each artifact the model depends on."""
    if CLASSIFIER not in pack.parts:
        return {SEGMENTER: name}, {}
    asks_for: dict[str, Any] = json.loads(json.dumps(pack.asks_for))
    asks_for["predictions"]["name"] = name
    names = {CLASSIFIER: name}
    if SEGMENTER in pack.parts:
        drawn_by = str(pack.parts[SEGMENTER]["name"])
        other = _identity(workspace, drawn_by)
        taken = other is not None and other != pack.parts[SEGMENTER]["manifest"]["identity"]
        names[SEGMENTER] = f"{name}-{drawn_by}" if taken or drawn_by == name else drawn_by
        check_name(names[SEGMENTER], "name of the segmenter")
        asks_for["masks"]["config"]["model"] = names[SEGMENTER]
    if len({asks_for[kind]["name"] for kind in _CHAIN}) > 1 or _clashes(workspace, name, asks_for):
        for kind in _CHAIN:
            asks_for[kind]["name"] = name
        asks_for["features"]["config"]["masks"] = asks_for["fused"]["config"]["features"] = ""  # empty: the same name
    return names, asks_for


def _clashes(workspace: Workspace, name: str, asks_for: Mapping[str, Any]) -> bool:
    """Whether masks, features or fused tables with these names may have other settings in this workspace."""
    for other in models_of(workspace):
        installed = open_artifact(workspace.path(Ref("models", name=other))).installed or {}
        theirs = installed.get("asks_for") or asks_for
        if other != name and any(theirs[k]["name"] == asks_for[k]["name"] and theirs[k] != asks_for[k] for k in _CHAIN):
            return True
    return bool(workspace.with_role("development"))  # which may be segmented and measured differently


def _identity(workspace: Workspace, name: str) -> str | None:
    path = workspace.path(Ref("models", name=name))
    return open_artifact(path).identity if exists(path) else None


def _refuse_other(workspace: Workspace, name: str, identity: str) -> None:
    path = workspace.path(Ref("models", name=name))
    if not exists(path):
        return
    present = open_artifact(path)
    if present.identity != identity or not present.installed:
        how = "was installed" if present.installed else "was trained here"
        raise RefusedError(
            f"a model {name!r} with the identity {present.identity[:12]} {how}, in {workspace.root}",
            f"an unused name, or the installed model {identity[:12]}",
            f"give --name {name}_2 to keep both, or --replace",
        )


@contextlib.contextmanager
def _unpacked(path: Path, archive: zipfile.ZipFile, pack: Pack, part: str, marks: Mapping[str, Any]) -> Iterator[Path]:
    """The folder beside its place into which one model was extracted, every file checked; the place is locked."""
    import shutil

    partial = path.with_name(path.name + ".installing")
    manifest = dict(pack.parts[part]["manifest"])
    manifest["installed"] = {**manifest["installed"], **marks}
    with lock(path):
        refuse_links(path)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            for member, listed in pack.files.items():
                match = _MEMBER.fullmatch(member)
                if match and match["part"] == part:
                    with written_whole(partial / match["file"]) as target, archive.open(member) as stream:
                        _copied(stream, target, listed, member)
            write_atomic(partial / MANIFEST, manifest_bytes(manifest))
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


# ---------------------------------------------------------------------------------------------- what is installed


def models_of(workspace: Workspace) -> list[str]:
    """Names of the models of a workspace."""
    folder = workspace.path(Ref("models", name="x")).parent
    return [path.name for path in sorted(folder.glob("*")) if not path.name.endswith(UNFINISHED) and exists(path)]


def trained(name: str, workspace: Workspace) -> Artifact:
    """Open a model of the workspace, trained there or installed.

    Raises:
        InputError: there is no model of that name.
    """
    path = workspace.path(Ref("models", name=name))
    if not exists(path):
        there = models_of(workspace)
        raise InputError(
            f"no model {name!r} in {workspace.root}",
            did_you_mean(name, there) if there else "a trained model; there is none yet",
            _to_have_model(name, there),
        )
    return open_artifact(path)


def _to_have_model(name: str, there: Sequence[str]) -> str:
    """What to do where there is no model of a name: a kind of model is trained, a misspelt name is corrected."""
    from skinkit.models import DrawingRule, is_registered, load_model

    install = "'skinkit models install' with a pack"
    if is_registered(name) and issubclass(load_model(name), DrawingRule):
        return f"{name} is a rule that draws masks and is never trained: name a model"
    if is_registered(name):
        return f"run 'skinkit train --model {name}', or {install}"
    if there:
        return f"name one of these, or run {install}"
    return f"run 'skinkit train --name {name}', or {install}"


def refuse_other_task(about: Mapping[str, Any], task: str, name: str) -> None:
    """Refuse a model of another task than is asked for.

    Args:
        about: its ``model.json``.
        task: ``classify``, ``segment``, ``pretrain`` or ``generate``.
        name: how it is called here.

    Raises:
        InputError: it has another task.
    """
    own = str(about.get("task", "classify"))
    if own == task:
        return
    does = {
        "segment": "draws masks",
        "classify": "classifies",
        "pretrain": "only answers a backbone",
        "generate": "only writes synthetic images",
    }
    start = f", or start one from it: 'skinkit train --weights model:{name}'" if own == "pretrain" else ""
    raise InputError(
        f"the model {name!r} {does.get(own, own)}",
        f"one that {does[task]}",
        f"name another; 'skinkit models list' shows the task of each{start}",
    )


def fused_name(model: Artifact) -> str:
    """Name of the fused tables a classifier reads in this workspace; :class:`InputError` for another model."""
    if model.installed and "fused" in model.installed["asks_for"]:
        return str(model.installed["asks_for"]["fused"]["name"])
    about = model.json("model.json")
    refuse_other_task(about, "classify", model.path.name)
    return str(about["fused"])


def asked_for(workspace: Workspace, ref: Ref) -> Mapping[str, Any]:
    """Settings that an installed model requires of an artifact it depends on or of its predictions, or empty."""
    if ref.kind not in (*_CHAIN, "predictions"):
        return {}
    for name in models_of(workspace):
        installed = open_artifact(workspace.path(Ref("models", name=name))).installed or {}
        wanted = installed.get("asks_for", {}).get(ref.kind)
        if wanted and wanted["name"] == ref.name:
            config: Mapping[str, Any] = wanted["config"]
            return config
    return {}
