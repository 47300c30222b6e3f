"""Truth masks and the images they belong to."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from skinkit.data.canonical import Reader
from skinkit.data.files import CohortFiles
from skinkit.data.finders import ends_in, folded_path, inside_root, without_extension
from skinkit.data.source import TableRow


# ------------------------------------------------------------------------------------------------------- masks
def masks_apart(files: CohortFiles, reader: Reader, table: Sequence[TableRow]) -> CohortFiles:
    """Treat the files named in the column ``mask`` as masks, not as images, in whatever folder they are."""
    names = {name for row in table if (name := reader.text(row.cells, "mask"))}
    if not names:
        return files
    index = _MaskIndex([*files.images, *files.masks], files.root)
    named = {path for name in names if (path := index.find(inside_root(name, files.root) or ""))}
    masks = {**files.masks, **{path: file for path, file in files.images.items() if path in named}}
    return replace(files, masks=masks, images={p: file for p, file in files.images.items() if p not in named})


def masks_of(images: Mapping[str, str], files: CohortFiles) -> dict[str, str]:
    """``image_id`` -> path of its mask, matched by name; images without a mask are left out.

    Args:
        images: ``image_id`` -> path of the image, relative to the cohort's folder.
        files: of :func:`skinkit.data.files.other_masks`.
    """
    rows: list[dict[str, Any]] = [
        {"image_id": name, "image_path": path, "truth_mask_path": None, "flags": []} for name, path in images.items()
    ]
    with_masks(rows, files)
    return {row["image_id"]: row["truth_mask_path"] for row in rows if row["truth_mask_path"]}


class _MaskIndex:
    """Finds a mask by its path, or by its file name where that is unique."""

    def __init__(self, paths: Sequence[str], root: Path) -> None:
        self.root = root
        self.by_path = {folded_path(path): path for path in paths}
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for plain, path in self.by_path.items():
            self.by_name[plain.rpartition("/")[2]].append(path)

    def find(self, name: str) -> str | None:
        """The relative path of the file, or None."""
        plain = folded_path(name)
        same_name = [p for p in self.by_name.get(plain.rpartition("/")[2], []) if ends_in(plain, p, self.root)]
        return self.by_path.get(plain) or (same_name[0] if len(same_name) == 1 else None)


def with_masks(rows: Sequence[dict[str, Any]], files: CohortFiles) -> None:
    """Set the truth mask of each row, by the column ``mask`` or by the patterns of the source."""
    index = _MaskIndex(list(files.masks), files.root)
    images = {row["image_path"] for row in rows if row["image_path"]}
    stems = Counter(folded_path(PurePosixPath(without_extension(path)).name) for path in images)
    for row in rows:
        name, path = row.pop("_mask_name", None), row["image_path"]
        row.pop("_number", None)
        if name:
            inside = inside_root(name, files.root)
            row["truth_mask_path"] = index.find(inside) if inside else None
            if row["truth_mask_path"] is None:
                row["flags"].append("mask_absent" if inside else "mask_outside_root")
            continue
        if not path or not files.mask_keys:
            continue
        bare = unicodedata.normalize("NFC", without_extension(path))
        stem = PurePosixPath(bare).name
        keys = (("path", bare), ("image_id", str(row["image_id"])), ("stem", stem))
        for placeholder, value in keys:
            mask = files.mask_keys.get((placeholder, value.casefold()))
            if mask is None:
                continue
            if placeholder == "stem" and stems[folded_path(stem)] > 1:
                row["flags"].append("mask_ambiguous")
            else:
                row["truth_mask_path"] = mask
            break
