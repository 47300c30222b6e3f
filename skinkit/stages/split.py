"""split: development cases -> folds of train, validation and held_out parts; a patient is never divided between parts.

A development case that shares its patient, lesion or image with an ingested external cohort is left out of every part,
so that the external cohort stays a test; ``external_overlap.csv`` lists these cases.

The held-out parts of ``--folds K --seed S`` are those of scikit-learn's ``StratifiedGroupKFold(K, shuffle=True,
random_state=S)`` on the cases sorted by (cohort, case_id), stratified by class and grouped by patient. Patients that
share a lesion or an identical image form one group; so do the few (at most 2 % of the cases) of which a photo is
near-identical to one of another patient. The other protocols come from the studies; they divide by image as published
and therefore need a reason (``--allow-leakage``).

``--leave-out centre`` (or device, cohort, ...) makes a fold for each value of that column and holds that value out, to
estimate the performance on unseen sources. Patients with a case in the held-out source are not trained on in that fold.
Cases without a value are in no part.

The split named ``masks`` (or any with ``--over masks``) is for segmenters: it covers the cases with a truth mask, with
or without a diagnosis, stratified by cohort and modality instead of class.

The split named ``all`` (``--over all``) is for pretraining: it covers every development photo, with or without a
diagnosis. It follows the workspace's split, so that a model trained on that one may start from the pretraining: what a
fold of that split validates on or holds out, and whatever shares a patient with it, is held out of the same fold here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skinkit.artifacts import csv
from skinkit.artifacts.artifact import Artifact, exists
from skinkit.artifacts.files import digest, file_sha256, write_atomic
from skinkit.data.views import primary_images
from skinkit.errors import ConfigError, InputError, did_you_mean, listed
from skinkit.options import Help
from skinkit.schemas import EXCLUDED, OK, SPLIT
from skinkit.stages import Job, Sources
from skinkit.studies import PublishedSplit
from skinkit.studies.protocols import GROUPED, HALF, LEFT_OUT_FILE, published_splits
from skinkit.taxonomy import CLASS_SET_HELP, ClassSet, class_set
from skinkit.workspace import Ref, Workspace, check_name

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from skinkit.audit.leakage import ComparedPhotos, Leakage
    from skinkit.studies.study import SourceTable
VERSION = 1
SCHEMA = SPLIT

MASKS = "masks"
"""Name of the split that is over cases with truth masks by default."""
ALL = "all"
"""Name of the split that is over every development photo by default."""
TRAIN, VALIDATION, HELD_OUT = PARTS = ("train", "validation", "held_out")
PART_NAMES = {
    "train": TRAIN, "training": TRAIN, "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION,
    "tuning": VALIDATION, "held_out": HELD_OUT, "held-out": HELD_OUT, "heldout": HELD_OUT, "test": HELD_OUT,
}  # fmt: skip
"""How an imported file may call the parts."""
_FINEST_PARTS = 20
OVERLAP_FILE = "external_overlap.csv"
_OUTSIDE = "in_an_external_cohort"
_ROUNDS = 5
"""How often groups are joined because near-identical photos lie in two parts: moving one may part it from a third."""
_PAIR = ["cohort", "case_id", "other_cohort", "other_case_id"]
if TYPE_CHECKING:
    ProtocolName = str
else:  # the studies add their protocols
    ProtocolName = Literal[(GROUPED, *published_splits())]
_PUBLISHED = ", ".join(f"{name} ({split.words})" for name, split in published_splits().items())


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    protocol: Annotated[ProtocolName, f"grouped: by patient; by image, as published: {_PUBLISHED}"] = GROUPED
    folds: Annotated[int, "folds; 1 is one train/validation/held_out split, more is cross-validation"] = 1
    seed: Annotated[int, "seed of the shuffling (some published protocols have their own)"] = 0
    over: Annotated[
        Literal["auto", "diagnosis", "masks", "all"],
        "cases with a class, cases with a truth mask, or all; auto: masks or all if the split is named so",
    ] = "auto"
    classes: Annotated[str, f"{CLASS_SET_HELP} (default: the workspace's)"] = ""
    validation: Annotated[
        float,
        "share of the rows not held out that goes to validation, 0 to 1; 0 for 0.2, over masks and all 0.1, or as "
        "published",
    ] = 0.0
    held_out: Annotated[float, "share of all rows held out when there is one fold, 0 to 1"] = 0.2
    leave_out: Annotated[
        str,
        Help(
            "column whose values are each held out by a fold of their own, such as centre, device or cohort",
            metavar="COLUMN",
            if_given=True,
        ),
    ] = ""
    group: Annotated[
        Literal["patient", "lesion", "image"], "unit that is never divided (patient: else lesion, else image)"
    ] = "patient"
    import_file: Annotated[
        str, Help("CSV of an existing split: case_id or image_id, part, and fold, cohort if needed", metavar="CSV")
    ] = ""
    allow_leakage: Annotated[
        str, Help("reason to accept a patient, lesion or image in more than one part", metavar="REASON")
    ] = ""
    near_bits: Annotated[
        int, "images are near-identical if their 64-bit hashes differ in at most this many bits; -1: no check"
    ] = 4
    near_limit: Annotated[int, "most cases with a near-identical image in another part before the split is refused"] = 0


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """The one split of that name, over all development cohorts."""
    name = name or (ALL if config.over == ALL else workspace.defaults["split"])
    check_name(name, "name of the split")
    development = workspace.development(cohorts, "a split")
    return [Ref("split", name=name)] if development else []


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The cases of every development cohort; for a split over all photos also the workspace's split."""
    inputs = {f"cases/{cohort}": Ref("cases", cohort) for cohort in workspace.with_role("development")}
    followed = Ref("split", name=workspace.defaults["split"])
    if config.over == ALL and not config.import_file and target != followed:
        inputs["split"] = followed
    return inputs


