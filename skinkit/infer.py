"""The one batched forward, and a trained classifier opened for reading.

The network is loaded once; photos are decoded in threads while it works, never more than two batches ahead; a batch
that does not fit into memory is halved, and that is said. Nothing here asks which model it is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifact import Artifact, digest, write_atomic
from skinkit.console import Console
from skinkit.errors import CaseError, ConfigError, InputError
from skinkit.images import decode, pixel_sha256, read_bytes
from skinkit.metadata import Encoder, Standardiser
from skinkit.models import Embedder, Fitted, load_model, model_config
from skinkit.taxonomy import ClassSet

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]
_BATCH = {"cpu": 4, "cuda": 32}
_STORED_AT_ONCE = 64
_ROWS_AT_ONCE = 2048


def pick_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes the GPU where there is one."""
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("--device cuda, but torch sees no GPU", "a CUDA device", "use --device cpu or auto")
    return "cuda" if available and name != "cpu" else "cpu"


# -------------------------------------------------------------------------------------------------- the forward


@dataclass(frozen=True)
class Photo:
    """One picture to run.

    Attributes:
        pixels: its pixel hash, as ingested.
        path: the file.
    """

    pixels: str
    path: Path

    def read(self) -> npt.NDArray[np.uint8]:
        """uint8 (H, W, 3); raises :class:`CaseError` where it cannot be read or is not what was ingested."""
        rgb = decode(read_bytes(self.path))[0]
        if pixel_sha256(rgb) != self.pixels:
            raise CaseError("image_changed", "the picture is not the one that was ingested; run 'skinkit ingest'")
        return rgb


def forward(
    module: Embedder,
    photos: Sequence[Photo],
    *,
    device: str = "cpu",
    batch: int = 0,
    console: Console,
    label: str = "looking",
) -> Iterator[tuple[Photo, np.ndarray | CaseError]]:
    """Run a network over photos; each comes back, in order, with the network's answer or why it could not be read.

    Args:
        module: has ``prepare`` and answers (n, ...) for (n, side, side, 3).
        photos: what to run.
        device: ``cpu`` or ``cuda``.
        batch: photos at once; 0 for the device's own.
        console: progress, and a word when memory runs out.
        label: what the progress bar says.
    """
    import torch

    size = batch or _BATCH[device]

    def prepared(photo: Photo) -> np.ndarray | CaseError:
        try:
            return module.prepare(photo.read())
        except CaseError as error:
            return error

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool, console.progress(len(photos), label) as tick:
        waiting = iter(photos)
        flying: deque[tuple[Photo, Future[np.ndarray | CaseError]]] = deque()
        while True:
            while len(flying) < 2 * size and (photo := next(waiting, None)) is not None:
                flying.append((photo, pool.submit(prepared, photo)))
            if not flying:
                return
            taken = [flying.popleft() for _ in range(min(size, len(flying)))]
            pictures = [future.result() for _, future in taken]
            readable = [picture for picture in pictures if not isinstance(picture, CaseError)]
            answers: Iterator[np.ndarray] = iter(())
            if readable:
                stack = torch.from_numpy(np.stack(readable)).to(device)
                done, size = _run(module, stack, size, console)
                answers = iter(done)
            for (photo, _), picture in zip(taken, pictures, strict=True):
                failed = isinstance(picture, CaseError)
                tick(failed=failed)
                yield photo, picture if isinstance(picture, CaseError) else next(answers)


def _run(module: Embedder, stack: torch.Tensor, size: int, console: Console) -> tuple[np.ndarray, int]:
    """The answers for one stack and the batch size to go on with."""
    import torch

    parts: list[np.ndarray] = []
    start = 0
    while start < len(stack):
        try:
            with torch.inference_mode():
                parts.append(module(stack[start : start + size]).float().cpu().numpy())
            start += size
        except RuntimeError as error:  # torch.OutOfMemoryError on a GPU is one; on a CPU only the text tells
            if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
                raise
            if size == 1:
                raise InputError(
                    "not enough memory for a single photo", "room for one", "use --device cpu, or a smaller side_px"
                ) from None
            size //= 2
            console.warn(f"out of memory: going on with {size} photos at once")
    return np.concatenate(parts), size


