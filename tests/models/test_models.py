"""The models: what every estimator promises, and each one against an independent calculation."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from written_artifacts import Said

from skinkit.console import Console
from skinkit.errors import CaseError, ConfigError, InputError
from skinkit.images.identity import pixel_sha256
from skinkit.models import (
    Estimator,
    Labelled,
    frozen_probe,
    lightgbm,
    load_model,
    logistic,
    model_config,
    own,
    registered,
    text_of,
)

QUIET = Console(quiet=True)
CLASSIFIERS = sorted(name for name in registered("classify") if issubclass(load_model(name), Estimator))
SECTIONS = ("Paper:", "Idea:", "Equations:", "Shapes:", "Departures:")


def material(n: int = 90, classes: int = 3, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Named inputs in which the classes can be told apart, and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    shift = 2.0 * labels[:, None]
    batch = {
        "attributes": rng.normal(size=(n, 5)) + shift * [1, 0, 0, -1, 0],
        "radiomics": rng.normal(size=(n, 4)) + shift * [0, 1, 0, 0],
        "image": (np.abs(rng.normal(size=(n, 200))) + 0.3 * shift).astype(np.float16),
    }
    scores = rng.normal(size=(n, 2, classes)) + 2.0 * np.eye(classes)[labels][:, None]  # of two models
    log_p = scores - np.log(np.exp(scores).sum(2, keepdims=True))
    return {**batch, "members": log_p.reshape(n, -1)}, labels


def part(batch: Mapping[str, np.ndarray], rows: Any) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in batch.items()}


def cases(batch: Mapping[str, np.ndarray], labels: np.ndarray, rows: slice = slice(None)) -> Labelled:
    return Labelled(part(batch, rows), labels[rows])


NONE = slice(0, 0)


def settings(name: str) -> Any:
    quick = {"lightgbm": {"rounds": 40, "min_leaf": 5}, "frozen_probe": {"c": 0.01}}
    return model_config(load_model(name), quick.get(name, {}))


def fitted(name: str, classes: int = 3, seed: int = 0) -> tuple[Any, dict[str, np.ndarray], np.ndarray]:
    batch, labels = material(classes=classes)
    train, validation = cases(batch, labels, slice(60)), cases(batch, labels, slice(60, 90))
    model = load_model(name, "classify").fit(settings(name), train, validation, n_classes=classes, seed=seed)
    return model, part(batch, slice(60, 90)), labels[60:]


# ---------------------------------------------------------------------------------------------------- registry


@pytest.mark.parametrize("name", own())
def test_every_model_describes_itself(name: str) -> None:
    model = load_model(name)
    places = [text_of(model).find(section) for section in SECTIONS]
    assert -1 not in places, f"{name} lacks {SECTIONS[places.index(-1)]}"
    assert places == sorted(places)
    assert own()[name].task == model.TASK
    assert model.READS
    assert model.CONFIG() == model.CONFIG()
    numbers = re.findall(r"^\s+\((\d+)\)", text_of(model), re.MULTILINE)
    assert numbers == [str(i + 1) for i in range(len(numbers))]
    assert numbers


def test_unknown_models_and_settings_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError) as error:
        load_model("lightgmb", "classify")
    assert "lightgbm" in error.value.expected
    with pytest.raises(ConfigError) as error:
        load_model("otsu", "classify")
    assert "otsu" in error.value.found
    assert "classify" in error.value.found
    model = load_model("lightgbm")
    assert model_config(model, ["rounds=7", "learning_rate = 0.5"]) == model.CONFIG(rounds=7, learning_rate=0.5)
    for wrong in (["rounds"], ["=3"], ["round=7"], ["rounds=many"]):
        with pytest.raises(ConfigError):
            model_config(model, wrong)


THEIRS = '''"""Their rule, in one line.

More."""
from skinkit.models import DrawingRule


class Theirs(DrawingRule):
    TASK = "segment"
    READS = ("image",)
'''


def install(folder: Path, target: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose entry point ``their_rule`` is ``target``, with a module ``their_model`` of this text."""
    (folder / "their_model.py").write_text(text)
    about = folder / "their_model-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-model\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[skinkit.models]\ntheir_rule = {target}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "their_model", raising=False)


@pytest.mark.parametrize(
    ("target", "text"), [("their_model", THEIRS + "\n\nMODEL = Theirs\n"), ("their_model:Theirs", THEIRS)]
)
def test_a_third_party_adds_a_model_by_an_entry_point(
    target: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, target, text, monkeypatch)
    assert registered("segment")["their_rule"] == "Their rule, in one line."
    assert "their_rule" not in registered("classify")
    assert load_model("their_rule", "segment") is sys.modules["their_model"].Theirs


