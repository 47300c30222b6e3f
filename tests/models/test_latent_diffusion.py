"""Latent diffusion: its equations by hand, autoencoders from files, and what a fold of it learns, keeps and draws."""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cohort
import torch
import written_artifacts as written
from configured import configured
from safetensors.torch import load_file, save_file

from skinkit.artifacts.artifact import open_artifact
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.images.decode import read_rgb
from skinkit.learning.examples import shrunk
from skinkit.learning.schedule import add_to_average
from skinkit.learning.state import Progress
from skinkit.learning.trained import NETWORK, open_generator
from skinkit.models import model_config, text_of
from skinkit.models.latent_diffusion import LatentDiffusion, loss_weights
from skinkit.models.parts.autoencoders import Autoencoder
from skinkit.models.parts.protocol import LOWER, Sizes
from skinkit.models.parts.weights import PUBLIC, Start, read_state
from skinkit.workspace import Ref, Workspace

PIXELS: dict[str, Any] = {
    "side_px": 32,
    "autoencoder": "none",
    "width": 32,
    "levels": "1-2a",
    "blocks": 1,
    "sampling_steps": 8,
}
LATENT: dict[str, Any] = {**PIXELS, "autoencoder": "taef2", "levels": "1a"}


def built(classes: int = 2, **settings: Any) -> Any:
    torch.manual_seed(0)
    return LatentDiffusion.build(configured(LatentDiffusion, **{**PIXELS, **settings}), Sizes(("a",) * classes)).eval()


# ---------------------------------------------------------------------------------------------------- equations


def test_the_schedule_is_the_cosine_of_the_equation() -> None:
    def f(i: int) -> float:
        return math.cos(math.pi / 2 * (i / 1000 + 0.008) / 1.008) ** 2

    product, by_hand = 1.0, []
    for i in range(1000):
        product *= 1 - min(0.999, 1 - f(i + 1) / f(i))
        by_hand.append(product)
    assert built().kept.tolist() == pytest.approx(by_hand, rel=1e-3)


def test_the_weights_of_the_loss_are_those_of_min_snr() -> None:
    kept = torch.tensor([0.9, 0.5])  # signal to noise 9 and 1
    assert loss_weights(kept, 5.0, of_noise=True).tolist() == pytest.approx([5 / 9, 1.0])
    assert loss_weights(kept, 5.0, of_noise=False).tolist() == pytest.approx([5 / 10, 1 / 2])
    assert loss_weights(kept, 100.0, of_noise=True).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_of_a_network_that_answers_nothing_is_that_of_its_target(prediction: str) -> None:
    network = built(prediction=prediction)
    for parameter in network.unet.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    network.mean.fill_(0.25)
    network.sd.fill_(0.5)
    image = torch.rand(6, 3, 32, 32)
    torch.manual_seed(7)
    with torch.no_grad():
        loss = network.loss({"image": image, "class": torch.zeros(6, dtype=torch.int64)})
    torch.manual_seed(7)
    t, z = torch.randint(1000, (6,)), (image - 0.25) / 0.5
    noise = torch.randn_like(z)
    expected = 0.0
    for row, at in enumerate(t.tolist()):
        kept = float(network.kept[at])
        snr = kept / (1 - kept)
        target, weight = noise[row], min(snr, 5) / snr
        if prediction == "v_prediction":
            target, weight = math.sqrt(kept) * noise[row] - math.sqrt(1 - kept) * z[row], min(snr, 5) / (snr + 1)
        expected += weight * float(target.square().mean()) / 6
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_a_network_that_sees_the_noise_has_no_loss() -> None:
    """Eq. 2: what is noised and what is to be answered fit together."""
    network, image = built(), torch.rand(4, 3, 32, 32)
    asked: list[torch.Tensor] = []

    class Seeing(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor) -> Any:
            kept = network.kept[t].view(-1, 1, 1, 1)
            asked.append(class_labels)
            return type("Answer", (), {"sample": (noisy - kept.sqrt() * image) / (1 - kept).sqrt()})

    network.unet = Seeing()
    assert float(network.loss({"image": image, "class": torch.tensor([0, 1, 0, 1])})) < 1e-6
    for _ in range(100):
        network.loss({"image": image, "class": torch.tensor([0, 1, 0, 1])})
    hidden = torch.cat(asked) == 2
    assert 0.05 < float(hidden.float().mean()) < 0.16
    assert torch.equal(torch.cat(asked)[~hidden] % 2, torch.tensor([0, 1, 0, 1]).repeat(101)[~hidden])


