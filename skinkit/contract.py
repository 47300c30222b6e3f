"""The contract of models, as checks that whoever writes one can run.

In the tests of a package that registers ``my_model``::

    from skinkit.contract import check_model
    from my_package import my_model

    def test_my_model() -> None:
        check_model(my_model.MODEL, my_model.Config(side_px=64))

Every check fails with an ``AssertionError`` that names the model and says what is wrong with it. Settings should make
the model small: a network is built a few times and takes a few steps on three cases.
"""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from skinkit.data.views import NAMED, read_names
from skinkit.errors import ConfigError, InputError
from skinkit.models import (
    DrawingRule,
    Estimator,
    Generator,
    Labelled,
    LabelledPhotos,
    Network,
    model_config,
    name_of,
    text_of,
)
from skinkit.models.parts.protocol import (
    COHORT,
    DIAGNOSIS,
    MEMBERS,
    META_DOMAIN,
    POSSIBLE,
    TEACHER,
    TRUTH,
    UNCERTAINTIES,
    UNKNOWN,
    Heatmap,
    Phase,
    Sizes,
    beside_name,
    truth_name,
)
from skinkit.models.parts.weights import PUBLIC, copied_state
from skinkit.options import options_of
from skinkit.stats.regression import log_softmax

if TYPE_CHECKING:
    import torch

SECTIONS = ("Paper:", "Idea:", "Equations:", "Shapes:", "Departures:")
PICTURES, TABLES = ("image", *NAMED, "mask"), ("attributes", "radiomics")
ANSWERS = {"classify": "diagnosis", "segment": "lesion"}
HEATMAPS = get_args(Heatmap)
TRUTHS = {"classify": "class", "segment": "truth_mask"}
_OF_NETWORKS = {
    "classify": ("start", "phases", "loss", "encode", "head"),
    "segment": ("start", "phases", "loss", "mask_of"),
    "pretrain": ("start", "phases", "loss", "backbone_state"),
    "generate": ("start", "phases", "loss"),
}
_OF_GENERATORS = ("fit", "load", "save", "synthesise")
_OF_ESTIMATORS = ("fit", "load", "save", "predict", "contributions")
_OF_PHOTO_ESTIMATORS = ("embedder", "embedding_key", "explained")
_CLASSES = ("A", "B", "C")
_TASKS = {"veil": ("absent", "present"), "streaks": ("absent", "regular", "irregular", "other")}
"""Further tasks; of the first case the truth of the first one is unknown."""
_ATTRIBUTES = ("age_years", "smoke", "smoke", "itch", "itch")
_COLUMNS = {"attributes": len(_ATTRIBUTES), "radiomics": 4}
_CASES = 3
_OPTIMISERS, _SCHEDULES = {"adam", "adamw", "sgd"}, {"constant", "cosine", "one_cycle", "plateau"}
_TOLERANCE = 1e-3
"""A batch is computed in another order of summation than its cases one by one."""


def check_model(model: type[Any], config: Any = None) -> None:
    """The check that fits a model.

    One of :func:`check_network`, :func:`check_estimator`, :func:`check_generator` and :func:`check_rule`.

    Args:
        model: the model's class.
        config: settings under which it is small; its defaults where None.

    Raises:
        AssertionError: it breaks the contract.
    """
    if not isinstance(model, type):
        raise AssertionError(f"{model!r} is no class; check the MODEL of that file")
    if issubclass(model, Network):
        check_network(model, config)
    elif issubclass(model, Estimator):
        check_estimator(model, config)
    elif issubclass(model, Generator):
        check_generator(model, config)
    elif issubclass(model, DrawingRule):
        check_rule(model, config)
    else:
        _must(model, False, "it derives from none of DrawingRule, Estimator, Generator and Network")


def check_network(
    model: type[Any], config: Any = None, *, steps: int = 6, learning_rate: float = 1e-3, seed: int = 0
) -> None:
    """Everything the training loop, inference and explanations ask of a network.

    Args:
        model: the model's class.
        config: settings under which it is small; its defaults where None.
        steps: within which the loss on three fixed cases must fall.
        learning_rate: of Adam in those steps.
        seed: of weights and cases.

    Raises:
        AssertionError: it breaks the contract.
    """
    check_text(model)
    own = inspect.getattr_static(model, "objective") is not vars(Network)["objective"]
    check_written(model, Network, [name for name in _OF_NETWORKS[model.TASK] if not (own and name == "loss")])
    if model.TASK == "generate":
        check_written(model, Generator, ("synthesise",))
    trial = Trial(model, model.CONFIG() if config is None else config, seed)
    check_settings(trial)
    network, twin = trial.build(), trial.build()
    trial.must(_same(copied_state(network), twin), "built twice from one seed of torch it has different weights")
    check_phases(trial, network)
    if model.TASK in ("pretrain", "generate"):
        check_reading_photos(trial, network)
    else:
        check_reading(trial, network)
        check_answers(trial, network)
    if model.TASKS:
        check_tasks(trial, network)
    if model.MASKS_CLASSES:
        check_possible(trial, trial.build())
    if model.TASK == "classify":
        check_explained(trial, network)
    if model.TASK == "segment":
        check_mask(trial)
    check_start(trial, network)
    check_seed(trial, network)
    check_gradients(trial, network)
    check_learning(trial, network, steps, learning_rate)
    if model.TASK == "pretrain":
        check_backbone(trial, network, twin)
    if model.TASK == "generate":
        check_images(model, trial.config, _synthesising(network))
    check_files(trial, network, twin)