@pytest.mark.parametrize(
    "text",
    [
        '"""A module, as models were."""\nTASK = "segment"\nREADS = ("image",)\n',
        '"""A class of no base."""\nclass MODEL:\n    TASK = "segment"\n',
    ],
)
def test_an_entry_point_that_is_no_model_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "their_model", text, monkeypatch)
    with pytest.raises(ConfigError) as error:
        load_model("their_rule")
    assert error.value.found == "the entry point 'their_rule' of skinkit.models is no model (their_model)"
    assert "a base class of skinkit.models" in error.value.expected


# ---------------------------------------------------------------------------------- what every estimator promises


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities(name: str) -> None:
    model, batch, labels = fitted(name)
    scores = model.predict(batch)
    assert scores.shape == (30, 3)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1)
    assert (scores.argmax(axis=1) == labels).mean() > 0.6


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_case_does_not_depend_on_its_neighbours(name: str) -> None:
    model, batch, _ = fitted(name)
    together = model.predict(batch)
    alone = np.concatenate([model.predict(part(batch, slice(i, i + 1))) for i in range(30)])
    np.testing.assert_allclose(alone, together, atol=1e-10)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_saved_and_loaded_it_answers_the_same(name: str, tmp_path: Path) -> None:
    model, batch, _ = fitted(name)
    (tmp_path / "a").mkdir()
    model.save(tmp_path / "a")
    again = load_model(name).load(tmp_path / "a")
    np.testing.assert_array_equal(again.predict(batch), model.predict(batch))
    again.save(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.suffix in (".safetensors", ".json", ".txt")  # nothing that could run
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_same_seed_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        fitted(name)[0].save(tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_contributions_sum_to_the_scores(name: str, classes: int) -> None:
    model, batch, _ = fitted(name, classes)
    parts = model.contributions(batch)
    if "members" not in type(model).READS:
        assert parts["attributes"].shape == (30, classes, 5)
        assert parts["radiomics"].shape == (30, classes, 4)
    z = sum(values.sum(axis=2) for values in parts.values())
    z = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    np.testing.assert_allclose(z, model.predict(batch), atol=1e-8)


# Members have their own answers for a class that the fusion has not seen.
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if "members" not in load_model(name).READS])
def test_a_class_that_was_never_seen_is_never_answered(name: str) -> None:
    batch, labels = material(classes=2)
    del batch["members"]  # they know two classes
    labels = labels * 2  # classes 0 and 2 of three
    train, validation = cases(batch, labels), cases(batch, labels, NONE)
    model = load_model(name).fit(settings(name), train, validation, n_classes=3, seed=0)
    assert np.exp(model.predict(batch))[:, 1].max() < 1e-3


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_it_learns_without_attributes_or_radiomics(name: str) -> None:
    batch, labels = material()
    for absent in ("attributes", "radiomics"):
        bare = {**batch, absent: np.zeros((len(labels), 0))}
        train, validation = cases(bare, labels), cases(bare, labels, slice(30))
        model = load_model(name).fit(settings(name), train, validation, n_classes=3, seed=0)
        assert np.isfinite(model.predict(bare)).all()


# ---------------------------------------------------------------------------------------------------- lightgbm


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # shap's plots, with a newer matplotlib
def test_lightgbm_contributions_are_those_of_shap() -> None:
    import shap

    model, batch, _ = fitted("lightgbm")
    x = np.concatenate([batch["attributes"], batch["radiomics"]], axis=1)
    explained = shap.TreeExplainer(model.booster)(x)
    parts = model.contributions(batch)
    ours = np.concatenate([parts["attributes"], parts["radiomics"]], axis=2)
    np.testing.assert_allclose(np.moveaxis(ours, 1, 2), explained.values, atol=1e-6)
    np.testing.assert_allclose(parts["bias"][..., 0], explained.base_values, atol=1e-6)


def test_lightgbm_stops_on_the_validation_rows() -> None:
    batch, labels = material()
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 3, 30)  # validation labels that have nothing to do with the inputs
    config = lightgbm.Config(rounds=60, patience=5, min_leaf=5)
    train, unrelated = cases(batch, labels, slice(60)), Labelled(part(batch, slice(60, 90)), noise)
    stopped = lightgbm.Trees.fit(config, train, unrelated, n_classes=3, seed=0)
    unwatched = lightgbm.Trees.fit(config, train, cases(batch, labels, NONE), n_classes=3, seed=0)
    assert stopped.booster.num_trees() < 90 < unwatched.booster.num_trees() == 180


# ------------------------------------------------------------------------------------------------- frozen_probe


