"""Device and arithmetic of networks: CPU or CUDA, float32 or bfloat16, each where it was measured to be faster.

**Training and answers are measured apart.** On a processor EfficientNet-Lite0 trains faster in float32 and answers
faster in bfloat16; a ResNet-50 does both faster in bfloat16. So before a network is trained, a few of its own steps and
answers are timed in both (:func:`measured`), and bfloat16 is taken where it is clearly faster.

**Nothing is decided twice.** What was measured is remembered by device, torch and network in :func:`memory`. A training
keeps its choice beside its checkpoints (:data:`BEGUN`) and goes on with it, on another machine too. ``model.json`` and
``fold.json`` say what it was, and a trained network answers in the arithmetic that its model names, in which it was
calibrated, wherever the device computes in it (:func:`native`): nothing is measured to predict.
"""

from __future__ import annotations

import contextlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from skinkit.artifacts.files import digest, write_atomic
from skinkit.errors import ConfigError
from skinkit.radiomics.kernel_cache import cache_folder

BEGUN = "precision.json"
"""In the folder of a model in the making: what its training began in."""
SMALLEST_SIDE_PX = 128
"""Networks of smaller photos compute in float32: there is little to gain, and little to measure."""
_WORTH_IT = {"training": 1.3, "answers": 1.1}
"""bf16 rounds to 8 bits; for less than this gain it is not taken. One thread is timed, and with several the gain of a
training step is smaller: EfficientNet-Lite0 trained in bf16 was 1.0 times as fast with one and 0.7 times with two."""
_MEASURING_S = 1.0
_TURNS = 6
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""How /proc/cpuinfo calls instructions for bfloat16, of x86 and of Arm."""
REQUESTS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Arithmetic:
    """``fp32`` or ``bf16`` for each of the two.

    Attributes:
        training: of the steps.
        answers: of forward passes, when validating, calibrating and predicting.
    """

    training: str = "fp32"
    answers: str = "fp32"

    @classmethod
    def of_model(cls, about: Mapping[str, Any]) -> Arithmetic:
        """What ``model.json`` names; models of older versions name one for both, tables none."""
        named = about.get("precision")
        if isinstance(named, Mapping):
            return cls(str(named["training"]), str(named["answers"]))
        return cls(named, named) if named else cls()

    def as_dict(self) -> dict[str, str]:
        """Plain values for ``model.json``."""
        return dict(vars(self))


def pick_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes the GPU where there is one."""
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("--device cuda, but torch sees no GPU", "a CUDA device", "use --device cpu or auto")
    return "cuda" if available and name != "cpu" else "cpu"