def test_guidance_goes_from_no_class_through_the_class_and_beyond() -> None:
    z, label, t = torch.randn(2, 3, 32, 32), torch.tensor([0, 1]), torch.tensor(500)
    with torch.no_grad():
        answers = {w: built(guidance=w).guided(z, t, label) for w in (0.0, 1.0, 3.0)}
        unet = built().unet
        without, given = (unet(z, t, class_labels=of).sample for of in (torch.tensor([2, 2]), label))
    assert torch.allclose(answers[0.0], without, atol=1e-5)
    assert torch.allclose(answers[1.0], given, atol=1e-5)
    assert torch.allclose(answers[3.0], 3 * given - 2 * without, atol=1e-5)
    assert not torch.allclose(without, given, atol=1e-4)


def test_sampling_is_ddim() -> None:
    network = built(sampling_steps=4)
    network.mean.fill_(0.5)
    network.sd.fill_(0.25)
    network.reach.fill_(2.0)
    z, label = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(9)), torch.tensor([1])
    with torch.no_grad():
        images = network.synthesise([1], [9])
        for t, before in ((750, 500), (500, 250), (250, 0), (0, None)):
            kept, next_kept = network.kept[t], torch.tensor(1.0) if before is None else network.kept[before]
            noise = network.guided(z, torch.tensor(t), label)
            clean = ((z - (1 - kept).sqrt() * noise) / kept.sqrt()).clamp(-2, 2)
            noise = (z - kept.sqrt() * clean) / (1 - kept).sqrt()
            z = next_kept.sqrt() * clean + (1 - next_kept).sqrt() * noise
    expected = (0.25 * z[0] + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255
    assert np.abs(images[0] - expected).max() <= 1


def test_a_moving_mean_forgets_and_begins_with_what_is_there() -> None:
    module, progress, by_hand = torch.nn.Linear(1, 1, bias=False), Progress(), 0.0
    for n, value in enumerate((4.0, 1.0, -2.0, 8.0), start=1):
        torch.nn.init.constant_(module.weight, value)
        add_to_average(progress, module, 0.3)
        kept = min(0.3, (1 + n) / (10 + n))
        by_hand = value if n == 1 else kept * by_hand + (1 - kept) * value
    assert float(progress.average["weight"]) == pytest.approx(by_hand, rel=1e-5)


def test_classes_of_other_colours_are_drawn_in_their_colours() -> None:
    """Eqs. 1 to 8 learn: what is asked for as a class looks like it."""
    colours = torch.tensor([[0.8, 0.3, 0.2], [0.2, 0.4, 0.8]])
    network = built(guidance=1.0, prediction="v_prediction").train()
    torch.manual_seed(1)
    labels = torch.arange(8) % 2
    image = (colours[labels][..., None, None] + 0.03 * torch.randn(8, 3, 1, 1)).expand(-1, -1, 32, 32).contiguous()
    network.measure([{"image": image}])
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(60):
        optimiser.zero_grad()
        network.loss({"image": image, "class": labels}).backward()
        optimiser.step()
    with torch.no_grad():
        drawn = network.eval().synthesise([0, 1, 0, 1], [1, 1, 2, 3])
    seen = torch.from_numpy(drawn / 255).mean((1, 2)).float()
    apart = (seen[:, None] - colours[None]).norm(dim=2)
    assert apart.argmin(1).tolist() == [0, 1, 0, 1]
    assert bool((apart.min(1).values < 0.25).all())


# ------------------------------------------------------------------------------------------------- autoencoders


def test_the_docstring_counts_the_parameters_of_each_preset() -> None:
    for name in LatentDiffusion.PRESETS:
        with torch.device("meta"):
            network: Any = LatentDiffusion.build(model_config(LatentDiffusion, {}, preset=name), Sizes(("a",) * 7))
        whole, trained = (f"{sum(p.numel() for p in m.parameters()):,}" for m in (network, network.unet))
        (row,) = re.findall(rf"^    {name} .*\d$", text_of(LatentDiffusion), flags=re.MULTILINE)
        assert row.split()[-2:] == [f"{whole},", trained]


def by_author(part: str) -> dict[str, torch.Tensor]:
    """A part of an autoencoder taef2 of random numbers, under the names of its author."""
    torch.manual_seed(3)
    state = getattr(Autoencoder("taef2").net, part).layers.state_dict()
    places = {name: str(int(name.partition(".")[0]) + (part == "decoder")) for name in state}
    return {f"{places[name]}.{name.partition('.')[2]}": value.half() for name, value in state.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    for part in ("encoder", "decoder"):
        save_file(by_author(part), folder / f"{part}.safetensors")
    return folder / "encoder.safetensors", folder / "decoder.safetensors"


def test_weights_with_the_names_of_their_author_or_of_the_library_are_taken(files: tuple[Path, Path]) -> None:
    state = {f"{p}.{name}": value for p in ("encoder", "decoder") for name, value in by_author(p).items()}
    one, other = Autoencoder("taef2"), Autoencoder("taef2")
    one.start(state, "x")
    other.start(one.net.state_dict(), "x")
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(one.encode(image), other.encode(image))
        assert one.encode(image).shape == (1, 32, 4, 4)
        assert one.decode(one.encode(image)).shape == image.shape
    assert torch.equal(one.net.encoder.layers[0].weight, state["encoder.0.weight"].float())
    assert torch.equal(one.net.decoder.layers[0].weight, state["decoder.1.weight"].float())
    for broken in ({}, {**state, "encoder.99.weight": torch.zeros(1)}, {**state, "decoder.1.bias": torch.zeros(2)}):
        with pytest.raises(InputError) as error:
            Autoencoder("taef2").start(broken, "there.pth")
        assert "there.pth" in error.value.found
        assert "taef2" in error.value.expected


def test_a_tiny_autoencoder_encodes_as_the_library_does() -> None:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    library, image = AutoencoderTiny(latent_channels=4), torch.rand(2, 3, 32, 32)
    own = Autoencoder("taesd")
    own.start(library.state_dict(), "x")
    with torch.no_grad():
        latents = library.encode(2 * image - 1).latents
        assert torch.allclose(own.encode(image), latents)
        assert torch.allclose(own.decode(latents), library.decode(latents).sample / 2 + 0.5)


def test_a_block_looks_at_the_whole_photo_first() -> None:
    """The pooled normalisation: x + W' ReLU(GN_4(W x)), then the convolutions and x."""
    torch.manual_seed(0)
    block = Autoencoder("taef2").net.encoder.layers[11]
    x = torch.randn(2, 64, 4, 4)
    wide = torch.einsum("oc,nchw->nohw", block.pool[0].weight[:, :, 0, 0], x).reshape(2, 4, -1)
    wide = (wide - wide.mean(2, keepdim=True)) / (wide.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    pooled = x + torch.einsum("co,nohw->nchw", block.pool[3].weight[:, :, 0, 0], wide.reshape(2, 256, 4, 4).relu())
    with torch.no_grad():
        assert torch.allclose(block(x), (block.conv(pooled) + pooled).relu(), atol=1e-4)


@pytest.mark.slow
def test_kl_f8_is_found_by_name_checked_and_read_with_its_older_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skinkit.models.parts.weights import locate

    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path))
    own = Autoencoder("kl-f8")
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in own.net.state_dict().items():
        renamed = [name.replace(new, old) for new, old in older.items() if "attentions" in name and new in name]
        state[(renamed or [name])[0]] = value.half()
    assert any(".query." in name for name in state)
    file = tmp_path / PUBLIC["kl-f8"].file
    save_file(state, file)
    with pytest.raises(RefusedError):
        locate("", "kl-f8")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLIC, "kl-f8", replace(PUBLIC["kl-f8"], sha256=sha256))
    assert LatentDiffusion.default_weights(LatentDiffusion.CONFIG()) == "kl-f8"
    own.start(read_state(locate("", "kl-f8")), "kl-f8")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert own.encode(image).shape == (1, 4, 8, 8)
        assert own.decode(own.encode(image)).shape == image.shape


