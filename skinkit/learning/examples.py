"""Cases as networks read them: photos, masks, tables and truths under their names, decoded when they are needed.

A photo is stretched to the network's square. Pictures stay ``uint8`` until they are on the device
(:func:`as_input`), which moves a quarter of the bytes, and are kept, so decoded, in a cache whose size in bytes is
bounded.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from skinkit.artifacts.files import digest
from skinkit.console import Tick
from skinkit.data import views
from skinkit.errors import CaseError
from skinkit.images.decode import decode, luma, read_mask
from skinkit.images.drawn_masks import DrawnMask
from skinkit.images.encode import grey
from skinkit.images.identity import pixel_sha256
from skinkit.images.pixels import read_bytes
from skinkit.models.parts.protocol import COHORT, POSSIBLE, TRUTH, truth_name

if TYPE_CHECKING:
    import pandas as pd
    import torch

Bytes = npt.NDArray[np.uint8]
RowIndices = Sequence[int] | npt.NDArray[np.integer[Any]]
Pictures = Mapping[str, Bytes]
"""A case's pictures by name: ``image``, ``image_<view>`` (side, side, 3); ``mask``, ``truth_mask`` (side, side)."""

Item = TypeVar("Item")
Result = TypeVar("Result")

_REDUCING_GAP = 2.0
_HALF = 128


class Readable(Protocol):
    """Where the pixels of a case come from."""

    @property
    def pixel_sha256(self) -> str:
        """Their hash."""

    def read(self) -> Bytes:
        """uint8 (H, W, 3), or :class:`CaseError`."""


@dataclass(frozen=True)
class Photo:
    """One picture to run.

    Attributes:
        pixel_sha256: hash of its pixels, as ingested.
        path: the file.
        file_sha256: hash of the file, as ingested; of bytes that still have it no pixels are compared, which would
            cost as much as half of the decoding.
    """

    pixel_sha256: str
    path: Path
    file_sha256: str = ""

    def read(self) -> Bytes:
        """uint8 (H, W, 3); raises :class:`CaseError` where it cannot be read or is not what was ingested."""
        data, unchanged = self._data()
        return self._checked(decode(data, complete=unchanged)[0], unchanged)

    def read_luma(self) -> Bytes:
        """uint8 (H, W), ITU-R 601 luma, without RGB in between; raises as :meth:`read`."""
        data, unchanged = self._data()
        return luma(data, complete=True) if unchanged else grey(self._checked(decode(data)[0], unchanged))

    def _data(self) -> tuple[bytes, bool]:
        """The file's bytes, and whether they are those that were ingested."""
        data = read_bytes(self.path)
        return data, bool(self.file_sha256) and hashlib.sha256(data).hexdigest() == self.file_sha256

    def _checked(self, rgb: Bytes, unchanged: bool) -> Bytes:
        if not unchanged and pixel_sha256(rgb) != self.pixel_sha256:
            raise CaseError("image_changed", "the picture is not the one that was ingested; run 'skinkit ingest'")
        return rgb


def photos_of_view(cases: pd.DataFrame, root: Path | Sequence[Path], name: str) -> list[Photo | None]:
    """The photos that a model reads under a name (``skinkit.data.views``); None where a case has none."""
    chosen = views.of_view(cases, name)
    there = chosen["image_path"].notna().tolist()
    photos = photos_of(chosen.fillna({"image_path": "", "pixel_sha256": ""}), root)
    return [photo if exists else None for photo, exists in zip(photos, there, strict=True)]


class LesionMask(NamedTuple):
    """A mask that ``segment`` wrote.

    Attributes:
        path: the file.
        sha256: hash of the file when it was written; empty if unknown.
    """

    path: Path
    sha256: str

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> npt.NDArray[np.bool_]:
        """The mask, bool (H, W); raises :class:`CaseError` where it cannot be read or is not what was written."""
        return read_mask(self.path, sha256=self.sha256)


def lesion_masks(frame: pd.DataFrame, workspace: Path) -> list[LesionMask | None]:
    """Mask of each fused row; None where it failed, and the whole photo counts as lesion."""
    has_mask = frame["mask_path"].notna() & frame["mask_failed"].notna() & (frame["mask_failed"] != True)  # noqa: E712
    hashes = frame["mask_sha256"] if "mask_sha256" in frame else [None] * len(frame)
    return [
        LesionMask(workspace / file, sha256 if isinstance(sha256, str) else "") if usable else None
        for file, sha256, usable in zip(frame["mask_path"], hashes, has_mask, strict=True)
    ]


