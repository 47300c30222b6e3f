"""Test sets drawn from dermoscopic archives for a model that reads the metadata of PAD-UFES-20.

HAM10000 and ISIC 2019 have age, sex, site and diagnosis, which are kept. The other attributes are drawn from the
*training rows of fold 0* of a split of PAD-UFES-20, independently of the diagnosis, so that they carry no information
about it. They test how a model handles plausible metadata, not what real metadata would add.

    case        drawn per class without replacement, by seed, from the sorted image ids of the archive
    attribute   ``joint = "independent"``: each attribute by its frequency in the training rows, unknown values
                included; ``"bootstrap"``: all attributes of one training row together
    region      given by the site (face, hand, back, ...), else drawn among the site's regions by their frequency in
                the training rows; genital and unknown sites have none

Drawn rows carry the flag ``metadata_drawn``; their column ``drawn_attributes`` lists the names. Source: B. Wang et al.,
DermaCalibra, Diagnostics 16(4), 630, 2026, which does not describe the drawing; the map from sites to regions is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skinkit.errors import ConfigError, InputError, did_you_mean
from skinkit.schemas import OK, PAD_ATTRIBUTES, PENDING
from skinkit.workspace import SETTINGS_FILE, Cohort, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from skinkit.artifacts.artifact import Artifact
    from skinkit.data.cases import Listing
    from skinkit.data.source import Draw

OPTIONS = {
    "n": "cases to draw",
    "seed": "seed of all random draws",
    "joint": "independent: attribute by attribute; bootstrap: all attributes of one training row together",
    "metadata_from": "development cohort of PAD-UFES-20 whose training rows the metadata are drawn from",
    "split": "split that defines the training rows (default: the workspace's)",
}
"""Keys of a cohort that is drawn."""
_CHOICES = {"joint": ("independent", "bootstrap"), "counts": ("paper", "proportional"), "scc": ("drop", "add628")}
ATTRIBUTES = tuple(column.name for column in PAD_ATTRIBUTES if column.name != "region")
DRAWN_FLAG, DRAWN_COLUMN = "metadata_drawn", "drawn_attributes"
SCC = "squamous_cell_carcinoma"

_TRUNK = ("CHEST", "BACK", "ABDOMEN")
REGIONS_OF: dict[str, tuple[str, ...]] = {
    "face": ("FACE",), "neck": ("NECK",), "ear": ("EAR",), "scalp": ("SCALP",), "back": ("BACK",), "chest": ("CHEST",),
    "abdomen": ("ABDOMEN",), "hand": ("HAND",), "foot": ("FOOT",), "lower extremity": ("THIGH",),
    "upper extremity": ("FOREARM", "ARM"), "trunk": _TRUNK, "lateral torso": _TRUNK,
    "anterior torso": ("CHEST", "ABDOMEN"), "posterior torso": ("BACK",),
    "head/neck": ("FACE", "NOSE", "NECK", "EAR", "LIP", "SCALP"), "acral": ("HAND", "FOOT"),
    "palms/soles": ("HAND", "FOOT"),
}  # fmt: skip
"""Site in the archive's words -> possible regions of PAD-UFES-20; other sites have none."""


@dataclass(frozen=True)
class DrawSettings:
    """How a cohort is drawn, from its table in ``skinkit.toml``; the keys are those of :data:`OPTIONS`."""

    n: int
    seed: int
    joint: str
    counts: str
    metadata_from: str
    split: str


