"""What a model is: a base class per kind, with defaults, and how a network is trained.

A model is a class. Its class attributes say what it reads and answers; an instance is what one fold has learnt.
``skinkit.models`` describes what each kind adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self

from skinkit.errors import ConfigError, did_you_mean
from skinkit.options import Help
from skinkit.schemas import PRIMARY_TASK

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import torch
    from torch import nn

    _Module = nn.Module
else:
    _Module = object  # listing models and options loads no torch


DIAGNOSIS, LESION = PRIMARY_TASK, "lesion"
"""What networks answer."""
TRUTH = "class"
"""Name of the true classes in batches; of a further task ``class__<task>``."""
COHORT = "cohort"
"""Name in training batches of the cohort of each row, int64 (n,): its place among ``Sizes.cohorts``."""
POSSIBLE = "possible"
"""Name in training batches of the classes that each row's cohort can have, bool (n, K); absent where all can be."""
META_DOMAIN = "meta_domain"
"""Name in batches of the place of each photo's meta-domain in :data:`META_DOMAINS`; of a photo that is shown as it is
their number plus its cohort's. Only where ``augment.meta_domains`` names some."""
META_DOMAINS = (
    "hair", "marks", "frame", "bubbles", "colour", "blur", "compression", "distance", "shadow", "skin_tone",
)  # fmt: skip
"""Ways of taking photos (``skinkit.learning.meta_domains``)."""
UNKNOWN = -1
"""Class of a row whose truth is not known."""
SEEN = "seen"
"""What they make of the pictures, where that is asked for."""
MASK_FAILED = "mask_failed"
"""Where their own outline of the lesion failed (``Network.failed_masks``), where that is asked for."""


def truth_name(task: str) -> str:
    """The name of a task's true classes in batches, int64 (n,); of further tasks :data:`UNKNOWN` where not known."""
    return beside_name(TRUTH, task)


TEACHER = "teacher"
"""Name in batches of a teacher's log-probabilities of the diagnosis, (n, classes); NaN where it could not answer."""


TEACHER_ENCODING = "teacher_encoding"
"""Name in batches of what a teacher makes of the photo, (n, width), where an objective reads it; NaN likewise."""
PROJECTION = "projection"
"""What an objective may give a network while it is trained: a layer of this name, which is no part of the result."""

MEMBERS = "members"
"""Name of what other models answer for the diagnosis, (n, members x classes) log-probabilities, in ``READS`` too."""


LOWER = "lower"
"""Name in batches of what the frozen stages of a backbone answer, in place of ``image``: (n, width), or of all versions
of a photo (n, versions, width) (``Network.lower``)."""


def beside_name(name: str, task: str) -> str:
    """The name in batches of an array of the diagnosis, or of the same array of a further task."""
    return name if task == DIAGNOSIS else f"{name}__{task}"


UNCERTAINTIES = ("variance", "entropy", "mutual_information")
"""What a network may answer beside its diagnosis: the mean over classes of the variance over passes, the entropy of the
mean probability, and how much of it the passes disagree about (both in nats)."""


Frozen = Annotated[str, "frozen network: torchvision's name, or timm/ and timm's"]
"""How a ``Config`` names the frozen network whose features are read."""
SidePx = Annotated[int, "photos are resized to this square, pixels"]
"""How a ``Config`` says how large a network's photos are."""
Heatmap = Literal["gradcam", "gfa", "occlusion_of_mask"]
Presets = Mapping[str, Mapping[str, Any]]
"""Name of a preset -> its settings."""


@dataclass(frozen=True)
class Removed:
    """A setting that a model no longer has.

    Attributes:
        instead: the command that does what it did.
        neutral: the value with which it did nothing; None where it did nothing by itself.
    """

    instead: str
    neutral: Any = None


