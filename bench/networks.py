"""What networks cost beside their own arithmetic, as ratios measured in one run.

    python bench/networks.py                          everything
    python bench/networks.py --only segmentation      photos to lesion maps
    python bench/networks.py --images FOLDER --json   on JPEG photos of one's own, numbers as JSON

Whole runs start at JPEG files and read each anew (no cache), pure ones at tensors that lie ready; both compute in the
same precision. The sides of a ratio take turns, each counted with its best time, so that a busy machine slows both. On
one that is busy throughout, ``--cpu-time`` counts the processor seconds of this program alone, all its threads together
(with OMP_NUM_THREADS=1: threads that wait for one another would count, too). Weights are random: they cost the same.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image

from skinkit.artifacts.files import file_sha256
from skinkit.console import Console
from skinkit.data.phantoms import RULES, Hospital, draw
from skinkit.explain.integrated_gradients import PATH_AT_ONCE, PATHS, STEPS, integrated_gradients
from skinkit.explain.shapley import torch_log_odds
from skinkit.images.decode import read_rgb
from skinkit.images.encode import png_bytes
from skinkit.images.identity import pixel_sha256
from skinkit.learning.augment import augment
from skinkit.learning.examples import Examples, Photo, as_input
from skinkit.learning.forward import run
from skinkit.learning.precision import autocast, native, pick_device
from skinkit.learning.schedule import optimiser_of
from skinkit.models import load_model, model_config
from skinkit.models.parts.backbone import Backbone
from skinkit.models.parts.protocol import Augment, Phase, Sizes

PARTS = ("segmentation", "classification", "training", "uncertainty", "two_photos", "explanation", "precision")
SEGMENTER = "unet"
CLASSIFIER = "hybrid_resnet50"
UNCERTAIN = "derma_calibra"
"""Its loss and its answer take ten passes with dropout."""
TWO_PHOTOS = "soft_attention"
TASKS = {"pigment_network": 3, "blue_whitish_veil": 2, "streaks": 3}
CLASSES, ATTRIBUTES, FEATURES = 8, 81, 20
ROUNDS = 4

clock = time.perf_counter
"""What times are read from."""
Results = dict[str, dict[str, float]]


# ---------------------------------------------------------------------------------------------------- material


def drawn_photos(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Phantom lesions, enlarged to the size of a photo and grained as one, as JPEG."""
    rng, names, found = np.random.default_rng(0), list(RULES), []
    for index in range(count):
        rgb, _ = draw(rng, names[index % len(names)], np.array((208.0, 160.0, 132.0)), Hospital("bench"))
        large = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        grained = np.clip(large + rng.normal(0, 4, large.shape), 0, 255).astype(np.uint8)
        found.append(folder / f"{index:04d}.jpg")
        Image.fromarray(grained).save(found[-1], quality=90)
    return found


def examples_of(files: list[Path], folder: Path, reads: tuple[str, ...], side_px: int) -> Examples:
    """Examples of JPEG files that keep nothing in memory, with what a network reads beside the photo."""
    photos, masks = [], []
    for index, file in enumerate(files):
        rgb = read_rgb(file)
        photos.append(Photo(pixel_sha256(rgb), file, file_sha256(file)))
        y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
        inside = np.hypot(y / rgb.shape[0] - 0.5, x / rgb.shape[1] - 0.5) < 0.25
        masks.append(folder / f"mask_{index}.png")
        masks[-1].write_bytes(png_bytes(inside))
    rng = np.random.default_rng(0)
    arrays = {
        "attributes": rng.normal(size=(len(files), ATTRIBUTES)),
        "radiomics": rng.normal(size=(len(files), FEATURES)),
    }
    classes = rng.integers(0, CLASSES, len(files))
    return Examples(reads, side_px, photos, masks=masks, arrays=arrays, classes=classes, cache_bytes=0)


def segmenter() -> tuple[Any, Any, Any]:
    """Model, settings and network of the segmenter a hospital without a GPU would use."""
    model = load_model(SEGMENTER, task="segment")
    settings = model_config(model, model.PRESETS.get("quick", {}))
    return model, settings, model.build(settings, Sizes(("lesion",)))


def classifier(side_px: int = 0, name: str = CLASSIFIER) -> tuple[Any, Any, Any]:
    """Model, settings and network of a classifier, by default the hybrid one."""
    model = load_model(name, task="classify")
    settings = model_config(model, {"side_px": side_px} if side_px else {})
    columns = {"attributes": ATTRIBUTES, "radiomics": FEATURES}
    names = tuple(f"class_{index}" for index in range(CLASSES))
    return model, settings, model.build(settings, Sizes(names, columns, (10,) * CLASSES))


# ---------------------------------------------------------------------------------------------------- measuring


def precision_of(device: str) -> str:
    """bf16 where the device has instructions for it."""
    return "bf16" if native(device) else "fp32"


