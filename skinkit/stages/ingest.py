"""ingest: a source folder -> cases, one row per image in canonical columns.

A table row without its image, and an image without a table row, are ``pending`` and checked again in the next run. Of
images with identical pixels the first by ``image_id`` is kept, the others are excluded, unless they are views of one
case: all are kept, flagged as ``views_share_picture``. A case with an unknown
diagnosis is usable, but neither trained on nor scored. Only pixels are read from image files: no EXIF, no GPS position,
no DICOM header.

With a key file (``--pseudonymise``, or ``pseudonymise`` of the cohort in ``skinkit.toml``) the ids of patients,
lesions, cases, exams and images, and file names, become pseudonyms (``skinkit.privacy.pseudonyms``). A note beside the
artifacts records this, so a cohort never silently returns to its original ids or changes its key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from skinkit.artifacts.artifact import Artifact, exists, open_artifact
from skinkit.artifacts.builder import Builder
from skinkit.artifacts.files import digest, write_atomic
from skinkit.artifacts.flags import count_flags, flags_text
from skinkit.console import Console
from skinkit.data import capture, drawn_cohorts, file_contents
from skinkit.errors import CaseError, ConfigError, InputError, RefusedError
from skinkit.options import Help
from skinkit.privacy import pseudonyms
from skinkit.schemas import CASES, EXCLUDED, OK
from skinkit.stages import Job, Sources
from skinkit.studies import selection
from skinkit.taxonomy import MALIGNANT_SETS
from skinkit.workers import map_cases
from skinkit.workspace import SETTINGS_FILE, Cohort, Ref, Workspace

VERSION = 5
SCHEMA = CASES
SHARES = True
_SHOWN_CASES = 12
_FEWEST_ASKED = 3
"""Fewest patient attributes a table must have for their joint absence to be informative."""


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    draft: Annotated[
        str, Help("write a first cohort.toml for this table into FOLDER and stop", identity=False, metavar="TABLE")
    ] = ""
    folder: Annotated[str, Help("folder of the images, with --draft", identity=False, positional=True)] = ""
    selection: Annotated[
        selection.SelectionName, "exclusion criteria of this paper: no image; no age, sex or site; unconfirmed"
    ] = ""
    pseudonymise: Annotated[
        str,
        Help("key file outside the workspace: ids become keyed pseudonyms", identity=False, metavar="<key file>"),
    ] = ""


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """The cases of every cohort, or of the named ones.

    Raises:
        ConfigError: with a name: cases are called after their cohort.
    """
    if name:
        raise ConfigError(f"--name {name} for cases", "no name: they have that of their cohort", "leave --name out")
    return [Ref("cases", workspace.cohort(c).name) for c in cohorts or workspace.cohorts]


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """Nothing, except for a source that draws metadata: it reads a split and the cases of its training rows."""
    from skinkit.data import load_source

    cohort = workspace.cohort(target.cohort)
    if load_source(cohort.source).draw is None:
        return {}
    settings = drawn_cohorts.settings_of(cohort, workspace)
    return {"training": Ref("cases", settings.metadata_from), "split": Ref("split", name=settings.split)}


def resolve(config: Config, target: Ref, workspace: Workspace) -> Config:
    """The key the cohort's pseudonyms are made with, where it has one."""
    own = workspace.cohort(target.cohort).key_file
    key_file = config.pseudonymise
    if key_file and key_file != workspace.settings.get("ingest", {}).get("pseudonymise"):  # option wins
        own = Path(key_file).expanduser().absolute()
    return replace(config, pseudonymise=str(own or ""))