@pytest.mark.real
def test_taef2_draws_real_photos_again(real_data: Path) -> None:
    weights = real_data / "weights"
    parts = {part: weights / f"taef2_{part}.safetensors" for part in ("encoder", "decoder")}
    autoencoder = Autoencoder("taef2")
    autoencoder.start(Start(parts["encoder"], "taef2", None, parts=parts).state(), "taef2")
    photos = sorted((real_data / "isic" / "ham_test" / "images").glob("*.jpg"))[:16]
    image = np.stack([shrunk(read_rgb(photo), 64) for photo in photos])
    image = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        again = autoencoder.decode(autoencoder.encode(image)).clamp(0, 1)
    psnr = -10 * (image - again).square().mean((1, 2, 3)).log10()
    assert float(psnr.median()) > 29


# ------------------------------------------------------------------------------------------------------- a fold


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return small_cohort.make(tmp_path_factory.mktemp("w"), folds=1, patients=18)


def texts(settings: dict[str, Any], *more: str) -> tuple[str, ...]:
    given = ("recipe.batch=8", "recipe.epochs=2", "recipe.steps=3", "recipe.ema=0.9")
    return (*(f"{name}={_toml(value)}" for name, value in settings.items()), *given, *more)


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def train(workspace: Workspace, settings: dict[str, Any], *more: str, name: str = "gan", **options: Any) -> Any:
    return written.make(
        workspace, "train", model="latent_diffusion", name=name, settings=texts(settings, *more), **options
    )