@dataclass(frozen=True)
class Trial:
    """One model on trial: what it is built for and the cases it sees.

    Attributes:
        model: the model's class.
        config: its ``Config``.
        seed: of weights and cases.
        several: build a model whose ``TASKS`` is true for further tasks.
    """

    model: type[Any]
    config: Any
    seed: int = 0
    several: bool = True

    @property
    def tasks(self) -> Mapping[str, tuple[str, ...]]:
        """Further task -> its classes."""
        return _TASKS if self.model.TASKS and self.several else {}

    @property
    def sizes(self) -> Sizes:
        """Three classes, a few columns and the further tasks, or a lesion."""
        if self.model.TASK == "segment":
            return Sizes((ANSWERS["segment"],))
        if self.model.TASK == "pretrain":
            return Sizes(())
        columns = {name: width for name, width in _COLUMNS.items() if name in self.model.READS}
        counts = {name: (1,) * len(classes) for name, classes in self.tasks.items()}
        attributes, unknown = (_ATTRIBUTES, (-0.5,) * len(_ATTRIBUTES)) if "attributes" in columns else ((), ())
        return Sizes(_CLASSES, columns, (3, 2, 1), attributes, unknown, self.tasks, counts)

    def build(self, config: Any = None) -> Any:
        """The network, from the seed."""
        import torch

        torch.manual_seed(self.seed)
        return self.model.build(config or self.config, self.sizes)

    def batch(self) -> dict[str, torch.Tensor]:
        """Three cases under every name there is, whether it is read or not: a dark disc on light skin."""
        import torch

        rng, side = np.random.default_rng(self.seed), self.config.side_px
        rows, columns = np.mgrid[:side, :side] / side
        centres = rng.uniform(0.4, 0.6, (_CASES, 2, 1, 1))
        radius = rng.uniform(0.2, 0.3, (_CASES, 1, 1))
        disc = ((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2 < radius**2).astype(np.float32)
        image = rng.uniform(0.6, 0.9, (_CASES, 3, 1, 1)) - disc[:, None] * rng.uniform(0.2, 0.5, (_CASES, 3, 1, 1))
        image = np.clip(image + rng.normal(0, 0.05, image.shape), 0, 1)
        tables = {name: rng.normal(size=(_CASES, width)) for name, width in _COLUMNS.items()}
        values = {**dict.fromkeys(("image", *NAMED), image), "mask": disc, "truth_mask": disc, **tables}
        tensors = {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()}
        truths = {truth_name(name): torch.arange(_CASES) % len(classes) for name, classes in self.tasks.items()}
        if truths:
            truths[truth_name(next(iter(self.tasks)))][0] = UNKNOWN
        asked = {DIAGNOSIS: _CLASSES, **self.tasks}
        beside = {
            beside_name(TEACHER, task): torch.from_numpy(rng.normal(size=(_CASES, len(of)))).float().log_softmax(1)
            for task, of in asked.items()
        }
        labels = torch.arange(_CASES)
        return {**tensors, TRUTH: labels, META_DOMAIN: labels, **truths, **beside}

    def must(self, good: Any, sentence: str) -> None:
        """Fail with a sentence that begins with the model's name."""
        _must(self.model, good, sentence)


def _must(model: type[Any], good: Any, sentence: str) -> None:
    if not good:
        raise AssertionError(f"{name_of(model)}: {sentence}")


class Repeated(Mapping[str, Any]):
    """A batch with so many copies of its cases."""

    def __init__(self, batch: Mapping[str, Any], copies: int) -> None:
        self._batch, self._copies = batch, copies

    def __getitem__(self, name: str) -> Any:
        import torch

        return torch.cat([self._batch[name]] * self._copies)

    def __iter__(self) -> Iterator[str]:
        return iter(self._batch)

    def __len__(self) -> int:
        return len(self._batch)


class Recorded(Mapping[str, Any]):
    """A batch that remembers what is asked of it."""

    def __init__(self, batch: Mapping[str, Any]) -> None:
        self._batch = batch
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return self._batch[name]

    def __contains__(self, name: object) -> bool:
        return name in self._batch

    def __iter__(self) -> Iterator[str]:
        return iter(self._batch)

    def __len__(self) -> int:
        return len(self._batch)


# ------------------------------------------------------------------------------------------------------ the file


def check_text(model: type[Any]) -> None:
    """Docstring, task and inputs."""
    lines = text_of(model).splitlines()
    _must(model, lines and lines[0].strip(), "its docstring does not begin with one line that says what it is")
    places = [lines.index(section) if section in lines else -1 for section in SECTIONS]
    lacking = [section for section, place in zip(SECTIONS, places, strict=True) if place < 0]
    _must(model, not lacking, f"its docstring has no section {', '.join(lacking)}")
    _must(model, places == sorted(places), f"the sections of its docstring are not in the order {' '.join(SECTIONS)}")
    undeclared = [name for name in ("TASK", "READS", "CONFIG") if name not in dir(model)]
    _must(model, not undeclared, f"it does not declare {', '.join(undeclared)}")
    _must(model, model.TASK in _OF_NETWORKS, f"TASK is not one of {', '.join(_OF_NETWORKS)}")
    _must(model, len(model.READS) > 0, "READS names no input")
    generates = issubclass(model, Generator)
    _must(model, generates == (model.TASK == "generate"), "TASK is generate for what derives from Generator, and only")
    _must(model, not generates or model.READS == ("image",), "READS is not ('image',), all that a generator reads")
    if model.TASK == "pretrain":
        unknown = set(model.READS) - {"image", *NAMED}
        _must(model, not unknown, f"READS names {', '.join(sorted(unknown))}; a pretraining reads photos alone")
    if model.TASK == "classify":
        unknown = set(model.READS) - {*PICTURES, *TABLES, TEACHER if issubclass(model, Network) else MEMBERS}
        _must(model, not unknown, f"READS names {', '.join(sorted(unknown))}, which nothing provides")
        _must(model, model.RADIOMICS in ("none", "signature", "all"), f"RADIOMICS is {model.RADIOMICS!r}")
        _must(model, model.MISSING in ("zeros", "indicator", "median"), f"MISSING is {model.MISSING!r}")
        _must(model, model.HEATMAP in HEATMAPS, f"HEATMAP is {model.HEATMAP!r}")
        _must(model, isinstance(model.REFITS, bool), "REFITS is neither true nor false")
    _must(model, isinstance(model.TASKS, bool), "TASKS is neither true nor false")
    several = model.TASK == "classify" and issubclass(model, Network)
    joins = issubclass(model, Estimator) and (model.JOINS or MEMBERS in model.READS)
    _must(
        model,
        not model.TASKS or (model.TASK == "classify" and not joins),
        "TASKS is true, but only classifiers that read no other's answers answer several tasks",
    )
    _must(model, isinstance(model.MASKS_CLASSES, bool), "MASKS_CLASSES is neither true nor false")
    _must(
        model, several or not model.MASKS_CLASSES, "MASKS_CLASSES is true, but only networks that classify mask classes"
    )
    _must(model, dataclasses.is_dataclass(model.CONFIG), "CONFIG is no dataclass")
    _must(model, model.CONFIG.__dataclass_params__.frozen, "CONFIG is not frozen")
    try:
        options = list(options_of(model.CONFIG))
    except TypeError as error:
        raise AssertionError(f"{name_of(model)}: an option cannot be shown to a person: {error}") from None
    silent = [option.name for option in options if not option.help.text.strip()]
    _must(model, not silent, f"options without a word of help: {', '.join(silent)}")


def check_written(model: type[Any], base: type[Any], names: Sequence[str]) -> None:
    """Methods that the base class only declares."""
    lacking = [name for name in names if inspect.getattr_static(model, name) is inspect.getattr_static(base, name)]
    _must(model, not lacking, f"it does not write {', '.join(lacking)}")


def check_settings(trial: Trial) -> None:
    """A square side, presets that are valid and can be trained, and public weights to start from.

    Presets are built as small as the configuration on trial: what it changes, it changes in them too.
    """
    model = trial.model
    trial.must("side_px" in vars(trial.config), "CONFIG has no side_px, so the size of its pictures is unknown")
    trial.must(not model.REFITS, "REFITS is true, but a network needs validation rows to stop")
    small = {name: value for name, value in vars(trial.config).items() if value != getattr(model.CONFIG(), name)}
    for name, values in model.PRESETS.items():
        try:
            preset = model_config(model, values, where=f"preset {name}")
            network = trial.build(dataclasses.replace(preset, **small))
        except ConfigError as error:
            raise AssertionError(f"{name_of(model)}: preset {name!r} is not valid: {error}") from None
        check_phases(trial, network, f" of preset {name!r}")
    weights = model.default_weights(trial.config)
    from_nothing = model.TASK in ("pretrain", "generate") and not weights
    trial.must(
        from_nothing or weights in PUBLIC, f"default_weights answers {weights!r}, which is none of {', '.join(PUBLIC)}"
    )


# ----------------------------------------------------------------------------------------------------- networks


def check_phases(trial: Trial, network: Any, where: str = "") -> None:
    """Phases that the training loop understands, and that may be entered twice."""
    phases: Sequence[Phase] = network.phases()
    trial.must(len(phases), f"there is no phase{where}, so nothing is trained")
    names = [phase.name for phase in phases]
    trial.must(len(set(names)) == len(names), f"two phases{where} have one name: {', '.join(names)}")
    parameters = [name for name, _ in network.named_parameters()]
    for phase in phases:
        here = f"phase {phase.name!r}{where}"
        wrong = [name for name in ("epochs", "batch", "learning_rate") if getattr(phase, name) <= 0]
        wrong += [
            name for name in ("steps", "patience", "clip", "final_rate", "weight_decay") if getattr(phase, name) < 0
        ]
        wrong += [name for name in ("warm_up", "averaged", "ema", "momentum") if not 0 <= getattr(phase, name) < 1]
        wrong += [] if 0 <= phase.balanced <= 1 else ["balanced"]
        wrong += [] if phase.most_repeats == 0 or phase.most_repeats >= 1 else ["most_repeats"]
        trial.must(not wrong, f"{here} has an impossible value of {', '.join(wrong)}")
        trial.must(phase.optimiser in _OPTIMISERS, f"{here} asks for the optimiser {phase.optimiser!r}")
        trial.must(phase.schedule in _SCHEDULES, f"{here} asks for the schedule {phase.schedule!r}")
        highest = max([phase.learning_rate, *phase.rates.values()])
        trial.must(phase.final_rate <= highest, f"{here} ends at a higher learning rate than its highest")
        idle = [start for start in phase.rates if not any(name.startswith(start) for name in parameters)]
        trial.must(not idle, f"{here} gives a rate to {', '.join(idle)}, which begins no parameter's name")
        network.enter(phase.name)
        trained = [name for name, p in network.named_parameters() if p.requires_grad]
        trial.must(trained, f"{here} trains no parameter")
        before = copied_state(network)
        network.enter(phase.name)
        again = [name for name, p in network.named_parameters() if p.requires_grad]
        trial.must(trained == again and _same(before, network), f"entering {here} twice is not the same as once")


def check_reading(trial: Trial, network: Any) -> None:
    """It asks for what ``READS`` names, for all of it, and for the truth only in its loss."""
    network.eval().enter(network.phases()[-1].name)
    reads = set(trial.model.READS) - {TEACHER}
    beside = {TEACHER, *(beside_name(TEACHER, task) for task in trial.tasks)} if TEACHER in trial.model.READS else set()
    truths = {TRUTHS[trial.model.TASK], *map(truth_name, trial.tasks)}
    asked = {}
    for what in ("forward", "answer", "loss"):
        batch = Recorded(trial.batch())
        _without_gradient(network.train(what == "loss"), what, batch)
        asked[what] = batch.asked
    for what in ("forward", "answer"):
        read = ", ".join(map(repr, sorted(truths & asked[what])))
        trial.must(not read, f"{what} reads {read}, the truth, which is unknown then")
        read = ", ".join(sorted(beside & asked[what]))
        trial.must(not read, f"{what} reads {read}, which only its loss may read")
    for what, names in asked.items():
        unnamed = names - reads - truths - beside - ({COHORT, POSSIBLE} if what == "loss" else set())
        trial.must(not unnamed, f"{what} reads {', '.join(sorted(unnamed))}, which READS does not name")
    never = ", ".join(map(repr, sorted(truths - asked["loss"])))
    trial.must(not never, f"its loss never reads {never}, the truth")
    unread = reads - asked["answer"]
    trial.must(not unread, f"READS names {', '.join(sorted(unread))}, which its answer never reads")
    trial.must(not beside or TEACHER in asked["loss"], f"READS names {TEACHER}, which its loss never reads")


def check_reading_photos(trial: Trial, network: Any) -> None:
    """The loss of a pretraining asks for what ``READS`` names, for all of it, and for no truth.

    That of a generator asks for the class too.
    """
    network.train().enter(network.phases()[-1].name)
    batch, reads = Recorded(trial.batch()), set(trial.model.READS)
    _without_gradient(network, "loss", batch)
    if trial.model.TASK == "generate":
        reads.add(TRUTH)
    elif trial.model.LABELLED:
        reads |= {TRUTH, *(batch.asked & {COHORT, META_DOMAIN})}
    else:
        truths = ", ".join(sorted(batch.asked & set(TRUTHS.values())))
        trial.must(not truths, f"its loss reads {truths}, but a pretraining has no truth")
    unnamed = ", ".join(sorted(batch.asked - reads))
    trial.must(not unnamed, f"its loss reads {unnamed}, which READS does not name")
    unread = ", ".join(sorted(reads - batch.asked))
    trial.must(
        not unread, f"its loss never reads {unread}, which {'the batch holds' if TRUTH in unread else 'READS names'}"
    )


def check_answers(trial: Trial, network: Any) -> None:
    """Names, shapes and kind of the answers; every case is answered as if it were alone, twice the same."""
    network.eval()
    batch, side = trial.batch(), trial.config.side_px
    name = ANSWERS[trial.model.TASK]
    shape = (_CASES, len(_CLASSES)) if name == "diagnosis" else (_CASES, side, side)
    for what in ("forward", "answer"):
        answers = _without_gradient(network, what, batch)
        beside = {key: answers[key] for key in UNCERTAINTIES if key in answers and name == "diagnosis"}
        strange = set(answers) ^ {name, *beside, *trial.tasks}
        wanted = ", ".join([name, *trial.tasks])
        trial.must(not strange, f"{what} answers {', '.join(sorted(answers))} and not {wanted} alone")
        for key, values in beside.items():
            good = tuple(values.shape) == (_CASES,) and bool((values >= 0).all())
            trial.must(good, f"{what} answers a {key} that is not one number of at least 0 for each case")
        again = _without_gradient(network, what, batch)
        alone = [
            _without_gradient(network, what, {k: v[row : row + 1] for k, v in batch.items()}) for row in range(_CASES)
        ]
        for each, its_shape in {name: shape, **{task: (_CASES, len(c)) for task, c in trial.tasks.items()}}.items():
            _check_scores(
                trial,
                f"{what} answers{f' for the task {each}' if each in trial.tasks else ''}",
                answers[each],
                again[each],
                [of[each][0] for of in alone],
                its_shape,
                logits=each != "lesion",
            )


def _check_scores(
    trial: Trial,
    what: str,
    scores: torch.Tensor,
    again: torch.Tensor,
    alone: Sequence[torch.Tensor],
    shape: tuple[int, ...],
    *,
    logits: bool,
) -> None:
    """Scores of one task: shape, kind, and equal the second time and case by case."""
    import torch

    trial.must(tuple(scores.shape) == shape, f"{what} shape {tuple(scores.shape)} instead of {shape}")
    trial.must(
        scores.is_floating_point() and bool(scores.isfinite().all()), f"{what} something else than finite numbers"
    )
    summed = logits and bool((scores >= 0).all()) and torch.allclose(scores.sum(1), torch.ones(_CASES))
    trial.must(not summed, f"{what} probabilities, not logits")
    trial.must(_close(scores, again), f"{what} the same cases differently the second time")
    for one, same in zip(scores, alone, strict=True):
        trial.must(
            _close(one, same),
            f"{what} a case differently when others are in its batch "
            f"(by {float((one - same).abs().max()):.2g}); use no statistics of the batch in eval mode",
        )


def check_tasks(trial: Trial, network: Any) -> None:
    """Built without further tasks it answers none, and rows whose truth is unknown are left out of its loss."""
    alone = dataclasses.replace(trial, several=False)
    check_answers(alone, alone.build())
    network.train().enter(network.phases()[-1].name)
    for task, classes in trial.tasks.items():
        batch, name = trial.batch(), truth_name(task)
        codes = (UNKNOWN, *range(len(classes)))
        losses = [_without_gradient(network, "loss", {**batch, name: batch[name] * 0 + code}) for code in codes]
        trial.must(bool(losses[0].isfinite()), f"its loss is not finite where no truth of the task {task} is known")
        counted = any(float(losses[0]) == float(loss) for loss in losses[1:])
        trial.must(not counted, f"its loss takes an unknown truth of the task {task} for one of its classes")


def check_possible(trial: Trial, network: Any) -> None:
    """Where no other class is possible than the true one nothing is to be learnt: that loss is 0 and has no slope."""
    import torch

    network.train().enter(network.phases()[-1].name)
    batch = trial.batch()
    only = torch.nn.functional.one_hot(batch[TRUTHS["classify"]], len(_CLASSES)).bool()
    masks = (torch.ones_like(only), only)
    losses = [float(_without_gradient(network, "loss", {**batch, POSSIBLE: possible})) for possible in masks]
    trial.must(np.isfinite(losses).all(), "its loss is not finite where a class is not possible")
    trial.must(losses[1] < losses[0], "its loss counts classes that a row's cohort cannot have")


def check_explained(trial: Trial, network: Any) -> None:
    """``encode``, ``head``, ``reference_embedding`` and ``last``: what attributions and Grad-CAM are made from."""
    import torch

    network.eval()
    for_encode, for_head = Recorded(trial.batch()), Recorded(trial.batch())
    modules, blocks = list(network.modules()), network.blocks()
    photos = set(read_names(trial.model.READS))
    trial.must(set(blocks) == photos, f"blocks names {', '.join(blocks)}, and READS the photos {', '.join(photos)}")
    held: dict[str, list[torch.Tensor]] = {name: [] for name in blocks}
    hooks = []
    for name, block in blocks.items():
        trial.must(any(block is m for m in modules), f"the block of {name} is no module inside the network")
        hooks.append(block.register_forward_hook(lambda _module, _inputs, out, name=name: held[name].append(out)))
    encoded = network.encode(for_encode)
    for hook in hooks:
        hook.remove()
    of_head = network.head(encoded, for_head)
    scores = of_head["diagnosis"]
    tables = for_encode.asked & set(TABLES)
    trial.must(not tables, f"encode reads {', '.join(sorted(tables))}; what is known beside the photo belongs to head")
    pictures = for_head.asked & set(PICTURES)
    trial.must(not pictures, f"head reads {', '.join(sorted(pictures))}; pictures belong to encode")
    answer = _without_gradient(network, "answer", trial.batch())
    agreed = all(name in of_head and _close(of_head[name], answer[name]) for name in ("diagnosis", *trial.tasks))
    trial.must(agreed, "head(encode(batch), batch) is not what answer says")
    shape, per_case = tuple(network.reference_embedding.shape), tuple(encoded.shape[1:])
    trial.must(shape == per_case, f"reference_embedding has shape {shape} and encode answers {per_case} per case")
    for name, answers in held.items():
        good = len(answers) == 1 and answers[0].ndim == 4
        trial.must(good, f"the block of {name} does not answer one stack of maps (n, channels, h, w) in encode")
        good = len(answers[0]) in (_CASES, 2 * _CASES)
        trial.must(good, f"the block of {name} answers neither one map per photo nor two (the second mirrored)")
        (gradient,) = torch.autograd.grad(scores[:, 0].sum(), answers[0], allow_unused=True, retain_graph=True)
        trial.must(gradient is not None and gradient.any(), f"the answer does not depend on the maps of {name}")


def check_mask(trial: Trial) -> None:
    """``mask_of`` makes a mask of probabilities, of any size."""
    disc = (np.hypot(*(np.mgrid[:40, :50] - 20)) < 9).astype(np.float32)
    for probability, what in ((disc * 0.98 + 0.01, "a clear disc"), (disc * 0, "no lesion")):
        mask = trial.model.mask_of(probability, trial.config)
        trial.must(mask.shape == disc.shape, f"mask_of answers shape {mask.shape} for {disc.shape}")
        trial.must(mask.dtype == np.bool_, f"mask_of answers {mask.dtype}, not bool")
        agreed = float((mask == (disc > 0)).mean()) if what == "a clear disc" else 1.0 - float(mask.mean())
        trial.must(agreed > 0.9, f"mask_of does not find {what}")


def check_start(trial: Trial, network: Any) -> None:
    """Weights that do not fit are refused in words, and nothing is changed by them."""
    import torch

    before = copied_state(network)
    try:
        network.start({"nobodys.weight": torch.zeros(2, 3)}, "foreign.safetensors")
    except InputError as error:
        clear = all((error.found, error.expected, error.fix)) and "foreign.safetensors" in error.found
        trial.must(clear, "start refuses foreign weights without naming their file, what it expects and how to mend it")
    else:
        trial.must(good=False, sentence="start takes foreign weights without a word; it must raise InputError")
    trial.must(_same(before, network), "start has changed the network although it refused the weights")


def check_seed(trial: Trial, network: Any) -> None:
    """What its loss draws at random is governed by torch's seed."""
    import torch

    network.train().enter(network.phases()[-1].name)
    losses = []
    for _ in range(2):
        torch.manual_seed(trial.seed)
        losses.append(float(_loss(network, trial.batch()).detach()))
    close = abs(losses[0] - losses[1]) <= 1e-4 * max(1.0, abs(losses[0]))
    trial.must(close, f"its loss draws random numbers that torch's seed does not govern ({losses[0]} and {losses[1]})")


def check_gradients(trial: Trial, network: Any) -> None:
    """In each phase the gradient reaches every parameter that is not frozen, and no other.

    What a layer that starts at zero keeps from those before it must come through after one step.
    """
    for phase in network.phases():
        network.train().enter(phase.name)
        _differentiated(trial, network, phase)
        if _unreached(network):
            _stepped(network)
            _differentiated(trial, network, phase)
        unreached = _unreached(network)
        trial.must(
            not unreached,
            f"no finite gradient reaches {next(iter(unreached), '')} in phase {phase.name!r}, although it is trained "
            "there; freeze it in enter, or use it",
        )
        for name, p in network.named_parameters():
            frozen = p.requires_grad or p.grad is None
            trial.must(frozen, f"{name} is frozen in phase {phase.name!r} and has a gradient")
    network.zero_grad(set_to_none=True)


def _differentiated(trial: Trial, network: Any, phase: Phase) -> None:
    """Give every parameter its gradient on the trial's cases."""
    network.zero_grad(set_to_none=True)
    loss = _loss(network, trial.batch())
    trial.must(loss.ndim == 0, f"its loss has shape {tuple(loss.shape)}, not one number")
    trial.must(bool(loss.isfinite()), f"its loss is {float(loss.detach())} in phase {phase.name!r}")
    loss.backward()


def _unreached(network: Any) -> list[str]:
    """Names of the parameters in training that have no finite gradient."""
    gradients = [(name, p.grad) for name, p in network.named_parameters() if p.requires_grad]
    return [name for name, grad in gradients if grad is None or not grad.isfinite().all() or not grad.any()]


def _stepped(network: Any) -> None:
    """One small step of those parameters that have a gradient."""
    import torch

    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-3 * parameter.grad.sign())


