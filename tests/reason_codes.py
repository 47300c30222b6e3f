"""The reason codes of the package."""

from __future__ import annotations

import re
from pathlib import Path

import skinkit


def reason_codes() -> set[str]:
    """Every reason code that the source names."""
    root = Path(skinkit.__file__).parent
    pattern = re.compile(r'(?:CaseError|RadiomicsRefusal|_pending|_failed)\([^"\n]*?"([a-z_]+)"|"reason": "([a-z_]+)"')
    code = "".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    return {name for match in pattern.findall(code) for name in match if name and not name.endswith("_")}