# ---------------------------------------------------------------------------------------------------- embeddings


class EmbeddingStore:
    """What a frozen network said of each photo, kept by pixel hash; may be deleted at any time.

    Kept as float16 (error below 0.05 %), so that a remembered answer and a fresh one are the same number.

    Args:
        folder: of one network with one set of weights.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, wanted: Iterable[str]) -> dict[str, np.ndarray]:
        """Pixel hash -> (width,) float16, for those that are known."""
        from safetensors import SafetensorError, safe_open

        wanted, found = set(wanted), {}
        for file in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(file, framework="numpy") as tensors:
                    for name in wanted.intersection(tensors.keys()):
                        found[name] = tensors.get_tensor(name)
            except (SafetensorError, OSError):
                file.unlink(missing_ok=True)  # damaged: its photos are looked at again
        return found

    def write(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Add some, in one file that appears whole."""
        from safetensors.numpy import save

        if vectors:
            name = digest(sorted(vectors))[:24]
            write_atomic(self.folder / f"{name}.safetensors", save({k: vectors[k] for k in sorted(vectors)}))


def embed(
    module: Embedder, photos: Sequence[Photo], store: EmbeddingStore, *, device: str, console: Console
) -> tuple[dict[str, np.ndarray], dict[str, CaseError]]:
    """Pixel hash -> float16 (width,) of every readable photo, and pixel hash -> why, for the others.

    What the store knows is not computed again, and what is computed is stored as it comes, so a killed run goes on
    where it stopped.
    """
    unique = {photo.pixels: photo for photo in photos}
    known = store.read(unique)
    failed: dict[str, CaseError] = {}
    fresh: dict[str, np.ndarray] = {}
    todo = [photo for pixels, photo in unique.items() if pixels not in known]
    try:
        for photo, answer in forward(module, todo, device=device, console=console, label="looking at photos"):
            if isinstance(answer, CaseError):
                failed[photo.pixels] = answer
                continue
            known[photo.pixels] = fresh[photo.pixels] = answer.astype(np.float16)
            if len(fresh) >= _STORED_AT_ONCE:
                store.write(fresh)
                fresh = {}
    finally:
        store.write(fresh)
    return known, failed


# ------------------------------------------------------------------------------------------------ the classifier


def batch_of(
    frame: pd.DataFrame, encoder: Encoder, radiomics: Standardiser, images: npt.NDArray[Any] | None = None
) -> dict[str, np.ndarray]:
    """The named inputs of these cases, encoded and standardised by a fold's own scalers.

    Args:
        frame: fused rows.
        encoder: of the attributes.
        radiomics: of the radiomic features.
        images: (n, width), where the model reads photos.

    Raises:
        InputError: the table lacks a radiomic feature the model reads.
    """
    lacking = [name for name in radiomics.columns if name not in frame]
    if lacking:
        raise InputError(
            f"the fused table has no column {lacking[0]} ({len(lacking)} of {len(radiomics.columns)} lacking)",
            "the radiomic features the model was trained on",
            "run 'skinkit radiomics' for this cohort with the channels and bin width of the development cohorts",
        )
    values = frame[list(radiomics.columns)].to_numpy(dtype=np.float64, na_value=np.nan)
    batch: dict[str, np.ndarray] = {"attributes": encoder.encode(frame), "radiomics": radiomics.apply(values)}
    if images is not None:
        batch["image"] = images
    return batch


