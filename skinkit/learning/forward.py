"""The one batched forward pass.

The network is loaded once; photos are decoded in threads while it works, never more than two batches ahead; a batch
that does not fit into memory is halved, and that is said. bfloat16 is used where it is known to be faster.
Nothing here asks which model it is.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from skinkit.console import Console
from skinkit.errors import CaseError, InputError
from skinkit.learning.examples import Examples, Pictures, RowIndices, as_input, in_order
from skinkit.learning.examples import Photo as Photo
from skinkit.learning.precision import autocast, precision_of
from skinkit.models.parts.protocol import DIAGNOSIS, SEEN, Embedder, Network

if TYPE_CHECKING:
    import torch


Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")

_BATCH = {"cpu": 4, "cuda": 32}
_WIDEST = 4096
"""Numbers that are kept of what a network made of a photo."""


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
    rows: RowIndices,
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

    def answered(part: Sequence[int], pictures: Sequence[Pictures]) -> list[dict[str, np.ndarray]]:
        with torch.inference_mode(), autocast(device, chosen):
            inputs = as_input(examples.stacked(part, pictures), device)
            if seen:
                encoded = module.encode(inputs)
                logits_of = {**module.head(encoded, inputs), SEEN: _pooled(encoded)}
            else:
                logits_of = network.answer(inputs)
            arrays = {name: logits.float().cpu().numpy() for name, logits in logits_of.items()}
        return [{name: logits[at] for name, logits in arrays.items()} for at in range(len(part))]

    positions = [int(row) for row in rows]
    yield from _in_batches(positions, examples.tried, answered, batch or _BATCH[device], console, label)


def _pooled(encoded: torch.Tensor) -> torch.Tensor:
    """(n, width) of what a network made of n pictures: means over the places of maps, and over neighbours elsewhere."""
    import torch.nn.functional as functional

    if encoded.ndim == 4:
        return encoded.mean((2, 3))
    flat = encoded.flatten(1).float()
    return functional.adaptive_avg_pool1d(flat[:, None], min(flat.shape[1], _WIDEST))[:, 0]


def head_answers(
    network: Network,
    examples: Examples,
    tables: Sequence[Mapping[str, np.ndarray]],
    rows: RowIndices,
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

    def answered(part: Sequence[int], pictures: Sequence[Pictures]) -> list[np.ndarray]:
        with torch.inference_mode(), autocast(device, chosen):
            inputs = as_input(examples.stacked(part, pictures), device)
            encoded = module.encode(inputs)
            logits = []
            for table in tables:
                tabular = {
                    name: torch.from_numpy(values[list(part)]).float().to(device) for name, values in table.items()
                }
                logits.append(module.head(encoded, {**inputs, **tabular})[DIAGNOSIS].float().cpu().numpy())
        return list(np.stack(logits, axis=1))

    positions = [int(row) for row in rows]
    yield from _in_batches(positions, examples.tried, answered, _BATCH[device], console, label)


def answers(
    network: Network,
    examples: Examples,
    rows: RowIndices,
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
    by_row: list[dict[str, np.ndarray]] = []
    for _, answer in run(
        network, examples, rows, device=device, precision=precision, seen=seen, console=console, label=label
    ):
        if isinstance(answer, CaseError):
            raise answer
        by_row.append(answer)
    return {name: np.stack([answer[name] for answer in by_row]) for name in (by_row[0] if by_row else ())}


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
            readable = [(item, outcome) for item, outcome in taken if not isinstance(outcome, CaseError)]
            batch_answers, size = _halving(readable, answered, size, console)
            following = iter(batch_answers)
            for item, outcome in taken:
                tick(failed=isinstance(outcome, CaseError))
                yield item, outcome if isinstance(outcome, CaseError) else next(following)


def _halving(
    ready: Sequence[tuple[Item, Prepared]],
    answered: Callable[[Sequence[Item], Sequence[Prepared]], list[Answer]],
    size: int,
    console: Console,
) -> tuple[list[Answer], int]:
    """The answers for a batch and the batch size to go on with, halved as often as memory ran out."""
    results: list[Answer] = []
    while len(results) < len(ready):
        part = ready[len(results) : len(results) + size]
        try:
            results += answered([item for item, _ in part], [prepared for _, prepared in part])
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise InputError(
                    "not enough memory for a single photo", "room for one", "use --device cpu, or a smaller side_px"
                ) from None
            size //= 2
            console.warn(f"out of memory: going on with {size} photos at once")
    return results, size


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch had no memory left; ``torch.OutOfMemoryError`` on a GPU, on a CPU only the text tells."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