def sources(config: Config, target: Ref, workspace: Workspace) -> Sources:
    """The cohort's files: its description and tables enter the recipe, all files are watched.

    Of a key only the check value enters, so that the key file may be moved.
    """
    from skinkit.data import find_files

    cohort = workspace.cohort(target.cohort)
    key = _key(config, target, workspace)
    own_files = find_files(cohort)
    described: list[Any] = [cohort.source, cohort.role, sorted(cohort.options.items()), own_files.content]
    if own_files.source.revision:
        described.append(own_files.source.revision)
    if beside := drawn_cohorts.beside(cohort):
        more = find_files(beside)
        described, watch = [*described, more.content], digest([own_files.watch, more.watch])
    else:
        watch = own_files.watch
    named = {} if key is None else {"pseudonyms": key.check}

    renames = None if own_files.source.pseudonymous else key

    def unchanged(artifact: Artifact) -> bool:
        paths = [path if renames is None else renames.file(path) for path in (*own_files.masks, *own_files.images)]
        known = file_contents.read(artifact.path)
        return (
            not own_files.closed
            and not beside
            and file_contents.unchanged(_root(cohort, config, workspace), paths, known)
        )

    return Sources(inputs={"source": digest(described), **named}, watch=watch, unchanged=unchanged)


def _root(cohort: Cohort, config: Config, workspace: Workspace) -> Path:
    """The cohort's folder, in which files go by their pseudonyms where it has a key."""
    if not config.pseudonymise:
        return cohort.root
    return pseudonyms.KeyedFolder.of(cohort.root, Path(config.pseudonymise), workspace.root)


def _key(config: Config, target: Ref, workspace: Workspace) -> pseudonyms.Key | None:
    """The key of the cohort's pseudonyms; None where it keeps its own ids.

    Raises:
        InputError: the key file is absent.
        RefusedError: it is in the workspace, too short, or not the key this cohort was read with.
    """
    if not config.pseudonymise:
        return None
    key = pseudonyms.read_key(Path(config.pseudonymise), workspace.root)
    folder = workspace.path(target).parent
    before = pseudonyms.remembered(folder)
    if before is not None and before.check != key.check:
        raise RefusedError(
            f"{config.pseudonymise} is not the key that cohort {target.cohort!r} was read with",
            f"the key with the check value {before.check} (it was {before.key_file})",
            f"give that key, or remove {folder} to begin anew with other pseudonyms",
        )
    return key


def audit(config: Config, job: Job) -> None:
    """Record the path of the key, even if the artifact is up to date."""
    key = _key(config, job.target, job.workspace)
    if key is not None:
        _remember(config, job, key)


def direct(config: Config, console: Console) -> dict[str, Any] | None:
    """Write a draft of ``cohort.toml`` if ``--draft`` is set."""
    if not config.draft:
        if config.folder:
            raise ConfigError(
                f"a folder {config.folder!r} without --draft",
                "skinkit ingest, or skinkit ingest --draft TABLE FOLDER",
                "name the folder as path of a cohort in skinkit.toml",
            )
        return None
    from skinkit.data.draft import write_draft

    if not config.folder:
        raise ConfigError("--draft without a folder", "skinkit ingest --draft TABLE FOLDER", "name the images' folder")
    return write_draft(Path(config.draft).expanduser(), Path(config.folder).expanduser())


