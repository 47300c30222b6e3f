"""ONNX files of ``skinkit models export``: checked, opened and run with onnxruntime, without torch.

A file answers one case at a time. Its metadata hold, beside notice, licence and model card, the contract: in JSON, all
that a program needs to prepare a photo and attributes and to read the answer.

    skinkit.contract      inputs, outputs, classes, thresholds, encoding of the attributes
    skinkit.model_card    the model card
    skinkit.notice        research software: no diagnosis
    skinkit.licence       as the card says it
    skinkit.trained_on    first 8 bytes of the SHA-256 of each photo the model has learnt from, in base64
    skinkit.parity        how far it answers otherwise than the model it was made of, on how many photos

A file may come from anywhere. Before onnxruntime sees it, what could reach outside of it, run for ever or fill the
memory is refused: data in other files, control flow, operators of other domains, tensors whose size is not fixed.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinkit.errors import ConfigError, InputError, RefusedError, listed
from skinkit.models.parts.protocol import DIAGNOSIS, UNCERTAINTIES
from skinkit.schemas import probability_prefix
from skinkit.stats.thresholds import called_malignant
from skinkit.taxonomy import ClassSet

FORMAT, VERSION = "skinkit-onnx", 1
PREFIX = "skinkit."
CONTRACT, CARD, NOTICE, LICENCE, TRAINED_ON, PARITY = (
    PREFIX + name for name in ("contract", "model_card", "notice", "licence", "trained_on", "parity")
)
"""Keys of the metadata."""
IMAGE, ATTRIBUTES = "image", "attributes"
"""Inputs: (1, 3, side, side) and (1, columns), float32."""
MALIGNANCY, MALIGNANCY_RAW, FOLD_SD, CALLED, VETO = (
    "malignancy", "malignancy_raw", "fold_sd", "called_malignant", "veto",
)  # fmt: skip
"""Outputs beside the probabilities of each task, (1,) each; the last two are bool."""
HASH_BYTES = 8
MOST_BYTES = (1 << 31) - 1
"""What a protobuf message can hold."""
_MOST_ELEMENTS = 1 << 26
_MOST_SIDE_PX = 4096
_MOST_NAMES = 4096
_SAME = 1e-4
"""How far float32 rounds malignancy and sums of probabilities apart, at most."""
_WHAT = "a file written by 'skinkit models export --to onnx'"


def require(*packages: str, extra: str = "onnx") -> None:
    """Refuse, with :class:`ConfigError`, to go on where packages of an extra are not installed."""
    absent = [name for name in packages if _absent_package(name)]
    if absent:
        raise ConfigError(f"{listed(absent)} is not installed", "it", f"pip install 'skinkit[{extra}]'")


def _absent_package(name: str) -> bool:
    try:
        return find_spec(name) is None
    except (ImportError, ValueError):
        return True


def output_of(task: str) -> str:
    """The output with a task's probabilities, (1, classes); named like the columns of predictions."""
    return probability_prefix(task).removesuffix("__")