def resolve(config: Config, target: Ref, workspace: Workspace) -> Config:
    """The config with ``over`` and ``validation`` filled in.

    The validation rows of a classifier fit its temperature and the thresholds of every class; those of a segmenter
    only select the epoch, so fewer are enough.
    """
    over = config.over
    if over == "auto":
        over = "masks" if target.name == MASKS else "all" if target.name == ALL else "diagnosis"
    published = _published(config)
    usual = 0.1 if over in (MASKS, ALL) else published.validation if published else 0.2
    return replace(config, over=over, validation=config.validation or usual)


def sources(config: Config, target: Ref, workspace: Workspace) -> Sources:
    """The class set, the imported file, the published table, and the overlap with external cohorts.

    An external cohort without overlap does not make the split stale.
    """
    inputs = {"classes": digest(_classes(config, workspace).as_dict())}
    if config.import_file:
        inputs["import_file"] = file_sha256(_import_path(config, workspace))
        return Sources(inputs, watch="")
    published = _published(config)
    if published and published.over:
        from skinkit.data import find_files

        inputs["table"] = find_files(workspace.cohort(_cohort_of(published, workspace))).content
        return Sources(inputs, watch="")
    from skinkit.audit.leakage import external_overlap

    shared = external_overlap(workspace).pairs
    if len(shared):
        inputs["external_overlap"] = digest(shared[list(_OVERLAP)].astype(str).to_numpy().tolist())
    return Sources(inputs, watch="")


def _classes(config: Config, workspace: Workspace) -> ClassSet:
    return class_set(config.classes or workspace.defaults["classes"], workspace.defaults["malignant"], workspace.root)


def _published(config: Config) -> PublishedSplit | None:
    """The published split that the protocol repeats; None for ``grouped``."""
    return published_splits().get(config.protocol)


def _import_path(config: Config, workspace: Workspace) -> Path:
    from pathlib import Path

    for file in (Path(config.import_file), workspace.root / config.import_file):
        if file.is_file():
            return file
    raise InputError(f"no file {config.import_file}", "the CSV of a split", "check the path given to --import-file")


def run(config: Config, job: Job) -> Artifact:
    """Divide the cases of all development cohorts."""
    import pandas as pd

    from skinkit.audit import leakage

    _check(config)
    leakage.refuse_unsettled_ids(job.workspace)
    published = _published(config)
    classes = _classes(config, job.workspace)
    every, chosen = _selected(_images(job, classes), job)
    shared = _shared(config, job)
    if published is None:
        every = _without(every, shared)
    left_out = _left_out(every)
    by_class = config.over not in (MASKS, ALL)
    images, excluded = _labelled_images(every, classes) if by_class else _pictured_images(every, config.over)
    if config.leave_out:
        images, excluded = _with_value(images, excluded, config.leave_out)
    frame, cases, images, leaks, together = _divided(images, config, job)
    values = _values(cases, config.leave_out) if config.leave_out else []
    strata = classes.classes if by_class else tuple(sorted(set(cases["stratum"])))
    warnings = _thin_strata(frame, cases, strata, by_class=by_class)
    warnings += _overlap_warnings(config, job, shared)
    for text in warnings:
        job.console.warn(text)
    leaks, remarks = _checked_leakage(leaks, shared, config, job)
    if len(together):
        remarks.append(
            f"{len(together)} cases have a photo near-identical to one of another patient or lesion, and are kept in "
            f"one part with it: {leakage.listed_pairs(together)}"
        )
        job.console.warn(remarks[-1])
    for fold, rows in frame.groupby("fold"):
        sizes = ", ".join(f"{part} {int((rows['part'] == part).sum())}" for part in PARTS)
        without = f" (without {config.leave_out} {values[int(str(fold))]})" if values else ""
        job.console.info(f"  fold {fold}{without}: {sizes}")
    groups = images.groupby("joined")["group_id"].nunique()
    table = pd.DataFrame({**{name: frame[name] for name in ("fold", "part")}, **_columns(frame)})
    with job.build() as build:
        build.clear()
        if len(shared.pairs):
            pairs = csv.escaped(shared.pairs[list(_OVERLAP)])
            write_atomic(build.partial / OVERLAP_FILE, pairs.to_csv(index=False).encode())
        if len(left_out):
            write_atomic(build.partial / LEFT_OUT_FILE, left_out.to_csv(index=False).encode())
        return build.finish(
            table,
            info={
                "protocol": config.protocol,
                "over": config.over,
                "classes": classes.as_dict(),
                "folds": int(frame["fold"].nunique()),
                "seed": published.seed if published and published.seed is not None else config.seed,
                "group": config.group,
                **({"leave_out": {"column": config.leave_out, "values": values}} if values else {}),
                "imported": bool(config.import_file),
                "counts": _counts(frame, strata),
                "excluded": excluded,
                "selection": chosen,
                "external_overlap": shared.as_dict() if len(shared.pairs) else None,
                "groups_joined": int((groups > 1).sum()),
                **({"kept_together": together[_PAIR].to_numpy().tolist()} if len(together) else {}),
                "leakage": leaks.as_dict(),
                "allow_leakage": config.allow_leakage or None,
                "warnings": warnings + remarks,
            },
        )