# ---------------------------------------------------------------------------------------------------- arithmetic
def autocast(device: str, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Where ``precision`` is ``bf16``, let torch compute in bfloat16 what tolerates it."""
    import torch

    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def check_request(requested: str) -> None:
    """Refuse, with :class:`ConfigError`, what is no arithmetic."""
    if requested not in REQUESTS:
        raise ConfigError(f"precision {requested!r}", "auto, fp32 or bf16", "use --precision auto")


@cache
def native(device: str) -> bool:
    """Whether this device has instructions for bfloat16; without them it is slower than float32."""
    if device == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            if line.lower().startswith(("flags", "features")):
                return not _BF16_FLAGS.isdisjoint(line.partition(":")[2].split())
    return False


def answers_in(network: Any, device: str, requested: str = "auto") -> str:
    """In what a network answers: as requested; ``auto``: what its model names, where the device computes in it.

    Raises:
        ConfigError: neither of the three was requested.
    """
    check_request(requested)
    if requested != "auto":
        return requested
    named: str = network.answers_in
    return named if named == "fp32" or native(device) else "fp32"


# ------------------------------------------------------------------------------------------------------- choosing
def chosen(speeds: Mapping[str, float]) -> Arithmetic:
    """bf16 where it was measured clearly faster."""
    return Arithmetic(*("bf16" if speeds.get(what, 0.0) >= gain else "fp32" for what, gain in _WORTH_IT.items()))


def begun(file: Path, network: str) -> Arithmetic | None:
    """What a training began in, by what it wrote; None where it has not begun, or was of another network."""
    try:
        recorded = json.loads(file.read_text("utf-8"))
        return Arithmetic(recorded["training"], recorded["answers"]) if recorded["network"] == network else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def begin(file: Path, network: str, arithmetic: Arithmetic) -> None:
    """Write down what a training begins in."""
    write_atomic(file, json.dumps({"network": network, **arithmetic.as_dict()}, indent=1).encode())


# ------------------------------------------------------------------------------------------------------ measuring
def name_of(network: Any, side_px: int, objective: Any = None) -> str:
    """A network by its class and the shapes of its weights: what its speed depends on."""
    shapes = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    return f"{type(network).__name__} {digest([side_px, type(objective).__name__, shapes])[:12]}"


def measured(
    network: Any, name: str, loss: Callable[[], Any], answer: Callable[[], Any] | None, device: str
) -> Mapping[str, float]:
    """How many times as fast as fp32 a network is in bf16: ``training`` and, if it answers anything, ``answers``.

    Timed (some seconds) where it is not remembered, and remembered in :func:`memory`.

    Args:
        network: of which a few steps are made; it is of no use afterwards.
        name: :func:`name_of` it.
        loss: of a batch, in training mode.
        answer: to a batch.
        device: of network and batch.
    """
    known, key = measured_ratios(), f"{_device_name(device)}, {name}"
    if key not in known:
        network.train()
        found = {"training": _ratio(_step(network, loss, device), device)}
        if answer is not None:
            network.eval()
            found["answers"] = _ratio(_pass(answer, device), device)
        known[key] = {what: round(ratio, 2) for what, ratio in found.items()}
        if file := memory():
            with contextlib.suppress(OSError):  # a full disk: then it is measured again next time
                write_atomic(file, json.dumps(known, indent=1, sort_keys=True).encode())
    return known[key]


def memory() -> Path | None:
    """Where the ratios are kept, in the user's cache; None where that cannot be written."""
    folder = cache_folder()
    return folder.parent / "precision.json" if folder else None


def measured_ratios(device: str = "") -> dict[str, Mapping[str, float]]:
    """Device, torch and network -> ratios, all of them or those of this device by network."""
    file = memory()
    try:
        recorded = json.loads(file.read_text("utf-8")) if file else {}
        known: dict[str, Mapping[str, float]] = {
            str(k): {w: float(r) for w, r in v.items()} for k, v in recorded.items() if isinstance(v, Mapping)
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
    if not device:
        return known
    start = f"{_device_name(device)}, "
    return {key.removeprefix(start): ratios for key, ratios in known.items() if key.startswith(start)}


def _device_name(device: str) -> str:
    """Another processor, GPU or torch is another measurement."""
    import torch

    return f"{torch.cuda.get_device_name(0) if device == 'cuda' else _processor()}, torch {torch.__version__}"


def _processor() -> str:
    """The processor's name, as the system reports it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _step(network: Any, loss: Callable[[], Any], device: str) -> Callable[[str], None]:
    def step(precision: str) -> None:
        network.zero_grad(set_to_none=True)
        with autocast(device, precision):
            value = loss()
        value.backward()
        float(value.detach())

    return step


def _pass(answer: Callable[[], Any], device: str) -> Callable[[str], None]:
    def forward(precision: str) -> None:
        import torch

        with torch.inference_mode(), autocast(device, precision):
            for values in answer().values():
                values.float().cpu()

    return forward


def _ratio(work: Callable[[str], None], device: str) -> float:
    """Seconds of some work in fp32 over those in bf16, the best of a few each, taking turns.

    A processor is asked for one thread's own seconds, which other programs on a busy machine do not stretch.
    """
    import torch

    clock = time.perf_counter if device == "cuda" else time.thread_time
    best = {"fp32": float("inf"), "bf16": float("inf")}
    threads, began = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(1)
    try:
        for turn in range(_TURNS):
            if turn > 2 and time.perf_counter() - began > _MEASURING_S:
                break
            for precision in best:
                start = clock()
                work(precision)
                if turn:  # the first is spent on getting ready
                    best[precision] = min(best[precision], clock() - start)
    finally:
        torch.set_num_threads(threads)
    return best["fp32"] / best["bf16"]