# ------------------------------------------------------------------------------------------------- the attributes
@dataclass(frozen=True)
class Column:
    """How one number of the input ``attributes`` is made of a case.

    Attributes:
        column: its name.
        attribute: canonical name of the attribute it is made of.
        one_if: 1 where the attribute is one of these words, else 0.
        one_if_unknown: 1 also where the attribute is unknown, or none of the words of any column.
        codes: the number of each word, NaN where unknown.
        divide_by: the attribute's number divided by it, NaN where unknown.
    """

    column: str
    attribute: str
    one_if: tuple[str, ...] = ()
    one_if_unknown: bool = False
    codes: Mapping[str, float] = field(default_factory=dict)
    divide_by: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without what is empty."""
        values = {**vars(self), "one_if": list(self.one_if), "codes": dict(self.codes)}
        return {name: value for name, value in values.items() if value not in ([], {}, False, None)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Column:
        """The inverse of :meth:`as_dict`; raises ValueError for what is none."""
        column = Column(
            _text(values["column"]),
            _text(values["attribute"]),
            tuple(_text(word) for word in _list(values.get("one_if", []))),
            values.get("one_if_unknown", False) is True,
            {_text(word): _number(code) for word, code in dict(values.get("codes", {})).items()},
            None if values.get("divide_by") is None else _number(values["divide_by"]),
        )
        kinds = [bool(column.one_if or column.one_if_unknown), bool(column.codes), column.divide_by is not None]
        if sum(kinds) != 1 or column.divide_by == 0:
            raise ValueError(f"column {column.column!r} is none of words, codes and a number")
        return column


def encoded(columns: Sequence[Column], case: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """(1, columns) the input ``attributes`` of a case.

    Args:
        columns: of the contract.
        case: canonical attribute -> value; None and NaN stand for unknown.
    """
    known = known_attributes(columns, case)

    def number(column: Column) -> float:
        value, there = case.get(column.attribute), column.attribute in known
        if column.divide_by is not None:
            return float(value) / column.divide_by if there and value is not None else math.nan
        if column.codes:
            return column.codes.get(str(value), math.nan)
        return float(str(value) in column.one_if if there else column.one_if_unknown)

    return np.array([[number(column) for column in columns]], np.float32)


def known_attributes(columns: Sequence[Column], case: Mapping[str, Any]) -> set[str]:
    """The attributes of the columns that a case has, in words the columns know."""
    known = set()
    for column in columns:
        value = case.get(column.attribute)
        if value is None or value != value:
            continue
        if column.divide_by is not None or str(value) in column.one_if or str(value) in column.codes:
            known.add(column.attribute)
    return known


# --------------------------------------------------------------------------------------------------- the contract
@dataclass(frozen=True)
class Task:
    """One task of the file.

    Attributes:
        classes: what is told apart.
        conformal_level: probability from which a class is in the prediction set: the mean over the folds.
        class_thresholds: class -> ``threshold`` and ``source``, as ``skinkit predict`` writes them.
    """

    classes: ClassSet
    conformal_level: float
    class_thresholds: Mapping[str, Any]


@dataclass(frozen=True)
class Contract:
    """What a file reads and answers.

    Attributes:
        name: of the model.
        kind: the model's file in ``skinkit.models``.
        identity: of the model's artifact.
        side_px: side of the square.
        columns: of the input ``attributes``; empty where there is none.
        reads: attributes that differed among the training cases.
        tasks: task -> what is told apart; the diagnosis first.
        threshold: malignancy from which a case is called malignant whatever its most probable class.
        threshold_rule: the rule that chose it, or None.
        effective_prevalence: of malignancy, for which malignancy holds; None where unknown.
        folds: networks whose calibrated answers are averaged.
        uncertainties: of ``UNCERTAINTIES``, those it answers.
    """

    name: str
    kind: str
    identity: str
    side_px: int
    columns: tuple[Column, ...]
    reads: tuple[str, ...]
    tasks: Mapping[str, Task]
    threshold: float
    threshold_rule: str | None
    effective_prevalence: float | None
    folds: int
    uncertainties: tuple[str, ...]

    @property
    def classes(self) -> ClassSet:
        """Of the diagnosis."""
        return self.tasks[DIAGNOSIS].classes

    @property
    def malignant(self) -> npt.NDArray[np.bool_]:
        """(classes,) which count as malignant."""
        return np.array(self.classes.are_malignant)

    @property
    def outputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name -> type of its elements and shape."""
        named: dict[str, tuple[str, tuple[int, ...]]] = {
            output_of(task): ("float", (1, len(of.classes.classes))) for task, of in self.tasks.items()
        }
        numbers = (MALIGNANCY, MALIGNANCY_RAW, FOLD_SD, *(f"uncertainty_{name}" for name in self.uncertainties))
        return {**named, **dict.fromkeys(numbers, ("float", (1,))), **dict.fromkeys((CALLED, VETO), ("bool", (1,)))}

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name -> type of its elements and shape."""
        image = {IMAGE: ("float", (1, 3, self.side_px, self.side_px))}
        return {**image, **({ATTRIBUTES: ("float", (1, len(self.columns)))} if self.columns else {})}

    def as_dict(self, skinkit: str, notice: str) -> dict[str, Any]:
        """Plain values for JSON, in words that a program's author understands without skinkit."""
        side = self.side_px
        attributes = {
            "input": ATTRIBUTES,
            "shape": [1, len(self.columns)],
            "type": "float32",
            "how": "one number a column, as it is, neither scaled nor filled: one_if: 1 where the attribute is one of "
            "these words, else 0; one_if_unknown: 1 also where the attribute is unknown; codes: the number of its "
            "word; divide_by: its number divided by this; a number or code that is unknown is NaN",
            "columns": [column.as_dict() for column in self.columns],
            "that_differed_in_training": list(self.reads),
        }
        return {
            "format": FORMAT,
            "version": VERSION,
            "skinkit": skinkit,
            "notice": notice,
            "model": {"name": self.name, "kind": self.kind, "identity": self.identity, "folds": self.folds},
            "image": {
                "input": IMAGE,
                "shape": [1, 3, side, side],
                "type": "float32",
                "side_px": side,
                "channels": "red, green, blue (sRGB), the photo upright",
                "range": [0, 1],
                "resize": f"the whole photo stretched to {side} x {side}, its proportions not kept, bilinear with "
                f"antialiasing: Pillow's Image.resize(({side}, {side}), Resampling.BILINEAR, reducing_gap=2.0); then "
                "8-bit values divided by 255, and nothing else: the network normalises",
            },
            "attributes": attributes if self.columns else None,
            "outputs": {
                **{
                    output_of(task): "calibrated probabilities, in the order of the task's classes"
                    for task in self.tasks
                },
                MALIGNANCY: "sum of the probabilities of the malignant classes",
                MALIGNANCY_RAW: "the same before calibration",
                FOLD_SD: "standard deviation of malignancy over the folds",
                CALLED: "the call: the most probable class is malignant, or malignancy reaches the threshold",
                VETO: "called malignant although the most probable class is benign",
                **{f"uncertainty_{name}": f"{name} over passes with dropout" for name in self.uncertainties},
            },
            "tasks": {
                task: {
                    "output": output_of(task),
                    "classes": of.classes.as_dict(),
                    "conformal_level": of.conformal_level,
                    "class_thresholds": dict(of.class_thresholds),
                }
                for task, of in self.tasks.items()
            },
            "threshold": self.threshold,
            "threshold_rule": self.threshold_rule,
            "effective_prevalence": self.effective_prevalence,
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Contract:
        """The inverse of :meth:`as_dict`.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, AssertionError, ArithmeticError: it is none.
        """
        model, attributes = values["model"], values["attributes"]
        tasks = {_text(task): _task(of) for task, of in values["tasks"].items()}
        side_px, prevalence = values["image"]["side_px"], values["effective_prevalence"]
        if type(side_px) is not int or not 1 <= side_px <= _MOST_SIDE_PX:
            raise ValueError(f"side_px = {side_px!r}")
        if DIAGNOSIS not in tasks:
            raise ValueError(f"no task {DIAGNOSIS!r}")
        rule = values["threshold_rule"]
        return Contract(
            _text(model["name"]),
            _text(model["kind"]),
            _text(model["identity"]),
            side_px,
            tuple(map(Column.from_dict, _list(attributes["columns"]))) if attributes is not None else (),
            tuple(map(_text, _list(attributes["that_differed_in_training"]))) if attributes is not None else (),
            tasks,
            _share(values["threshold"]),
            None if rule is None else _text(rule),
            None if prevalence is None else _share(prevalence),
            int(model["folds"]),
            tuple(name for name in UNCERTAINTIES if f"uncertainty_{name}" in values["outputs"]),
        )


def _task(values: Mapping[str, Any]) -> Task:
    classes = ClassSet.from_dict(values["classes"])
    codes = [_text(code) for code in classes.classes]
    if len(codes) < 2 or len(set(codes)) < len(codes) or not classes.malignant <= set(codes):
        raise ValueError(f"classes {listed(codes)}")
    _text(classes.malignant_set, empty=True)
    return Task(classes, _share(values["conformal_level"]), dict(values["class_thresholds"]))


def _text(value: Any, *, empty: bool = False) -> str:
    """A word that can be printed."""
    if not isinstance(value, str) or not (value or empty) or len(value) > 256 or not value.isprintable():
        raise ValueError(f"{str(value)[:40]!r} is no word")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MOST_NAMES:
        raise ValueError("no list, or too long")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    return float(value)


def _share(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{number} is no share")
    return number


# -------------------------------------------------------------------------------------------------------- the file
@dataclass(frozen=True)
class Answer:
    """What a file answers for one case.

    Attributes:
        probability: task -> (classes,) calibrated probabilities.
        malignancy_raw: malignancy before calibration.
        fold_sd: standard deviation of malignancy over the folds; None of one fold.
        uncertainty: name of ``UNCERTAINTIES`` -> its figure.
    """

    probability: Mapping[str, npt.NDArray[np.float64]]
    malignancy_raw: float
    fold_sd: float | None
    uncertainty: Mapping[str, float]


@dataclass(frozen=True)
class OnnxModel:
    """An opened file, ready to answer.

    Attributes:
        where: the file, for messages.
        contract: what it reads and answers.
        card: the model card.
        learnt: beginnings of the hashes of photos it has learnt from.
        session: of onnxruntime.
    """

    where: str
    contract: Contract
    card: Mapping[str, Any]
    learnt: frozenset[bytes]
    session: Any = field(repr=False)

    def has_learnt(self, pixel_sha256: str) -> bool:
        """Whether the model was trained with a photo of these pixels."""
        return hash_prefix(pixel_sha256) in self.learnt

    def feeds(self, picture: npt.NDArray[np.uint8], case: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float32]]:
        """The inputs of one case.

        Args:
            picture: uint8 (side, side, 3), RGB, already stretched to the square.
            case: canonical attribute -> value.
        """
        image = picture.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        columns = self.contract.columns
        return {IMAGE: image, **({ATTRIBUTES: encoded(columns, case)} if columns else {})}

    def answer(self, picture: npt.NDArray[np.uint8], case: Mapping[str, Any]) -> Answer:
        """What it says of one case; arguments as of :meth:`feeds`.

        Raises:
            InputError: the file fails, or answers what no model answers.
        """
        names = list(self.contract.outputs)
        try:
            values = dict(zip(names, self.session.run(names, self.feeds(picture, case)), strict=True))
        except Exception as error:  # noqa: BLE001 - onnxruntime has no base class of its own for what it raises
            raise _damaged(self.where, f"it fails: {_first_line(error)}") from None
        answer = Answer(
            {task: np.asarray(values[output_of(task)][0], np.float64) for task in self.contract.tasks},
            float(values[MALIGNANCY_RAW][0]),
            float(values[FOLD_SD][0]) if self.contract.folds > 1 else None,
            {name: float(values[f"uncertainty_{name}"][0]) for name in self.contract.uncertainties},
        )
        self._check(answer, values)
        return answer

    def _check(self, answer: Answer, values: Mapping[str, Any]) -> None:
        """Refuse answers that are no probabilities, or do not fit together."""
        for task, p in answer.probability.items():
            if not (np.isfinite(p).all() and (p >= 0).all() and abs(p.sum() - 1) <= _SAME):
                raise _damaged(self.where, f"its answers for {task} are no probabilities")
        numbers = [answer.malignancy_raw, answer.fold_sd or 0.0, *answer.uncertainty.values()]
        p, malignancy = answer.probability[DIAGNOSIS], float(values[MALIGNANCY][0])
        first = np.sort(p)[::-1]
        by_class = bool(self.contract.malignant[int(p.argmax())])
        called = called_malignant(malignancy, by_class, self.contract.threshold)
        told = bool(values[CALLED][0]), bool(values[VETO][0])
        near = abs(malignancy - self.contract.threshold) <= _SAME or first[0] - first[1] <= _SAME
        if (
            not np.isfinite(numbers).all()
            or abs(float(p[self.contract.malignant].sum()) - malignancy) > _SAME
            or (told != (called, called and not by_class) and not near)
        ):
            raise _damaged(self.where, "its malignancy or call is not that of its probabilities")


def hash_prefix(pixel_sha256: str) -> bytes:
    """The beginning of a hash of pixels, as files keep it; empty for what is no hash."""
    try:
        return bytes.fromhex(pixel_sha256)[:HASH_BYTES]
    except ValueError:
        return b""


def open_onnx(path: Path) -> OnnxModel:
    """Open a file, after everything in it was checked.

    Args:
        path: the file.

    Raises:
        ConfigError: onnx or onnxruntime is not installed.
        InputError: there is no such file, or it is damaged or none of skinkit's.
        RefusedError: it holds what could reach outside of it, run for ever or fill the memory.
    """
    require("onnx", "onnxruntime")
    try:
        if not path.is_file():
            raise InputError(f"no file {path}", _WHAT, "check the path")
        if path.stat().st_size > MOST_BYTES:
            raise _damaged(str(path), f"{path.stat().st_size} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "a file this user may read", "check the path") from None
    return opened(data, str(path))


def opened(data: bytes, where: str, threads: int = 0) -> OnnxModel:
    """As :func:`open_onnx`, of the file's content.

    Args:
        data: the content.
        where: the file, for messages.
        threads: of onnxruntime; 0 for its own choice.
    """
    proto = _parsed(data, where)
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    contract = _contract(properties, where)
    refuse_unsafe(proto, where)
    session = _session(data, where, threads)
    for what, declared, there in (
        ("inputs", contract.inputs, session.get_inputs()),
        ("outputs", contract.outputs, session.get_outputs()),
    ):
        found = {node.name: (node.type, tuple(node.shape)) for node in there}
        if found != {name: (f"tensor({kind})", shape) for name, (kind, shape) in declared.items()}:
            raise _damaged(where, f"its {what} are not those that its contract names")
    try:
        card = dict(json.loads(properties[CARD]))
        hashes = base64.b64decode(properties[TRAINED_ON], validate=True)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(where, f"metadata: {_first_line(error)}") from None
    learnt = frozenset(hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES))
    return OnnxModel(where, contract, card, learnt, session)


def is_ours(path: Path) -> bool:
    """Whether a file is an export of skinkit's, which may be replaced by another; False for what cannot be read."""
    try:
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            data = path.read_bytes()
            properties = {entry.key: entry.value for entry in _parsed(data, str(path)).metadata_props}
            return bool(json.loads(properties[CONTRACT])["format"] == FORMAT)
    except (OSError, InputError, KeyError, ValueError, TypeError, RecursionError):
        return False
    return False


def _parsed(data: bytes, where: str) -> Any:
    """The protobuf message."""
    import onnx

    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:  # noqa: BLE001 - whichever implementation of protobuf there is raises its own
        raise _damaged(where, f"no ONNX model: {_first_line(error)}") from None
    if not proto.graph.node:
        raise _damaged(where, "no ONNX model")
    return proto


def _contract(properties: Mapping[str, str], where: str) -> Contract:
    if CONTRACT not in properties:
        raise InputError(
            f"{where} is an ONNX model without skinkit's contract: nothing says what it reads and answers",
            _WHAT,
            "give such a file; predictions of other software are scored by 'skinkit score'",
        )
    try:
        values = json.loads(properties[CONTRACT])
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}")
        if values["version"] > VERSION:
            raise InputError(
                f"{where} has version {values['version']} of its format", f"{VERSION} or older", "update skinkit"
            )
        return Contract.from_dict(values)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, ArithmeticError, RecursionError) as error:
        raise _damaged(where, f"contract: {type(error).__name__} {_first_line(error)}") from None