class Model:
    """What every model declares.

    Attributes:
        TASK: ``segment``, ``classify``, ``pretrain`` or ``generate``; stands in the class of each file, where it is
            read without an import.
        READS: names of its inputs.
        CONFIG: frozen dataclass of its settings.
        PRESETS: name -> settings that belong together.
        FORMER: former name of a setting -> its present names; models trained under it are read so.
        REMOVED: former name of a setting -> what does the same now; models trained without its effect are read.
        RADIOMICS: classifiers: the radiomic features read by default, ``none``, ``signature`` or ``all``.
        MISSING: classifiers: how an unknown attribute is written by default, ``zeros``, ``indicator`` or ``median``.
        HEATMAP: classifiers: how a case is explained by default, ``gradcam``, ``gfa`` or ``occlusion_of_mask``.
        REFITS: whether it may be fitted once more on training and validation rows after calibrating.
        BALANCED: whether its loss counts all classes alike, whatever their numbers.
        MASKS_CLASSES: networks that classify: whether the loss leaves out the classes that a row's cohort cannot have
            (:data:`POSSIBLE`).
        LABELLED: pretrainings: whether their objective also reads the class of the diagnosis (-1 where it is unknown)
            and the meta-domain.
        TASKS: classifiers: whether they may answer further tasks beside ``diagnosis``: a network under the names of
            ``Sizes.tasks``; of an estimator one more is fitted for each task, on the rows whose truth is known.
    """

    TASK: ClassVar[str]
    READS: ClassVar[tuple[str, ...]]
    CONFIG: ClassVar[type[Any]]
    PRESETS: ClassVar[Presets] = MappingProxyType({})
    FORMER: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    REMOVED: ClassVar[Mapping[str, Removed]] = MappingProxyType({})
    RADIOMICS: ClassVar[Literal["none", "signature", "all"]] = "none"
    MISSING: ClassVar[Literal["zeros", "indicator", "median"]] = "zeros"
    HEATMAP: ClassVar[Heatmap] = "gradcam"
    REFITS: ClassVar[bool] = False
    BALANCED: ClassVar[bool] = False
    MASKS_CLASSES: ClassVar[bool] = False
    LABELLED: ClassVar[bool] = False
    TASKS: ClassVar[bool] = False

    @classmethod
    def default_weights(cls, config: Any) -> str:
        """Name of the public weights it starts from (``skinkit.models.parts.weights``); empty for none."""
        return ""


class DrawingRule(Model):
    """A segmenter that is not trained.

    Attributes:
        CAUTION: what a report says of its masks; empty for nothing.
    """

    CAUTION: ClassVar[str] = ""

    @staticmethod
    def draw(rgb: np.ndarray, config: Any) -> np.ndarray:
        """Bool (H, W) lesion mask of uint8 (H, W, 3); all False where there is no lesion."""
        raise NotImplementedError


class Stored(Model):
    """A model fitted at once, which writes itself; an instance is fitted on one fold."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of :meth:`save`."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write it; no pickle."""
        raise NotImplementedError


@dataclass(frozen=True)
class Labelled:
    """Cases with their classes.

    Attributes:
        inputs: name -> (n, columns).
        labels: (n,) class indices.
        groups: (n,) the same for cases of one patient, who stay together where cases are divided; None: unknown.
    """

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray | None = None


class Estimator(Stored):
    """A classifier fitted at once; an instance is fitted on one fold."""

    HEATMAP: ClassVar[Heatmap] = "occlusion_of_mask"
    REPEATS: ClassVar[int] = 1
    """How often each place of the maps that :meth:`explained` shows is repeated along a side; heatmaps are smoothed."""
    JOINS: ClassVar[bool] = False
    """Whether it may also read what other models answer (:data:`MEMBERS`), beside what ``READS`` names; NaN in rows
    that they have learnt from."""

    @classmethod
    def fit(cls, config: Any, train: Labelled, validation: Labelled, *, n_classes: int, seed: int) -> Self:
        """Fit on training rows; validation rows only decide when to stop or how strong a penalty is.

        Raises:
            ConfigError: a setting is invalid.
        """
        raise NotImplementedError

    def predict(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n, classes) log-probabilities, before calibration."""
        raise NotImplementedError

    def effective_class_prior(self, n_classes: int, members: np.ndarray | None = None) -> np.ndarray | None:
        """(classes,) mix of classes for which its scores hold, up to a factor; None: that of the training rows.

        By default all alike where ``BALANCED``.

        Args:
            n_classes: number of classes.
            members: (members, classes) the mix for which the answers hold that it reads of other models.
        """
        import numpy as np

        return np.ones(n_classes) if self.BALANCED else None

    def member_weights(self) -> np.ndarray:
        """(members,) by which the log odds of other models count, where ``JOINS``; heatmaps are added with them."""
        raise NotImplementedError

    def contributions(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What each input column adds to each class's score.

        Returns:
            input name -> (n, classes, columns), and ``bias`` -> (n, classes, 1). Summed over all of them they are the
            scores whose softmax is the prediction.
        """
        raise NotImplementedError

    def features(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n, width) what its last, linear step reads, for maps of cases; by default all inputs side by side."""
        from skinkit.stats.novelty import as_matrix

        return as_matrix(batch)

    # Those that read ``image`` through a network that is not trained also have:

    @classmethod
    def embedder(cls, config: Any, state: Mapping[str, torch.Tensor], source: str = "weights") -> Embedder:
        """The network before it, with these weights; it runs once per photo, whatever the fold."""
        raise NotImplementedError

    @classmethod
    def embedding_key(cls, config: Any) -> Mapping[str, Any]:
        """What decides the embedder's answers, beside its weights."""
        raise NotImplementedError

    @classmethod
    def explained(
        cls,
        embedder: Any,
        fitted: Sequence[Self],
        offsets: Sequence[np.ndarray],
        temperatures: Sequence[float],
        positive: np.ndarray,
    ) -> tuple[nn.Module, nn.Module]:
        """A module from one photo to the mean log odds over folds, and the layer inside it for Grad-CAM.

        Args:
            embedder: the network before the folds.
            fitted: one per fold.
            offsets: (classes,) per fold: what all but the photo adds to the scores of this case.
            temperatures: one per fold.
            positive: (classes,) the classes whose log odds are explained.
        """
        raise NotImplementedError


