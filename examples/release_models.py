"""Train a U-Net and the ensemble on PAD-UFES-20 and pack them for others, with masks whose source gives a licence.

    python examples/release_models.py PAD-UFES-20 --manifest manifest.csv --masks-of AUTHOR/REPOSITORY=MIT

PAD-UFES-20 (doi 10.17632/zr7vgbcyr2.1, CC BY 4.0) has no masks of its own. A folder ``masks`` beside its photos may
hold some of other people; the manifest says in its columns ``stem`` and ``mask_repo`` whose each is. A mask is used
where its source is named with ``--masks-of`` and the licence that source states, and nowhere else. With fewer than 100
of them the ensemble alone is packed, measured in outlines by Otsu's threshold.

Everything is written into ``build/release`` and ``dist``; a run that was interrupted goes on. On two processor cores it
takes about half an hour. The pack of the ensemble carries replay features of training cases (no photos), to adapt it
later; the licence of the data set allows that. Nothing here is a diagnosis, and the packs say so.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

ENOUGH = 100
PAD = "photos, diagnoses and metadata: PAD-UFES-20, Pacheco et al. 2020, doi 10.17632/zr7vgbcyr2.1, CC BY 4.0"
LITE0 = "weights that training starts from: EfficientNet-Lite0 on ImageNet, Apache-2.0"


def main() -> None:
    """Prepare the photos, train, and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of PAD-UFES-20")
    parser.add_argument("--manifest", type=Path, help="whose each mask is (default: manifest.csv in the folder)")
    parser.add_argument("--masks-of", action="append", default=[], metavar="SOURCE=LICENCE", help="repeatable")
    parser.add_argument("--build", type=Path, default=Path("build/release"))
    parser.add_argument("--dist", type=Path, default=Path("dist"))
    asked = parser.parse_args()
    licences = dict(text.partition("=")[::2] for text in asked.masks_of)
    if not all(licences.values()):
        parser.error("--masks-of SOURCE=LICENCE: without a licence a mask may not be used")
    masks = _permitted(asked.data, asked.manifest or asked.data / "manifest.csv", licences)
    with_unet = len(masks) >= ENOUGH
    _prepare(asked.data, asked.build / "pad", masks if with_unet else {})
    work = asked.build / "workspace"
    if not (work / "skinkit.toml").exists():
        _skinkit("init", work, "--cohort", f"pad=pad-ufes-20:{asked.build / 'pad'}", "--model", "ensemble")
    _skinkit("split", "-w", work)
    if with_unet:
        _train(work, "unet")
    else:
        print(f"{len(masks)} masks under a stated licence, fewer than {ENOUGH}: no U-Net is trained", flush=True)
    _train(work, "ensemble")
    of_masks = [f"{n} lesion masks: {source}, {licences[source]}" for source, n in Counter(masks.values()).items()]
    for name in ("unet", "ensemble") if with_unet else ("ensemble",):
        card = asked.build / f"{name}.toml"
        own = [PAD, LITE0, *(of_masks if name == "unet" else [])]
        card.write_text(_card(own, [PAD, LITE0, *of_masks], has_replay=name == "ensemble"), "utf-8")
        asked.dist.mkdir(parents=True, exist_ok=True)
        output = asked.dist / f"{name}-pad-ufes-20.skinkit"
        _skinkit("models", "pack", name, "-w", work, "--output", output, "--card", card, "--replace")


def _permitted(data: Path, manifest: Path, licences: dict[str, str]) -> dict[str, str]:
    """Name of each mask that may be used -> its source."""
    if not manifest.is_file():
        return {}
    with manifest.open(encoding="utf-8", newline="") as stream:
        sources = {row["stem"]: row["mask_repo"] for row in csv.DictReader(stream)}
    masks = {file.name: sources.get(file.stem.removesuffix("_mask"), "") for file in (data / "masks").glob("*.png")}
    return {name: source for name, source in sorted(masks.items()) if source in licences}


def _prepare(data: Path, folder: Path, masks: dict[str, str]) -> None:
    """A folder with the data set and these masks alone, as links."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in [*data.glob("metadata.csv"), *data.glob("images*"), *data.glob("imgs*"), *data.glob("zr7vgbcyr2*")]:
        _link(folder / place.name, place)
    (folder / "masks").mkdir(exist_ok=True)
    for link in (folder / "masks").iterdir():
        if link.name not in masks:
            link.unlink()
    for name in masks:
        _link(folder / "masks" / name, data / "masks" / name)


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target.resolve())


def _train(work: Path, name: str) -> None:
    if not (work / "artifacts" / "models" / name / "manifest.json").exists():
        _skinkit("train", "-w", work, "--model", name)


def _card(sources: list[str], of_segmenter: list[str], *, has_replay: bool) -> str:
    """What a person writes into the model cards."""
    lines = ['ethics = "Trained on photos of one Brazilian hospital network, mostly of light skin; see its paper."']
    for prefix, listed in (("", sources), ("segmenter.", of_segmenter)):
        lines += [
            f"[{prefix}model]",
            'licence = "CC BY 4.0"',
            f"[{prefix}intended_use]",
            'users = "researchers who try skinkit on photos of their own"',
            f"[{prefix}training_data]",
            "sources = [",
            *(f'  "{source}",' for source in listed),
            "]",
        ]
    if has_replay:
        lines += ["[replay_features]", 'licence = "CC BY 4.0, as the photos and metadata: PAD-UFES-20"']
    return "\n".join(lines) + "\n"


def _skinkit(*arguments: object) -> None:
    command = [sys.executable, "-m", "skinkit", *map(str, arguments)]
    print("$ skinkit", *command[3:], flush=True)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
