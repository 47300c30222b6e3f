"""A trained segmenter whose answers are known, written without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pandas as pd
import torch
from safetensors.torch import save
from written_artifacts import write

from skinkit.artifacts.artifact import Artifact, open_artifact
from skinkit.artifacts.tables import write_table
from skinkit.models import model_config, unet
from skinkit.models.parts.protocol import Sizes
from skinkit.schemas import TRAINED_ON
from skinkit.workspace import Ref, Workspace

LESION = Sizes(("lesion",))
TINY = {"encoder": "mobilenet_v2", "side_px": 32, "decoder": 16}


def write_segmenter(
    workspace: Workspace,
    parts: Sequence[Mapping[str, str]],
    *,
    name: str = "tiny",
    towards: Sequence[float] = (3, -3),
    cohort: str = "home",
    tint: bool = False,
) -> Artifact:
    """A trained segmenter with one fold per mapping of a cohort's images to parts.

    Its folds answer everywhere with the logits ``towards``, or differently from place to place (``tint``).
    """
    cases = open_artifact(workspace.path(Ref("cases", cohort))).table().set_index("image_id")
    files: dict[str, bytes] = {}
    trained = []
    for fold, part_of in enumerate(parts):
        net = unet.UNet.build(unet.Config(**TINY), LESION)
        torch.nn.init.zeros_(net.net.segmentation_head[0].weight)
        torch.nn.init.constant_(net.net.segmentation_head[0].bias, towards[fold])
        if tint:
            torch.manual_seed(fold)
            torch.nn.init.normal_(net.net.segmentation_head[0].weight)
            torch.nn.init.zeros_(net.net.segmentation_head[0].bias)
        files[f"fold_{fold}/network.safetensors"] = save(dict(net.state_dict()))
        for image, part in part_of.items():
            row = cases.loc[image]
            own = {"fold": fold, "cohort": cohort, "case_id": image, "part": part}
            trained.append({**{key: row.get(key) for key in TRAINED_ON.names}, **own})
    settings = asdict(model_config(unet.UNet, TINY))
    about = {
        "model": "unet", "task": "segment", "name": name, "settings": settings,
        "folds": [{"fold": fold} for fold in range(len(parts))],
    }  # fmt: skip
    scratch = workspace.root / "trained_on.parquet"
    write_table(scratch, TRAINED_ON, pd.DataFrame(trained, columns=TRAINED_ON.names))
    files |= {"model.json": json.dumps(about).encode(), "trained_on.parquet": scratch.read_bytes()}
    rows = [{"fold": fold, "n_train": 1} for fold in range(len(parts))]
    return write(workspace, Ref("models", name=name), rows, files=files)