def both(files: tuple[Path, Path]) -> str:
    return ",".join(map(str, files))


def test_a_fold_is_scaled_by_its_training_photos_and_carries_its_autoencoder(
    workspace: Workspace, tmp_path: Path, files: tuple[Path, Path]
) -> None:
    copied = tuple(Path(shutil.copy(file, tmp_path)) for file in files)
    made = train(workspace, LATENT, weights=both((copied[0], copied[1])))
    for file in copied:
        file.unlink()
    about = made.json("model.json")
    assert about["weights"]["name"] == "encoder.safetensors,decoder.safetensors"
    content = b"".join(file.read_bytes() for file in files)
    assert about["weights"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert about["settings"]["autoencoder_licence"]
    network: Any = open_generator(made, "gan").generator(0, "cpu")
    assert torch.equal(network.autoencoder.net.encoder.layers[0].weight, by_author("encoder")["0.weight"].float())
    split = open_artifact(workspace.path(Ref("split", name="grouped"))).table()
    cases = open_artifact(workspace.path(Ref("cases", "clinic"))).table().set_index("case_id")
    learnt = split.loc[split["part"] == "train", "case_id"]
    photos = np.stack([shrunk(read_rgb(workspace.root / "clinic" / cases.loc[c, "image_path"]), 32) for c in learnt])
    with torch.no_grad():
        z = network.encode({"image": torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255}).double()
    assert network.mean.flatten().tolist() == pytest.approx(z.mean((0, 2, 3)).tolist(), abs=2e-3)
    assert network.sd.flatten().tolist() == pytest.approx(z.std((0, 2, 3)).tolist(), rel=1e-2)
    drawn = written.make(workspace, "synthesise", model="gan", per_class=2)
    one_by_one = written.make(workspace, "synthesise", model="gan", per_class=2, name="again", batch=1)
    assert len(drawn.table()) == 6
    for file in drawn.table()["image_file"]:
        apart = read_rgb(drawn.path / file).astype(int) - read_rgb(one_by_one.path / file)
        assert np.abs(apart).max() <= 1


def test_a_killed_training_goes_on_to_the_same_weights(
    workspace: Workspace, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(workspace, LATENT, weights=both(files))
    loss, calls = LatentDiffusion.loss, []

    def killed(self: Any, batch: Any) -> Any:
        calls.append(LOWER in batch)
        if len(calls) == 6:  # one of them looks whether the latents that were kept will do
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(LatentDiffusion, "loss", killed)
    with pytest.raises(KeyboardInterrupt):
        train(workspace, LATENT, name="killed", weights=both(files))
    assert all(calls)  # no photo is encoded again in a step
    monkeypatch.undo()
    again = train(workspace, LATENT, name="killed", weights=both(files))
    one, other = (load_file(made.path / "fold_0" / NETWORK) for made in (whole, again))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    mean = (again.table(file="fold_0/history.parquet"))["train_loss"]
    assert len(mean) == 3  # two epochs, and the moving mean


@pytest.mark.parametrize(
    ("weights", "kind", "found"),
    [
        ("", InputError, "no --weights"),
        ("none", ConfigError, "--weights none"),
        ("{0}", InputError, "encoder.safetensors"),
        ("{1},{0}", InputError, "decoder.safetensors,encoder.safetensors"),
        ("{0},{1},{1}", ConfigError, "3 files"),
        ("{0},/nowhere/decoder.safetensors", InputError, "/nowhere/decoder.safetensors"),
        ("model:refused", ConfigError, "model:refused"),
    ],
)
def test_other_weights_than_those_of_its_autoencoder_are_refused(
    workspace: Workspace, files: tuple[Path, Path], weights: str, kind: type[Exception], found: str
) -> None:
    with pytest.raises(kind) as error:
        train(workspace, LATENT, name="refused", weights=weights.format(*files))
    assert found in error.value.found  # type: ignore[attr-defined]
    assert not workspace.path(Ref("models", name="refused")).exists()


def test_a_diffusion_of_pixels_takes_no_weights_and_other_models_one_file(
    workspace: Workspace, files: tuple[Path, Path]
) -> None:
    with pytest.raises(ConfigError) as error:
        train(workspace, PIXELS, name="pixels", weights=str(files[0]))
    assert "latent_diffusion" in error.value.found
    with pytest.raises(ConfigError) as error:
        written.make(workspace, "train", model="concat", name="c", weights=both(files))
    assert "2 files" in error.value.found
    made = train(workspace, PIXELS, name="pixels")
    assert made.json("model.json")["folds"][0]["starts_from"] == "random numbers"


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"side_px": 36, "levels": "1-2-3-4"}, "side_px = 36"),
        ({"autoencoder": "taef2", "levels": "1-2-3-4"}, "side_px = 32"),
        ({"levels": "1-2b"}, "levels = '1-2b'"),
        ({"width": 40}, "width = 40"),
        ({"blocks": 0}, "blocks = 0"),
        ({"levels": "0a"}, "levels = '0a'"),
        ({"guidance": -1.0}, "guidance = -1"),
        ({"class_dropped": 1.0}, "class_dropped = 1"),
        ({"class_dropped": 0.0}, "class_dropped = 0"),
        ({"min_snr": 0.0}, "min_snr = 0"),
        ({"sampling_steps": 0}, "sampling_steps = 0"),
        ({"ema": 1.0}, "recipe.ema = 1"),
        ({"averaged": 0.5}, "recipe.averaged = 0.5"),
        ({"most_repeats": 0.5}, "recipe.most_repeats = 0.5"),
        ({"balanced": 0.0}, "recipe.balanced = 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        built(**settings)
    assert found in error.value.found


@pytest.fixture
def without_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)


@pytest.mark.usefixtures("without_diffusers")
def test_without_the_library_it_says_what_to_install(workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as error:
        train(workspace, PIXELS, name="absent")
    assert "diffusers" in error.value.found
    assert "skinkit[synthesis]" in error.value.fix


def test_an_image_is_that_of_its_class_and_seed_alone() -> None:
    network = built()
    with torch.no_grad():
        many = network.synthesise([0, 1, 1], [5, 6, 2**48 - 1])
        one = network.synthesise([1], [6])
    assert np.abs(many[1].astype(int) - one[0]).max() <= 1
