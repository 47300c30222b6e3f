"""The one batched forward, and a trained classifier opened for reading.

The network is loaded once; photos are decoded in threads while it works, never more than two batches ahead; a batch
that does not fit into memory is halved, and that is said. Where this machine is faster in bfloat16, that is used.
Nothing here asks which model it is.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from skinkit.artifact import Artifact, digest, read_table, write_atomic
from skinkit.calibration import Isotonic
from skinkit.console import Console
from skinkit.drift import Novelty, as_matrix
from skinkit.errors import CaseError, ConfigError, InputError, RefusedError
from skinkit.examples import Examples, Pictures, Rows, as_input, in_order, photos_of
from skinkit.examples import Photo as Photo
from skinkit.metadata import Encoder, Standardiser
from skinkit.model_pack import checked
from skinkit.models import UNCERTAINTIES, Embedder, Fitted, Network, Sizes, load_model, model_config
from skinkit.radiomics.kernel_cache import cache_folder
from skinkit.taxonomy import ClassSet

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")

Floats = npt.NDArray[np.float64]
_BATCH = {"cpu": 4, "cuda": 32}
_STORED_AT_ONCE = 64
_ROWS_AT_ONCE = 2048
_WIDEST = 4096
"""Numbers that are kept of what a network made of a photo."""
_WORTH_IT = 1.1
"""bf16 rounds to 8 bits; for less than this gain it is not taken."""
_MEASURING_S = 1.0


def pick_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes the GPU where there is one."""
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("--device cuda, but torch sees no GPU", "a CUDA device", "use --device cpu or auto")
    return "cuda" if available and name != "cpu" else "cpu"


# -------------------------------------------------------------------------------------------------- the forward