def run(config: Config, job: Job) -> Artifact:
    """Read one cohort: the tables, then every new or changed image."""
    from skinkit.audit.shortcuts import PATIENT_BLOCK
    from skinkit.data import find_files
    from skinkit.data.cases import list_cases
    from skinkit.data.mask_reading import reading_of

    assert job.sources is not None
    cohort = job.cohort
    cohort_files = find_files(cohort)
    _refuse_emptied(job, len(cohort_files.images))
    key = _key(config, job.target, job.workspace)
    listing = list_cases(cohort, cohort_files, job.console, private=key is not None)
    reading = reading_of(cohort)
    for row in listing.rows:
        if row["truth_mask_path"]:
            row |= {"truth_mask_label": reading.label, "truth_mask_polarity": reading.polarity or None}
    rule = config.selection if cohort.role != "inference" else ""  # criteria are for studies, not patients
    draw = None
    if listing.source.draw is not None:
        draw = drawn_cohorts.drawn(cohort, listing, job.workspace, job.inputs)
        job.console.info(f"{cohort.name}: {draw['text']}")
    files: dict[str, Any] = {**cohort_files.masks, **cohort_files.images}
    root = _root(cohort, config, job.workspace)
    _refuse_other_keys(job, listing.id_space, key)
    if key is not None:
        if not listing.source.pseudonymous:
            listing.rows[:] = _with_pseudonyms(listing.rows, key, listing.id_space)
            files = {key.file(path): file for path, file in files.items()}
        _remember(config, job, key)
    with job.build() as build:
        _inspect_all(job, listing.rows, files, root, build)
        listing.rows.clear()  # free memory: the rows are on disk
        build.finish_share()
        before = build.recalled([*_RECALLED, *PATIENT_BLOCK])
        rows = without_repeats(selection.within(before, rule))
        changed = {
            (row["image_id"],): {name: row[name] for name in _OUTCOME}
            for old, row in zip(before, rows, strict=True)
            if any(old[name] != row[name] for name in _OUTCOME)
        }
        info = _counts(listing.flow, listing.unmapped, rows)
        _report_counts(job, rows, info)
        for text in _unexpected(listing.source.expected, info):
            job.console.warn(f"{cohort.name}: {text}")
        return build.finish(
            outcomes=changed,
            info={
                "source": cohort.source,
                "title": listing.source.title,
                "citation": listing.source.citation,
                "licence": listing.source.licence,
                "role": cohort.role,
                "id_space": listing.id_space,
                "phantom": bool(cohort.options.get("phantom", False)),
                "selection": rule or None,
                "drawn": draw,
                "spellings": listing.spellings or None,
                "unknown_rows": {name: sum(counts.values()) for name, counts in listing.unknown.items()},
                "pseudonyms": None if key is None else {"key_check": key.check, "signs": pseudonyms.LENGTH},
                **info,
            },
            sources={"watch": job.sources.watch},
            beside=(file_contents.FILE,),
        )


def _refuse_emptied(job: Job, images: int) -> None:
    """Refuse an empty folder where images were read before: its network share is probably not mounted.

    Raises:
        InputError: the folder holds no image, but did before.
    """
    path = job.workspace.path(job.target)
    before = open_artifact(path).manifest["counts"].get(OK, 0) if exists(path) else 0
    if before and not images:
        raise InputError(
            f"no image in {job.cohort.root}, where {before} were read before",
            "the folder with its images",
            f"mount the share and run again; if the images are meant to be gone, remove {path} first",
        )


def _with_pseudonyms(rows: Sequence[Mapping[str, Any]], key: pseudonyms.Key, space: str) -> list[dict[str, Any]]:
    """The rows with pseudonyms, sorted by image_id.

    Raises:
        RefusedError: two images share a pseudonym (practically impossible).
    """
    from skinkit.data.cases import group_of

    renamed = [pseudonyms.with_pseudonyms(row, key, space) for row in rows]
    for row in renamed:
        row["group_id"] = group_of(space, row)
    if len({row["image_id"] for row in renamed}) < len({row["image_id"] for row in rows}):
        raise RefusedError("two images share a pseudonym", "a pseudonym each", "use another key")
    return sorted(renamed, key=lambda row: str(row["image_id"]))


def _refuse_other_keys(job: Job, space: str, key: pseudonyms.Key | None) -> None:
    """Refuse different keys for cohorts that share ids: the leakage guard could not match their pseudonyms.

    Raises:
        RefusedError: another cohort of the same id space has its own ids, or those of another key.
    """
    for name in job.workspace.cohorts:
        path = job.workspace.path(Ref("cases", name))
        if name == job.target.cohort or not exists(path):
            continue
        info = open_artifact(path).info
        theirs = (info.get("pseudonyms") or {}).get("key_check")
        if info.get("id_space") != space or theirs == (key and key.check):
            continue
        shared = f"cohorts {job.target.cohort!r} and {name!r} share the id space {space!r}"
        if key and not theirs:  # it may be ingested with the key later in this run
            job.console.warn(f"{shared}: ingest {name} with the same key, or leakage between them goes undetected")
        else:
            raise RefusedError(
                f"{shared}, but " + ("their keys differ" if key else "only one of them is pseudonymised"),
                "one key for both, so that leakage between them is detected",
                f"give both the same pseudonymise = KEYFILE in {SETTINGS_FILE}, or another id_space",
            )


