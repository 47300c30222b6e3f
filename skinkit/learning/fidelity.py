"""How good synthetic images are, beside lines that say what the numbers mean, by a network that filters none of them.

Photos are read in the size that the generator reads. In each fold and class the same half of the real lesions is
compared with the synthetic images, with the other half, with noise, and with each other class, always with as many
images. Distances are those of torchmetrics, of our features in place of its Inception.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifacts.embedding_store import EmbeddingStore
from skinkit.artifacts.files import digest, file_sha256
from skinkit.audit import copies
from skinkit.audit.copies import Key
from skinkit.console import Console
from skinkit.errors import InputError
from skinkit.images.lab import typology_angle
from skinkit.images.pixels import Array
from skinkit.learning.near_copies import Squares
from skinkit.stats.fidelity import precision_recall
from skinkit.stats.metrics import Floats

FEWEST = 8
"""Images of each side below which nothing is measured."""
SYNTHETIC, OTHER_HALF, NOISE, OTHER_CLASS = "synthetic", "real, other lesions", "noise", "another class"
_MOST = 500
_SUBSETS, LARGEST_SUBSET = 20, 50
"""Random subsets for KID and its spread, and their size; of fewer pictures every subset is all of them."""
_SIDE_PX = 128
_BATCH = 32
_QUANTILE = 0.995


@dataclass(frozen=True)
class FeatureExtractor:
    """A frozen network that reads squares.

    Attributes:
        backbone: its name.
        sha256: of its weights.
        own: whether it is another network than the one that looks for copies.
        device: ``cpu`` or ``cuda``.
        network: answers four maps.
    """

    backbone: str
    sha256: str
    own: bool
    device: str
    network: Any

    @staticmethod
    def of(backbone: str, weights: str, device: str) -> FeatureExtractor:
        """The network of these weights; without them that which looks for copies.

        Args:
            backbone: of torchvision, or ``timm/`` and timm's name.
            weights: a file, a name, or empty for the public ones, where they are here.
            device: ``cpu`` or ``cuda``.

        Raises:
            InputError: a library is missing, or the weights that were named.
        """
        for library, extra in (("torch", "torch"), ("torchmetrics", "synthesis")):
            if find_spec(library) is None:
                raise InputError(f"{library} is not installed", "what --report measures with", _install(extra))
        from skinkit.models.parts.backbone import Backbone
        from skinkit.models.parts.weights import PUBLIC, cached, locate, read_state

        if not weights and (backbone not in PUBLIC or cached(PUBLIC[backbone]) is None):
            backbone = copies.NETWORK
        file = locate(weights, backbone)
        network = Backbone(backbone, _SIDE_PX, closing=False)
        network.start(read_state(file), backbone)
        network.eval().requires_grad_(False).to(device)
        return FeatureExtractor(backbone, file_sha256(file), backbone != copies.NETWORK, device, network)

    def vectors(self, keys: Sequence[Key], photos: Squares, root: Path, console: Console) -> dict[str, Floats]:
        """Pixel hash -> (width,) means of the last two stages' maps, of the pictures that can be read."""
        key = [self.backbone, self.sha256, _SIDE_PX, photos.side_px, self.device]
        store = EmbeddingStore(root / "cache" / "fidelity" / digest(key)[:24])
        wanted = {pixels: cohort for cohort, pixels in keys if pixels}
        known = store.read(wanted, console)
        todo = [pixels for pixels in wanted if pixels not in known]
        with console.progress(len(todo), "pictures measured") as tick:
            for begin in range(0, len(todo), _BATCH):
                some = todo[begin : begin + _BATCH]
                read = {pixels: rgb for pixels in some if (rgb := photos.read(wanted[pixels], pixels)) is not None}
                if read:
                    fresh = dict(zip(read, self.seen(np.stack(list(read.values()))).astype(np.float16), strict=True))
                    store.write(fresh)
                    known |= fresh
                for _ in some:
                    tick()
        return {pixels: values.astype(np.float64) for pixels, values in known.items()}

    def seen(self, pictures: Array) -> Floats:
        """(n, side, side, 3) uint8 -> (n, width)."""
        import torch
        import torch.nn.functional as functional

        out = []
        with torch.inference_mode():
            for begin in range(0, len(pictures), _BATCH):
                batch = torch.from_numpy(np.ascontiguousarray(pictures[begin : begin + _BATCH])).to(self.device)
                batch = batch.permute(0, 3, 1, 2).float() / 255
                size = (_SIDE_PX, _SIDE_PX)
                maps = self.network(functional.interpolate(batch, size, mode="bilinear", antialias=True))
                out.append(torch.cat([each.mean((2, 3)) for each in maps[:-3:-1]], 1).cpu().numpy())
        return np.concatenate(out).astype(np.float64)