class Embedder(Protocol):
    """A network that is not trained; a ``torch.nn.Module`` from uint8 (n, side, side, 3) to float32 (n, width)."""

    def prepare(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) of any size -> uint8 (side, side, 3); runs in the decoding thread."""

    def __call__(self, images: Any) -> Any:
        """uint8 tensor (n, side, side, 3) -> float32 tensor (n, width)."""


@dataclass(frozen=True)
class LabelledPhotos:
    """The training photos of one fold with their classes.

    Attributes:
        photos: uint8 (side, side, 3), RGB; decoded when they are asked for.
        labels: (n,) class indices.
    """

    photos: Sequence[np.ndarray]
    labels: np.ndarray


class Generator(Stored):
    """What writes images of a class; an instance has learnt from the training photos of one fold.

    It is fitted at once (``fit``, ``load``, ``save``), or is a :class:`Network` too, which ``skinkit.learning.loop``
    trains: then derive from ``Generator``, ``Network`` and ``torch.nn.Module``, in this order, and write ``start``,
    ``phases`` and ``loss`` in their place. Its ``CONFIG`` has ``side_px``, the side of the squares it reads and writes.
    """

    @classmethod
    def fit(cls, config: Any, train: LabelledPhotos, *, n_classes: int, seed: int) -> Self:
        """Fit on the training photos alone; a class may have none.

        Raises:
            ConfigError: a setting is invalid.
        """
        raise NotImplementedError

    def synthesise(self, labels: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Images of these classes, each from its own seed, whatever else is asked for beside it.

        A network is in eval mode, without gradients, on the device of its parameters; its random numbers come from the
        seeds alone.

        Args:
            labels: class indices.
            seeds: as many, 0 to 2^48 - 1.

        Returns:
            uint8 (n, side, side, 3), RGB.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Augment:
    """How training pictures vary; photo, lesion mask and truth mask move together. A ``Config`` nests it."""

    flips: Annotated[bool, "mirror along each axis, each with probability 1/2"] = True
    rotation_deg: Annotated[float, "turn by up to this much, either way"] = 0.0
    smallest_scale: Annotated[float, "size factor, lower end"] = 1.0
    largest_scale: Annotated[float, "size factor, upper end"] = 1.0
    shift: Annotated[float, "move by up to this share of the side"] = 0.0
    brightness: Annotated[float, "b: factor from 1 - b to 1 + b"] = 0.0
    contrast: Annotated[float, "as brightness"] = 0.0
    saturation: Annotated[float, "as brightness"] = 0.0
    hue: Annotated[float, "mix channels by a rotation of up to this share of the colour circle"] = 0.0
    channels: Annotated[float, "c: factor of red, green and blue apart, from 1 - c to 1 + c"] = 0.0
    blur: Annotated[float, "widest Gaussian, share of the side; half of the photos are blurred"] = 0.0
    sharpness: Annotated[float, "half of the photos are sharpened by up to this factor"] = 0.0
    noise: Annotated[float, "largest standard deviation of Gaussian noise, 0 to 1, on half of the photos"] = 0.0
    meta_domains: Annotated[
        str,
        Help("ways of taking photos (skinkit.learning.meta_domains): names with commas, all, or none", if_given=True),
    ] = ""
    meta_share: Annotated[float, Help("share of the photos that are shown in one of these ways", if_given=True)] = 0.5
    meta_strength: Annotated[float, Help("largest strength of that, above 0 and at most 1", if_given=True)] = 1.0

    def __post_init__(self) -> None:
        """Refuse meta-domains that are none, and shares out of range, with :class:`ConfigError`."""
        self.ways()
        if self.meta_domains and not (0 < self.meta_share <= 1 and 0 < self.meta_strength <= 1):
            raise ConfigError(
                f"augment.meta_share = {self.meta_share}, augment.meta_strength = {self.meta_strength}",
                "above 0 and at most 1",
                "correct the settings",
            )

    def ways(self) -> tuple[str, ...]:
        """The meta-domains that ``meta_domains`` names."""
        return named_meta_domains(self.meta_domains)


def named_meta_domains(text: str) -> tuple[str, ...]:
    """The meta-domains of a setting: names with commas, ``all``, or nothing.

    Raises:
        ConfigError: an unknown name.
    """
    names = tuple(filter(None, (part.strip() for part in text.split(","))))
    if names == ("all",):
        return META_DOMAINS
    for name in names:
        if name not in META_DOMAINS:
            raise ConfigError(
                f"meta-domain {name!r}", did_you_mean(name, ("all", *META_DOMAINS)), "name them with commas, or all"
            )
    return names


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one optimiser.

    The network gets its name before it begins (``Network.enter``), and begins it with the best weights of the
    phase before.

    Attributes:
        name: of the phase.
        epochs: at most so many.
        batch: cases per step.
        steps: per epoch; 0 sees every training case once.
        most_steps: most of them, where ``steps`` is 0: of more cases each epoch sees a random part; 0 for no limit.
        optimiser: ``adam``, ``adamw`` or ``sgd``.
        learning_rate: at its highest.
        rates: beginning of a parameter's name -> its own highest rate; the longest beginning that fits counts.
        schedule: ``constant``, ``cosine`` (to ``final_rate``, stepwise), ``one_cycle`` (up over the first
            ``warm_up`` share of the steps, then down along a cosine) or ``plateau`` (a tenth each time that the
            validation score, without validation rows the loss, was not better for more than ``plateau`` epochs).
        final_rate: where ``cosine`` and ``one_cycle`` end, and below which ``plateau`` never falls, for the highest of
            the rates; the others in proportion.
        warm_up: share of the steps that ``one_cycle`` climbs.
        momentum: of ``sgd``.
        beta2: of ``adam`` and ``adamw``.
        weight_decay: as the optimiser has it.
        clip: largest gradient norm; 0 for none.
        patience: stop after so many epochs without a better validation score; 0 for never.
        candidates: share of the phase's last epochs among which the one with the best validation score is kept. Few
            validation rows make scores jump, and an early epoch, at a high rate, may win by chance.
        averaged: share of the phase's last steps whose weights are averaged into the final ones; 0 for none, and then
            the epoch with the best validation score is kept.
        ema: the final weights are the moving mean of all steps, which keeps this share of itself at each of them, and
            grows to it: (1 + n) / (10 + n) at step n; 0 for none.
        augment: how pictures are varied.
        balanced: share of each epoch's draws in which every stratum (class, or cohort and modality) comes
            equally often; the others draw the rows as they are.
        most_repeats: of the balanced draws no stratum gets more than so many times its share of the rows; 0 for no
            limit.
        plateau: epochs without a better score before ``plateau`` lowers the rate.
        snapshot_every: run the network on the validation rows for ``Network.snapshot`` after so many epochs, and
            after the last; 0 for never.
        cached_views: views of each photo for which the frozen stages are run, once (``Network.lower``); 0 shows them a
            new one in every step.
    """

    name: str
    epochs: int
    batch: int = 16
    steps: int = 0
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    rates: Mapping[str, float] = field(default_factory=dict)
    schedule: str = "constant"
    final_rate: float = 0.0
    warm_up: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 0.0
    patience: int = 0
    candidates: float = 1.0
    averaged: float = 0.0
    augment: Augment = field(default_factory=Augment)
    balanced: float = 0.0
    plateau: int = 10
    snapshot_every: int = 0
    cached_views: int = 0
    most_steps: int = 0
    beta2: float = 0.999
    ema: float = 0.0
    most_repeats: float = 0.0