def photos_of(cases: pd.DataFrame, root: Path | Sequence[Path]) -> list[Photo]:
    """The photos of cases or fused rows.

    Args:
        cases: with ``pixel_sha256``, ``image_path`` and ``image_sha256``.
        root: of the cohort's files, or of each row's cohort.
    """
    roots = [root] * len(cases) if isinstance(root, Path) else root
    rows = zip(cases["pixel_sha256"], roots, cases["image_path"], cases["image_sha256"], strict=True)
    return [Photo(pixels, folder / file, str(sha256 or "")) for pixels, folder, file, sha256 in rows]


@dataclass
class _Kept:
    """What is known of the cases' pictures, shared by all who read the same ones."""

    pictures: dict[int, Pictures] = field(default_factory=dict)
    size: int = 0
    readable: set[int] = field(default_factory=set)
    failed: dict[int, CaseError] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Examples:
    """Named inputs of many cases; a case is called by its row, its place in ``photos``.

    Decoded pictures are kept until they fill ``cache_bytes``; nothing is thrown out again, and what no longer fits is
    decoded anew each time it is asked for. (In training every picture is asked for once an epoch, in another order:
    throwing out the least recent would keep no more of them.)

    Args:
        reads: names of the inputs a network reads; of the others nothing is made.
        side_px: side of the square.
        photos: of each case, where the pixels of its primary photo come from.
        views: ``image_<view>`` -> of each case, that view's photo; a case that lacks one that is read fails.
        masks: of each case, the lesion mask; where it is None, or holds no lesion at all, the segmenter
            failed, and the whole photo counts as lesion, as in every other stage.
        truth_masks: of each case, the mask drawn by a person; a case without one cannot be trained on.
        arrays: name -> (n, columns), the tables that are read.
        classes: (n,) int64 index of the true class.
        truths: further task -> (n,) int64 index of its true class, -1 where unknown.
        beside: name -> (n, ...), what other models made for the loss; in every batch, whatever is read.
        cohorts: (n,) int64 index of the cohort, in training.
        possible: (n, classes) bool, which classes the cohort of each case can have; None where every one can have all.
        cache_bytes: bound of the cache.
    """

    def __init__(
        self,
        reads: Iterable[str],
        side_px: int,
        photos: Sequence[Readable],
        *,
        views: Mapping[str, Sequence[Readable | None]] | None = None,
        masks: Sequence[LesionMask | None] | None = None,
        truth_masks: Sequence[DrawnMask | None] | None = None,
        arrays: Mapping[str, npt.NDArray[Any]] | None = None,
        classes: npt.NDArray[np.int64] | None = None,
        truths: Mapping[str, npt.NDArray[np.int64]] | None = None,
        beside: Mapping[str, npt.NDArray[Any]] | None = None,
        cohorts: npt.NDArray[np.int64] | None = None,
        possible: npt.NDArray[np.bool_] | None = None,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.reads = tuple(reads)
        self.side_px = side_px
        self.photos = photos
        self.views = {name: of_cases for name, of_cases in (views or {}).items() if name in self.reads}
        self.masks = masks if masks is not None and "mask" in self.reads else None
        self.truth_masks = truth_masks
        self.arrays = {k: np.asarray(v, np.float32) for k, v in (arrays or {}).items() if k in self.reads}
        self.classes = None if classes is None else np.asarray(classes, np.int64)
        self.truths = {task: np.asarray(truth, np.int64) for task, truth in (truths or {}).items()}
        self.beside = {name: np.asarray(values, np.float32) for name, values in (beside or {}).items()}
        self.cohorts, self.possible = cohorts, possible
        self.cache_bytes = cache_bytes
        self._kept = _Kept()

    @classmethod
    def of_cases(
        cls,
        reads: Iterable[str],
        side_px: int,
        frame: pd.DataFrame,
        root: Path | Sequence[Path],
        workspace: Path,
        *,
        cache_bytes: int = 1 << 30,
    ) -> Examples:
        """The photos, of every view that is read, and the lesion masks of fused rows.

        Args:
            reads: as of the class.
            side_px: as of the class.
            frame: fused rows.
            root: of the cohort's files, or of each row's cohort.
            workspace: root of the workspace, where masks lie.
            cache_bytes: as of the class.
        """
        reads = tuple(reads)
        named = {name: photos_of_view(frame, root, name) for name in views.read_names(reads) if name != views.IMAGE}
        masks = lesion_masks(frame, workspace) if "mask" in reads else None
        return cls(reads, side_px, photos_of(frame, root), views=named, masks=masks, cache_bytes=cache_bytes)

    def __len__(self) -> int:
        return len(self.photos)

    def __getstate__(self) -> dict[str, Any]:
        """Without what another process makes for itself."""
        return {**self.__dict__, "_kept": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._kept = _Kept()

    def with_arrays(
        self,
        arrays: Mapping[str, npt.NDArray[Any]],
        classes: npt.NDArray[np.int64] | None = None,
        truths: Mapping[str, npt.NDArray[np.int64]] | None = None,
        beside: Mapping[str, npt.NDArray[Any]] | None = None,
        cohorts: npt.NDArray[np.int64] | None = None,
        possible: npt.NDArray[np.bool_] | None = None,
    ) -> Examples:
        """The same cases with other tables and classes; decoded pictures are shared.

        Args:
            arrays: name -> (n, columns).
            classes: (n,) int64.
            truths: as of the class.
            beside: as of the class.
            cohorts: as of the class.
            possible: as of the class.
        """
        other = Examples(
            self.reads,
            self.side_px,
            self.photos,
            views=self.views,
            masks=self.masks,
            truth_masks=self.truth_masks,
            arrays=arrays,
            classes=classes,
            truths=truths,
            beside=beside,
            cohorts=cohorts,
            possible=possible,
            cache_bytes=self.cache_bytes,
        )
        other._kept = self._kept
        return other

    def show(self, epoch: int) -> None:
        """Called before the rows of an epoch of training are asked for; 0 asks for the photos as they are."""

    def truth_mask(self, row: int) -> npt.NDArray[np.float32]:
        """float32 (side, side), 0 to 1: the share of each pixel that is lesion in the mask drawn by a person."""
        return self.pictures(row)["truth_mask"].astype(np.float32) / np.float32(255)

    def fingerprint(self, rows: RowIndices) -> str:
        """What the inputs of these rows are made from, as a digest; files of masks count by their names."""
        chosen = np.asarray(rows, np.int64)
        beside = {name: hashlib.sha256(values[chosen].tobytes()).hexdigest() for name, values in self.beside.items()}
        return digest(
            [
                self.side_px,
                sorted(self.reads),
                [self.photos[row].pixel_sha256 for row in rows],
                *[[name, *(_hash_of(photos[row]) for row in rows)] for name, photos in self.views.items()],
                [[str(files[row]) for row in rows] for files in (self.masks, self.truth_masks) if files is not None],
                {name: hashlib.sha256(values[chosen].tobytes()).hexdigest() for name, values in self.arrays.items()},
                None if self.classes is None else self.classes[chosen].tolist(),
                *([{task: truth[chosen].tolist() for task, truth in self.truths.items()}] if self.truths else []),
                *([beside] if beside else []),
                *([self.cohorts[chosen].tolist()] if self.cohorts is not None and self.cohorts.any() else []),
                *([self.possible[chosen].tolist()] if self.possible is not None else []),
            ]
        )

    def pictures(self, row: int) -> Pictures:
        """The pictures of one case, at the network's size.

        Raises:
            CaseError: one of its files cannot be read.
        """
        kept = self._kept
        with kept.lock:
            if row in kept.pictures:
                return kept.pictures[row]
            if row in kept.failed:
                raise kept.failed[row]
        try:
            pictures = self._decoded(row)
        except CaseError as error:
            with kept.lock:
                kept.failed[row] = error
            raise
        size = sum(picture.nbytes for picture in pictures.values())
        with kept.lock:
            kept.readable.add(row)
            if row not in kept.pictures and kept.size + size <= self.cache_bytes:
                kept.pictures[row] = pictures
                kept.size += size
        return pictures

    def _decoded(self, row: int) -> Pictures:
        pictures = {}
        for name, of_cases in self.views.items():
            photo = of_cases[row]
            if photo is None:
                raise CaseError("view_missing", f"the case has no {name.removeprefix('image_')} photo")
            pictures[name] = resized(photo.read(), self.side_px)
        if "image" not in self.reads and self.masks is None and self.truth_masks is None:
            return pictures
        rgb = self.photos[row].read()
        size = rgb.shape[1], rgb.shape[0]
        if "image" in self.reads:
            pictures["image"] = resized(rgb, self.side_px)
        if self.masks is not None:
            mask = self.masks[row]
            inside = shrunk_mask(mask.read(), self.side_px) >= _HALF if mask is not None else np.zeros(1, bool)
            whole = np.ones((self.side_px, self.side_px), bool)
            pictures["mask"] = (inside if inside.any() else whole).astype(np.uint8) * 255
        if self.truth_masks is not None:
            drawn = self.truth_masks[row]
            if drawn is None:
                raise CaseError("mask_missing", "nobody has drawn the lesion of this photo")
            pictures["truth_mask"] = shrunk_mask(drawn.read(size), self.side_px)
        return pictures

    def unreadable(self, rows: RowIndices, tick: Tick | None = None) -> dict[int, CaseError]:
        """The rows that cannot be read, and why; rows not met yet are decoded now, which fills the cache.

        Args:
            rows: to read.
            tick: called for each.
        """
        positions = [int(row) for row in rows]
        failed = {}
        for row, error in zip(positions, in_order(self._error, positions, ahead=16), strict=True):
            if error:
                failed[row] = error
            if tick:
                tick(failed=error is not None)
        return failed

    def _error(self, row: int) -> CaseError | None:
        if row in self._kept.readable:
            return None
        outcome = self.tried(row)
        return outcome if isinstance(outcome, CaseError) else None

    def tried(self, row: int) -> Pictures | CaseError:
        """The pictures of one case, or why there are none."""
        try:
            return self.pictures(row)
        except CaseError as error:
            return error

    def batch(self, rows: RowIndices) -> dict[str, torch.Tensor]:
        """The named inputs of some rows.

        Returns:
            ``image`` uint8 (n, 3, side, side) in channels-last memory, ``mask`` and ``truth_mask`` uint8 (n, side,
            side) from 0 to 255, tables float32 (n, columns), ``class``, ``class__<task>`` and ``cohort`` int64 (n,),
            ``possible`` bool (n, classes);
            :func:`as_input` makes of them what a network reads.

        Raises:
            CaseError: a row cannot be read.
        """
        return next(self.batches([rows]))

    def batches(self, groups: Iterable[RowIndices], *, ahead: int = 2) -> Iterator[dict[str, torch.Tensor]]:
        """One :meth:`batch` per group of rows; the next ``ahead`` groups are decoded in threads meanwhile."""
        planned = [list(map(int, group)) for group in groups]
        largest = max(map(len, planned), default=0)
        pictures = in_order(self.pictures, (row for group in planned for row in group), ahead=max(1, ahead * largest))
        for group in planned:
            yield self.stacked(group, [next(pictures) for _ in group])

    def stacked(self, rows: RowIndices, pictures: Sequence[Pictures]) -> dict[str, torch.Tensor]:
        """A batch from the pictures of its rows."""
        import torch

        chosen = np.asarray(rows, np.int64)
        batch = {name: torch.from_numpy(np.stack([p[name] for p in pictures])) for name in pictures[0]}
        for name in views.read_names(batch):
            batch[name] = batch[name].permute(0, 3, 1, 2)
        tables = {**self.arrays, **self.beside}
        batch |= {name: torch.from_numpy(values[chosen]) for name, values in tables.items()}
        if self.classes is not None:
            batch[TRUTH] = torch.from_numpy(self.classes[chosen])
        if self.cohorts is not None:
            batch[COHORT] = torch.from_numpy(self.cohorts[chosen])
        if self.possible is not None:
            batch[POSSIBLE] = torch.from_numpy(self.possible[chosen])
        batch |= {truth_name(task): torch.from_numpy(truth[chosen]) for task, truth in self.truths.items()}
        return batch


def _hash_of(photo: Readable | None) -> str:
    return "" if photo is None else photo.pixel_sha256


def as_input(batch: Mapping[str, torch.Tensor], device: str | torch.device) -> dict[str, torch.Tensor]:
    """A batch on its device as a network reads it: photos and truth from 0 to 1, the lesion mask 0 or 1."""
    import torch

    moved = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
    for name, values in moved.items():
        if values.dtype == torch.float16:
            moved[name] = values.float()
        elif values.dtype == torch.uint8:
            moved[name] = (values >= _HALF).float() if name == "mask" else values.float().div_(255)
    return moved


def resized(rgb: Bytes, side_px: int) -> Bytes:
    """A photo stretched to a square, uint8 (side, side, 3): large ones averaged over blocks first, then bilinear."""
    size = (side_px, side_px)
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP))


def shrunk_mask(mask: npt.NDArray[np.bool_], side_px: int) -> Bytes:
    """The share of each pixel that is lesion, 0 to 255, uint8 (side, side): edges come out soft."""
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((side_px, side_px), Image.Resampling.BOX))


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int | Callable[[], int]
) -> Generator[Result]:
    """``map`` in threads: results in the order of the items, never more than ``ahead`` of them worked out in advance.

    Pillow, hashing and file reading leave the interpreter to others, so threads are enough.
    """
    waiting = iter(items)
    flying: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        while True:
            limit = ahead() if callable(ahead) else ahead
            while len(flying) < limit:
                try:
                    flying.append(pool.submit(function, next(waiting)))
                except StopIteration:
                    break
            if not flying:
                return
            yield flying.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