@dataclass(frozen=True)
class Fold:
    """What one fold fitted."""

    number: int
    encoder: Encoder
    radiomics: Standardiser
    fitted: Fitted
    temperature: float

    def scores(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, classes) calibrated log-probabilities."""
        z = np.asarray(self.fitted.predict(batch), dtype=np.float64) / self.temperature
        out: Floats = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
        return out


@dataclass(frozen=True)
class Classifier:
    """A trained model, opened.

    Attributes:
        name: how it is called here, whatever it was called where it was trained.
        about: ``model.json``.
        identity: of the artifact.
        module: the model's module.
        config: its ``Config``.
        classes: the classes it tells apart.
        folds: one per fold.
        path: the artifact's folder.
    """

    name: str
    about: Mapping[str, Any]
    identity: str
    module: Any
    config: Any
    classes: ClassSet
    folds: tuple[Fold, ...]
    path: Path

    @property
    def malignant(self) -> npt.NDArray[np.bool_]:
        """(classes,) which count as malignant."""
        return np.array([code in self.classes.malignant for code in self.classes.classes])

    @property
    def reads_photos(self) -> bool:
        """Whether an embedder stands before the folds."""
        return hasattr(self.module, "embedder")

    def embedder(self, device: str) -> Embedder:
        """The network before the folds, with the weights that lie in the model."""
        from skinkit.weights import read_state

        file = self.path / BACKBONE
        module: Any = self.module.embedder(self.config, read_state(file), str(file))
        return module.to(device)  # type: ignore[no-any-return]

    def store(self, workspace_root: Path, device: str) -> EmbeddingStore:
        """Where what the embedder says is remembered."""
        return embedding_store(workspace_root, self.module, self.config, self.about["weights"]["sha256"], device)

    def chosen(self, numbers: Sequence[int]) -> tuple[Fold, ...]:
        """The folds of these numbers."""
        return tuple(fold for fold in self.folds if fold.number in numbers)


BACKBONE = "backbone.safetensors"
FOLD = "fold_{}"


def embedding_store(root: Path, module: Any, config: Any, weights_sha256: str, device: str) -> EmbeddingStore:
    """The store of one embedder: settings, weights and kind of device all count."""
    key = [module.__name__, module.embedding_key(config), weights_sha256, device]
    return EmbeddingStore(root / "cache" / "embeddings" / digest(key)[:24])


def open_classifier(artifact: Artifact, name: str = "") -> Classifier:
    """Open a trained model.

    Args:
        artifact: the model.
        name: how it is called here; by default as it was trained.

    Raises:
        InputError: a file of it is missing or damaged.
    """
    try:
        about = artifact.json("model.json")
        module = load_model(about["model"], task="classify")
        config = model_config(module, about["settings"], where="model.json")
        folds = tuple(_open_fold(artifact.path / FOLD.format(f["fold"]), f, module) for f in about["folds"])
        return Classifier(
            name or about["name"],
            about,
            artifact.identity,
            module,
            config,
            ClassSet.from_dict(about["classes"]),
            folds,
            artifact.path,
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"the model at {artifact.path} cannot be read ({error})",
            "a whole model written by 'skinkit train'",
            "run 'skinkit verify', then bring the model again or train it anew with --replace",
        ) from None


def _open_fold(folder: Path, about: Mapping[str, Any], module: Any) -> Fold:
    import json

    def plain(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    return Fold(
        number=int(about["fold"]),
        encoder=Encoder.from_dict(plain("attributes.json")),
        radiomics=Standardiser.from_dict(plain("radiomics.json")),
        fitted=module.load(folder),
        temperature=float(about["temperature"]),
    )


def stacked(
    frame: pd.DataFrame, vectors: Mapping[str, np.ndarray], failed: Mapping[str, CaseError]
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """Vectors in the order of the rows: (readable rows, width), and (rows,) which are readable."""
    readable = np.array([pixels not in failed for pixels in frame["pixel_sha256"]], dtype=bool)
    rows = [vectors[pixels] for pixels in frame.loc[readable, "pixel_sha256"]]
    return np.stack(rows) if rows else np.zeros((0, 0), np.float16), readable


def in_chunks(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A table in pieces, so that memory stays bounded."""
    for start in range(0, len(frame), _ROWS_AT_ONCE):
        yield frame.iloc[start : start + _ROWS_AT_ONCE]