@pytest.mark.parametrize("rows", [60, 600])
def test_probe_is_scikit_learns_regression_in_the_span_of_its_rows(rows: int) -> None:
    """60 rows take the short way through the rows' span, 600 the direct one; both must solve eq. 5."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    batch, labels = material(rows)
    train, validation = cases(batch, labels), cases(batch, labels, NONE)
    model = frozen_probe.Probe.fit(frozen_probe.Config(), train, validation, n_classes=3, seed=0)
    roots = np.sqrt(batch["image"].astype(float))
    u = np.hstack([StandardScaler().fit_transform(roots), 10 * batch["attributes"], 10 * batch["radiomics"]])
    reference = LogisticRegression(C=6e-4, class_weight="balanced", max_iter=9999, tol=1e-8).fit(u, labels)
    np.testing.assert_allclose(np.exp(model.predict(batch)), reference.predict_proba(u), atol=2e-3)


def test_probe_learns_to_do_without_metadata_as_often_as_it_is_told() -> None:
    """Eq. 5 with the three ways in which a case is seen, written out as so many rows with weights."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    batch, labels = material(80)
    nobody = cases(batch, labels, NONE)

    def fit(rows: Mapping[str, np.ndarray], **settings: Any) -> Any:
        config = frozen_probe.Config(c=0.01, **settings)
        return frozen_probe.Probe.fit(config, cases(rows, labels), nobody, n_classes=3, seed=0)

    hidden = {"block_hidden": batch["attributes"] * [1, 0, 0, 0, 0], "all_hidden": np.zeros_like(batch["attributes"])}
    model = fit({**batch, **hidden})
    roots = StandardScaler().fit_transform(np.sqrt(batch["image"].astype(float)))
    ways = (batch["attributes"], *hidden.values())
    u = np.concatenate([np.hstack([roots, 10 * way, 10 * batch["radiomics"]]) for way in ways])
    weights = np.repeat([0.55, 0.3, 0.15], 80)
    reference = LogisticRegression(C=0.01, class_weight="balanced", max_iter=9999, tol=1e-8)
    reference.fit(u, np.tile(labels, 3), sample_weight=weights)
    for i, way in enumerate(ways):
        found = np.exp(model.predict({**batch, "attributes": way}))
        np.testing.assert_allclose(found, reference.predict_proba(u[80 * i : 80 * (i + 1)]), atol=2e-3)
    plain, same = (fit(rows, hidden_block=0.0, hidden=0.0).predict(batch) for rows in (batch, {**batch, **hidden}))
    np.testing.assert_array_equal(plain, same)
    with pytest.raises(ConfigError, match=r"hidden_block = 0\.6"):
        fit({**batch, **hidden}, hidden_block=0.6, hidden=0.4)


# ------------------------------------------------------------------------------------------------- logistic


def test_logistic_is_scikit_learns_regression_with_the_c_the_validation_rows_like_best() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    batch, labels = material(150, seed=1)
    batch = {name: 0.5 * batch[name] for name in logistic.Regression.READS}
    train, rest = cases(batch, labels, slice(90)), cases(batch, labels, slice(90, 150))
    model = logistic.Regression.fit(logistic.Config(), train, rest, n_classes=3, seed=0)
    u, seen = (np.hstack([rows.inputs["attributes"], rows.inputs["radiomics"]]) for rows in (train, rest))
    weight = np.array([1 / (labels[90:] == k).sum() for k in range(3)])[labels[90:]]
    losses = {}
    for c in logistic.GRID:
        reference = LogisticRegression(C=c, class_weight="balanced", max_iter=9999, tol=1e-8).fit(u, labels[:90])
        losses[c] = log_loss(labels[90:], reference.predict_proba(seen), sample_weight=weight)
    assert model.c == min(losses, key=losses.__getitem__)
    assert model.c not in (logistic.GRID[0], logistic.GRID[-1])
    fixed = logistic.Regression.fit(logistic.Config(c=0.3), train, rest, n_classes=3, seed=0)
    reference = LogisticRegression(C=0.3, class_weight="balanced", max_iter=9999, tol=1e-8).fit(u, labels[:90])
    np.testing.assert_allclose(np.exp(fixed.predict(rest.inputs)), reference.predict_proba(seen), atol=2e-3)