def _remember(config: Config, job: Job, key: pseudonyms.Key) -> None:
    """Record the cohort's key beside the artifacts before any row is written."""
    key_file, path = Path(config.pseudonymise), job.workspace.path(job.target)
    memory = pseudonyms.Memory(key_file, key.check)
    folder = path.parent
    if pseudonyms.remembered(folder) == memory:
        return
    if exists(path) and not open_artifact(path).info.get("pseudonyms"):
        job.console.warn(
            f"{job.target.cohort} had its own ids until now: models that were trained know its patients by them, so "
            "train again; 'skinkit scrub' lists where they still stand"
        )
    if pseudonyms.readable_by_others(key_file):
        job.console.warn(f"the key file {key_file} can be read by other users: chmod 600 {key_file}")
    write_atomic(folder / pseudonyms.MEMORY, pseudonyms.to_remember(memory))


_FILES = ("image_path", "truth_mask_path")
ONE_PICTURE = "views_share_picture"
_OUTCOME = ("status", "reason", "detail", "flags")
_RECALLED = (
    "image_id", "case_id", "view", "patient_id", "lesion_id", "group_id", "pixel_sha256", "diagnosis",
    "diagnosis_source", "age_years", "sex", "site", "modality", "truth_mask_path", *_OUTCOME,
)  # fmt: skip
"""What is looked at, beside the patient block, when all rows are known: repeats, selections and counts."""


def _inspect_all(
    job: Job, rows: Sequence[Mapping[str, Any]], files: Mapping[str, Any], root: Path, build: Builder
) -> None:
    """Build every row: rows without an image unchanged, the others with the image's size and hashes.

    A row is kept while its table cells and the contents of its files are the same, wherever the files have moved.
    """
    items = {(row["image_id"],): row for row in rows}
    mine = items.keys() if job.share is None else job.share.of(items)
    named = [items[key][column] for key in mine for column in _FILES if items[key][column] is not None]
    if job.share is None:
        named += files  # those that no row names are recorded too
    show = partial(job.console.progress, label="hashing files")
    known = file_contents.read(build.path, build.partial)
    contents = file_contents.of_files(root, named, known, jobs=job.jobs, progress=show)
    file_contents.write(build.partial, contents, job.share.slug if job.share else "")
    fingerprints = {
        key: job.recipe.fingerprint(row, [_content(row[column], contents) for column in _FILES]) if key in mine else ""
        for key, row in items.items()
    }
    todo = [items[key] for key in build.plan(fingerprints)]
    for row in todo:
        if row["status"] != OK:
            build.add(row)
    work = partial(inspect_case, root=root)
    fresh = [row for row in todo if row["status"] == OK]
    for row in map_cases(work, fresh, key=("image_id",), label="reading images", **job.pace):
        build.add({**items[row["image_id"],], **row})


def _content(path: str | None, contents: file_contents.Contents) -> str | None:
    """What a file of a row contains, so that a changed file is read again; of one that cannot be read, its stamp."""
    return None if path is None else contents[path].sha256 or contents[path].stamp


