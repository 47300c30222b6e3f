"""radiomics: cases + masks -> features, the 102 two-dimensional PyRadiomics features of every lesion.

The grey image is ITU-R 601 luma as 8-bit integers; further channels add prefixed sets that describe colour variation. A
lesion whose mask failed is measured over the whole image but for its border row and column, because PyRadiomics refuses
a mask without background; the row says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from skinkit.artifacts.artifact import Artifact
from skinkit.artifacts.tables import LazyRows, TableRows
from skinkit.console import Console
from skinkit.errors import CaseError, ConfigError, RefusedError
from skinkit.options import Help, MaskLabel, MaskPolarity
from skinkit.schemas import FEATURES, OK
from skinkit.stages import Job
from skinkit.workers import map_cases, prepare_workers
from skinkit.workspace import Ref, Workspace, check_name

VERSION = 2
SCHEMA = FEATURES
SHARES = True


@dataclass(frozen=True)
class Config:
    """Options of the stage."""

    masks: Annotated[str, "name of the masks (default: the workspace's segmenter)"] = ""
    channels: Annotated[
        tuple[str, ...], "channels, comma-separated or repeated: grey, red, green, blue, lab_l, lab_a, lab_b"
    ] = ("grey",)
    bin_width: Annotated[float, "grey levels per bin"] = 25.0
    engine: Annotated[Literal["fast", "pyradiomics"], "fast: compiled kernels with the same values"] = "fast"
    check: Annotated[
        int, Help("recompute this many random cases with PyRadiomics; exit code 5 on any difference", identity=False)
    ] = 0
    image: Annotated[str, Help("compute the features of this image and print them; needs --mask", identity=False)] = ""
    mask: Annotated[str, Help("mask of that image", identity=False)] = ""
    label: MaskLabel = None
    mask_polarity: MaskPolarity = ""


def targets(config: Config, workspace: Workspace, cohorts: Sequence[str], name: str) -> list[Ref]:
    """One feature table per cohort."""
    name = name or config.masks or workspace.defaults["segmenter"]
    check_name(name, "name of the features")
    return [Ref("features", cohort, name) for cohort in workspace.chosen(cohorts)]


def check_values(config: Config, workspace: Workspace) -> None:
    """Refuse the engine of PyRadiomics where that is not installed.

    Raises:
        ConfigError: it is not.
    """
    from skinkit.radiomics.reference import refuse_absence

    if config.engine == "pyradiomics":
        refuse_absence()


def needs(config: Config, target: Ref, workspace: Workspace) -> dict[str, Ref]:
    """The cases and their masks; features take the name of their masks unless told otherwise."""
    return {
        "cases": Ref("cases", target.cohort),
        "masks": Ref("masks", target.cohort, config.masks or target.name),
    }


def run(config: Config, job: Job) -> Artifact:
    """Measure the lesions of one cohort."""
    from skinkit.radiomics import warm_up

    settings = {"channels": config.channels, "bin_width": config.bin_width, "engine": config.engine}
    if config.engine == "fast":
        warm_up(job.console.info)  # compiled once, here, so that no worker process has to
        prepare_workers(("skinkit.radiomics.loaded", "skinkit.images.decode", __name__))
    with job.build() as build:
        lesions = _lesions(job)
        fingerprints = {
            (case["image_id"],): job.recipe.fingerprint(case["image_sha256"], case["mask_sha256"]) for case in lesions
        }
        todo = lesions.only(build.plan(fingerprints))
        work = partial(_measure_one, root=job.cohort.root, masks=job.inputs["masks"].path, settings=settings)
        for row in map_cases(work, todo, key=("image_id",), label="measuring", **job.pace):
            build.add(row)
        build.finish_share()
        return build.finish(info=dict(settings))


class _Lesions(LazyRows):
    """Images that have a mask, with the hashes of both."""

    def __init__(self, masks: TableRows, cases: TableRows, places: Mapping[str, tuple[int, int]]) -> None:
        self.masks, self.cases = masks, cases
        self.places = places
        self.order = list(places.values())

    def __len__(self) -> int:
        return len(self.order)

    def row(self, index: int) -> dict[str, Any]:
        """The mask and the case at a place from 0."""
        mask, case = self.order[index]
        return {**self.masks.row(mask), **self.cases.row(case)}

    def only(self, keys: Iterable[tuple[str]]) -> _Lesions:
        """Those of these keys, in their order."""
        return _Lesions(self.masks, self.cases, {image_id: self.places[image_id] for (image_id,) in keys})


def _lesions(job: Job) -> _Lesions:
    """Every image that has a mask."""
    cases = job.inputs["cases"].rows(["image_id", "image_path", "image_sha256", "pixel_sha256"])
    masks = job.inputs["masks"].rows(["image_id", "mask_file", "mask_sha256", "mask_failed", "status"])
    place = {case["image_id"]: index for index, case in enumerate(cases)}
    places = {
        mask["image_id"]: (index, place[mask["image_id"]])
        for index, mask in enumerate(masks)
        if mask["status"] == OK and mask["image_id"] in place
    }
    return _Lesions(masks, cases, places)


def direct(config: Config, console: Console) -> dict[str, Any] | None:
    """``--image I --mask M``: the features of one lesion, without a workspace."""
    if not config.image and not config.mask:
        if config.label is not None or config.mask_polarity:
            raise ConfigError(
                "--label or --mask-polarity without --image and --mask",
                "one photo and its mask",
                "for a cohort, set label or mask_polarity in its table of skinkit.toml",
            )
        return None
    if not (config.image and config.mask):
        raise ConfigError("only one of --image and --mask", "both", "give the photo and its mask")
    from skinkit.data.mask_reading import checked_reading
    from skinkit.images.advice import unusable
    from skinkit.images.decode import read_image
    from skinkit.images.drawn_masks import read_drawn_mask
    from skinkit.radiomics import extract

    reading = checked_reading(config.label, config.mask_polarity)
    try:
        rgb, flags = read_image(Path(config.image))
        mask, more = read_drawn_mask(Path(config.mask), (rgb.shape[1], rgb.shape[0]), reading)
        features = extract(rgb, mask, channels=config.channels, bin_width=config.bin_width, engine=config.engine)
    except CaseError as error:
        raise unusable(error, config.image, config.mask) from None
    every = sorted({*flags, *more})
    if "turned" in flags and "mask_turned" not in more:
        console.warn(
            "the photo was turned upright by its EXIF orientation; a mask drawn on the stored pixels lies elsewhere"
        )
    width = max(map(len, features))
    lines = [f"{n:<{width}}  {v:.10g}" for n, v in features.items()]
    return {
        "features": features,
        "flags": every,
        "text": "\n".join([*lines, *([f"flags: {', '.join(every)}"] if every else [])]),
    }


def _measured_mask(case: Mapping[str, Any], masks: Path) -> Any:
    """The mask to measure in; the whole picture but for its frame where the mask failed."""
    from skinkit.images.decode import read_mask

    mask = read_mask(masks / case["mask_file"], sha256=case["mask_sha256"] or "")
    if case["mask_failed"]:
        mask[:] = True
        mask[[0, -1], :] = False
        mask[:, [0, -1]] = False
    return mask


def _measure_one(case: Mapping[str, Any], *, root: Path, masks: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The features of one lesion."""
    from skinkit.learning.examples import Photo
    from skinkit.radiomics import extract

    photo = Photo(case["pixel_sha256"], root / case["image_path"], case["image_sha256"])
    pixels = photo.read_luma() if tuple(settings["channels"]) == ("grey",) else photo.read()
    features = extract(pixels, _measured_mask(case, masks), **settings)
    return {
        "image_id": case["image_id"],
        "engine": settings["engine"],
        "mask_failed": bool(case["mask_failed"]),
        "status": OK,
        **features,
    }