def test_logistic_without_a_column_or_without_a_class_answers_what_it_can() -> None:
    batch, labels = material(60)
    empty = {name: np.zeros((60, 0)) for name in logistic.Regression.READS}

    def fit(rows: Mapping[str, np.ndarray], n_classes: int) -> logistic.Regression:
        train, validation = cases(rows, labels), cases(rows, labels, NONE)
        return logistic.Regression.fit(logistic.Config(), train, validation, n_classes=n_classes, seed=0)

    model = fit(empty, 3)
    np.testing.assert_allclose(np.exp(model.predict(empty)), 1 / 3, atol=1e-6)
    model = fit(batch, 4)
    assert np.exp(model.predict(batch))[:, 3].max() < 1e-12
    assert model.c == 0.1


torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def network() -> Any:
    """A ResNet-18 with fixed random weights behind the probe's embedder."""
    return embedder("resnet18")


def embedder(backbone: str, **settings: Any) -> Any:
    from torchvision import models

    torch.manual_seed(0)
    state = getattr(models, backbone)().state_dict()
    return frozen_probe.Probe.embedder(frozen_probe.Config(backbone=backbone, side_px=64, **settings), state)


@pytest.mark.parametrize(("backbone", "width"), [("resnet18", 1408), ("mobilenet_v2", 2688)])
def test_embedding_is_what_equation_1_says(backbone: str, width: int) -> None:
    """Against torchvision's own layers, found by hooks in an untouched network."""
    from torchvision import models

    ours = embedder(backbone)
    torch.manual_seed(0)
    net = getattr(models, backbone)().eval()
    seen: list[Any] = []
    layers = [net.layer2, net.layer3, net.layer4] if backbone == "resnet18" else [net.features[i] for i in (6, 13, 18)]
    for layer in layers:
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    total = np.zeros(width)
    for picture in (photo, photo[:, ::-1]):
        seen.clear()
        mean, sd = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        x = torch.from_numpy(((picture / 255 - mean) / sd).transpose(2, 0, 1)[None].copy()).float()
        with torch.inference_mode():
            net(x)
        pooled = [f.mean((2, 3)) for f in seen] + [seen[-1].amax((2, 3))]
        total += torch.cat(pooled, 1)[0].numpy() / 2
    with torch.inference_mode():
        got = ours(torch.from_numpy(photo[None]))[0].numpy()
    np.testing.assert_allclose(got, total, atol=1e-4)