def check_learning(trial: Trial, network: Any, steps: int, learning_rate: float) -> None:
    """The loss on three fixed cases falls within a few steps."""
    import torch

    network.train().enter(network.phases()[-1].name)
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=learning_rate)
    losses = []
    for _ in range(steps + 1):
        torch.manual_seed(trial.seed)
        loss = _loss(network, trial.batch())
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    listing = ", ".join(f"{loss:.3g}" for loss in losses)
    trial.must(np.isfinite(losses).all(), f"its loss does not stay finite in training: {listing}")
    trial.must(min(losses[1:]) < losses[0], f"its loss on three fixed cases does not fall: {listing}")


def check_backbone(trial: Trial, network: Any, twin: Any) -> None:
    """``backbone_state`` answers finite, trained tensors that another one starts from; in eval mode nothing is learnt.

    Args:
        trial: the model on trial.
        network: has taken a few steps.
        twin: has not.
    """
    import torch

    state, untrained = network.backbone_state(), twin.backbone_state()
    tensors = isinstance(state, Mapping) and all(isinstance(value, torch.Tensor) for value in state.values())
    trial.must(tensors and len(state), "backbone_state answers no tensor by name, so nothing can start from it")
    broken = [name for name, value in state.items() if not bool(value.isfinite().all())]
    trial.must(not broken, f"backbone_state answers numbers that are not finite in {next(iter(broken), '')}")
    same = untrained.keys() == state.keys()
    trial.must(same, "backbone_state answers other names after training than before")
    learnt = any(not torch.equal(value, untrained[name]) for name, value in state.items())
    trial.must(learnt, "backbone_state answers nothing that its loss trains")
    state = {name: value.detach().clone() for name, value in state.items()}
    other = trial.build()
    try:
        other.start(state, "backbone.safetensors")
    except InputError as error:
        trial.must(good=False, sentence=f"start refuses what backbone_state answers: {error.found}")
    taken = other.backbone_state()
    good = all(torch.equal(value, taken[name]) for name, value in state.items())
    trial.must(good, "start does not take over what backbone_state answers")
    before = copied_state(network)
    loss = _without_gradient(network.eval(), "loss", trial.batch())
    trial.must(bool(loss.isfinite()), f"its loss is {float(loss)} in eval mode, in which validation rows are scored")
    trial.must(_same(before, network), "its loss changes the network in eval mode")