def inspect_case(case: Mapping[str, Any], *, root: Path) -> dict[str, Any]:
    """Decode one image and hash it, and the file of its truth mask where it has one.

    Raises:
        CaseError: the image cannot be decoded completely.
    """
    import hashlib

    from skinkit.images.decode import decode
    from skinkit.images.identity import dhash, pixel_sha256
    from skinkit.images.pixels import read_bytes

    data = read_bytes(root / case["image_path"])
    sha256 = hashlib.sha256(data).hexdigest()
    if case.get(capture.SEAL) not in (None, sha256):
        raise CaseError("image_not_as_sealed", "its hash is not the one of the sealed record")
    rgb, done = decode(data, thorough=True)
    flags = {*done, *filter(None, str(case["flags"] or "").split(","))}
    mask_sha256 = None
    if case["truth_mask_path"]:
        try:
            mask_sha256 = hashlib.sha256(read_bytes(root / case["truth_mask_path"])).hexdigest()
        except CaseError as error:  # costs the photo its Dice alone
            flags.add(error.reason.replace("image_", "mask_", 1))
    return {
        **case,
        "image_sha256": sha256,
        "pixel_sha256": pixel_sha256(rgb),
        "dhash": dhash(rgb),
        "width_px": rgb.shape[1],
        "height_px": rgb.shape[0],
        "truth_mask_sha256": mask_sha256,
        "flags": ",".join(sorted(flags)) or None,
    }


