"""Device and precision of a forward pass: CPU or CUDA, float32 or bfloat16 where it is known to be faster."""

from __future__ import annotations

import contextlib
import itertools
import json
import platform
import time
from functools import cache
from pathlib import Path
from typing import Any

from skinkit.artifacts.files import write_atomic
from skinkit.errors import ConfigError
from skinkit.radiomics.kernel_cache import cache_folder

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


# ------------------------------------------------------------------------------------------------------ precision
def autocast(device: str, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Where ``precision`` is ``bf16``, let torch compute in bfloat16 what tolerates it."""
    import torch

    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def precision_of(device: str, requested: str = "auto") -> str:
    """``fp32`` or ``bf16``; ``auto`` takes bf16 where a small network is known to run clearly faster in it here.

    Nothing is measured on a processor: what ``skinkit doctor`` has measured counts, and float32 where it has not.

    Raises:
        ConfigError: neither of the three.
    """
    if requested not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision {requested!r}", "auto, fp32 or bf16", "use --precision auto")
    if requested != "auto":
        return requested
    ratio = bf16_speed(device) if device == "cuda" else remembered_bf16_speed(device)
    return "bf16" if ratio is not None and ratio >= _WORTH_IT else "fp32"


def remembered_bf16_speed(device: str) -> float | None:
    """What :func:`bf16_speed` measured for this device and this torch; None where it never did."""
    return _remembered().get(_key(device))


@cache
def bf16_speed(device: str) -> float:
    """How many times as fast as fp32 a small convolutional network is in bf16 on this device.

    Measured (about a second) where it is not remembered, and remembered in :func:`speed_file`.
    """
    ratios, key = _remembered(), _key(device)
    if key not in ratios:
        ratios[key] = round(_measured_bf16_speed(device), 2)
        if file := speed_file():
            with contextlib.suppress(OSError):  # a full disk: then it is measured again next time
                write_atomic(file, json.dumps(ratios, indent=1, sort_keys=True).encode())
    return ratios[key]


def speed_file() -> Path | None:
    """Where the ratios are kept, in the user's cache; None where that cannot be written."""
    folder = cache_folder()
    return folder.parent / "precision.json" if folder else None


def _key(device: str) -> str:
    """Another processor, GPU or torch is another measurement."""
    import torch

    return f"{torch.cuda.get_device_name(0) if device == 'cuda' else _processor()}, torch {torch.__version__}"


def _remembered() -> dict[str, float]:
    """Device and torch -> ratio."""
    file = speed_file()
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
