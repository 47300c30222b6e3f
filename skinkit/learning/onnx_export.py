"""A trained network as an ONNX file that answers on its own (``skinkit.learning.onnx_file``).

All that stands between the inputs and the answer is inside: the folds' fills, means and scales of the attributes, their
networks, temperatures and isotonic maps, the mean over the folds, malignancy and the call. So one file gives, for a
photo and attributes, what ``skinkit predict`` gives for a cohort the model was not trained on.

**int8.** Products with weights (MatMul, Gemm) are computed in int8, with weights of one scale a channel; 7 bits of them
are used, because processors without VNNI overflow with 8. Activations get their scale when they are there (dynamic).
Weights of convolutions are kept as int8, one scale an output channel, and computed in float32: dynamic int8
convolutions have one scale for all channels, which ruins depthwise ones. Small convolutions, which are the first ones
and the depthwise ones, stay in float32: of EfficientNet-Lite0 they are 3 % of the weights and more than half of what
rounding does to the answer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from skinkit import __version__
from skinkit.artifacts.tables import read_table
from skinkit.errors import InputError, RefusedError, listed
from skinkit.learning import onnx_file
from skinkit.learning.onnx_file import Column, Contract, Task
from skinkit.learning.trained import Calibration, Classifier, Fold, effective_prevalence
from skinkit.models.parts.protocol import DIAGNOSIS, UNCERTAINTIES
from skinkit.schemas import TRAINED_ON_FILE
from skinkit.stats.calibration import Isotonic
from skinkit.stats.encoders import ENCODERS, MEDIAN, Encoder

if TYPE_CHECKING:
    import onnx

NO_DIAGNOSIS = "Research software: no diagnosis."
_READS = {onnx_file.IMAGE, onnx_file.ATTRIBUTES}
_ROOM = 64 << 20
"""Bytes of a file beside its weights, at most."""
_TINY = 1e-30
_SMALLEST = 16384
"""Weights of convolutions with fewer elements stay as they are."""


def refuse_others(model: Classifier) -> None:
    """Refuse, with :class:`InputError`, what does not read one photo and attributes through a network."""
    model.refuse_members("export")
    what = "a trained network of one photo, or of one photo and attributes"
    if not model.is_network:
        raise InputError(
            f"{model.name} ({model.about['model']}) is no network: it was fitted at once",
            what,
            "export a network such as concat, or bring the model itself: 'skinkit models pack'",
        )
    others = sorted({*model.model_class.READS} - _READS)
    if others or any(fold.radiomics.columns for fold in model.folds):
        raise InputError(
            f"{model.name} ({model.about['model']}) also reads {listed(others or ['radiomics'])}",
            what,
            "export one that does without, or bring the model with its segmenter: 'skinkit models pack'",
        )
    size = sum(file.stat().st_size for fold in _folds(model) for file in model.folder(fold).glob("*.safetensors"))
    if size + _ROOM > onnx_file.MOST_BYTES:
        raise InputError(
            f"{model.name} has {size / 2**30:.1f} GiB of weights in {len(_folds(model))} folds",
            "less than 2 GiB, which is all that an ONNX file holds",
            "distil it into a smaller network (--teacher), or train one fold with recipe.final_epochs",
        )


def _folds(model: Classifier) -> tuple[Fold, ...]:
    """Those that answer for cohorts the model was not trained on."""
    return model.chosen(model.outside)


# ------------------------------------------------------------------------------------------------------- contract
def contract_of(model: Classifier, class_thresholds: Mapping[str, Mapping[str, Any]]) -> Contract:
    """What the file reads and answers.

    Args:
        model: the network.
        class_thresholds: task -> class -> its threshold, and where that is from.
    """
    folds = _folds(model)
    encoder = folds[0].encoder
    if any((fold.encoder.name, fold.encoder.missing) != (encoder.name, encoder.missing) for fold in folds):
        raise InputError(f"the folds of {model.name} encode attributes in two ways", "one way", "train it again")
    calibrations: dict[str, list[Calibration]] = {DIAGNOSIS: [*folds]}
    calibrations |= {task: [fold.tasks[task] for fold in folds] for task in model.tasks}
    classes = {DIAGNOSIS: model.classes, **model.tasks}
    return Contract(
        name=model.name,
        kind=str(model.about["model"]),
        identity=model.identity,
        side_px=int(model.config.side_px),
        columns=columns_of(encoder),
        reads=tuple(sorted({name for fold in folds for name in fold.encoder.reads})),
        tasks={
            task: Task(classes[task], float(np.mean([c.conformal_level for c in of])), class_thresholds[task])
            for task, of in calibrations.items()
        },
        threshold=float(model.about["threshold"]),
        threshold_rule=model.about.get("veto_rule"),
        effective_prevalence=effective_prevalence(model.about, model.classes.malignant),
        folds=len(folds),
        uncertainties=(),
    )


def columns_of(encoder: Encoder) -> tuple[Column, ...]:
    """How each column of an encoder is made, before anything fitted is done to it."""
    attributes = ENCODERS[encoder.name]
    made = []
    for attribute in attributes:
        for value, column in zip(attribute.values or ("",), attribute.columns, strict=True):
            if attribute.values:
                words = [word for word, meant in attribute.spelled.items() if meant == value]
                words += [value] if value not in attribute.spelled else []
                unknown = encoder.missing == MEDIAN and value == "UNK"
                made.append(Column(column, attribute.name, tuple(words), unknown))
            elif attribute.codes:
                made.append(Column(column, attribute.name, codes=dict(attribute.codes)))
            else:
                made.append(Column(column, attribute.name, divide_by=attribute.divisor))
    flags = zip(encoder.columns[len(made) :], encoder.attributes[len(made) :], strict=True)
    return (*made, *(Column(column, owner, one_if_unknown=True) for column, owner in flags))


# --------------------------------------------------------------------------------------------------------- module
class _Calibrated(nn.Module):
    """Probabilities of logits (1, K): before calibration, and in use.

    Args:
        calibration: of one task of a fold.
    """

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.temperature, self.isotonic = calibration.temperature, calibration.isotonic

    def forward(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p = torch.softmax(logits / self.temperature, 1)
        return torch.softmax(logits, 1), p if self.isotonic is None else _mapped(p, self.isotonic)


def _mapped(p: torch.Tensor, isotonic: Isotonic) -> torch.Tensor:
    """``Isotonic.apply``: the sum of all pieces of each class's map, each as far as the probability has come in it."""
    columns = []
    for k, (x, y) in enumerate(zip(isotonic.x, isotonic.y, strict=True)):
        knots, heights = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
        start, width = knots[:-1].float(), knots.diff().clamp(min=_TINY).float()
        share = ((p[:, k : k + 1] - start) / width).clamp(0, 1)
        risen = (share * heights.diff().float()).sum(1) if len(x) > 1 else torch.zeros_like(p[:, k])
        columns.append(heights[:1].float() + risen)
    mapped = torch.stack(columns, 1)
    total = mapped.sum(1, keepdim=True)
    return torch.where(total > 0, mapped / total.clamp(min=_TINY), p)