def check_files(trial: Trial, network: Any, twin: Any) -> None:
    """Everything it has learnt lies in its state dict, which fits into a safetensors file and into a fresh twin."""
    import torch
    from safetensors.torch import load, save

    try:
        data = save({name: value.detach().contiguous() for name, value in network.state_dict().items()})
        twin.load_state_dict(load(data))
    except (RuntimeError, ValueError) as error:
        raise AssertionError(f"{name_of(trial.model)}: its state dict cannot be saved and read back: {error}") from None
    if trial.model.TASK == "pretrain":
        one, other = (_without_gradient(each.eval(), "loss", trial.batch()) for each in (network, twin))
        trial.must(torch.allclose(one, other, rtol=1e-5, atol=1e-5), "saved and read back it has another loss")
        return
    if trial.model.TASK == "generate":
        one, other = (_synthesising(each)(_LABELS, _SEEDS) for each in (network, twin))
        trial.must(_grey_levels_apart(one, other) <= _LEVELS, "saved and read back it writes other images")
        return
    before, after = (_without_gradient(each.eval(), "answer", trial.batch()) for each in (network, twin))
    for name in (ANSWERS[trial.model.TASK], *trial.tasks):
        same = torch.allclose(before[name], after[name], rtol=1e-5, atol=1e-5)
        trial.must(same, "saved and read back it answers differently")