def audit(config: Config, job: Job) -> None:
    """``--check N``: recompute random cases with PyRadiomics, a site's own proof on its own data.

    Where PyRadiomics is not installed, that is said, and its stored values of one lesion are compared instead.

    Raises:
        RefusedError: a feature differs by more than 1e-6.
    """
    if not config.check:
        return
    import numpy as np

    from skinkit.images.decode import read_rgb
    from skinkit.radiomics import compare, reference, reference_values
    from skinkit.radiomics.refusal import RadiomicsRefusal

    if not reference.installed():
        if differing := reference_values.differing("fast"):
            name, stored, measured = differing[0]
            raise RefusedError(
                f"{len(differing)} features of the stored lesion differ, first {name}: {measured!r} against {stored!r}",
                "the stored values of PyRadiomics",
                "run 'skinkit selftest' and report what it prints to the authors",
            )
        job.console.warn(
            f"{job.target}: --check skipped, because PyRadiomics is not installed (extra 'pyradiomics', Python 3.11); "
            "its stored values of one lesion are met"
        )
        return

    cases = _lesions(job)
    chosen = np.random.default_rng(0).permutation(len(cases))[: config.check]
    done = 0
    for index in sorted(int(i) for i in chosen):
        case = cases[index]
        rgb = read_rgb(job.cohort.root / case["image_path"])
        mask = _measured_mask(case, job.inputs["masks"].path)
        try:
            differences = compare(rgb, mask, channels=config.channels, bin_width=config.bin_width)
        except RadiomicsRefusal:
            continue  # both engines refuse it; the row says why
        done += 1
        if differences:
            name, fast, exact, difference = differences[0]
            raise RefusedError(
                f"{case['image_id']}: {len(differences)} features differ, first {name}: {fast!r} against {exact!r} "
                f"({difference:.3g})",
                "no difference above 1e-6 between the fast engine and PyRadiomics",
                "rerun with --engine pyradiomics and report the image's size and mask to the authors",
            )
    job.console.info(f"checked {done} cases of {job.target.cohort} against PyRadiomics: no feature differs")
