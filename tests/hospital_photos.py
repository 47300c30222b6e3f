"""Photos and a table that name patients, and workspaces that read them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

TOML = """file = "t.csv"
{space}
[columns]
image = "file"
patient_id = "patient"
lesion_id = "lesion"
accession = "exam"
"""


def hospital(folder: Path, patients: int = 2, space: str = "", seed: int = 0) -> Path:
    """A folder of photos named after patients, with a table; the third photo is not there, the fourth is no photo."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(patients):
        for shot in range(2):
            file = folder / f"Zhang 张三 P-77{n}" / f"{shot}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(file)
            name = file.relative_to(folder).as_posix()
            rows.append({"file": name, "patient": f"P-77{n}", "lesion": f"LESION-5{n}", "exam": f"ACC-9001{n}{shot}"})
    rows.append({"file": "Zhang gone.png", "patient": "P-779", "lesion": "LESION-59", "exam": "ACC-90019"})
    (folder / "Zhang broken.png").write_bytes(b"\x89PNG")
    rows.append({"file": "Zhang broken.png", "patient": "P-778", "lesion": "LESION-58", "exam": "ACC-90018"})
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    id_space = f'id_space = "{space}"' if space else ""
    (folder / "cohort.toml").write_text(TOML.format(space=id_space), encoding="utf-8")
    return folder


def workspace_of(folder: Path, **cohorts: tuple[Path, str]) -> Path:
    """A workspace of inference cohorts: name -> folder, further lines of its table."""
    folder.mkdir()
    tables = [
        f'[cohorts.{name}]\nrole = "inference"\nsource = "folder"\npath = "{path}"\n{more}\n'
        for name, (path, more) in cohorts.items()
    ]
    (folder / "skinkit.toml").write_text("\n".join(tables), encoding="utf-8")
    return folder