def _without_gradient(network: Any, what: str, batch: Mapping[str, Any]) -> Any:
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        if what == "loss":
            return _loss(network, batch)
        return network(batch) if what == "forward" else getattr(network, what)(batch)


def _loss(network: Any, batch: Mapping[str, Any]) -> Any:
    """What its training makes small, of as many copies of the cases as its objective compares."""
    objective = network.objective()
    return objective.loss(network, Repeated(batch, objective.COPIES) if objective.COPIES > 1 else batch)


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(((one - other).abs() <= _TOLERANCE * (1 + other.abs())).all())


def _same(state: Mapping[str, torch.Tensor], network: Any) -> bool:
    own = network.state_dict()
    return own.keys() == state.keys() and all(bool((own[name] == value).all()) for name, value in state.items())


# ---------------------------------------------------------------------------------------------------- generators

_LABELS, _SEEDS = (0, 1, 2, 0, 1), (11, 11, 11, 12, 13)
"""Three classes from one seed, then two of them from other seeds."""
_LEVELS = 2
"""Images of a batch and images made one by one differ by at most so many grey levels of 255."""
_Synthesise = Callable[[Sequence[int], Sequence[int]], Any]


def check_generator(model: type[Any], config: Any = None, *, seed: int = 0) -> None:
    """A generator that is fitted at once: repeatable, image by image, of its class and seed, written and read.

    Args:
        model: the model's class.
        config: its ``Config``; its defaults where None.
        seed: of the photos.

    Raises:
        AssertionError: it breaks the contract.
    """
    check_text(model)
    check_written(model, Generator, _OF_GENERATORS)
    config = model.CONFIG() if config is None else config
    _must(model, "side_px" in vars(config), "CONFIG has no side_px, so the size of its pictures is unknown")
    rng, side, n = np.random.default_rng(seed), int(config.side_px), 12
    labels = np.arange(n) % len(_CLASSES)
    disc = np.hypot(*(np.mgrid[:side, :side] - side / 2)) < side / 3
    colours = np.array([(90, 60, 50), (160, 90, 80), (40, 40, 60)])[labels]
    photos = rng.integers(150, 220, (n, side, side, 3))
    photos[:, disc] = colours[:, None] + rng.integers(-20, 20, (n, int(disc.sum()), 3))
    train = LabelledPhotos(list(photos.astype(np.uint8)), labels)
    fitted = model.fit(config, train, n_classes=len(_CLASSES), seed=seed)
    untouched = all(np.array_equal(one, other) for one, other in zip(train.photos, photos, strict=True))
    _must(model, untouched, "fit writes into the photos it was given")
    check_images(model, config, fitted.synthesise)
    images = fitted.synthesise(_LABELS, _SEEDS)
    again = model.fit(config, train, n_classes=len(_CLASSES), seed=seed).synthesise(_LABELS, _SEEDS)
    _must(model, np.array_equal(images, again), "fitted twice with one seed it writes other images")
    without = labels > 0
    fewer = LabelledPhotos([photo for photo, kept in zip(train.photos, without, strict=True) if kept], labels[without])
    model.fit(config, fewer, n_classes=len(_CLASSES), seed=seed).synthesise(_LABELS[1:3], _SEEDS[1:3])
    with tempfile.TemporaryDirectory() as name:
        fitted.save(Path(name))
        _must_not_be_pickled(model, Path(name))
        read = model.load(Path(name)).synthesise(_LABELS, _SEEDS)
    _must(model, _grey_levels_apart(images, read) == 0, "saved and read back it writes other images")