def test_embedding_is_the_same_mirrored_and_in_any_batch(network: Any) -> None:
    photos = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8))
    with torch.inference_mode():
        together = network(photos)
        torch.testing.assert_close(network(photos.flip(2)), together, atol=1e-5, rtol=1e-4)
        alone = torch.cat([network(photos[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training


def test_wrong_weights_are_refused() -> None:
    from torchvision import models

    embedder = frozen_probe.Probe.embedder
    with pytest.raises(InputError) as error:
        embedder(frozen_probe.Config(backbone="resnet18"), {"head": torch.zeros(1)}, "w.pth")
    assert "w.pth" in error.value.found
    assert "'conv1.weight' is missing" in error.value.found
    with pytest.raises(InputError) as error:
        embedder(frozen_probe.Config(backbone="resnet50"), models.resnet18().state_dict(), "w.pth")
    assert "w.pth" in error.value.found
    assert "'layer1.0.conv3.weight' is missing" in error.value.found


# ----------------------------------------------------------------------------------------------- infer.forward


def photos(folder: Path, n: int) -> list[Any]:
    from skinkit.learning.examples import Photo

    rng = np.random.default_rng(0)
    made = []
    for i in range(n):
        rgb = rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(folder / f"{i}.png")
        made.append(Photo(pixel_sha256(rgb), folder / f"{i}.png"))
    return made


class Small(torch.nn.Module):
    """Mean colour; has no room for more than ``room`` photos at once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.sizes: list[int] = []

    def prepare(self, rgb: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(rgb).resize((8, 8), Image.Resampling.BOX))

    def forward(self, images: Any) -> Any:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("too many photos")
        self.sizes.append(len(images))
        return images.float().mean((1, 2))


def test_forward_keeps_the_order_and_goes_on_past_bad_photos(tmp_path: Path) -> None:
    from skinkit.learning.forward import forward

    given = photos(tmp_path, 11)
    given[3].path.write_bytes(given[3].path.read_bytes()[:40])
    given[7].path.unlink()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(given[9].path)
    answers = list(forward(Small(99), given, batch=4, console=QUIET))
    assert [photo for photo, _ in answers] == given
    reasons = {i: a.reason for i, (_, a) in enumerate(answers) if isinstance(a, CaseError)}
    assert reasons == {3: "image_truncated", 7: "image_missing", 9: "image_changed"}
    for photo, answer in answers:
        if not isinstance(answer, CaseError):
            expected = np.asarray(Image.open(photo.path).resize((8, 8), Image.Resampling.BOX)).mean((0, 1))
            np.testing.assert_allclose(answer, expected, rtol=1e-5)


def test_a_batch_that_does_not_fit_is_halved_and_that_is_said(tmp_path: Path) -> None:
    import io

    from skinkit.learning.forward import forward

    given, stream, module = photos(tmp_path, 11), io.StringIO(), Small(room=3)
    tight = list(forward(module, given, batch=8, console=Console(stream=stream)))
    roomy = list(forward(Small(99), given, batch=8, console=QUIET))
    assert module.sizes == [2, 2, 2, 2, 2, 1]
    assert "batch size of 2" in stream.getvalue()
    for (_, a), (_, b) in zip(tight, roomy, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError) as error:
        list(forward(Small(room=0), given, batch=8, console=QUIET))
    assert "memory" in error.value.found
    assert "photo" in error.value.found


def test_embeddings_are_remembered_and_survive_damage(tmp_path: Path) -> None:
    from skinkit.learning.embeddings import EmbeddingStore, embed

    given, module, store = photos(tmp_path, 9), Small(99), EmbeddingStore(tmp_path / "store")
    first, failed = embed(module, given, store, device="cpu", console=QUIET)
    assert (len(first), failed, sum(module.sizes)) == (9, {}, 9)
    again, _ = embed(module, given, store, device="cpu", console=QUIET)
    assert sum(module.sizes) == 9
    for pixels, vector in first.items():
        assert vector.dtype == np.float16
        np.testing.assert_array_equal(again[pixels], vector)
    for seen, end in ((18, b""), (27, b"\x7f")):  # cut, and one byte changed
        (file,) = (tmp_path / "store").iterdir()
        file.write_bytes(file.read_bytes()[:-1] + end)
        said = Said()
        mended, _ = embed(module, given, store, device="cpu", console=said)
        assert sum(module.sizes) == seen
        assert "1 files of kept embeddings are damaged" in said.text.getvalue()
        assert all(np.array_equal(mended[p], v) for p, v in first.items())


def test_a_killed_run_keeps_what_was_seen(tmp_path: Path) -> None:
    from skinkit.learning.embeddings import EmbeddingStore, embed

    class Stopped(Small):
        def forward(self, images: Any) -> Any:
            if len(self.sizes) == 2:
                raise KeyboardInterrupt
            return super().forward(images)

    given, store = photos(tmp_path, 12), EmbeddingStore(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        embed(Stopped(99), given, store, device="cpu", console=QUIET)
    module = Small(99)
    embed(module, given, store, device="cpu", console=QUIET)
    assert sum(module.sizes) == 4


@pytest.mark.gpu
def test_the_gpu_says_what_the_cpu_says(tmp_path: Path) -> None:
    from skinkit.learning.forward import forward

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    given, module = photos(tmp_path, 5), embedder("resnet18")
    there = {p.pixel_sha256: a for p, a in forward(module.to("cuda"), given, device="cuda", console=QUIET)}
    here = {p.pixel_sha256: a for p, a in forward(module.to("cpu"), given, device="cpu", console=QUIET)}
    for pixels, answer in here.items():
        np.testing.assert_allclose(there[pixels], answer, rtol=2e-2, atol=2e-2)


def test_the_gpu_is_only_taken_where_there_is_one() -> None:
    from skinkit.learning.precision import pick_device

    assert pick_device("cpu") == "cpu"
    if not torch.cuda.is_available():
        assert pick_device("auto") == "cpu"
        with pytest.raises(ConfigError):
            pick_device("cuda")


def test_torch_is_not_needed_for_trees(tmp_path: Path) -> None:
    """In a process where importing torch fails."""
    import subprocess

    program = textwrap.dedent("""
        import sys
        class WithoutTorch:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "torchvision", "captum"):
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, WithoutTorch())
        from pathlib import Path
        import numpy as np
        from skinkit.explain import shapley
        from skinkit.learning import forward, scorer, trained
        from skinkit.models.parts import weights
        from skinkit.models import Labelled, load_model, registered
        assert set(registered()) >= {"otsu", "truth", "unet", "mask_rcnn", "frozen_probe", "lightgbm"}
        trees = load_model("lightgbm")
        batch = {"attributes": np.arange(60.0).reshape(30, 2), "radiomics": np.zeros((30, 0))}
        labels = np.repeat([0, 1], 15)
        cases = Labelled(batch, labels)
        model = trees.fit(trees.CONFIG(rounds=5, min_leaf=3), cases, cases, n_classes=2, seed=0)
        model.save(Path(sys.argv[1]))
        assert (trees.load(Path(sys.argv[1])).predict(batch).argmax(1) == labels).all()
    """)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