def settings_of(cohort: Cohort, workspace: Workspace) -> DrawSettings:
    """The checked settings of a cohort whose source draws.

    Raises:
        ConfigError: a value is wrong, or there is no development cohort of PAD-UFES-20 to draw from.
    """
    from skinkit.data import load_source

    where = f"[cohorts.{cohort.name}] of {SETTINGS_FILE}"
    draw = load_source(cohort.source).draw
    assert draw is not None
    if cohort.role != "external":
        raise ConfigError(
            f"role {cohort.role!r} of {cohort.name!r}",
            "external: a model must not train on drawn metadata",
            f"correct {where}",
        )
    options = {"n": draw.n, "seed": 0, "joint": "independent", "counts": "paper", "scc": "drop", **cohort.options}
    for name, least in (("n", 1), ("seed", 0)):
        if not isinstance(options[name], int) or isinstance(options[name], bool) or options[name] < least:
            raise ConfigError(
                f"{name} = {options[name]!r} in {where}", f"a whole number from {least}", f"correct {name}"
            )
    for name, choices in _CHOICES.items():
        if options[name] not in choices:
            raise ConfigError(f"{name} = {options[name]!r} in {where}", " or ".join(choices), f"correct {name}")
    development = [c for c in workspace.with_role("development") if workspace.cohort(c).source == "pad-ufes-20"]
    chosen = str(options.get("metadata_from") or (development[0] if len(development) == 1 else ""))
    if chosen not in workspace.with_role("development"):
        raise ConfigError(
            f"metadata_from = {chosen!r} in {where}",
            did_you_mean(chosen, development) if development else "a development cohort of pad-ufes-20",
            "name the cohort whose training rows the metadata are drawn from",
        )
    split = str(options.get("split") or workspace.defaults["split"])
    values = (options["n"], options["seed"], str(options["joint"]), str(options["counts"]))
    return DrawSettings(*values, metadata_from=chosen, split=split)


def beside(cohort: Cohort) -> Cohort | None:
    """The archive in the same folder from which cases are added, as a cohort; None where no cases are added."""
    return replace(cohort, source="isic-2019", options={}) if cohort.options.get("scc") == "add628" else None


def drawn(cohort: Cohort, listing: Listing, workspace: Workspace, inputs: Mapping[str, Artifact]) -> dict[str, Any]:
    """Draw the cases of a cohort and their metadata, in place of the rows of its listing.

    Args:
        cohort: the cohort.
        listing: every row of its archive; ``rows`` are replaced by the drawn ones.
        workspace: the cohort's workspace.
        inputs: ``training`` (cases of PAD-UFES-20) and ``split``.

    Returns:
        The record for the manifest; ``text`` is one sentence for people. ``agreement`` is :func:`agreement`.

    Raises:
        InputError: the archive has fewer cases of a class than are to be drawn, or the split has no training row.
    """
    import numpy as np

    settings, draw = settings_of(cohort, workspace), listing.source.draw
    assert draw is not None
    rng = np.random.default_rng(settings.seed)
    cases = sampled(listing.rows, draw, settings, rng)
    added = _added(cohort)
    cases = sorted([*cases, *added], key=lambda row: str(row["image_id"]))
    training = _training_rows(settings, inputs)
    listing.rows[:] = with_metadata(cases, training, settings.joint, rng)
    fits = agreement(listing.rows, training)
    least = min(fits, key=lambda name: fits[name])
    counts = dict(sorted(Counter(str(row["diagnosis"]) for row in listing.rows).items()))
    mean = sum(fits.values()) / len(fits)
    return {
        "n": len(cases),
        "counts": counts,
        "seed": settings.seed,
        "joint": settings.joint,
        "metadata_from": settings.metadata_from,
        "split": settings.split,
        "training_rows": len(training),
        "agreement": fits,
        "text": (
            f"{len(cases):,} cases drawn ({', '.join(f'{name} {n:,}' for name, n in counts.items())}), metadata from "
            f"{len(training):,} training rows of {settings.metadata_from} (split {settings.split}, fold 0): agreement "
            f"of their marginals {mean:.3f}, least {fits[least]:.3f} ({least})"
        ),
    }


def _training_rows(settings: DrawSettings, inputs: Mapping[str, Artifact]) -> pd.DataFrame:
    """The usable cases that fold 0 of the split trains on, sorted."""
    split = inputs["split"].table(["fold", "cohort", "case_id", "part"])
    chosen = split[(split["fold"] == 0) & (split["part"] == "train") & (split["cohort"] == settings.metadata_from)]
    cases = inputs["training"].table()
    cases = cases[(cases["status"] == OK) & cases["case_id"].isin(chosen["case_id"])].sort_values("image_id")
    if cases.empty:
        raise InputError(
            f"fold 0 of the split {settings.split!r} trains on no case of {settings.metadata_from}",
            "training rows to draw metadata from",
            "name another split or metadata_from",
        )
    return cases.reset_index(drop=True)


def _added(cohort: Cohort) -> list[dict[str, Any]]:
    """All squamous cell carcinomas of the second archive, if the cohort adds them."""
    from skinkit.data import read_cases

    other = beside(cohort)
    rows = read_cases(other).rows if other else []
    return [row for row in rows if row["diagnosis"] == SCC and row["status"] in (OK, PENDING)]