def forward(
    module: Embedder,
    photos: Sequence[Photo],
    *,
    device: str = "cpu",
    batch: int = 0,
    console: Console,
    label: str = "looking",
) -> Iterator[tuple[Photo, np.ndarray | CaseError]]:
    """Run a network that is not trained over photos; each comes back, in order, with its answer or why it has none.

    Args:
        module: has ``prepare`` and answers (n, ...) for (n, side, side, 3).
        photos: what to run.
        device: ``cpu`` or ``cuda``.
        batch: photos at once; 0 for the device's own.
        console: progress, and a word when memory runs out.
        label: what the progress bar says.
    """
    import torch

    def prepared(photo: Photo) -> np.ndarray | CaseError:
        try:
            return module.prepare(photo.read())
        except CaseError as error:
            return error

    def answered(_: Sequence[Photo], pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            return list(module(torch.from_numpy(np.stack(pictures)).to(device)).float().cpu().numpy())

    yield from _in_batches(photos, prepared, answered, batch or _BATCH[device], console, label)


def run(
    network: Network,
    examples: Examples,
    rows: Rows,
    *,
    device: str = "cpu",
    precision: str = "auto",
    batch: int = 0,
    seen: bool = False,
    console: Console,
    label: str = "looking",
) -> Iterator[tuple[int, dict[str, np.ndarray] | CaseError]]:
    """Run a trained network over rows; each comes back, in order, with its answers or why it could not be read.

    Args:
        network: on its device already, or to be moved there; it is left in eval mode.
        examples: what the rows hold.
        rows: which to run.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``bf16`` or ``auto`` (:func:`precision_of`).
        batch: rows at once; 0 for the device's own.
        seen: of a network that classifies, also answer ``seen``: what it made of the pictures, (width,).
        console: progress, and a word when memory runs out.
        label: what the progress bar says.

    Yields:
        A row and name -> float32 logits of that row alone, (classes,) or (side, side).
    """
    import torch

    module: Any = network
    module.to(device, memory_format=torch.channels_last).eval()
    chosen = precision_of(device, precision)

    def answered(asked: Sequence[int], pictures: Sequence[Pictures]) -> list[dict[str, np.ndarray]]:
        with torch.inference_mode(), autocast(device, chosen):
            inputs = as_input(examples.stacked(asked, pictures), device)
            if seen:
                looked = module.look(inputs)
                told = {**module.judge(looked, inputs), SEEN: _pooled(looked)}
            else:
                told = network.answer(inputs)
            found = {name: logits.float().cpu().numpy() for name, logits in told.items()}
        return [{name: logits[at] for name, logits in found.items()} for at in range(len(asked))]

    positions = [int(row) for row in rows]
    yield from _in_batches(positions, examples.tried, answered, batch or _BATCH[device], console, label)


def _pooled(seen: torch.Tensor) -> torch.Tensor:
    """(n, width) of what a network made of n pictures: means over the places of maps, and over neighbours elsewhere."""
    import torch.nn.functional as functional

    if seen.ndim == 4:
        return seen.mean((2, 3))
    flat = seen.flatten(1).float()
    return functional.adaptive_avg_pool1d(flat[:, None], min(flat.shape[1], _WIDEST))[:, 0]


def judged(
    network: Network,
    examples: Examples,
    tables: Sequence[Mapping[str, np.ndarray]],
    rows: Rows,
    *,
    device: str = "cpu",
    precision: str = "auto",
    console: Console,
    label: str = "looking",
) -> Iterator[tuple[int, np.ndarray | CaseError]]:
    """Run a classifying network over rows: its pictures once, and what is known beside them once for each table.

    Args:
        network: as in :func:`run`.
        examples: what the rows hold.
        tables: name -> (n, columns), for all rows of ``examples``, in the place of their own tables.
        rows: which to run.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``bf16`` or ``auto``.
        console: progress, and a word when memory runs out.
        label: what the progress bar says.

    Yields:
        A row and (tables, classes) float32 logits of that row alone.
    """
    import torch

    module: Any = network
    module.to(device, memory_format=torch.channels_last).eval()
    chosen = precision_of(device, precision)

    def answered(asked: Sequence[int], pictures: Sequence[Pictures]) -> list[np.ndarray]:
        with torch.inference_mode(), autocast(device, chosen):
            inputs = as_input(examples.stacked(asked, pictures), device)
            seen = module.look(inputs)
            found = []
            for table in tables:
                known = {
                    name: torch.from_numpy(values[list(asked)]).float().to(device) for name, values in table.items()
                }
                found.append(module.judge(seen, {**inputs, **known})[DIAGNOSIS].float().cpu().numpy())
        return list(np.stack(found, axis=1))

    positions = [int(row) for row in rows]
    yield from _in_batches(positions, examples.tried, answered, _BATCH[device], console, label)


def answers(
    network: Network,
    examples: Examples,
    rows: Rows,
    *,
    device: str,
    precision: str = "auto",
    seen: bool = False,
    console: Console,
    label: str = "looking",
) -> dict[str, np.ndarray]:
    """Name -> (rows, ...) float32 answers of :func:`run`, all at once; empty where there is no row.

    Raises:
        CaseError: a row cannot be read.
    """
    found: list[dict[str, np.ndarray]] = []
    for _, answer in run(
        network, examples, rows, device=device, precision=precision, seen=seen, console=console, label=label
    ):
        if isinstance(answer, CaseError):
            raise answer
        found.append(answer)
    return {name: np.stack([answer[name] for answer in found]) for name in (found[0] if found else ())}


def _in_batches(
    items: Sequence[Item],
    prepare: Callable[[Item], Prepared | CaseError],
    answered: Callable[[Sequence[Item], Sequence[Prepared]], list[Answer]],
    size: int,
    console: Console,
    label: str,
) -> Iterator[tuple[Item, Answer | CaseError]]:
    """Prepare items in threads, at most two batches ahead, and answer them batch by batch, in order."""
    ready = in_order(prepare, items, ahead=lambda: 2 * size)
    waiting = iter(items)
    with contextlib.closing(ready), console.progress(len(items), label) as tick:
        while taken := list(zip(itertools.islice(waiting, size), ready, strict=False)):
            readable = [(item, found) for item, found in taken if not isinstance(found, CaseError)]
            found_here, size = _halving(readable, answered, size, console)
            following = iter(found_here)
            for item, found in taken:
                tick(failed=isinstance(found, CaseError))
                yield item, found if isinstance(found, CaseError) else next(following)


def _halving(
    ready: Sequence[tuple[Item, Prepared]],
    answered: Callable[[Sequence[Item], Sequence[Prepared]], list[Answer]],
    size: int,
    console: Console,
) -> tuple[list[Answer], int]:
    """The answers for a batch and the batch size to go on with, halved as often as memory ran out."""
    found: list[Answer] = []
    while len(found) < len(ready):
        part = ready[len(found) : len(found) + size]
        try:
            found += answered([item for item, _ in part], [prepared for _, prepared in part])
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise InputError(
                    "not enough memory for a single photo", "room for one", "use --device cpu, or a smaller side_px"
                ) from None
            size //= 2
            console.warn(f"out of memory: going on with {size} photos at once")
    return found, size


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch had no memory left; ``torch.OutOfMemoryError`` on a GPU, on a CPU only the text tells."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


# ------------------------------------------------------------------------------------------------------ precision


def autocast(device: str, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Where ``precision`` is ``bf16``, let torch compute in bfloat16 what bears it."""
    import torch

    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def precision_of(device: str, asked: str = "auto") -> str:
    """``fp32`` or ``bf16``; ``auto`` takes bf16 where a small network runs clearly faster in it here.

    Raises:
        ConfigError: neither of the three.
    """
    if asked not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision {asked!r}", "auto, fp32 or bf16", "use --precision auto")
    if asked != "auto":
        return asked
    return "bf16" if bf16_speed(device) >= _WORTH_IT else "fp32"


@cache
def bf16_speed(device: str) -> float:
    """How many times as fast as fp32 a small convolutional network is in bf16 on this device.

    Measured once (about a second) and remembered in the user's cache, where that can be written; another processor or
    torch is measured again.
    """
    import torch

    key = f"{torch.cuda.get_device_name(0) if device == 'cuda' else _processor()}, torch {torch.__version__}"
    folder = cache_folder()
    file = folder.parent / "precision.json" if folder else None
    known = _remembered(file)
    if key in known:
        return known[key]
    known[key] = round(_measured_bf16_speed(device), 2)
    if file:
        with contextlib.suppress(OSError):  # a full disk: then it is measured again next time
            write_atomic(file, json.dumps(known, indent=1, sort_keys=True).encode())
    return known[key]


def _remembered(file: Path | None) -> dict[str, float]:
    try:
        return {str(k): float(v) for k, v in json.loads(file.read_text("utf-8")).items()} if file else {}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _processor() -> str:
    """The processor's name, as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _measured_bf16_speed(device: str) -> float:
    """Seconds of a forward pass in fp32 over those in bf16, the best of a few each, taking turns.

    A processor is asked for one thread's own seconds, which other programs on a busy machine do not stretch.
    """
    import torch

    widths = (3, 32, 64, 128, 128)
    layers: list[Any] = []
    with torch.random.fork_rng(devices=()):
        for wide, wider in itertools.pairwise(widths):
            layers += [torch.nn.Conv2d(wide, wider, 3, 2, 1), torch.nn.BatchNorm2d(wider), torch.nn.ReLU()]
            layers += [torch.nn.Conv2d(wider, wider, 3, 1, 1), torch.nn.BatchNorm2d(wider), torch.nn.ReLU()]
        net: Any = torch.nn.Sequential(*layers)
        net = net.to(device, memory_format=torch.channels_last).eval()
        pictures = torch.rand(4, 3, 128, 128).to(device).contiguous(memory_format=torch.channels_last)
    clock = time.perf_counter if device == "cuda" else time.thread_time
    best = {"fp32": float("inf"), "bf16": float("inf")}
    threads, began = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(1)
    try:
        for turn in range(12):
            if turn > 2 and time.perf_counter() - began > _MEASURING_S:
                break
            for precision in best:
                start = clock()
                with torch.inference_mode(), autocast(device, precision):
                    net(pictures).float().cpu()
                if turn:  # the first is spent on getting ready
                    best[precision] = min(best[precision], clock() - start)
    finally:
        torch.set_num_threads(threads)
    return best["fp32"] / best["bf16"]


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
    """What one fold fitted; of a network without the network, which :meth:`Classifier.network` loads."""

    number: int
    encoder: Encoder
    radiomics: Standardiser
    fitted: Fitted | None
    temperature: float
    isotonic: Isotonic | None = None
    """Used after the temperature, where the model was trained so."""
    conformal_level: float = 0.0

    def raw(self, probability: Floats) -> Floats:
        """(n, classes) probabilities before any calibration, from those with the fold's temperature."""
        return np.exp(log_softmax(np.log(np.maximum(probability, 1e-300)) * self.temperature))

    def finished(self, probability: Floats) -> Floats:
        """(n, classes) probabilities in use, from those with the fold's temperature."""
        return probability if self.isotonic is None else self.isotonic.apply(probability)

    def scores(self, batch: Mapping[str, np.ndarray]) -> Floats:
        """(n, classes) calibrated log-probabilities of an estimator."""
        if self.fitted is None:
            raise TypeError("a network's scores come from the network")
        return self.calibrated(self.fitted.predict(batch))

    def calibrated(self, scores: npt.ArrayLike) -> Floats:
        """(n, classes) log-probabilities from scores, with the fold's temperature."""
        return log_softmax(np.asarray(scores, dtype=np.float64) / self.temperature)


def log_softmax(scores: Floats) -> Floats:
    """(n, classes) log-probabilities of scores."""
    out: Floats = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
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
        folds: one per fold, and last, where there is one, what learnt from all rows.
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

    @property
    def is_network(self) -> bool:
        """Whether the folds are networks."""
        return hasattr(self.module, "build")

    @property
    def measures(self) -> bool:
        """Whether it reads what was measured or drawn with the lesion's mask."""
        drawn = self.is_network and "mask" in self.module.READS
        return drawn or any(fold.radiomics.columns for fold in self.folds)

    @property
    def outside(self) -> tuple[int, ...]:
        """Numbers of the folds that answer for cohorts the model was not trained on."""
        numbers = tuple(fold.number for fold in self.folds)
        return (FINAL,) if FINAL in numbers else numbers

    def folder(self, fold: Fold) -> Path:
        """Where a fold's files are."""
        return folder_of(self.path, fold.number)

    def network(self, fold: Fold, device: str) -> Network:
        """A fold's network with its trained weights, ready to answer."""
        columns = {"attributes": len(fold.encoder.attributes), "radiomics": len(fold.radiomics.columns)}
        classes = self.classes.classes
        sizes = Sizes(classes, columns, (1,) * len(classes), fold.encoder.attributes, fold.encoder.unknown)
        return _loaded(self.module.build(self.config, sizes), self.folder(fold), device)

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

    def finished(self, scaled: Floats) -> Floats:
        """(rows, classes) probabilities in use: the mean over the folds that answered, each calibrated.

        Args:
            scaled: (folds, rows, classes) with the folds' temperatures, NaN where a fold did not answer.
        """
        found = np.full_like(scaled, np.nan)
        for index, fold in enumerate(self.folds):
            rows = ~np.isnan(scaled[index]).any(axis=1)
            found[index, rows] = fold.finished(scaled[index, rows])
        mean: Floats = np.nanmean(found, axis=0)
        return mean

    def folds_for(self, frame: pd.DataFrame, cohort: str) -> tuple[list[tuple[int, ...]], bool]:
        """Which folds may predict each case of a cohort, and whether this is a cohort the model was trained on.

        Elsewhere all of them may, or the one that learnt from every row, where there is one; in a development cohort
        only those that held the case out. A case that is in no part of the split, because it has no class, is left to
        the folds that have not learnt from the same patient.

        Args:
            frame: fused rows.
            cohort: they are of.

        Raises:
            RefusedError: the model knows the cohort's photos under other ids, so it cannot be told who was held out.
        """
        every = {fold.number for fold in self.folds} - {FINAL}
        columns = ["fold", "cohort", "case_id", "part", "group_id", "pixel_sha256"]
        seen = read_table(self.path / "trained_on.parquet", columns)
        here = seen["cohort"] == cohort
        if not here.any():
            return [self.outside] * len(frame), False
        if not frame["case_id"].isin(seen.loc[here, "case_id"]).any():
            _refuse_other_ids(frame, seen[here], cohort, self.name)
        held_out: dict[str, set[int]] = {case: set() for case in seen.loc[here, "case_id"]}
        learnt: dict[str, set[int]] = {}
        for row in seen[here & (seen["part"] == "held_out")].to_dict("records"):
            held_out[row["case_id"]].add(int(row["fold"]))
        for row in seen[seen["part"] != "held_out"].to_dict("records"):
            learnt.setdefault(row["group_id"], set()).add(int(row["fold"]))
        return [
            tuple(sorted(held_out[case] if case in held_out else every - learnt.get(group, set())))
            for case, group in zip(frame["case_id"], frame["group_id"], strict=True)
        ], True


def _refuse_other_ids(frame: pd.DataFrame, seen: pd.DataFrame, cohort: str, model: str) -> None:
    """Cases of which none has an id that the model was trained on, though it has seen their photos."""
    known = frame["pixel_sha256"].dropna().isin(seen["pixel_sha256"].dropna())
    if known.any():
        raise RefusedError(
            f"{model} has learnt from {int(known.sum())} photos of {cohort} under other ids than they have now",
            "the ids it was trained with: without them nobody can say which cases a fold held out",
            f"train again ('skinkit train --name {model} --replace'): the ids became pseudonyms, or their key changed",
        )


BACKBONE, NETWORK = "backbone.safetensors", "network.safetensors"
FOLD = "fold_{}"
FINAL, FINAL_FOLDER = -1, "final"
"""Number and folder, within the only fold's, of what learnt from all rows and answers for other cohorts alone."""
DIAGNOSIS, LESION = "diagnosis", "lesion"
"""What networks answer."""
SEEN = "seen"
"""What they make of the pictures, where that is asked for."""


def embedding_store(root: Path, module: Any, config: Any, weights_sha256: str, device: str) -> EmbeddingStore:
    """The store of one embedder: settings, weights and kind of device all count."""
    key = [module.__name__, module.embedding_key(config), weights_sha256, device]
    return EmbeddingStore(root / "cache" / "embeddings" / digest(key)[:24])


def open_classifier(artifact: Artifact, name: str = "") -> Classifier:
    """Open a trained model, after every file of it was hashed again.

    Args:
        artifact: the model.
        name: how it is called here; by default as it was trained.

    Raises:
        InputError: it is no classifier, or was written by something else.
        RefusedError: a file of it is missing or is not what was written.
    """
    about = _about(checked(artifact), "classify", name)
    try:
        module = load_model(about["model"], task="classify")
        config = model_config(module, about["settings"], where="model.json")
        told = list(about["folds"])
        told += [{**fold, "fold": FINAL} for fold in told if "final" in fold]
        folds = tuple(_open_fold(folder_of(artifact.path, int(f["fold"])), f, module) for f in told)
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
        raise _unreadable(artifact.path, error) from None


def folder_of(model: Path, fold: int) -> Path:
    """Where the files of a fold, or of what learnt from all rows, are in a model's folder."""
    return model / FOLD.format(0) / FINAL_FOLDER if fold == FINAL else model / FOLD.format(fold)


def _open_fold(folder: Path, about: Mapping[str, Any], module: Any) -> Fold:
    import json

    def plain(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    return Fold(
        number=int(about["fold"]),
        encoder=Encoder.from_dict(plain("attributes.json")),
        radiomics=Standardiser.from_dict(plain("radiomics.json")),
        fitted=module.load(folder) if hasattr(module, "load") else None,
        temperature=float(about["temperature"]),
        isotonic=Isotonic.from_dict(about["isotonic"]) if about.get("calibration") == "isotonic" else None,
        conformal_level=float((about.get("conformal") or {}).get("level", 0.0)),
    )


@dataclass(frozen=True)
class Segmenter:
    """A trained network that draws masks, opened.

    Attributes:
        name: how it is called here.
        about: ``model.json``.
        identity: of the artifact.
        module: the model's module.
        config: its ``Config``.
        folds: numbers of the folds.
        path: the artifact's folder.
    """

    name: str
    about: Mapping[str, Any]
    identity: str
    module: Any
    config: Any
    folds: tuple[int, ...]
    path: Path

    def network(self, fold: int, device: str) -> Network:
        """A fold's network with its trained weights, ready to answer."""
        return _loaded(self.module.build(self.config, Sizes((LESION,))), self.path / FOLD.format(fold), device)


def open_segmenter(artifact: Artifact, name: str = "") -> Segmenter:
    """Open a trained segmenter, after every file of it was hashed again.

    Args:
        artifact: the model.
        name: how it is called here; by default as it was trained.

    Raises:
        InputError: it draws no masks, or was written by something else.
        RefusedError: a file of it is missing or is not what was written.
    """
    about = _about(checked(artifact), "segment", name)
    module = load_model(about["model"], task="segment")
    config = model_config(module, about["settings"], where="model.json")
    folds = tuple(int(fold["fold"]) for fold in about["folds"])
    return Segmenter(name or about["name"], about, artifact.identity, module, config, folds, artifact.path)


def _about(artifact: Artifact, task: str, name: str) -> dict[str, Any]:
    """``model.json`` of a model of this task."""
    try:
        about: dict[str, Any] = artifact.json("model.json")
        found = str(about.get("task", "classify"))
    except (OSError, ValueError, AttributeError) as error:
        raise _unreadable(artifact.path, error) from None
    if found != task:
        does = {"segment": "draws masks", "classify": "classifies"}
        raise InputError(
            f"the model {name or artifact.path.name!r} {does.get(found, found)}",
            f"one that {does[task]}",
            "name another; 'skinkit status' lists the models",
        )
    return about


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"the model at {path} cannot be read ({error})",
        "a whole model written by 'skinkit train'",
        "run 'skinkit verify', then bring the model again or train it anew with --replace",
    )


def _loaded(network: Any, folder: Path, device: str) -> Network:
    """A network with the weights of a fold's folder."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(folder / NETWORK))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _unreadable(folder, error) from None
    out: Network = network.eval().to(device)
    return out


def lesion_masks(frame: pd.DataFrame, workspace: Path) -> list[Path | None]:
    """Mask file of each fused row; None where it failed, and the whole photo counts as lesion."""
    drawn = frame["mask_path"].notna() & frame["mask_failed"].notna() & (frame["mask_failed"] != True)  # noqa: E712
    return [workspace / file if usable else None for file, usable in zip(frame["mask_path"], drawn, strict=True)]


@dataclass(frozen=True)
class Scored:
    """What a classifier says of cases.

    Attributes:
        probability: (folds, rows, classes) calibrated probabilities, NaN where a fold may not answer or the photo
            cannot be read.
        uncertainty: name of ``skinkit.models.UNCERTAINTIES`` -> (folds, rows), NaN likewise and where the model does
            not tell.
        unlike_training: (folds, rows) how unlike its training rows each fold finds the case, as a percentile of its
            validation rows; NaN likewise and where a fold had too few rows to tell.
        failed: pixel hash -> why its photo cannot be read.
    """

    probability: Floats
    uncertainty: Mapping[str, Floats]
    unlike_training: Floats
    failed: Mapping[str, CaseError]


class Scorer:
    """What a classifier says of cases, whatever kind it is; networks are loaded once.

    Args:
        model: the classifier.
        workspace: root of the workspace, where masks lie and what frozen networks said is remembered.
        device: ``cpu`` or ``cuda``.
        console: messages and progress.
    """

    def __init__(self, model: Classifier, workspace: Path, device: str, console: Console) -> None:
        self.model, self.workspace, self.device, self.console = model, workspace, device, console
        self._embedder = model.embedder(device) if model.reads_photos else None
        self._networks: dict[int, Network] = {}

    def scored(self, frame: pd.DataFrame, folds: Sequence[Sequence[int]], root: Path) -> Scored:
        """What every fold that may answer says.

        Args:
            frame: fused rows.
            folds: of each row, the folds that may answer.
            root: of the cohort's files.
        """
        probability = np.full((len(self.model.folds), len(frame), len(self.model.classes.classes)), np.nan)
        uncertainty = {name: np.full(probability.shape[:2], np.nan) for name in UNCERTAINTIES}
        unlike = np.full(probability.shape[:2], np.nan)
        images, readable, failed = self._embedded(frame, root)
        examples = self._examples(frame, root)
        for index, fold in enumerate(self.model.folds):
            chosen = np.array([fold.number in may for may in folds], dtype=bool) & readable
            if not chosen.any():
                continue
            novelty = Novelty.load(self.model.folder(fold))
            if examples is None:
                part = images[chosen[readable]] if images is not None else None
                batch = batch_of(frame[chosen], fold.encoder, fold.radiomics, part)
                probability[index, chosen] = np.exp(fold.scores(batch))
                if novelty is not None:
                    unlike[index, chosen] = novelty.percentile(as_matrix(batch))
                continue
            arrays = batch_of(frame, fold.encoder, fold.radiomics)
            for row, answer in run(
                self._network(fold),
                examples.with_arrays(arrays),
                np.flatnonzero(chosen),
                device=self.device,
                seen=novelty is not None,
                console=self.console,
            ):
                if isinstance(answer, CaseError):
                    failed[examples.photos[row].pixels] = answer
                    continue
                probability[index, row] = np.exp(fold.calibrated(answer[DIAGNOSIS][None])[0])
                for name in answer.keys() & uncertainty:
                    uncertainty[name][index, row] = answer[name]
                if novelty is not None:
                    known = {name: values[[row]] for name, values in arrays.items()}
                    if len(novelty.mean) > as_matrix(known).shape[1]:  # else a model from before photos were looked at
                        known["image"] = answer[SEEN][None]
                    unlike[index, row] = novelty.percentile(as_matrix(known))[0]
        return Scored(probability, uncertainty, unlike, failed)

    def altered(
        self, frames: Sequence[pd.DataFrame], folds: Sequence[Sequence[int]], root: Path
    ) -> tuple[Floats, dict[str, CaseError]]:
        """Probabilities, as :meth:`scored` gives them, of the same cases with other things known of them.

        Their photos are looked at once.

        Args:
            frames: fused rows of the cases, each time the same ones, with other attributes.
            folds: of each row, the folds that may answer.
            root: of the cohort's files.

        Returns:
            (frames, folds, rows, classes), and pixel hash -> why a photo cannot be read.
        """
        first, n = frames[0], len(self.model.classes.classes)
        probability = np.full((len(frames), len(self.model.folds), len(first), n), np.nan)
        images, readable, failed = self._embedded(first, root)
        examples = self._examples(first, root)
        for index, fold in enumerate(self.model.folds):
            chosen = np.array([fold.number in may for may in folds], dtype=bool) & readable
            if not chosen.any():
                continue
            if examples is None:
                part = images[chosen[readable]] if images is not None else None
                for at, frame in enumerate(frames):
                    batch = batch_of(frame[chosen], fold.encoder, fold.radiomics, part)
                    probability[at, index, chosen] = np.exp(fold.scores(batch))
                continue
            tables = [batch_of(frame, fold.encoder, fold.radiomics) for frame in frames]
            known = examples.with_arrays(tables[0])
            rows, network = np.flatnonzero(chosen), self._network(fold)
            for row, answer in judged(network, known, tables, rows, device=self.device, console=self.console):
                if isinstance(answer, CaseError):
                    failed[examples.photos[row].pixels] = answer
                else:
                    probability[:, index, row] = np.exp(fold.calibrated(answer))
        return probability, failed

    def _embedded(
        self, frame: pd.DataFrame, root: Path
    ) -> tuple[npt.NDArray[np.float16] | None, npt.NDArray[np.bool_], dict[str, CaseError]]:
        """What the embedder says of the readable rows' photos, (rows,) which are readable, and why others are not."""
        if self._embedder is None:
            return None, np.ones(len(frame), dtype=bool), {}
        store, photos = self.model.store(self.workspace, self.device), photos_of(frame, root)
        vectors, failed = embed(self._embedder, photos, store, device=self.device, console=self.console)
        return *stacked(frame, vectors, failed), failed

    def _examples(self, frame: pd.DataFrame, root: Path) -> Examples | None:
        """Photos and lesion masks, where the folds are networks."""
        if not self.model.is_network:
            return None
        masks = lesion_masks(frame, self.workspace) if "mask" in self.model.module.READS else None
        return Examples(self.model.module.READS, self.model.config.side_px, photos_of(frame, root), masks=masks)

    def _network(self, fold: Fold) -> Network:
        if fold.number not in self._networks:
            self._networks[fold.number] = self.model.network(fold, self.device)
        return self._networks[fold.number]


def mean_of_known(values: Floats) -> Floats:
    """(rows,) means over the folds of (folds, rows), of those that are not NaN; NaN where none is."""
    known = (~np.isnan(values)).sum(axis=0)
    mean: Floats = np.divide(np.nansum(values, axis=0), known, out=np.full(values.shape[1], np.nan), where=known > 0)
    return mean


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