def check_images(model: type[Any], config: Any, synthesise: _Synthesise) -> None:
    """Images of the right kind and size that depend on their class and seed, and on nothing else.

    Args:
        model: the model's class.
        config: its ``Config``.
        synthesise: of a fitted generator.
    """
    images = np.asarray(synthesise(_LABELS, _SEEDS))
    shape = (len(_LABELS), config.side_px, config.side_px, 3)
    finite = not np.issubdtype(images.dtype, np.floating) or bool(np.isfinite(images).all())
    _must(model, finite, "synthesise answers numbers that are not finite")
    _must(model, images.dtype == np.uint8, f"synthesise answers {images.dtype}, not uint8")
    _must(model, images.shape == shape, f"synthesise answers shape {images.shape} instead of {shape}")
    images = images.copy()
    again = np.asarray(synthesise(_LABELS, _SEEDS))
    _must(model, np.array_equal(images, again), "synthesise answers the same classes and seeds differently twice")
    for place, (label, seed) in enumerate(zip(_LABELS, _SEEDS, strict=True)):
        alone = np.asarray(synthesise([label], [seed]))[0]
        apart = _grey_levels_apart(images[place], alone)
        _must(
            model,
            apart <= _LEVELS,
            f"an image is another one when others are made beside it (by {apart} grey levels); let its random numbers "
            "come from its own seed",
        )
    by_class = any(np.array_equal(images[one], images[other]) for one, other in ((0, 1), (0, 2), (1, 2)))
    _must(model, not by_class, "synthesise ignores the class: one seed answers the same image for two of them")
    by_seed = any(np.array_equal(images[one], images[other]) for one, other in ((0, 3), (1, 4)))
    _must(model, not by_seed, "synthesise ignores the seed: two of them answer the same image")