class _Member(nn.Module):
    """One fold: what is known of the attributes filled and scaled, the network, and its calibration.

    Args:
        model: the classifier.
        fold: one of it.
    """

    fill: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, model: Classifier, fold: Fold) -> None:
        super().__init__()
        self.network: Any = model.network(fold, "cpu").requires_grad_(False)
        scaler = fold.encoder.standardiser
        for name in ("fill", "mean", "scale"):
            self.register_buffer(name, torch.tensor([getattr(scaler, name)], dtype=torch.float32))
        calibrations: dict[str, Calibration] = {DIAGNOSIS: fold, **fold.tasks}
        self.calibrated = nn.ModuleDict({task: _Calibrated(of) for task, of in calibrations.items()})

    def forward(
        self, image: torch.Tensor, attributes: torch.Tensor | None
    ) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], dict[str, torch.Tensor]]:
        """Task -> probabilities before and after calibration; and the uncertainties it answers."""
        table = self.fill if attributes is None else torch.where(torch.isnan(attributes), self.fill, attributes)
        said = self.network.answer({onnx_file.IMAGE: image, onnx_file.ATTRIBUTES: (table - self.mean) / self.scale})
        unsure = {name: said[name].float() for name in UNCERTAINTIES if name in said}
        return {task: of(said[task].float()) for task, of in self.calibrated.items()}, unsure