@dataclass(frozen=True)
class Sizes:
    """What a network is built for.

    Attributes:
        answers: class codes in order, or ``("lesion",)``; empty for a pretraining.
        columns: width of ``attributes`` and ``radiomics``, where it reads them.
        class_counts: training cases per class, replayed ones as often as an epoch draws them; empty for segmenters and
            pretrainings.
        attributes: the attribute behind each column of ``attributes``.
        unknown: what stands in each column of ``attributes`` where nothing is known of a case; empty for zeros.
        tasks: further task -> its class codes in order; each is answered under its name, (n, classes) logits.
        task_counts: further task -> training cases per class, of those whose truth is known.
        cohorts: names of the cohorts that are trained on.
    """

    answers: tuple[str, ...]
    columns: Mapping[str, int] = field(default_factory=dict)
    class_counts: tuple[float, ...] = ()
    attributes: tuple[str, ...] = ()
    unknown: tuple[float, ...] = ()
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    task_counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cohorts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Objective:
    """What a training step makes small, beside the network; by default the network's own loss.

    Its fields are its settings (:mod:`skinkit.models.parts.objectives` has those of ``--objective``).

    Attributes:
        TASK: of the networks it trains; empty for all.
        BESIDE: what its loss reads of other models: ``teacher``.
        COPIES: copies of each row in a batch, one block after the other, each varied in its own way.
    """

    TASK: ClassVar[str] = ""
    BESIDE: ClassVar[tuple[str, ...]] = ()
    COPIES: ClassVar[int] = 1

    def reads(self) -> tuple[str, ...]:
        """What its loss reads of other models with these settings, as ``BESIDE``."""
        return self.BESIDE

    def prepare(self, network: Network, widths: Mapping[str, int]) -> None:
        """Give a network the layers that learn beside it (:data:`PROJECTION`), if there are any; called once.

        Args:
            network: with its first weights.
            widths: of the arrays in batches that other models made.
        """

    def finish(self, network: Network) -> None:
        """Take these layers away again; called once, when the network has its last weights."""

    def loss(self, network: Network, batch: Mapping[str, Any]) -> Any:
        """One number to make small."""
        return network.loss(batch)