def _synthesising(network: Any) -> _Synthesise:
    """``synthesise`` of a network as the stage asks for it."""

    def synthesise(labels: Sequence[int], seeds: Sequence[int]) -> Any:
        import torch

        with torch.no_grad():
            return network.eval().synthesise(labels, seeds)

    return synthesise


def _grey_levels_apart(one: Any, other: Any) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


# -------------------------------------------------------------------------------------------- rules and estimators


def check_rule(model: type[Any], config: Any = None) -> None:
    """A segmenter without weights: its file, and a mask of the photo's size that comes out the same twice.

    Args:
        model: the model's class; one that reads ``truth_mask`` only hands masks on.
        config: its ``Config``; its defaults where None.

    Raises:
        AssertionError: it breaks the contract.
    """
    check_text(model)
    _must(model, model.TASK == "segment", "a rule can only segment")
    if model.READS == ("truth_mask",):
        named = "masks" in model.CONFIG.__dataclass_fields__
        _must(model, named, "CONFIG has no masks, so it cannot say whose masks it hands on")
        return
    check_written(model, DrawingRule, ("draw",))
    config = model.CONFIG() if config is None else config
    rows, columns = np.mgrid[:48, :64]
    disc = np.hypot(rows - 24, columns - 32) < 12
    photo = np.where(disc[..., None], (90, 60, 50), (215, 170, 145)).astype(np.uint8)
    kept = photo.copy()
    mask = model.draw(photo, config)
    _must(model, mask.shape == disc.shape, f"draw answers shape {mask.shape} for a photo of {disc.shape}")
    _must(model, mask.dtype == np.bool_, f"draw answers {mask.dtype}, not bool")
    _must(model, np.array_equal(photo, kept), "draw writes into the photo it was given")
    _must(model, np.array_equal(mask, model.draw(photo, config)), "draw answers the same photo differently twice")
    overlap = float((mask & disc).sum() / max(1, (mask | disc).sum()))
    _must(model, overlap > 0.5, f"draw does not find a dark disc on light skin (IoU {overlap:.2f})")