class _Whole(nn.Module):
    """All that a file computes.

    Args:
        model: the classifier.
    """

    malignant: torch.Tensor

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.members = nn.ModuleList([_Member(model, fold) for fold in _folds(model)])
        self.threshold = float(model.about["threshold"])
        self.register_buffer("malignant", torch.tensor(model.malignant, dtype=torch.float32))

    def forward(self, image: torch.Tensor, attributes: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Name of an output -> (1, classes) or (1,)."""
        said = [member(image, attributes) for member in self.members]
        after = {task: torch.stack([p[task][1] for p, _ in said]) for task in said[0][0]}
        before = torch.stack([p[DIAGNOSIS][0] for p, _ in said])
        mean = {task: p.mean(0) for task, p in after.items()}
        malignancy = (mean[DIAGNOSIS] * self.malignant).sum(1)
        by_class = self.malignant[mean[DIAGNOSIS].argmax(1)] > 0
        called = by_class | (malignancy >= self.threshold)
        spread = (after[DIAGNOSIS] * self.malignant).sum(2)
        return {
            **{onnx_file.output_of(task): p for task, p in mean.items()},
            onnx_file.MALIGNANCY: malignancy,
            onnx_file.MALIGNANCY_RAW: (before * self.malignant).sum(2).mean(0),
            onnx_file.FOLD_SD: ((spread - spread.mean(0)) ** 2).mean(0).sqrt(),
            **{f"uncertainty_{name}": torch.stack([u[name] for _, u in said]).mean(0) for name in said[0][1]},
            onnx_file.CALLED: called,
            onnx_file.VETO: called & ~by_class,
        }


def exported(model: Classifier, contract: Contract) -> tuple[onnx.ModelProto, Contract]:
    """The network with all its folds as an ONNX model, without metadata; and the contract with all that it answers.

    Raises:
        InputError: it has an operation that ONNX does not.
    """
    whole = _Whole(model).eval()
    image = torch.rand(1, 3, contract.side_px, contract.side_px, generator=torch.Generator().manual_seed(0))
    inputs: tuple[torch.Tensor, ...] = (image,)
    if contract.columns:
        inputs = (image, torch.zeros(1, len(contract.columns)))
    with torch.no_grad(), _quiet():
        outputs = list(whole(*inputs))
        try:
            program = torch.onnx.export(
                whole,
                inputs,
                dynamo=True,
                input_names=[onnx_file.IMAGE, onnx_file.ATTRIBUTES][: len(inputs)],
                output_names=outputs,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            why = next(iter(str(error.__cause__ or error).splitlines()), "")
            raise InputError(
                f"{model.name} ({model.about['model']}) has a step that ONNX cannot express ({why})",
                "a network of operations that torch.onnx exports",
                "bring the model itself: 'skinkit models pack'",
            ) from None
        assert program is not None
        proto = program.model_proto
    # Where each operation stood in the source, with paths of this machine: of no use to anybody else.
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for value in (*proto.graph.input, *proto.graph.output):
        value.ClearField("metadata_props")
    found = tuple(name for name in UNCERTAINTIES if f"uncertainty_{name}" in outputs)
    return proto, Contract(**{**vars(contract), "uncertainties": found})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporter and quantiser speak to their authors: of deprecations, and of steps that nobody can leave out."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# ----------------------------------------------------------------------------------------------------------- int8
def quantised(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in int8, as the module describes it."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="skinkit-") as folder, _quiet():
        file = Path(folder) / "int8.onnx"
        quantize_dynamic(
            proto, file, ["MatMul"], per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )  # Gemm becomes MatMul first
        smaller = onnx.load(file)
    kept = [entry for entry in smaller.opset_import if entry.domain in ("", "ai.onnx")]
    del smaller.opset_import[:]
    smaller.opset_import.extend(kept)
    _small_convolutions(smaller.graph)
    return smaller


def _small_convolutions(graph: onnx.GraphProto) -> None:
    """Keep weights of convolutions as int8, one scale an output channel; they become float32 where they are read."""
    import onnx
    from onnx import helper, numpy_helper

    places = {tensor.name: at for at, tensor in enumerate(graph.initializer)}
    weights = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    restored = []
    for name in sorted(weights & places.keys()):
        values = numpy_helper.to_array(graph.initializer[places[name]])
        others = any(name in node.input for node in graph.node if node.op_type != "Conv")
        if values.dtype != np.float32 or values.size < _SMALLEST or others:
            continue
        widest = np.abs(values).reshape(len(values), -1).max(axis=1)
        scale = np.where(widest > 0, widest / 127, 1).astype(np.float32)
        of_channel = scale.reshape(-1, *[1] * (values.ndim - 1))
        small = np.clip(np.rint(values / of_channel), -127, 127).astype(np.int8)
        graph.initializer[places[name]].CopyFrom(numpy_helper.from_array(small, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scale.reshape(of_channel.shape), f"{name}.scale"))
        # Not DequantizeLinear, which onnxruntime repeats in every pass: these two it works out when it opens the file.
        restored += [
            helper.make_node("Cast", [f"{name}.int8"], [f"{name}.cast"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]),
        ]
    nodes = [*restored, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


# ------------------------------------------------------------------------------------------------------- metadata
def with_metadata(
    proto: onnx.ModelProto,
    contract: Contract,
    card: Mapping[str, Any],
    hashes: Sequence[str],
    parity: Mapping[str, Any],
) -> bytes:
    """The content of the file.

    Args:
        proto: the model.
        contract: what it reads and answers.
        card: the model card.
        hashes: SHA-256 of the pixels of photos that the model has learnt from.
        parity: how far it answers otherwise than the model.

    Raises:
        RefusedError, InputError: it is not what ``predict --onnx`` takes.
    """
    import base64

    import onnx

    prefixes = sorted({onnx_file.hash_prefix(one) for one in hashes} - {b""})
    proto.producer_name, proto.producer_version, proto.doc_string = "skinkit", __version__, NO_DIAGNOSIS
    onnx.helper.set_model_props(
        proto,
        {
            onnx_file.NOTICE: NO_DIAGNOSIS,
            onnx_file.LICENCE: str(card["model"]["licence"]),
            onnx_file.CONTRACT: _json(contract.as_dict(__version__, NO_DIAGNOSIS)),
            onnx_file.CARD: _json(card),
            onnx_file.TRAINED_ON: base64.b64encode(b"".join(prefixes)).decode("ascii"),
            onnx_file.PARITY: _json(parity),
        },
    )
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RefusedError(
            f"the file of {contract.name} is no valid ONNX model ({error})",
            "one that onnx.checker accepts",
            "report it",
        ) from None
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, indent=1, default=str)


def hashes_of(model: Classifier) -> list[str]:
    """SHA-256 of the pixels of all photos that the model was trained on, validated with or tested on."""
    table = read_table(model.path / TRAINED_ON_FILE)
    names = [name for name in table if str(name).endswith("pixel_sha256")]
    return sorted({str(value) for name in names for value in table[name].dropna()})