def best_seconds(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The best time of each call, all of them taking turns; a first turn is not counted."""
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            began = clock()
            call()
            if turn:
                best[name] = min(best[name], clock() - began)
    return best


def bench_inference(network: Any, examples: Examples, device: str, size: int) -> dict[str, float]:
    """Photos a second from JPEG files to answers, and of the network alone on tensors that lie ready."""
    precision, rows, quiet = precision_of(device), range(len(examples)), Console(quiet=True)
    network.to(device, memory_format=torch.channels_last).eval()
    groups = [list(rows[start : start + size]) for start in range(0, len(rows), size)]
    ready = [as_input(batch, device) for batch in examples.batches(groups)]

    def pure() -> None:
        for inputs in ready:
            with torch.inference_mode(), autocast(device, precision):
                for logits in network.answer(inputs).values():
                    logits.float().cpu()

    def whole() -> None:
        for _ in run(network, examples, rows, device=device, precision=precision, batch=size, console=quiet):
            pass

    best = best_seconds({"pure": pure, "whole": whole})
    rates = {name: len(examples) / seconds for name, seconds in best.items()}
    return {"from_jpeg_per_s": rates["whole"], "forward_per_s": rates["pure"], "ratio": rates["whole"] / rates["pure"]}


def step_of(
    network: Any, loss: Callable[[Any], torch.Tensor], batch: Any, how: Augment | None, device: str, precision: str
) -> Callable[[], object]:
    """One training step: pictures varied, loss, gradients, optimiser."""
    network.to(device, memory_format=torch.channels_last).train()
    optimiser = optimiser_of(network, Phase("bench", 1, optimiser="sgd", learning_rate=1e-4))
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        inputs = as_input(batch, device)
        if how:
            inputs = augment(inputs, how, generator)
        optimiser.zero_grad(set_to_none=True)
        with autocast(device, precision):
            value = loss(inputs)
        value.backward()
        optimiser.step()
        float(value.detach())

    return step


def plain_loss(network: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of a plain image classifier."""
    return torch.nn.functional.cross_entropy(network(inputs["image"]).float(), inputs["class"])


def bench_training(examples: Examples, model: Any, network: Any, device: str, size: int) -> dict[str, float]:
    """A training step of a network beside one of a plain ResNet-50 of the same side, batch and precision."""
    precision, batch = precision_of(device), examples.batch(range(size))
    plain = torchvision.models.resnet50(num_classes=CLASSES)
    phase = network.phases()[-1]
    network.enter(phase.name)
    best = best_seconds(
        {
            "network": step_of(network, network.loss, batch, phase.augment, device, precision),
            "plain": step_of(plain, partial(plain_loss, plain), batch, None, device, precision),
        }
    )
    return {"network_s": best["network"], "resnet50_s": best["plain"], "ratio": best["network"] / best["plain"]}


class TwoBackbones(torch.nn.Module):
    """The backbones of a network of two photos, each with one layer of classes behind the mean over its places."""

    def __init__(self, name: str, side_px: int) -> None:
        super().__init__()
        self.backbones = torch.nn.ModuleList(Backbone(name, side_px) for _ in range(2))
        self.outputs = torch.nn.ModuleList(torch.nn.LazyLinear(CLASSES) for _ in range(2))

    def loss(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The sum of their cross-entropies."""
        views = zip(self.backbones, self.outputs, ("image_clinical", "image_dermoscopic"), strict=True)
        seen = [output(backbone(inputs[name])[-1].mean((2, 3))) for backbone, output, name in views]
        return sum(torch.nn.functional.cross_entropy(logits.float(), inputs["class"]) for logits in seen)  # type: ignore[return-value]


def bench_two_photos(device: str, size: int) -> dict[str, float]:
    """A training step of the network of two photos beside one of its two backbones alone, on drawn tensors."""
    model = load_model(TWO_PHOTOS, task="classify")
    settings, precision = model_config(model, {}), precision_of(device)
    tasks = {name: tuple(map(str, range(n))) for name, n in TASKS.items()}
    counts = {name: (10,) * n for name, n in TASKS.items()}
    names = tuple(f"class_{index}" for index in range(CLASSES))
    columns, unknown = ("site",) * 14, (0.0,) * 14
    sizes = Sizes(names, {"attributes": 14}, (10,) * CLASSES, columns, unknown, tasks, counts)
    network, plain = model.build(settings, sizes), TwoBackbones(settings.backbone, settings.side_px)
    draw = torch.Generator().manual_seed(0)
    photos = {
        name: torch.randint(0, 256, (size, 3, settings.side_px, settings.side_px), generator=draw, dtype=torch.uint8)
        for name in ("image_clinical", "image_dermoscopic")
    }
    truths = {f"class__{name}": torch.arange(size) % n for name, n in TASKS.items()}
    batch = {**photos, "attributes": torch.zeros(size, 14), "class": torch.arange(size) % CLASSES, **truths}
    plain.loss(as_input(batch, "cpu"))  # sizes its layers
    network.enter(network.phases()[-1].name)
    best = best_seconds(
        {
            "network": step_of(network, network.loss, batch, None, device, precision),
            "plain": step_of(plain, plain.loss, batch, None, device, precision),
        }
    )
    return {"network_s": best["network"], "backbones_s": best["plain"], "ratio": best["network"] / best["plain"]}


def bench_answer(examples: Examples, network: Any, device: str, size: int) -> dict[str, float]:
    """The answer of a network beside the forward pass of a plain ResNet-50 of the same side, batch and precision."""
    precision, inputs = precision_of(device), as_input(examples.batch(range(size)), device)
    plain: Any = torchvision.models.resnet50(num_classes=CLASSES)
    for each in (network, plain):
        each.to(device, memory_format=torch.channels_last).eval()

    def answered(call: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def run() -> None:
            with torch.inference_mode(), autocast(device, precision):
                call().float().cpu()

        return run

    best = best_seconds(
        {
            "network": answered(lambda: network.answer(inputs)["diagnosis"]),
            "plain": answered(lambda: plain(inputs["image"])),
        }
    )
    return {"network_s": best["network"], "resnet50_s": best["plain"], "ratio": best["network"] / best["plain"]}


def bench_explanation(examples: Examples, network: Any, device: str) -> dict[str, float]:
    """Integrated gradients of one case over photo and attributes beside as many forward and backward passes."""
    inputs = as_input(examples.batch([0]), device)
    network.to(device, memory_format=torch.channels_last).eval()
    positive = np.arange(CLASSES) < CLASSES // 2
    path = {n: v.repeat(PATH_AT_ONCE, *(1,) * (v.ndim - 1)) for n, v in inputs.items() if n in PATHS}

    def plain() -> None:
        for _ in range(STEPS // PATH_AT_ONCE):
            moved = {name: values.clone().requires_grad_() for name, values in path.items()}
            odds = torch_log_odds(network.answer(moved)["diagnosis"], positive)
            torch.autograd.grad(odds.sum(), list(moved.values()))

    def gfa() -> None:
        integrated_gradients(network, inputs, positive, 1.0, steps=STEPS, most_steps=STEPS)

    best = best_seconds({"gfa": gfa, "plain": plain})
    return {"gfa_s": best["gfa"], "passes_s": best["plain"], "ratio": best["gfa"] / best["plain"]}


def bench_precision(examples: Examples, device: str, size: int) -> dict[str, float]:
    """bf16 with channels-last memory beside fp32 with the ordinary one: a ResNet-50, forward and training step."""
    batch, calls, networks = examples.batch(range(size)), {}, []
    for precision, layout in (("fp32", torch.contiguous_format), ("bf16", torch.channels_last)):
        network: Any = torchvision.models.resnet50(num_classes=CLASSES)
        inputs = as_input(batch, device)
        inputs["image"] = inputs["image"].contiguous(memory_format=layout)

        def forward(network: Any = network, inputs: Any = inputs, precision: str = precision) -> None:
            with torch.inference_mode(), autocast(device, precision):
                network.eval()(inputs["image"]).float().cpu()

        def step(network: Any = network, inputs: Any = inputs, precision: str = precision) -> None:
            network.train().zero_grad(set_to_none=True)
            with autocast(device, precision):
                value = plain_loss(network, inputs)
            value.backward()
            float(value.detach())

        networks.append(network.to(device, memory_format=layout))
        calls |= {f"forward {precision}": forward, f"step {precision}": step}
    best = best_seconds(calls)
    return {what: best[f"{what} fp32"] / best[f"{what} bf16"] for what in ("forward", "step")}


def bench_augmentation(size: int, device: str) -> dict[str, float]:
    """What varying the pictures costs beside a training step of a U-Net with a ResNet-18."""
    _, settings, network = segmenter()
    side = settings.side_px
    batch = {
        "image": torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8).contiguous(
            memory_format=torch.channels_last
        ),
        "truth_mask": torch.randint(0, 256, (size, side, side), dtype=torch.uint8),
    }
    how, generator = network.phases()[0].augment, torch.Generator().manual_seed(0)
    inputs, precision = as_input(batch, device), precision_of(device)
    best = best_seconds(
        {
            "augment": lambda: augment(inputs, how, generator),
            "step": step_of(network, network.loss, batch, None, device, precision),
        },
    )
    return {"augment_s": best["augment"], "step_s": best["step"], "share": best["augment"] / best["step"]}


# ---------------------------------------------------------------------------------------------------- the report


def measured(options: argparse.Namespace, parts: list[str], folder: Path) -> Results:
    """All parts asked for, each said as it is known."""
    device, found = pick_device(options.device), Results()
    files = (
        sorted(p for p in options.images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")) if options.images else []
    )
    files = files[: options.photos] or drawn_photos(folder, options.photos, tuple(options.size))
    source = "given" if options.images else f"drawn {options.size[0]}x{options.size[1]}"
    if "segmentation" in parts:
        model, settings, network = segmenter()
        examples = examples_of(files, folder, model.READS, settings.side_px)
        found["segmentation"] = bench_inference(network, examples, device, options.batch)
        say_rates(f"segmentation, {len(files)} {source} JPEG to {settings.side_px} px", found["segmentation"])
    for name, side_px in ((CLASSIFIER, 0), (CLASSIFIER, 224), (UNCERTAIN, 0)) if "classification" in parts else ():
        model, settings, network = classifier(side_px, name)
        examples = examples_of(files, folder, model.READS, settings.side_px)
        key = f"classification_{name}_{settings.side_px}"
        found[key] = bench_inference(network, examples, device, options.batch)
        say_rates(f"{name}, {len(files)} {source} JPEG to {settings.side_px} px", found[key])
    if "training" in parts:
        model, settings, network = classifier()
        examples = examples_of(files[: options.batch], folder, model.READS, settings.side_px)
        found["training"] = bench_training(examples, model, network, device, len(examples))
        ratio = found["training"]["ratio"]
        say(f"training step of {CLASSIFIER} at {settings.side_px} px: {ratio:.2f}x a plain ResNet-50 (goal <= 1.1)")
        found["augmentation"] = bench_augmentation(options.batch, device)
        share = found["augmentation"]["share"]
        say(f"varying the pictures: {100 * share:.1f} % of a training step of the U-Net (goal <= 5 %)")
    if "uncertainty" in parts:
        model, settings, network = classifier(name=UNCERTAIN)
        examples = examples_of(files[: options.batch], folder, model.READS, settings.side_px)
        for what, found_here in (
            ("training step", bench_training(examples, model, network, device, len(examples))),
            ("answer", bench_answer(examples, network, device, len(examples))),
        ):
            found[f"uncertainty_{what.replace(' ', '_')}"] = found_here
            ratio = found_here["ratio"]
            say(f"{what} of {UNCERTAIN}, {settings.passes} passes, {settings.side_px} px: {ratio:.2f}x (goal <= 1.15)")
    if "two_photos" in parts:
        found["two_photos"] = bench_two_photos(device, options.batch)
        ratio = found["two_photos"]["ratio"]
        say(f"training step of {TWO_PHOTOS}: {ratio:.2f}x its two backbones alone (goal <= 1.15)")
    if "explanation" in parts:
        model, settings, network = classifier(name=UNCERTAIN)
        examples = examples_of(files[:1], folder, model.READS, settings.side_px)
        found["explanation"] = bench_explanation(examples, network, device)
        ratio = found["explanation"]["ratio"]
        say(f"integrated gradients of {UNCERTAIN}: {ratio:.2f}x of {STEPS} passes forward and back (goal <= 1.1)")
    if "precision" in parts:
        examples = examples_of(files[: options.batch], folder, ("image",), 224)
        found["precision"] = bench_precision(examples, device, len(examples))
        forward, step = found["precision"]["forward"], found["precision"]["step"]
        say(
            f"bf16 and channels-last beside fp32, ResNet-50 at 224 px: forward {forward:.2f}x, step {step:.2f}x as fast"
        )
    return found


def say_rates(what: str, rates: Mapping[str, float]) -> None:
    """One line on photos a second."""
    whole, pure = rates["from_jpeg_per_s"], rates["forward_per_s"]
    say(f"{what}: {whole:.1f}/s of {pure:.1f}/s pure forward: {rates['ratio']:.2f} (goal >= 0.85)")


def say(text: str) -> None:
    """One line of the report."""
    print(text, flush=True)


def main() -> None:
    """Run what was asked for and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone; repeatable")
    parser.add_argument("--images", type=Path, help="folder of JPEG photos (default: drawn ones)")
    parser.add_argument("--photos", type=int, default=32, help="how many of them (default: 32)")
    parser.add_argument("--size", type=int, nargs=2, default=(600, 450), metavar=("W", "H"), help="of drawn photos")
    parser.add_argument("--batch", type=int, default=8, help="photos at once (default: 8)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"turns, the best of which counts (default: {ROUNDS})"
    )
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds in place of those on the wall")
    options = parser.parse_args()
    globals().update(ROUNDS=options.rounds, clock=time.process_time if options.cpu_time else clock)
    device = pick_device(options.device)
    name = torch.cuda.get_device_name(0) if device == "cuda" else platform.machine()
    say(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {precision_of(device)}")
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options, options.only or list(PARTS), Path(folder))
    if options.json:
        say(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