def _session(data: bytes, where: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised too
    if threads:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime has no base class of its own for what it raises
        raise _damaged(where, _first_line(error)) from None


def _damaged(where: str, why: str) -> InputError:
    return InputError(f"{where} is damaged, or none of skinkit's ({why})", _WHAT, "copy or export the file again")


def _first_line(error: Exception) -> str:
    """Of a library's message, printable, and not too much of it."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return "".join(sign if sign.isprintable() else "?" for sign in line)[:200]


# ------------------------------------------------------------------------------------------------- what is refused
def refuse_unsafe(proto: Any, where: str) -> None:
    """Refuse a model that could reach outside of its file, run for ever or fill the memory.

    Args:
        proto: ``onnx.ModelProto``.
        where: the file, for messages.

    Raises:
        RefusedError: naming what it has.
        InputError: its graph does not hold together.
    """
    import onnx

    graph, kinds = proto.graph, onnx.AttributeProto
    if proto.functions or proto.training_info or graph.sparse_initializer:
        raise _unsafe(where, "functions, training or sparse tensors")
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise _unsafe(where, f"the operator {_printable(node.op_type)} of the domain {_printable(node.domain)}")
        for attribute in node.attribute:
            if attribute.type in (kinds.GRAPH, kinds.GRAPHS, kinds.SPARSE_TENSOR, kinds.SPARSE_TENSORS):
                raise _unsafe(where, f"control flow ({_printable(node.op_type)})")
    for tensor in _tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise _unsafe(where, f"a tensor that lies in another file ({_printable(tensor.name)})")
    _refuse_sizes(proto, where)


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor that a graph without others in it holds."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _refuse_sizes(proto: Any, where: str) -> None:
    """Refuse tensors whose size is not fixed, or larger than any network of photos needs."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # noqa: BLE001 - of several libraries' classes
        raise _damaged(where, _first_line(error)) from None
    graph = inferred.graph
    known = {tensor.name for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shape = value.type.tensor_type.shape
        sides = [side.dim_value for side in shape.dim if side.HasField("dim_value")]
        if not value.type.tensor_type.HasField("shape") or len(sides) < len(shape.dim) or min(sides, default=0) < 0:
            continue
        if math.prod(sides) > _MOST_ELEMENTS:
            raise _unsafe(where, f"a tensor of {math.prod(sides)} numbers ({_printable(value.name)})")
        known.add(value.name)
    for node in graph.node:
        for name in node.output:
            if name and name not in known:
                raise _unsafe(where, f"a tensor whose size is not fixed ({_printable(name)})")


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:60] or "''"


def _unsafe(where: str, what: str) -> RefusedError:
    return RefusedError(
        f"{where} has {what}",
        "a graph of plain operators with all its weights inside, as 'skinkit models export' writes it",
        "do not use the file; export it again from the model",
    )
