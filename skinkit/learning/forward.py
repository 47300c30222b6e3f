"""Batched inference, for every kind of network.

The network is loaded once. Threads decode photos while it runs, at most two batches ahead. When memory runs out, the
batch size is halved with a warning. A network answers in the arithmetic that its model names.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from skinkit.console import Console
from skinkit.errors import CaseError, InputError
from skinkit.learning.examples import Examples, Pictures, RowIndices, as_input, in_order
from skinkit.learning.examples import Photo as Photo
from skinkit.learning.memory import keep_freed
from skinkit.learning.precision import answers_in, autocast
from skinkit.models.parts.objectives import pooled
from skinkit.models.parts.protocol import DIAGNOSIS, MASK_FAILED, SEEN, Embedder, Network

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")

_BATCH = {"cpu": 4, "cuda": 32}


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
    """Run a frozen network over photos; yields each photo, in order, with its answer or the error of reading it.

    Args:
        module: with ``prepare``; maps uint8 (n, side, side, 3) to (n, ...).
        photos: the photos, in any number.
        device: ``cpu`` or ``cuda``.
        batch: batch size; 0 for the device's default.
        console: shows progress, and a warning when memory runs out.
        label: of the progress bar.
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
    outlines: bool = False,
    console: Console,
    label: str = "looking",
) -> Iterator[tuple[int, dict[str, np.ndarray] | CaseError]]:
    """Run a trained network over rows; yields each row, in order, with its answers or the error of reading it.

    Args:
        network: is moved to the device and put in eval mode.
        examples: the inputs of all rows.
        rows: the rows to run.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``bf16`` or ``auto`` (:func:`skinkit.learning.precision.answers_in`).
        batch: batch size; 0 for the device's default.
        seen: for classifiers, also answer ``seen``: the pooled encoding of the pictures, (width,).
        outlines: of classifiers that outline the lesion themselves also answer ``mask_failed``: 1 where that failed.
        console: shows progress, and a warning when memory runs out.
        label: of the progress bar.

    Yields:
        The row, and name -> float32 logits of it, (classes,) or (side, side).
    """
    import torch

    module: Any = network
    module.to(device, memory_format=torch.channels_last).eval()
    chosen = answers_in(network, device, precision)

    def answered(part: Sequence[int], pictures: Sequence[Pictures]) -> list[dict[str, np.ndarray]]:
        with torch.inference_mode(), autocast(device, chosen):
            inputs = as_input(examples.stacked(part, pictures), device)
            if seen:
                encoded = module.encode(inputs)
                logits_of = {**module.head(encoded, inputs), SEEN: pooled(encoded)}
            else:
                logits_of = network.answer(inputs)
            if outlines and (mask_failed := network.failed_masks(inputs)) is not None:
                logits_of = {**logits_of, MASK_FAILED: mask_failed}
            arrays = {name: logits.float().cpu().numpy() for name, logits in logits_of.items()}
        return [{name: logits[at] for name, logits in arrays.items()} for at in range(len(part))]

    positions = [int(row) for row in rows]
    yield from _in_batches(positions, examples.tried, answered, batch or _BATCH[device], console, label)


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
    """Run a classifier over rows: it encodes the pictures once and evaluates its head once per table.

    Args:
        network: as in :func:`run`.
        examples: the inputs of all rows.
        tables: each name -> (n, columns) for all rows of ``examples``; replaces their own tables.
        rows: the rows to run.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``bf16`` or ``auto``.
        console: shows progress, and a warning when memory runs out.
        label: of the progress bar.

    Yields:
        The row, and its (tables, classes) float32 logits.
    """
    import torch

    module: Any = network
    module.to(device, memory_format=torch.channels_last).eval()
    chosen = answers_in(network, device, precision)

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
    """Name -> (rows, ...) float32 answers of :func:`run`, stacked; empty without rows.

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
    keep_freed()
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
    """The answers for a batch, and the batch size for the next one, halved each time memory runs out."""
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
                    "not enough memory for a single photo",
                    "memory for one photo",
                    "use --device cpu, or a smaller side_px",
                ) from None
            size //= 2
            console.warn(f"out of memory: continuing with a batch size of {size}")
    return results, size


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory: ``torch.OutOfMemoryError`` on a GPU, recognised by its text on the CPU."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