class Network(Model, _Module):
    """A ``torch.nn.Module`` that ``skinkit.learning.loop`` trains; it normalises its pictures itself.

    Derive from it and from ``torch.nn.Module``, in this order. Its ``CONFIG`` has ``side_px``.
    """

    FORMER_TENSORS: ClassVar[Mapping[str, str]] = MappingProxyType({"typical": "reference_embedding"})
    """Beginning of the name of a tensor in the weights of older versions -> what it is now."""

    answers_in: str = "fp32"
    """``fp32`` or ``bf16``: in what it answers; set where it is trained and where a trained one is opened."""
    WEIGHTS_OF: ClassVar[tuple[str, ...]] = ()
    """Names of the parts whose weights may be given as a file each (``--weights A,B``); :meth:`start` then finds their
    tensors under ``<part>.<name>``. Empty: one file alone."""

    # ------------------------------------------------------------------------------------------------- training
    @classmethod
    def build(cls, config: Any, sizes: Sizes) -> Self:
        """The network with untrained weights.

        Raises:
            ConfigError: settings or sizes it cannot be built with.
        """
        return cls(config, sizes)

    @classmethod
    def may_start_at_random(cls, config: Any) -> bool:
        """Whether it may do without pretrained weights: not where a part of it is never trained."""
        return True

    def start(self, state: Mapping[str, Any], source: str) -> str:
        """Take over pretrained weights and describe them; those that do not fit raise :class:`InputError`.

        A pretraining takes what its own :meth:`backbone_state` answers.
        """
        raise NotImplementedError

    def phases(self) -> tuple[Phase, ...]:
        """How it is trained."""
        raise NotImplementedError

    def enter(self, phase: str) -> None:
        """Get ready for a phase: freeze what is not trained in it, switch branches. Twice is the same as once."""

    @classmethod
    def final_config(cls, config: Any) -> Any | None:
        """Settings of a second training on all rows, for other cohorts, where the split has one fold; None: none."""
        return None

    @classmethod
    def synthetic_weight(cls, config: Any) -> float:
        """How much a synthetic image counts in the loss of a classifier, beside a photo: above 0, to 1."""
        return 1.0

    @classmethod
    def mixed(cls, config: Any) -> bool:
        """Whether the loss of a classifier shows photos mixed with one another, of which a teacher has said nothing."""
        return False

    def measure(self, batches: Iterable[Mapping[str, Any]]) -> None:
        """Read the training rows once, as they are, before the first step: for scales that belong to the network.

        Args:
            batches: of all training rows; in place of photos :meth:`lower`'s answers, where a phase keeps these.
        """

    def lower(self, batch: Mapping[str, Any], *, versions: bool) -> Any:
        """What the stages answer that are not trained, (n, versions, width); batches may have it for ``image``.

        Args:
            batch: with ``image``.
            versions: of all versions of a photo that :meth:`encode` reads; else of the photo alone.

        Raises:
            ConfigError: there are none.
        """
        raise ConfigError(
            f"cached_views of {type(self).__name__}",
            "a network with frozen stages that can be run by themselves",
            "give --settings recipe.cached_views=0",
        )

    def objective(self) -> Objective:
        """What is made small where ``--objective`` names nothing else: by default :meth:`loss`."""
        return Objective()

    def loss(self, batch: Mapping[str, Any]) -> Any:
        """One number to make small, in training mode.

        That of a pretraining reads no truth. Its mean over the validation rows, in eval mode, decides which epoch is
        kept; nothing may change in the network then.
        """
        raise NotImplementedError

    def backbone_state(self) -> dict[str, torch.Tensor]:
        """Pretrainings: what other networks start from, under the names of the backbone in torchvision or timm."""
        raise NotImplementedError

    def snapshot(self, batches: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """What to keep of this stage of training, where a phase asks for it (``Phase.snapshot_every``).

        Args:
            batches: validation rows, with their class.

        Returns:
            Plain values; entries of its list ``cases``, if it has one, name their case by ``index``, its place among
            these rows.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------ inference
    def answer(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What inference uses: by default the plain forward pass; a mean over several where it is overridden."""
        out: dict[str, Any] = self(batch)
        return out

    @staticmethod
    def mask_of(probability: np.ndarray, config: Any) -> np.ndarray:
        """Segmenters: bool (H, W) mask of probabilities (H, W), 0 to 1."""
        raise NotImplementedError

    def failed_masks(self, batch: Mapping[str, Any]) -> torch.Tensor | None:
        """Classifiers that outline the lesion themselves: bool (n,) where that failed; None where they do not."""
        return None

    # ---------------------------------------------------------------------------- classifiers, to be explained
    def encode(self, batch: Mapping[str, Any]) -> Any:
        """(n, ...) features of the pictures; reads no table."""
        raise NotImplementedError

    def head(self, seen: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Answers of features; reads no picture. ``head(encode(batch), batch)`` is ``answer(batch)``."""
        raise NotImplementedError

    def blocks(self) -> Mapping[str, nn.Module]:
        """Photo it reads -> the block whose maps Grad-CAM shows of it; by default one photo, and ``last``."""
        name = next(name for name in self.READS if name.startswith("image"))
        return {name: self.last}  # type: ignore[dict-item]

    def heat_layers(self) -> Mapping[str, tuple[str, nn.Module]]:
        """Name of a heatmap -> the photo it lies over and the block it shows; by default :meth:`blocks`.

        A network that reads one photo in several ways has a heatmap for each (``skinkit localise``).
        """
        return {name: (name, block) for name, block in self.blocks().items()}

    def attention_maps(self, batch: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Photo it reads -> (n, h, w) how much it attends to each place, on average 1; by default it does not."""
        return {}

    def effective_class_prior(self) -> torch.Tensor | None:
        """(classes,) mix of classes for which its probabilities hold, up to a factor; None: that of the training."""
        return None

    def effective_task_prior(self, task: str) -> torch.Tensor | None:
        """(classes,) the same of a further task."""
        return None