def _install(extra: str) -> str:
    return f"pip install 'skinkit[{extra}]'"


@dataclass(frozen=True)
class Side:
    """Pictures of one kind in one fold.

    Attributes:
        rows: n rows with ``class``, ``group_id``, ``cohort``, ``case_id``, ``pixel_sha256`` and, of images, ``status``.
        vectors: (n, width).
    """

    rows: pd.DataFrame
    vectors: Floats

    @staticmethod
    def of(rows: pd.DataFrame, known: Mapping[str, Floats]) -> Side:
        """The rows whose vector is known."""
        rows = rows[rows["pixel_sha256"].isin(list(known))].reset_index(drop=True)
        width = len(next(iter(known.values()))) if known else 1
        return Side(rows, np.array([known[h] for h in rows["pixel_sha256"]], dtype=np.float64).reshape(-1, width))

    def where(self, chosen: Any) -> Side:
        """Some of them."""
        mask = np.asarray(chosen, dtype=bool)
        return Side(self.rows[mask].reset_index(drop=True), self.vectors[mask])


def class_rows(fold: int, real: Side, synthetic: Side, reader: FeatureExtractor, side_px: int) -> list[dict[str, Any]]:
    """Distances, precision and recall of each class of a fold, and of what they are to be read beside.

    Args:
        fold: its number.
        real: training photos that have a class.
        synthetic: images that are not excluded.
        reader: sees noise.
        side_px: of that noise.

    Returns:
        Rows with ``fold``, ``class``, ``compared``, ``with``, ``n``, ``fid``, ``kid``, ``kid_sd``, ``precision`` and
        ``recall``; None where there are fewer than :data:`FEWEST`.
    """
    codes = sorted(set(synthetic.rows["class"]))
    halves = {code: _halves(real.where(real.rows["class"] == code)) for code in sorted(set(real.rows["class"]))}
    most = min(_MOST, max((len(first) for first, _ in halves.values()), default=0)) or 1
    noise = np.random.default_rng(0).integers(0, 256, (most, side_px, side_px, 3), dtype=np.uint8)
    of_noise = reader.seen(noise)
    rows = []
    for code in codes:
        first, second = halves.get(code, (np.zeros((0, 1)), np.zeros((0, 1))))
        own = synthetic.vectors[(synthetic.rows["class"] == code).to_numpy()]
        others = {other: np.concatenate(of) for other, of in halves.items() if other != code}
        compared = [(SYNTHETIC, "", own), (OTHER_HALF, "", second), (NOISE, "", of_noise)]
        compared += [(OTHER_CLASS, other, of) for other, of in others.items()]
        n = min(len(first), len(second), len(own), _MOST)
        for what, name, vectors in compared:
            row = {"fold": fold, "class": code, "compared": what, "with": name, "n": min(n, len(vectors))}
            rows.append(row | _compared(_some(first, row["n"]), _some(vectors, row["n"])))
    return rows