def _divided(
    images: pd.DataFrame, config: Config, job: Job
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Leakage, pd.DataFrame]:
    """Rows of the split, its cases and images with their group, what the parts share, and the pairs kept together.

    Where a few cases of two parts are near-identical, their groups are joined, and the smaller one goes where the
    larger one is, in every fold; everything else stays where it was drawn.
    """
    import pandas as pd

    from skinkit.audit import leakage

    published, photos = _published(config), leakage.photos_of(job.workspace, job.console)
    images = images.assign(joined=leakage.joined_groups(images, config.group))
    cases = primary_images(images).reset_index(drop=True)
    if config.import_file:
        frame = _imported(_import_path(config, job.workspace), cases, job, config)
    elif "split" in job.inputs:
        frame = _following(job.inputs["split"], cases, config)
    else:
        frame = _as_published(published, cases, config, job) if published else _drawn(cases, config)
    leaks = leakage.verified_on_photos(_straddling(frame, images, config, photos), photos)
    together: list[pd.DataFrame] = []
    drawn_here = published is None and not config.import_file and not config.allow_leakage
    for _ in range(_ROUNDS if drawn_here else 0):
        near = leaks.refused[leaks.refused["kind"] == leakage.NEAR]
        if near.empty or sum(map(len, together)) + len(near) > max(1.0, leakage.FEW * len(cases)):
            break
        together.append(near)
        pairs = [((a, b), (c, d)) for of in together for a, b, c, d in of[_PAIR].astype(str).itertuples(index=False)]
        before = frame["joined"]
        images = images.assign(joined=leakage.joined_groups(images, config.group, pairs))
        cases = primary_images(images).reset_index(drop=True)
        keys = ["cohort", "case_id"]
        after = frame[keys].merge(cases[[*keys, "joined"]], on=keys, how="left", validate="many_to_one")["joined"]
        if config.leave_out:
            frame = _drawn(cases, config)
        else:
            frame = _in_one_part(frame.assign(joined=after.to_numpy()), before, first="split" in job.inputs)
        leaks = leakage.verified_on_photos(_straddling(frame, images, config, photos), photos)
    return frame, cases, images, leaks, pd.concat(together) if together else leaks.pairs.head(0)


def _in_one_part(frame: pd.DataFrame, before: pd.Series, *, first: bool) -> pd.DataFrame:
    """Rows of which every group ``joined`` is in one part of each fold: that of the largest group that it was made of.

    Args:
        frame: rows with ``fold``, ``part`` and the groups as they are now.
        before: of each row, the group as it was.
        first: whether what another split holds out stays held out, whatever the size.
    """
    sizes = frame.assign(before=before.to_numpy()).groupby(["fold", "joined", "before"])["part"].agg(["size", "first"])
    sizes = sizes.reset_index().sort_values(["size", "before"], ascending=[False, True], kind="stable")
    if first:
        sizes = sizes.sort_values("first", key=lambda part: part != HELD_OUT, kind="stable")
    chosen = sizes.drop_duplicates(["fold", "joined"]).set_index(["fold", "joined"])["first"]
    places = list(zip(frame["fold"], frame["joined"], strict=True))
    return frame.assign(part=chosen.loc[places].to_numpy(dtype=object))


def _checked_leakage(leaks: Leakage, shared: Leakage, config: Config, job: Job) -> tuple[Leakage, list[str]]:
    """Leakage between the parts and remarks about it, which are also logged.

    Raises:
        RefusedError: cases leak and no reason allows it.
    """
    from skinkit.audit import leakage

    published = _published(config)
    if published and not published.over:
        leaks = leakage.joined(leaks, shared)
    leakage.refuse(leaks, config.allow_leakage, "parts of the split", _remedy(config))
    remarks = leaks.near_remarks("an image in another part")
    if leaks.cases:
        remarks.append(f"{leaks.cases} cases leak between the parts, allowed because: {config.allow_leakage}")
    for text in remarks:
        job.console.warn(text)
    job.console.info(f"  {leaks.limits()}")
    return leaks, remarks


def _columns(frame: pd.DataFrame) -> dict[str, pd.Series]:
    names = ("cohort", "case_id", "image_id", "patient_id", "class", *(name for name in (HALF,) if name in frame))
    return {**{name: frame[name] for name in names}, "group_id": frame["joined"]}