def check_estimator(model: type[Any], config: Any = None, *, seed: int = 0) -> None:
    """A classifier fitted at once: log-probabilities, repeatable, row by row, exactly taken apart, written and read.

    Args:
        model: the model's class.
        config: its ``Config``; its defaults where None.
        seed: of the cases.

    Raises:
        AssertionError: it breaks the contract.
    """
    check_text(model)
    check_written(model, Estimator, (*_OF_ESTIMATORS, *(_OF_PHOTO_ESTIMATORS if "image" in model.READS else ())))
    config = model.CONFIG() if config is None else config
    rng, n = np.random.default_rng(seed), 60
    labels = np.arange(n) % len(_CLASSES)
    widths = {"image": 24, **_COLUMNS}
    rows = {name: rng.normal(size=(n, width)) + labels[:, None] for name, width in widths.items()}
    answers = 3 * np.eye(len(_CLASSES))[labels][:, None] + rng.normal(size=(n, 2, len(_CLASSES)))
    rows[MEMBERS] = (answers - np.logaddexp.reduce(answers, axis=2, keepdims=True)).reshape(n, -1)
    train, validation = ({name: values[part] for name, values in rows.items()} for part in (slice(40), slice(40, n)))
    train |= {name: train["attributes"] * share for name, share in (("block_hidden", 0.5), ("all_hidden", 0.0))}
    if model.JOINS:  # without members, and with members that have learnt from half of the training cases
        _check_fit(
            model,
            config,
            {**train, MEMBERS: train[MEMBERS][:, :0]},
            {**validation, MEMBERS: validation[MEMBERS][:, :0]},
            labels,
            seed,
        )
        train[MEMBERS] = np.where(np.arange(40)[:, None] // len(_CLASSES) % 2, np.nan, train[MEMBERS])
    _check_fit(model, config, train, validation, labels, seed)


def _check_fit(
    model: type[Any],
    config: Any,
    train: Mapping[str, np.ndarray],
    validation: Mapping[str, np.ndarray],
    labels: np.ndarray,
    seed: int,
) -> None:
    """The checks of an estimator on these inputs, the first 40 cases of which are trained on."""
    reads = {*model.READS, *([MEMBERS] if model.JOINS else [])}
    asked, held_back = Recorded(train), Labelled(validation, labels[40:])
    fitted = model.fit(config, Labelled(asked, labels[:40]), held_back, n_classes=len(_CLASSES), seed=seed)
    unnamed = asked.asked - {*reads, "block_hidden", "all_hidden"}
    _must(model, not unnamed, f"fit reads {', '.join(sorted(unnamed))}, which READS does not name")
    scores = _log_probabilities(model, fitted, validation)
    again = model.fit(config, Labelled(train, labels[:40]), held_back, n_classes=len(_CLASSES), seed=seed)
    _must(model, np.array_equal(scores, again.predict(validation)), "fitted twice with one seed it answers differently")
    alone = fitted.predict({name: values[:1] for name, values in validation.items()})[0]
    _must(model, np.allclose(scores[0], alone, atol=1e-9), "a case is answered differently when others are beside it")
    _must(model, float((scores.argmax(1) == labels[40:]).mean()) > 0.5, "it has not learnt what a line could separate")
    parts = fitted.contributions(validation)
    strange = set(parts) - {*reads, "bias"}
    _must(model, not strange, f"contributions name {', '.join(sorted(strange))}, which READS does not")
    summed = sum(part.sum(axis=2) for part in parts.values())
    _must(model, np.allclose(log_softmax(summed), scores, atol=1e-6), "its contributions do not add up to its scores")
    with tempfile.TemporaryDirectory() as name:
        fitted.save(Path(name))
        _must_not_be_pickled(model, Path(name))
        read = model.load(Path(name)).predict(validation)
    _must(model, np.allclose(read, scores, atol=1e-9), "saved and read back it answers differently")


def _must_not_be_pickled(model: type[Any], folder: Path) -> None:
    pickled = [file.name for file in folder.rglob("*") if file.suffix in (".pkl", ".pickle", ".joblib", ".pt")]
    _must(model, not pickled, f"it is saved as {', '.join(pickled)}; a pickle runs code when it is read")


def _log_probabilities(model: type[Any], fitted: Any, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    scores = np.asarray(fitted.predict(batch))
    shape = (len(next(iter(batch.values()))), len(_CLASSES))
    _must(model, scores.shape == shape, f"predict answers shape {scores.shape} instead of {shape}")
    good = bool(np.isfinite(scores).all()) and np.allclose(np.exp(scores).sum(1), 1, atol=1e-6)
    _must(model, good, "predict does not answer log-probabilities (their exponentials do not add up to 1)")
    return scores