def _compared(real: Floats, other: Floats) -> dict[str, float | None]:
    """Distances of two sets of the same size."""
    names = ("fid", "kid", "kid_sd", "precision", "recall")
    if len(real) < FEWEST:
        return dict.fromkeys(names)
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    given = _Given.module(real.shape[1])
    a, b = (torch.from_numpy(values) for values in (real, other))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save")
        torch.manual_seed(0)
        fid = FrechetInceptionDistance(feature=given)
        kid = KernelInceptionDistance(given, _SUBSETS, min(len(real), LARGEST_SUBSET))
        for metric in (fid, kid):
            metric.update(a, real=True)
            metric.update(b, real=False)
        mean, sd = kid.compute()
        values = (float(fid.compute()), float(mean), float(sd), *precision_recall(real, other))
    return dict(zip(names, values, strict=True))


class _Given:
    """What torchmetrics takes for its network: the features as they are."""

    @staticmethod
    def module(width: int) -> Any:
        """Answers what it is given."""
        import torch

        given = torch.nn.Identity()
        given.num_features = width  # type: ignore[assignment]
        return given


def _halves(side: Side) -> tuple[Floats, Floats]:
    """Vectors of two halves that share no patient or lesion, of about one size."""
    groups = side.rows["group_id"].fillna(side.rows["case_id"]).to_numpy(dtype=str)
    names = np.random.default_rng(0).permutation(np.unique(groups))
    first = np.isin(groups, names[::2])
    return side.vectors[first], side.vectors[~first]


def _some(vectors: Floats, n: int) -> Floats:
    """So many of them, at random but always the same."""
    return vectors[np.sort(np.random.default_rng(0).permutation(len(vectors))[:n])]


def nearest_photos(synthetic: Side, photos: Side, limit: float) -> tuple[npt.NDArray[np.int64], Floats, dict[str, Any]]:
    """The photo that each image is nearest to, by a second network.

    Args:
        synthetic: all images that were made.
        photos: all that the fold has learnt from.
        limit: cosine above which an image counts as a copy, at least.

    Returns:
        (n,) rows of the photos, (n,) cosines, and ``limit``: the cosine that was used, raised to the 99.5 % quantile of
        photos of different lesions where that is higher; ``n``, ``n_kept`` and ``n_photos``, and how many of these are
        beyond it: ``before``, ``after``, ``of_photos``.
    """
    if not len(photos.rows) or not len(synthetic.rows):
        counts = dict.fromkeys(("n", "n_kept", "n_photos", "before", "after", "of_photos"), 0)
        return np.zeros(0, dtype=np.int64), np.zeros(0), {"limit": limit, **counts}
    roots = [np.sign(x.vectors) * np.sqrt(np.abs(x.vectors)) for x in (synthetic, photos)]
    mean = roots[1].mean(axis=0)
    ours, theirs = ((x - mean) / np.maximum(np.linalg.norm(x - mean, axis=1, keepdims=True), 1e-9) for x in roots)
    between = ours @ theirs.T
    groups = photos.rows["group_id"].fillna(photos.rows["case_id"]).to_numpy(dtype=str)
    chosen = np.sort(np.random.default_rng(0).permutation(len(groups))[:1000])
    unrelated = np.where(groups[chosen, None] == groups[None], -1.0, theirs[chosen] @ theirs.T).max(axis=1)
    used = max(limit, float(np.quantile(unrelated, _QUANTILE)))
    cosine: Floats = between.max(axis=1)
    kept = (synthetic.rows["status"] == "ok").to_numpy()
    counts = {
        "n": len(cosine),
        "n_kept": int(kept.sum()),
        "n_photos": len(unrelated),
        "before": int((cosine > used).sum()),
        "after": int((cosine[kept] > used).sum()),
        "of_photos": int((unrelated > used).sum()),
    }
    return between.argmax(axis=1), cosine, {"limit": round(used, 4), **counts}


def tone(rgb: Array | None) -> float:
    """Individual typology angle of a square in degrees; NaN where it is not here."""
    return float("nan") if rgb is None else typology_angle(rgb)