def _check(config: Config) -> None:
    if config.folds < 1:
        raise ConfigError(f"--folds {config.folds}", "1 or more", "give --folds 5 for cross-validation")
    for name in ("validation", "held_out"):
        value = getattr(config, name)
        if not 0 < value < 1:
            raise ConfigError(f"{name} = {value}", "a share between 0 and 1", f"give --{name.replace('_', '-')} 0.2")
    published = _published(config)
    if config.leave_out and (published or config.import_file or config.over == ALL or config.folds != 1):
        raise ConfigError(
            f"--leave-out {config.leave_out} with --protocol, --import-file, --over all or --folds",
            "the column alone: it says what the folds hold out",
            "leave the other option out",
        )
    if published is None:
        return
    if config.import_file or config.over in (MASKS, ALL):
        other = "--import-file" if config.import_file else f"--over {config.over}"
        raise ConfigError(f"--protocol {config.protocol} with {other}", "one of them", f"leave {other} out")
    if config.folds not in published.folds:
        raise ConfigError(
            f"--protocol {config.protocol} with --folds {config.folds}",
            f"--folds {' or '.join(map(str, published.folds))}, as published",
            "leave --protocol out for another number of folds",
        )


def _images(job: Job, classes: ClassSet) -> pd.DataFrame:
    """Every image of the development cohorts, with its class where it has one."""
    import pandas as pd

    tables = []
    for name, artifact in job.inputs.items():
        if name.startswith("cases/"):
            tables.append(artifact.table().assign(cohort=name.removeprefix("cases/")))
    cases = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    cases["class"] = [classes.to_class(d) for d in cases["diagnosis"]]
    return cases


def _labelled_images(cases: pd.DataFrame, classes: ClassSet) -> tuple[pd.DataFrame, dict[str, int]]:
    """The usable images of cases with a class, with the class as ``stratum``, and counts of the others."""
    usable = cases["status"] == OK
    unknown = cases["diagnosis"].isna()
    unmapped = usable & ~unknown & cases["class"].isna()
    images = cases[usable & cases["class"].notna()].reset_index(drop=True)
    several = images.groupby(["cohort", "case_id"])["class"].transform("nunique") > 1
    excluded = _tally(
        cases.loc[~usable, "reason"].fillna(cases["status"]),
        ["unlabelled"] * int((usable & unknown).sum()),
        "no_class:" + cases.loc[unmapped, "diagnosis"].fillna(""),
        ["several_classes"] * int(several.sum()),
    )
    images = images[~several].reset_index(drop=True)
    if images["class"].nunique() < 2:
        counts = ", ".join(f"{c} {n}" for c, n in images["class"].value_counts().items()) or "no labelled case"
        raise InputError(
            f"development cases of fewer than two classes of {classes.name!r} ({counts}; left out: {excluded})",
            f"cases of at least two of {listed(classes.classes)}",
            "map the diagnoses in the source, or choose another --classes",
        )
    return images.assign(stratum=images["class"]), excluded