# ---------------------------------------------------------------------------------------------------------- cases


def sizes(present: Mapping[str, int], draw: Draw, n: int, counts: str = "proportional") -> dict[str, int]:
    """Cases of each class: as published, or ``n`` in proportion by the largest remainder method.

    Args:
        present: diagnosis -> cases of the archive.
        draw: the source's.
        n: total number of cases.
        counts: ``paper`` uses the published numbers where there are any, scaled to ``n``.
    """
    shares = draw.published if counts == "paper" and draw.published else {d: present.get(d, 0) for d in draw.diagnoses}
    exact = {name: n * of / max(sum(shares.values()), 1) for name, of in shares.items()}
    whole = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for name in by_remainder[: n - sum(whole.values())]:
        whole[name] += 1
    return whole


def sampled(
    rows: Sequence[Mapping[str, Any]], draw: Draw, settings: DrawSettings, rng: np.random.Generator
) -> list[Mapping[str, Any]]:
    """The rows that are drawn, with or without an image on disk."""
    usable = [row for row in rows if row["diagnosis"] in draw.diagnoses and row["status"] in (OK, PENDING)]
    present = Counter(str(row["diagnosis"]) for row in usable)
    counts = sizes(present, draw, settings.n, settings.counts)
    chosen: list[Mapping[str, Any]] = []
    for diagnosis, n in counts.items():
        of = sorted((row for row in usable if row["diagnosis"] == diagnosis), key=lambda row: str(row["image_id"]))
        if len(of) < n:
            raise InputError(
                f"{n:,} cases of {diagnosis} requested, the archive has {len(of):,}",
                "at most the cases of the archive",
                "set a smaller n, or use the complete archive's table",
            )
        chosen += [of[i] for i in rng.permutation(len(of))[:n]]
    return chosen


# ------------------------------------------------------------------------------------------------------- metadata


def with_metadata(
    rows: Sequence[Mapping[str, Any]], training: pd.DataFrame, joint: str, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """The rows with attributes drawn from training rows.

    Args:
        rows: cases; their order decides which random numbers each one gets.
        training: training rows of PAD-UFES-20.
        joint: ``independent`` or ``bootstrap``.
        rng: random generator.
    """
    values = {name: _plain(training[name]) for name in ATTRIBUTES}
    places = rng.integers(len(training), size=(len(rows), 1 if joint == "bootstrap" else len(ATTRIBUTES)))
    regions = Counter(_plain(training["region"]))
    out = []
    for row, at in zip(rows, places.tolist(), strict=True):
        picked = {name: values[name][at[i % len(at)]] for i, name in enumerate(ATTRIBUTES)}
        among = REGIONS_OF.get(str(row["site_source"] or "").casefold(), ())
        region = _drawn_region(among, regions, rng)
        names = [*ATTRIBUTES, *(["region"] if len(among) > 1 else [])]
        flags = {*filter(None, str(row["flags"] or "").split(",")), DRAWN_FLAG}
        out.append({**row, **picked, "region": region, "flags": ",".join(sorted(flags)), DRAWN_COLUMN: ",".join(names)})
    return out


def _plain(column: pd.Series) -> list[Any]:
    plain: list[Any] = column.astype(object).where(column.notna(), None).tolist()
    return plain


def _drawn_region(among: Sequence[str], regions: Mapping[Any, int], rng: np.random.Generator) -> str | None:
    if len(among) < 2:
        return among[0] if among else None
    weights = [regions.get(name, 0) for name in among]
    total = sum(weights)
    return str(rng.choice(among, p=[w / total for w in weights])) if total else None


def agreement(rows: Sequence[Mapping[str, Any]], training: pd.DataFrame) -> dict[str, float]:
    """Attribute -> 1 minus the total variation distance between its values among the rows and the training rows."""
    similarity = {}
    for name in ATTRIBUTES:
        ours, theirs = Counter(row[name] for row in rows), Counter(_plain(training[name]))
        differences = (abs(ours[v] / max(len(rows), 1) - theirs[v] / len(training)) for v in {*ours, *theirs})
        similarity[name] = 1 - sum(differences) / 2
    return similarity
