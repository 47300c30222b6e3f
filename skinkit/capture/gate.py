"""The quality checks of a photo, as the page and the records have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def checked(photo: Path, region: Any = None, fitzpatrick: Any = None) -> dict[str, Any]:
    """Verdict and checks of a stored photo.

    Args:
        photo: the file, known to be complete.
        region: bool (H, W) of the lesion, or None for the whole picture.
        fitzpatrick: 1 to 6; anything else is unknown.

    Returns:
        ``verdict`` and ``checks``: name -> ``value``, ``status`` and ``remedy``.
    """
    from skinkit.images.decode import decode
    from skinkit.images.pixels import read_bytes

    rgb, _ = decode(read_bytes(photo), complete=True)
    skin = str(fitzpatrick) if fitzpatrick in (1, 2, 3, 4, 5, 6) else None
    return assess(rgb, region, skin)


def assess(rgb: Any, region: Any, fitzpatrick: str | None) -> dict[str, Any]:
    """Verdict and checks of a picture, as plain values.

    Args:
        rgb: uint8 (H, W, 3).
        region: as of :func:`checked`.
        fitzpatrick: ``1`` to ``6``, or None.
    """
    from skinkit.images.quality_checks import assess as checks_of

    found = checks_of(rgb, region, fitzpatrick=fitzpatrick)
    return {
        "verdict": found.verdict,
        "checks": {
            name: {"value": check.value, "status": check.status, "remedy": check.remedy}
            for name, check in found.checks.items()
        },
    }


def table() -> dict[str, Any]:
    """The constants of the checks, as the page reads them."""
    from skinkit.images.quality_checks import default_table

    return dict(default_table())