def _pictured_images(cases: pd.DataFrame, over: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """The usable images, over masks those with a truth mask, with cohort and modality as ``stratum``; how many others.

    ``over`` is ``masks`` or ``all``.
    """
    usable = cases["status"] == OK
    chosen = usable & cases["truth_mask_path"].notna() if over == MASKS else usable
    excluded = _tally(
        cases.loc[~usable, "reason"].fillna(cases["status"]), ["without_mask"] * int((usable & ~chosen).sum())
    )
    images = cases[chosen].reset_index(drop=True)
    if images.empty and over == ALL:
        raise InputError(
            f"no development case has a usable photo (left out: {excluded})",
            "photos of development cohorts",
            "see 'skinkit show' of the cases",
        )
    if images.empty:
        raise InputError(
            f"no development case has a mask drawn by a person (left out: {excluded})",
            "cohorts with truth masks",
            "see 'skinkit show' of the cases; folder cohorts set 'masks' in cohort.toml",
        )
    modality = images["modality"].fillna("of unknown modality")
    return images.assign(stratum=images["cohort"] + " " + modality), excluded


def _tally(*reasons: Iterable[str]) -> dict[str, int]:
    """Reason -> count, sorted by reason."""
    return dict(sorted(Counter(str(reason) for several in reasons for reason in several).items()))


# ---------------------------------------------------------------------------------------------- grouped protocol


def _drawn(cases: pd.DataFrame, config: Config) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    labels, groups = cases["stratum"].to_numpy(dtype=str), cases["joined"].to_numpy(dtype=str)
    if config.leave_out:
        held_out = [(cases[config.leave_out] == value).to_numpy() for value in _values(cases, config.leave_out)]
    elif config.folds > 1:
        _enough_groups(labels, groups, config.folds)
        held_out = _stratified(labels, groups, config.folds, config.seed)
    else:
        held_out = [_carved(labels, groups, config.held_out, config.seed)]
    folds = []
    for fold, chosen in enumerate(held_out):
        part = np.full(len(cases), TRAIN, dtype=object)
        part[chosen] = HELD_OUT
        # Only where values are left out may patients of the held-out cases have others.
        rest = np.flatnonzero(~np.isin(groups, groups[chosen]))
        part[rest[_carved(labels[rest], groups[rest], config.validation, config.seed)]] = VALIDATION
        folds.append(cases.assign(fold=fold, part=part).iloc[np.union1d(rest, np.flatnonzero(chosen))])
    return pd.concat(folds, ignore_index=True)


def _with_value(images: pd.DataFrame, excluded: dict[str, int], column: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """The images of which the column says something, and how many are left out.

    Raises:
        ConfigError: cases have no such column.
    """
    if column not in images:
        from skinkit.audit.shortcuts import ORIGINS

        known = [name for name in ORIGINS if name in images]
        raise ConfigError(f"--leave-out {column}: cases have no such column", did_you_mean(column, known), "name one")
    unknown = int(images[column].isna().sum())
    reasons = {**excluded, f"without_{column}": unknown} if unknown else excluded
    return images[images[column].notna()].reset_index(drop=True), dict(sorted(reasons.items()))


def _values(cases: pd.DataFrame, column: str) -> list[Any]:
    """The values of a column of which each is held out by one fold, sorted.

    Raises:
        ConfigError: fewer than two, or so many that it is no place where photos come from.
    """
    from skinkit.evaluation.subgroups import MOST_VALUES

    values = sorted(cases[column].unique())
    if not 2 <= len(values) <= MOST_VALUES:
        raise ConfigError(
            f"--leave-out {column}: {len(values)} values{f' ({listed(map(str, values))})' if values else ''}",
            f"2 to {MOST_VALUES}, each held out by a fold",
            "name a column that says where photos come from, such as centre, device or cohort",
        )
    return values


def _following(split: Artifact, cases: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The folds of another split: what it validates on or holds out, and its groups, are held out of the same fold.

    Raises:
        ConfigError: another number of folds was asked for.
        InputError: a fold is left without two groups to learn from.
    """
    import numpy as np
    import pandas as pd

    table = split.table(["fold", "cohort", "case_id", "part"])
    numbers = sorted(int(fold) for fold in table["fold"].unique())
    if config.folds not in (1, len(numbers)):
        raise ConfigError(
            f"--folds {config.folds} for a split that follows {split.path.parent.name!r}, which has {len(numbers)}",
            f"--folds {len(numbers)}",
            "leave --folds out: a split over all photos has the folds of the workspace's split",
        )
    keys = pd.MultiIndex.from_frame(cases[["cohort", "case_id"]])
    labels, groups = cases["stratum"].to_numpy(dtype=str), cases["joined"].to_numpy(dtype=str)
    folds = []
    for fold in numbers:
        unseen = table[(table["fold"] == fold) & (table["part"] != TRAIN)]
        chosen = keys.isin(pd.MultiIndex.from_frame(unseen[["cohort", "case_id"]]))
        chosen = np.isin(groups, groups[chosen])
        part = np.where(chosen, HELD_OUT, TRAIN).astype(object)
        rest = np.flatnonzero(~chosen)
        if not len(rest):
            raise InputError(
                f"fold {fold} of the split {split.path.parent.name!r} leaves no photo to learn from",
                "patients of which every case is in its training rows",
                "keep patients together in that split, or add photos",
            )
        part[rest[_carved(labels[rest], groups[rest], config.validation, config.seed)]] = VALIDATION
        folds.append(cases.assign(fold=fold, part=part))
    return pd.concat(folds, ignore_index=True)


def _enough_groups(labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], parts: int) -> None:
    import numpy as np

    n = len(np.unique(groups))
    if n < parts + 1 or np.unique(labels, return_counts=True)[1].max() < parts:
        raise InputError(
            f"{n} patients, {_groups_by_class(labels, groups)}",
            f"at least {parts + 1} patients and one class with {parts} cases, for {parts} parts",
            "lower --folds, or add cases",
        )


def _groups_by_class(labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_]) -> str:
    import numpy as np

    return ", ".join(
        f"{label}: {int((labels == label).sum())} cases of {len(np.unique(groups[labels == label]))}"
        for label in np.unique(labels)
    )


def _stratified(
    labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], parts: int, seed: int
) -> list[npt.NDArray[np.bool_]]:
    """The test parts of scikit-learn's StratifiedGroupKFold, as masks."""
    import warnings

    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    masks = []
    with warnings.catch_warnings():
        # Classes with fewer cases than parts are reported with their counts by _thin_strata.
        warnings.filterwarnings("ignore", message="The least populated class")
        for _, test in splitter.split(np.zeros(len(labels)), labels, groups):
            mask = np.zeros(len(labels), dtype=bool)
            mask[test] = True
            masks.append(mask)
    return masks


def _carved(
    labels: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """About this share of the rows in whole groups; every class stays represented in the rest where possible."""
    from fractions import Fraction

    import numpy as np

    most = int(min(len(np.unique(groups)), np.unique(labels, return_counts=True)[1].max()))
    if most < 2:
        raise InputError(
            f"too few patients to divide: {_groups_by_class(labels, groups)}",
            "at least two patients, and two cases of one class",
            "add cases, or lower --folds",
        )
    wanted = Fraction(share).limit_denominator(min(_FINEST_PARTS, most))
    wanted = min(max(wanted, Fraction(1, most)), Fraction(most - 1, most))
    parts = _stratified(labels, groups, wanted.denominator, seed)
    tries = [
        np.logical_or.reduce([parts[(first + i) % len(parts)] for i in range(wanted.numerator)])
        for first in range(len(parts))
    ]
    # A class with a single patient belongs to the rest: take the first part that leaves every class there.
    return max(tries, key=lambda chosen: (len(np.unique(labels[~chosen])), bool(chosen.any())))


# -------------------------------------------------------------------------------- overlap with external cohorts

_OVERLAP = ("cohort", "case_id", "kind", "shared", "other_cohort", "other_case_id")


def _shared(config: Config, job: Job) -> Leakage:
    from skinkit.audit import leakage

    if config.import_file or not _excludes_overlap(config):
        return leakage.joined()
    return leakage.external_overlap(job.workspace)


def _excludes_overlap(config: Config) -> bool:
    """Whether overlap with external cohorts matters: not where a published table defines the test set."""
    published = _published(config)
    return published is None or published.over is None


def _without(cases: pd.DataFrame, shared: Leakage) -> pd.DataFrame:
    """The cases; those that are also in an external cohort are excluded."""
    if shared.pairs.empty:
        return cases
    import pandas as pd

    keys = ["cohort", "case_id"]
    outside = pd.MultiIndex.from_frame(cases[keys]).isin(pd.MultiIndex.from_frame(shared.pairs[keys]))
    return cases.assign(
        status=cases["status"].mask(outside & (cases["status"] == OK), EXCLUDED),
        reason=cases["reason"].mask(outside & (cases["status"] == OK), _OUTSIDE),
    )


def _left_out(cases: pd.DataFrame) -> pd.DataFrame:
    """The usable cases left out of every part; they are not scored as development cases either."""
    from skinkit.studies import selection

    reasons = (_OUTSIDE, selection.REPEATED, selection.CLASS_TOO_SMALL)
    return cases.loc[cases["reason"].isin(reasons), ["cohort", "case_id", "reason"]].drop_duplicates()


def _overlap_warnings(config: Config, job: Job, shared: Leakage) -> list[str]:
    """Report development cases that are also in an external cohort; a warning where they stay in the split."""
    workspace = job.workspace
    unread = [name for name in workspace.with_role("external") if not exists(workspace.path(Ref("cases", name)))]
    if unread and _excludes_overlap(config) and not config.import_file:
        job.console.info(f"  {', '.join(unread)} not ingested yet: overlap with development cases is not checked")
    if shared.pairs.empty:
        return []
    where = ", ".join(sorted(set(shared.pairs["other_cohort"])))
    listing = f"{shared.listing()}; all of them in {OVERLAP_FILE} beside the split"
    published = _published(config)
    if published is None:
        job.console.info(f"  {shared.cases} development cases are also in {where} and are left out: {listing}")
        return []
    facts = f" ({published.overlap})" if published.overlap else ""
    return [
        f"{shared.cases} development cases are also in {where} and stay in, as the paper has it{facts}: figures on "
        f"{where} are partly those of training cases. {listing}"
    ]


def _remedy(config: Config) -> str:
    if config.import_file:
        return "correct the imported file"
    return "keep patients together (" + ("--group patient)" if config.protocol == GROUPED else "--protocol grouped)")


def _selected(cases: pd.DataFrame, job: Job) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """The cases after the part of a study's selection that applies to all development cohorts together."""
    from skinkit.studies import selection

    selections = {n: a.info.get("selection") or "" for n, a in job.inputs.items() if n.startswith("cases/")}
    rules = sorted(set(selections.values()))
    if len(rules) > 1:
        cohorts = listed(f"{name.removeprefix('cases/')}: {rule or 'none'}" for name, rule in selections.items())
        raise InputError(
            f"development cohorts of different selections ({cohorts})",
            "one selection for all of them",
            f"run 'skinkit ingest --selection {rules[-1]}' for all, or set it in [stage.ingest] of skinkit.toml",
        )
    if not rules or not rules[0]:
        return cases, None
    reasons = selection.across(cases[cases["status"] == OK], rules[0]).dropna()
    cases.loc[reasons.index, "status"] = EXCLUDED
    cases.loc[reasons.index, "reason"] = reasons
    counts = {str(reason): int(n) for reason, n in reasons.value_counts().sort_index().items()}
    job.console.info(f"  selection {rules[0]} over all development cohorts leaves out {counts or 'nothing'}")
    return cases, {"rule": rules[0], "left_out": counts}


# ---------------------------------------------------------------------------------------------------- published


def _as_published(published: PublishedSplit, cases: pd.DataFrame, config: Config, job: Job) -> pd.DataFrame:
    """The folders a study publishes: 0 is held out, and fold k validates on folder k + 1."""
    import pandas as pd

    if published.over:
        folders = _over_table(published, cases, job)
        placed = cases.merge(folders, on=published.over.key, how="inner", validate="one_to_one")
    else:
        assert published.divide is not None  # a protocol without a table draws over the cases
        placed = cases.join(published.divide(cases["stratum"].tolist(), config.validation, config.seed))
    folds = []
    for fold in range(config.folds):
        part = placed["folder"].map({0: HELD_OUT, fold + 1: VALIDATION}).fillna(TRAIN)
        folds.append(placed.assign(fold=fold, part=part))
    return pd.concat(folds, ignore_index=True)


def _cohort_of(published: PublishedSplit, workspace: Workspace) -> str:
    """The one development cohort, which must be the data set whose table the split is drawn over."""
    assert published.over is not None
    development = workspace.with_role("development")
    if [workspace.cohort(name).source for name in development] != [published.over.source]:
        raise ConfigError(
            f"--protocol {published.name} with the development cohorts {listed(development)}",
            f"{published.over.title} alone, whose folders these are",
            "give the other cohorts another role, or leave --protocol out",
        )
    return development[0]


def _over_table(published: PublishedSplit, cases: pd.DataFrame, job: Job) -> pd.DataFrame:
    """The key of the cases, ``folder`` and ``half`` of every row of the data set's table, with or without a photo."""
    import pandas as pd

    from skinkit.data import find_files
    from skinkit.data.tables import read

    over = published.over
    assert over is not None
    files = find_files(job.workspace.cohort(_cohort_of(published, job.workspace)))
    rows = [row.cells for row in read(files.tables[0], files.source.dialect).rows]
    if published.divide is not None:
        folders = published.divide([cells[over.label] for cells in rows], 0.0, 0)
    else:
        folders = _listed_folders(over, files.root, len(rows))
    table = pd.DataFrame(
        {
            over.key: [cells[over.image].rpartition(".")[0] or cells[over.image] for cells in rows],
            "patient": [cells[over.patient] for cells in rows],
            "lesion": [f"{cells[over.patient]}|{cells[over.lesion]}" for cells in rows],
        }
    ).join(folders, how="inner")
    test, rest = table[table["folder"] == 0], table[table["folder"] > 0]
    patients, lesions = (int(test[name].isin(rest[name]).sum()) for name in ("patient", "lesion"))
    job.console.info(
        f"  the test set is {len(test)} of {len(table)} rows of {files.tables[0].name}: {patients} share a patient "
        f"with the others, {lesions} a lesion; {len(cases)} cases have a photo"
    )
    return table[[over.key, *folders.columns]]


def _listed_folders(over: SourceTable, root: Path, n: int) -> pd.DataFrame:
    """``folder`` of the rows, by their place in the table, that the files of the data set list.

    Raises:
        InputError: a file is absent or holds something else, or a row is in two parts.
    """
    import pandas as pd

    places = {HELD_OUT: 0, VALIDATION: 1, TRAIN: 2}
    folder: dict[int, int] = {}
    for part, pattern in over.parts.items():
        file = next(iter(sorted(root.glob(pattern))), None)
        if file is None:
            raise InputError(
                f"no {pattern} in {root}", f"the file of {over.title} that lists the {part} rows", "copy it there"
            )
        try:
            numbers = [int(line.split(",")[0]) for line in file.read_text(encoding="utf-8-sig").split()[1:]]
        except (ValueError, UnicodeDecodeError) as error:
            raise InputError(
                f"{file}: {error}", "a header and one number a line", "take the file as published"
            ) from None
        wrong = next((number for number in numbers if not 0 <= number < n or number in folder), None)
        if wrong is not None:
            raise InputError(
                f"{file}: row {wrong}",
                f"numbers from 0 to {n - 1}, each in one part",
                f"take the table and the files of {over.title} as published",
            )
        folder |= dict.fromkeys(numbers, places[part])
    return pd.DataFrame({"folder": pd.Series(folder, dtype=int)})


# ---------------------------------------------------------------------------------------------------- imported


def _imported(file: Path, cases: pd.DataFrame, job: Job, config: Config) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    table = _matched(_read_import(file), job, file)
    frame = table.merge(cases, on=["cohort", "case_id"], how="inner", validate="many_to_one")
    without_label = len(_cases_of(table)) - len(_cases_of(frame))
    if without_label:
        job.console.warn(f"{without_label} cases of {file.name} have no image or no class and are left out")
    absent = len(cases) - len(_cases_of(frame))
    if absent:
        job.console.warn(f"{absent} development cases are not in {file.name}: they are in no part")
    done = []
    for fold, part in frame.groupby("fold", sort=True):
        rows = part.sort_values(["cohort", "case_id"], kind="stable").reset_index(drop=True)
        if not (rows["part"] == TRAIN).any():
            raise InputError(f"{file}: fold {fold} has no training row", f"parts {listed(PARTS)}", "correct the file")
        if not (rows["part"] == VALIDATION).any():
            job.console.info(f"  fold {fold} of {file.name} has no validation row: taken from its training rows")
            inside = np.flatnonzero(rows["part"] == TRAIN)
            labels, groups = (rows[c].to_numpy(dtype=str)[inside] for c in ("stratum", "joined"))
            rows.loc[inside[_carved(labels, groups, config.validation, config.seed)], "part"] = VALIDATION
        done.append(rows)
    return pd.concat(done, ignore_index=True)


def _cases_of(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["cohort", "case_id"]].drop_duplicates()


def _read_import(file: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        entries = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{file} cannot be read ({error})", "a UTF-8 CSV with a header", "correct the file") from None
    entries.columns = [str(name).strip().lower() for name in entries.columns]
    if "part" not in entries or not {"case_id", "image_id"} & set(entries.columns):
        raise InputError(
            f"{file} has columns {listed(entries.columns)}",
            "part, case_id or image_id, and if needed fold and cohort",
            "rename the columns",
        )
    entries = entries.astype(object)
    parts = [str(part).strip().lower() for part in entries["part"]]
    folds = [str(fold).strip() for fold in entries["fold"]] if "fold" in entries else ["0"] * len(entries)
    for i, (part, fold) in enumerate(zip(parts, folds, strict=True)):
        if part not in PART_NAMES:
            raise InputError(f"{file}, line {i + 2}: part {part!r}", did_you_mean(part, PART_NAMES), "correct the file")
        if not fold.isdecimal():
            raise InputError(f"{file}, line {i + 2}: fold {fold!r}", "a whole number from 0", "correct the file")
    return entries.assign(part=[PART_NAMES[part] for part in parts], fold=[int(fold) for fold in folds])


def _matched(entries: pd.DataFrame, job: Job, file: Path) -> pd.DataFrame:
    """Rows (cohort, case_id, fold, part): the file's ids looked up among all cases, usable or not."""
    import pandas as pd

    column = "case_id" if "case_id" in entries else "image_id"
    places: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for name, artifact in job.inputs.items():
        cohort = name.removeprefix("cases/")
        for row in artifact.table(["case_id", "image_id"]).itertuples():
            for where in (cohort, ""):
                places.setdefault((where, str(getattr(row, column))), set()).add((cohort, str(row.case_id)))
    rows: dict[tuple[int, str, str], str] = {}
    unknown = []
    for i, entry in enumerate(entries.to_dict("records")):
        id_, where = str(entry[column]).strip(), str(entry.get("cohort", "")).strip()
        matches = places.get((where, id_)) or places.get((where, id_.rpartition(".")[0])) or set()
        if not matches:
            unknown.append(id_)
            continue
        if len(matches) > 1:
            raise InputError(
                f"{file}, line {i + 2}: {id_!r} is in several cohorts", "a column cohort", "add the column"
            )
        key = (int(entry["fold"]), *next(iter(matches)))
        if rows.setdefault(key, entry["part"]) != entry["part"]:
            raise InputError(
                f"{file}, line {i + 2}: case {key[2]!r} is in {rows[key]} and in {entry['part']} of fold {key[0]}",
                "every case in one part of a fold",
                "correct the file",
            )
    if unknown:
        raise InputError(
            f"{file} names {len(unknown)} cases that no development cohort has: {listed(unknown)}",
            f"values of the column {column} of {listed(n.removeprefix('cases/') for n in job.inputs)}",
            "remove these rows, or name the cohort in a column cohort",
        )
    return pd.DataFrame(
        [(fold, cohort, case, part) for (fold, cohort, case), part in rows.items()],
        columns=["fold", "cohort", "case_id", "part"],
    )


# ------------------------------------------------------------------------------------------------------ checks


def _thin_strata(frame: pd.DataFrame, cases: pd.DataFrame, strata: Sequence[str], *, by_class: bool) -> list[str]:
    """Warnings about parts that lack a class, or a cohort's modality.

    Raises:
        InputError: the training rows of a fold lack a class.
    """
    patients = cases.groupby("stratum")["joined"].nunique()
    present = [part for part in PARTS if (frame["part"] == part).any()]
    warnings = []
    for name in strata:
        if name not in patients.index:
            warnings.append(f"no development case is {name}: the model cannot learn it")
            continue
        missing: dict[str, list[int]] = {part: [] for part in PARTS}
        for fold, rows in frame.groupby("fold"):
            for part in present:
                if not ((rows["stratum"] == name) & (rows["part"] == part)).any():
                    missing[part].append(int(str(fold)))
        n, of = int((cases["stratum"] == name).sum()), int(patients[name])
        called = f"class {name}" if by_class else name
        if missing[TRAIN] and by_class:
            raise InputError(
                f"{called} has {n} cases of {of} patients, none of them in the training rows of fold "
                f"{listed(missing[TRAIN])}",
                f"patients of {called} in the training rows of every fold",
                "add patients, lower --folds, or leave the class out with --classes FILE",
            )
        for part in present:
            if missing[part]:
                where = ", ".join(map(str, missing[part]))
                warnings.append(f"{called} ({n} cases of {of} patients) has no {part} row in fold {where}")
    return warnings


def _straddling(frame: pd.DataFrame, images: pd.DataFrame, config: Config, photos: ComparedPhotos) -> Leakage:
    """What training rows share with validation and held-out rows, over all folds."""
    from skinkit.audit import leakage

    leaks = []
    near = {"near_distance_bits": config.near_bits, "near_limit": config.near_limit}
    for _, rows in frame.groupby("fold"):
        sides = images.merge(rows[["cohort", "case_id", "part"]], on=["cohort", "case_id"])
        part = sides["part"]
        leaks.append(leakage.check(sides[part == HELD_OUT], sides[part != HELD_OUT], photos, **near))
        leaks.append(leakage.check(sides[part == VALIDATION], sides[part == TRAIN], photos, **near))
    return leakage.joined(*leaks)


def _counts(frame: pd.DataFrame, strata: Sequence[str]) -> list[dict[str, Any]]:
    """Cases and groups of every fold, part and class (over masks: cohort and modality)."""
    grouped = frame.groupby(["fold", "part", "stratum"])["joined"].agg(["size", "nunique"])
    rows = []
    sizes = {key: (int(row["size"]), int(row["nunique"])) for key, row in grouped.iterrows()}
    for fold in sorted(int(fold) for fold in frame["fold"].unique()):
        for part in PARTS:
            for name in strata:
                n, groups = sizes.get((fold, part, name), (0, 0))
                rows.append({"fold": fold, "part": part, "class": name, "cases": n, "groups": groups})
    return rows
