"""``skinkit models export NAME --to onnx``: a network as one file, with a table of how far it answers otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.artifacts.files import file_sha256, write_atomic
from skinkit.commands import Context
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning.pack import trained
from skinkit.schemas import OK
from skinkit.workspace import Ref, Workspace

if TYPE_CHECKING:
    import onnx

    from skinkit.learning.onnx_file import Contract, OnnxModel
    from skinkit.learning.onnx_parity import PhotoSample
    from skinkit.learning.trained import Classifier

SMALLER = ".int8"


def run(
    name: str, output: str, card: Mapping[str, Any], context: Context, *, int8: bool, photos: int, replace: bool
) -> dict[str, Any]:
    """Export a model.

    Args:
        name: of the model.
        output: the file to write; empty for NAME.onnx.
        card: its model card.
        context: of the command.
        int8: whether a smaller file is written too.
        photos: of the workspace that the files are compared on, at most.
        replace: whether files of former exports are replaced.

    Raises:
        ConfigError: a library is not installed, or an option cannot be.
        InputError: the model does not read one photo and attributes through a network, or no photo can be read.
        RefusedError: a file is there, or answers otherwise than the network.
    """
    from skinkit.learning.onnx_file import require

    require("torch", extra="onnx,torch")
    require("onnx", "onnxscript", "onnxruntime")
    from skinkit.learning import onnx_export, onnx_file, onnx_parity
    from skinkit.learning.trained import open_classifier

    if photos < 1:
        raise ConfigError(f"--cases {photos}", "1 or more", "leave it out for 100")
    file = Path(output or f"{name}.onnx").expanduser()
    paths = [file, *([file.with_name(f"{file.stem}{SMALLER}{file.suffix}")] if int8 else [])]
    for path in paths:
        _refuse_present(path, replace=replace)
    workspace = context.workspace()
    model = open_classifier(trained(name, workspace), name)
    onnx_export.refuse_others(model)
    shown = _photos(workspace, model.config.side_px, photos)
    context.console.info(f"{name}: exporting {len(model.outside)} folds")
    proto, contract = onnx_export.exported(model, onnx_export.contract_of(model, model.thresholds()))
    protos = {onnx_parity.FLOAT: proto}
    if int8:
        protos[onnx_parity.INT8] = onnx_export.quantised(proto)
    hashes = onnx_export.hashes_of(model)
    parity, opened = _compared(model, contract, protos, card, shown, workspace, context)
    written = {}
    for path, (kind, each) in zip(paths, protos.items(), strict=True):
        data = onnx_export.with_metadata(each, contract, card, hashes, {**parity["about"], **parity["files"][kind]})
        onnx_file.opened(data, str(path))  # what is written is what 'predict --onnx' takes
        write_atomic(path, data)
        written[kind] = {"file": str(path), "bytes": len(data), "sha256": file_sha256(path)}
    torch_bytes = sum(
        f.stat().st_size for fold in model.chosen(model.outside) for f in model.folder(fold).glob("*.safetensors")
    )
    context.console.info(f"{name}: timing, {onnx_parity.WARM_UP} + {onnx_parity.PASSES} passes each")
    seconds = onnx_parity.latencies(model, opened, shown)
    base = seconds[onnx_parity.TORCH]
    rows = [
        {
            "network": kind,
            **written.get(kind, {"file": None, "bytes": torch_bytes, "sha256": None}),
            **parity["files"].get(kind, {"max_difference": None, "same_class": None}),
            "latency_ms": 1000 * seconds[kind],
            "latency_ratio": seconds[kind] / base,
        }
        for kind in (onnx_parity.TORCH, *protos)
    ]
    body = {
        "model": name,
        "identity": model.identity,
        "files": [each["file"] for each in written.values()],
        "parity": {**parity["about"], "rows": rows},
        "latency": {"batch": 1, "passes": onnx_parity.PASSES, "warm_up": onnx_parity.WARM_UP, "threads": _threads()},
        "licence": card["model"]["licence"],
    }
    return {**body, "text": _text(model, contract, body, context)}


def _refuse_present(path: Path, *, replace: bool) -> None:
    """Refuse a place that cannot be written to, a file that is no former export, and one without ``--replace``."""
    from skinkit.learning.onnx_file import is_ours

    if path.is_dir():
        raise ConfigError(f"--output {path}", "a file", f"give --output {path / 'NAME.onnx'}")
    if path.exists() or path.is_symlink():
        if not is_ours(path):
            raise RefusedError(
                f"{path} exists, and 'skinkit models export' did not write it", "a new file", "give another --output"
            )
        if not replace:
            raise RefusedError(f"{path} exists", "a new file", "give another --output, or --replace")
    if not os.access(path.parent, os.W_OK):  # now, and not after minutes of work
        raise InputError(
            f"{path.parent} cannot be written to", "a folder this user may write to", "give another --output"
        )


def _photos(workspace: Workspace, side_px: int, most: int) -> PhotoSample:
    """Photos of the workspace's cohorts, as their cases tables are.

    Raises:
        InputError: there is none that can be read.
    """
    import pandas as pd

    from skinkit.data.views import primary_images
    from skinkit.learning.onnx_parity import PhotoSample

    frames, roots = [], []
    for cohort in workspace.cohorts.values():
        path = workspace.path(Ref("cases", cohort.name))
        if exists(path):
            cases = open_artifact(path).table()
            frames.append(primary_images(cases[cases["status"] == OK]))
            roots += [cohort.root] * len(frames[-1])
    every = [frame for frame in frames if len(frame)]
    photos = PhotoSample.read(pd.concat(every, ignore_index=True), roots, side_px, most) if every else None
    if photos is None or not photos.pictures:
        raise InputError(
            f"no photo of {workspace.root} that can be read",
            "some, to compare the file's answers with the network's",
            "add a cohort to skinkit.toml, of any role and without diagnoses, and run 'skinkit ingest'",
        )
    return photos


def _compared(
    model: Classifier,
    contract: Contract,
    protos: Mapping[str, onnx.ModelProto],
    card: Mapping[str, Any],
    shown: PhotoSample,
    workspace: Workspace,
    context: Context,
) -> tuple[dict[str, Any], dict[str, OnnxModel]]:
    """How far each file answers from the network; and the files, opened.

    Raises:
        RefusedError: the float file answers otherwise.
    """
    from skinkit.learning import onnx_export, onnx_file, onnx_parity

    truth = onnx_parity.torch_answers(model, shown, workspace.root, context.console, "fp32")
    files: dict[str, Any] = {}
    opened = {}
    for kind, proto in protos.items():
        data = onnx_export.with_metadata(proto, contract, card, (), {})
        opened[kind] = onnx_file.opened(data, f"the {kind} file of {model.name}", _threads())
        files[kind] = onnx_parity.apart(onnx_parity.onnx_answers(opened[kind], shown), truth)
    onnx_parity.refuse_apart(files[onnx_parity.FLOAT], model.name)
    rounded = onnx_parity.bf16_answers(model, shown, workspace.root, context.console)
    about = {
        "photos": len(shown.pictures),
        "compared_with": "torch, float32",
        "torch_bf16": onnx_parity.apart(rounded, truth) if rounded is not None else None,
    }
    for task, share in files.get(onnx_parity.INT8, {}).get("same_class", {}).items():
        if share < onnx_parity.AGREEMENT:
            context.console.warn(
                f"int8 names another class of {task} than the network for {1 - share:.1%} of {about['photos']} photos: "
                "evaluate it before it is used ('skinkit predict --onnx', 'skinkit score')"
            )
    return {"about": about, "files": files}, opened


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _text(model: Classifier, contract: Contract, body: Mapping[str, Any], context: Context) -> str:
    """The table for a person."""
    parity = body["parity"]
    reads = f"photo of {contract.side_px} px" + (
        f" and {len(contract.columns)} columns of attributes" if contract.columns else ""
    )
    lines = [
        f"{body['model']}: {contract.folds} folds, {reads}; tasks {', '.join(contract.tasks)}",
        f"compared on {parity['photos']} photos with torch in float32; batch 1, median of {body['latency']['passes']} "
        f"passes after {body['latency']['warm_up']}, {body['latency']['threads']} threads, as a ratio to torch",
        "",
        f"{'':<7}{'MiB':>8}  {'max |p - p|':>11}  {'same class':>10}  {'latency':>8}",
    ]
    for row in parity["rows"]:
        apart = "" if row["max_difference"] is None else f"{row['max_difference']:.1e}"
        same = "" if row["same_class"] is None else f"{min(row['same_class'].values()):.1%}"
        lines.append(
            f"{row['network']:<7}{row['bytes'] / 2**20:>8.1f}  {apart:>11}  {same:>10}  {row['latency_ratio']:>8.2f}"
        )
    if rounded := parity["torch_bf16"]:
        lines += [
            "",
            f"'skinkit predict' computes this network in bfloat16 here: up to {rounded['max_difference']:.1e} from "
            f"float32, the same class for {min(rounded['same_class'].values()):.1%}",
        ]
    lines += ["", *(f"{row['file']}  sha256 {row['sha256']}" for row in parity["rows"] if row["file"])]
    return "\n".join([*lines, "Research software: no diagnosis."])