def without_repeats(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Exclude every image with the same pixels as an earlier one, unless both are views of one case: these are flagged.

    Args:
        rows: all rows; earlier exclusions as ``duplicate_content`` and earlier flags are reconsidered.

    Returns:
        The rows sorted by image_id.
    """
    kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
    out = []
    for before in sorted(rows, key=lambda r: str(r["image_id"])):
        row = dict(before)
        if row["status"] == EXCLUDED and row["reason"] == "duplicate_content":
            row |= {"status": OK, "reason": None, "detail": None}
        row["flags"] = ",".join(flag for flag in str(row["flags"] or "").split(",") if flag != ONE_PICTURE) or None
        pixels = row.get("pixel_sha256")
        if row["status"] == OK and pixels:
            same = kept[pixels]
            if all(_other_view(row, first) for first in same):
                same.append(row)
            else:
                detail = f"the same pixels as {same[0]['image_id']}"
                row |= {"status": EXCLUDED, "reason": "duplicate_content", "detail": detail}
        out.append(row)
    for row in (row for same in kept.values() if len(same) > 1 for row in same):
        row["flags"] = ",".join(sorted({*filter(None, str(row["flags"] or "").split(",")), ONE_PICTURE}))
    return out


def _other_view(row: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
    """Whether two images are different views of one case."""
    views = {row["view"], first["view"]}
    return row["case_id"] == first["case_id"] and len(views) == 2 and None not in views


def _counts(
    flow: Mapping[str, Any], unmapped: Mapping[str, Mapping[str, int]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Counts for the report: by outcome, reason, diagnosis, patient and lesion."""
    fine = [row for row in rows if row["status"] == OK]
    return {
        "flow": {
            **flow,
            "rows": len(rows),
            "status": dict(sorted(Counter(row["status"] for row in rows).items())),
            "reasons": dict(Counter(row["reason"] for row in rows if row["reason"]).most_common()),
        },
        "flags": count_flags(row["flags"] for row in rows),
        "unmapped": {name: dict(counts) for name, counts in unmapped.items()},
        "diagnoses": dict(Counter(row["diagnosis"] or "unknown" for row in fine).most_common()),
        "patients": len({row["patient_id"] for row in fine if row["patient_id"]}),
        "groups": len({row["group_id"] for row in fine}),
        "sharing": {name: _sharing(fine, f"{name}_id") for name in ("patient", "lesion")},
        "patient_block": _patient_block(rows),
    }


def _sharing(rows: Sequence[Mapping[str, Any]], column: str) -> int:
    """Images whose patient or lesion has another image."""
    return sum(n for name, n in Counter(row[column] for row in rows).items() if name and n > 1)


def _patient_block(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How many labelled rows lack all patient attributes, and how well this absence predicts malignancy.

    Rows still waiting for their image count, because missing attributes do not depend on the photo. None where too few
    attributes exist or no row lacks all of them.
    """
    from skinkit.audit.shortcuts import PATIENT_BLOCK

    labelled = [row for row in rows if row["diagnosis"] and row["status"] != EXCLUDED]
    names = [name for name in PATIENT_BLOCK if any(row.get(name) is not None for row in labelled)]
    lacking = [row for row in labelled if all(row[name] is None for name in names)]
    if len(names) < _FEWEST_ASKED or not lacking:
        return None
    return {
        "attributes": names,
        "rows": len(labelled),
        "lacking": len(lacking),
        "malignant_sets": {
            name: {
                "malignant_lacking": sum(row["diagnosis"] in malignant for row in lacking),
                "auroc_of_known_sex": _auroc_of_recorded("sex", labelled, malignant),
            }
            for name, malignant in MALIGNANT_SETS.items()
        },
    }


def _auroc_of_recorded(column: str, rows: Sequence[Mapping[str, Any]], malignant: frozenset[str]) -> float | None:
    """AUROC for malignancy of "the column has a value": (sensitivity + specificity) / 2 of that binary predictor."""
    recorded: dict[bool, list[bool]] = {True: [], False: []}
    for row in rows:
        recorded[row["diagnosis"] in malignant].append(row[column] is not None)
    if not all(recorded.values()):
        return None
    sensitivity, false_alarms = (sum(recorded[label]) / len(recorded[label]) for label in (True, False))
    return (sensitivity + 1 - false_alarms) / 2


def _unexpected(expected: Mapping[str, int], info: Mapping[str, Any]) -> list[str]:
    """A warning where the numbers of usable images differ from ``[expected_counts]``."""
    counts = {**info["diagnoses"], "total": info["flow"]["status"].get(OK, 0)}
    other = [
        f"{name} {counts.get(name, 0):,} instead of {n:,}" for name, n in expected.items() if counts.get(name, 0) != n
    ]
    return [f"counts differ from [expected_counts]: {', '.join(other)}"] if other else []


def _report_counts(job: Job, rows: Sequence[Mapping[str, Any]], info: Mapping[str, Any]) -> None:
    name, flow = job.cohort.name, info["flow"]
    if info["flags"]:
        job.console.info(f"{name}: flags: {flags_text(info['flags'])}")
    turned = [row for row in rows if "turned" in str(row["flags"] or "").split(",") and row["truth_mask_path"]]
    if turned:
        job.console.warn(
            f"{name}: {len(turned):,} photos with a truth mask were turned upright by their EXIF orientation; a mask "
            "drawn on the stored pixels lies elsewhere: look at some of them ('skinkit gallery')"
        )
    diagnoses = ", ".join(f"{code} {count:,}" for code, count in info["diagnoses"].items())
    if diagnoses:
        people = f"{info['patients']:,} patients" if info["patients"] else f"{info['groups']:,} groups"
        job.console.info(f"{name}: {flow['status'].get(OK, 0):,} usable images of {people}: {diagnoses}")
    sharing = info["sharing"]
    if sharing["patient"] or sharing["lesion"]:
        job.console.info(
            f"{name}: {sharing['patient']:,} images share their patient with another one, {sharing['lesion']:,} their "
            "lesion: 'skinkit split' keeps them together"
        )
    if block := info["patient_block"]:
        sets = block["malignant_sets"].items()
        counted = ", ".join(f"{of['malignant_lacking']:,} malignant (set '{which}')" for which, of in sets)
        telling = ", ".join(
            f"{of['auroc_of_known_sex']:.2f} ({which})" for which, of in sets if of["auroc_of_known_sex"] is not None
        )
        job.console.warn(
            f"{name}: {block['lacking']:,} of {block['rows']:,} labelled rows lack the patient block (sex and "
            f"{len(block['attributes']) - 1} more), {counted} among them: whether sex is known predicts malignancy "
            f"with an AUROC of {telling or 'unknown'}; see 'skinkit audit'"
        )
    troubled = [row for row in rows if row["status"] in ("failed", "excluded")]
    for reason, count in flow["reasons"].items():
        ids = [str(row["image_id"]) for row in troubled if row["reason"] == reason]
        if ids:
            more = ", ..." if len(ids) > _SHOWN_CASES else ""
            job.console.info(f"{name}: {count:,} {reason}: {', '.join(ids[:_SHOWN_CASES])}{more}")
