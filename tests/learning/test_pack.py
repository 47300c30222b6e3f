"""A model in one file: what travels, what stays behind, what is refused, and that nothing changes on the way."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import struct
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import run_here

from skinkit.artifacts.artifact import open_artifact, rehash
from skinkit.artifacts.files import file_sha256
from skinkit.artifacts.tables import read_table
from skinkit.audit import leakage
from skinkit.cli import main
from skinkit.errors import ConfigError, InputError, RefusedError, SkinkitError
from skinkit.learning import pack as model_pack
from skinkit.learning.trained import open_classifier, open_whole
from skinkit.workspace import Ref, Workspace, load_workspace, with_defaults

Carried = tuple[Path, Path, Path]
TABLE = "artifacts/walk_in/predictions/lightgbm/table.parquet"


def skinkit(*arguments: str | Path) -> int:
    """Run a command line in this process."""
    return main([*map(str, arguments), "--quiet"])


@pytest.fixture(scope="module")
def carried(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Carried:
    """The demo workspace, its model in a file, and a fresh workspace that has that file and patients, no more."""
    folder = tmp_path_factory.mktemp("carried")
    pack, server = folder / "lightgbm.skinkit", folder / "server"
    assert skinkit("models", "pack", "lightgbm", "--output", pack, "-w", demo) == 0
    shutil.copytree(demo / "sources" / "walk_in", folder / "walk_in")
    assert skinkit("init", server, "--cohort", f"walk_in=folder:{folder / 'walk_in'}:inference") == 0
    assert skinkit("models", "install", pack, "--sha256", file_sha256(pack), "-w", server) == 0
    return demo, pack, server


def copied(carried: Carried, tmp_path: Path) -> Path:
    """A copy of the server's workspace, to be changed."""
    shutil.copytree(carried[2], tmp_path / "server")
    return tmp_path / "server"


# ------------------------------------------------------------------------------------------------ what it is for


def test_a_server_needs_the_file_and_no_development_data(carried: Carried) -> None:
    demo, _, server = carried
    answer = run_here("predict", "-w", server, "--jobs", "1", "--json")
    assert answer.returncode == 0, answer.stderr
    assert (server / TABLE).read_bytes() == (demo / TABLE).read_bytes()
    for command in (["explain"], ["report"], ["report", "--for", "clinic"], ["run"], ["run", "--retrain"]):
        assert skinkit(*command, "-w", server, "--jobs", "1") == 0
    explained = "artifacts/walk_in/explanations/lightgbm/table.parquet"
    assert (server / explained).read_bytes() == (demo / explained).read_bytes()
    assert (server / "artifacts" / "report" / "clinic-walk_in" / "index.html").is_file()
    assert not (server / "artifacts" / "splits").exists()


def test_an_installed_model_is_never_stale_and_never_trained(
    carried: Carried, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = carried[0]
    server = copied(carried, tmp_path)
    file = server / "skinkit.toml"
    patients = "\n[cohorts.phantoms]\nrole = 'development'\nsource = 'folder'\n"
    file.write_text(file.read_text() + f"{patients}path = '{demo / 'sources' / 'phantoms'}'\n")
    path = server / "artifacts" / "models" / "lightgbm"
    before = open_artifact(path).manifest
    assert skinkit("status", "-w", server, "--json") == 0
    entries = {entry["artifact"]: entry for entry in json.loads(capsys.readouterr().out)["artifacts"]}
    assert entries["models/lightgbm"]["state"] == "up to date"
    assert skinkit("train", "--name", "lightgbm", "-w", server) == 5
    assert "--replace" in capsys.readouterr().err
    assert not (server / "artifacts" / "phantoms").exists()  # refused before any work
    assert open_artifact(path).manifest == before


def test_packing_again_gives_the_same_bytes(carried: Carried, tmp_path: Path) -> None:
    demo, pack, server = carried
    again, onwards = tmp_path / "again", tmp_path / "onwards"
    assert skinkit("models", "pack", "lightgbm", "--output", again, "-w", demo) == 0
    assert again.read_bytes() == pack.read_bytes()
    assert skinkit("models", "pack", "lightgbm", "--output", onwards, "-w", server) == 0
    assert onwards.read_bytes() == pack.read_bytes()  # an installed model travels on
    assert skinkit("models", "pack", "lightgbm", "--output", onwards, "-w", server) == 5  # never over a file unasked


CARD = """
ethics = "drawn, nobody was asked"
[model]
licence = "CC BY 4.0"
[training_data]
sources = ["drawings: ours"]
"""


def test_what_a_person_writes_into_the_card_travels(carried: Carried, tmp_path: Path) -> None:
    demo, plain, _ = carried
    written, file, pack, again = (tmp_path / name for name in ("server", "card.toml", "a", "b"))
    file.write_text(CARD)
    assert skinkit("models", "pack", "lightgbm", "--output", pack, "--card", file, "-w", demo) == 0
    assert model_pack.verify(pack).identity == model_pack.verify(plain).identity
    assert skinkit("init", written) == 0
    assert skinkit("models", "install", pack, "-w", written) == 0
    folder = written / "artifacts" / "models" / "lightgbm"
    content, text = json.loads((folder / "model_card.json").read_text()), (folder / "model_card.md").read_text()
    assert content["model"]["licence"] == "CC BY 4.0"
    assert content["training_data"]["sources"] == ["drawings: ours"]
    assert content["ethics"] == "drawn, nobody was asked"
    assert "Licence: CC BY 4.0" in text
    assert "drawings: ours" in text
    assert text.count("to be written by a person") == 2  # contact and users
    assert skinkit("models", "pack", "lightgbm", "--output", again, "-w", written) == 0
    assert again.read_bytes() == pack.read_bytes()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[model]\nkind = 'another'", "model.kind"),
        ("[model]\nlicense = 'MIT'", "model.license"),
        ("[nowhere]\nlicence = 'MIT'", "nowhere.licence"),
        ("[model]\nlicence = 4", "licence = 4"),
        ("[training_data]\nsources = 'one'", "sources = 'one'"),
        ("ethics", "card.toml"),
    ],
)
def test_a_card_that_says_something_else_is_refused(carried: Carried, tmp_path: Path, text: str, found: str) -> None:
    file, pack = tmp_path / "card.toml", tmp_path / "a"
    file.write_text(text)
    answer = run_here("models", "pack", "lightgbm", "--output", pack, "--card", file, "-w", carried[0], "--json")
    assert answer.returncode == 2
    assert found in json.loads(answer.stdout)["error"]["found"]
    assert not pack.exists()
    assert skinkit("models", "install", pack, "--card", file, "-w", carried[0]) == 2
    assert skinkit("models", "pack", "lightgbm", "--output", pack, "--card", tmp_path / "x", "-w", carried[0]) == 4


def test_a_model_travels_with_its_members(demo_copy: Path, tmp_path: Path) -> None:
    pack, server = tmp_path / "both.skinkit", tmp_path / "server"
    assert skinkit("train", "--model", "logistic", "-w", demo_copy, "-j", "1") == 0
    members = ("--model", "late_fusion", "--members", "lightgbm,logistic")
    assert skinkit("train", *members, "--name", "both", "-w", demo_copy, "-j", "1") == 0
    assert skinkit("predict", "--model", "both", "--cohort", "walk_in", "-w", demo_copy, "-j", "1") == 0
    assert skinkit("models", "pack", "both", "--output", pack, "-w", demo_copy) == 0
    with zipfile.ZipFile(pack) as archive:
        assert "classifier/members/lightgbm/fold_0/attributes.json" in archive.namelist()
    assert skinkit("init", server, "--cohort", f"walk_in=folder:{demo_copy / 'sources' / 'walk_in'}:inference") == 0
    assert skinkit("models", "install", pack, "-w", server) == 0
    assert skinkit("predict", "-w", server, "-j", "1") == 0
    table = "artifacts/walk_in/predictions/both/table.parquet"
    assert (server / table).read_bytes() == (demo_copy / table).read_bytes()


def test_nothing_in_it_names_a_person(carried: Carried) -> None:
    demo, pack, _ = carried
    table = open_artifact(demo / "artifacts" / "phantoms" / "cases").table()
    names = ["image_id", "case_id", "patient_id", "lesion_id", "group_id", "image_path"]
    secrets = {str(value) for name in names for value in table[name].dropna()}
    assert len(secrets) > 100
    with zipfile.ZipFile(pack) as archive:
        texts = [archive.read(name) for name in archive.namelist() if not name.endswith(".parquet")]
        for name in (n for n in archive.namelist() if n.endswith(".parquet")):
            place = io.BytesIO(archive.read(name))
            texts.append(json.dumps(_plain(place)).encode())
            texts.append(place.getvalue())
    found = {secret for secret in secrets for text in texts if secret.encode() in text}
    assert found == set()


def _plain(stream: io.BytesIO) -> dict[str, list[Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(stream)
    return {name: table[name].to_pylist() for name in table.column_names}


def test_the_guard_still_knows_a_training_photo(carried: Carried, tmp_path: Path) -> None:
    demo = carried[0]
    server = copied(carried, tmp_path)
    trained = read_table(demo / "artifacts" / "models" / "lightgbm" / "trained_on.parquet")
    packed = read_table(server / "artifacts" / "models" / "lightgbm" / "trained_on.parquet")
    key = ["fold", "part", "image_sha256", "pixel_sha256", "dhash"]
    assert sorted(map(tuple, packed[key].values)) == sorted(map(tuple, trained[key].values))
    groups = [frame.groupby("group_id")["pixel_sha256"].agg(frozenset) for frame in (trained, packed)]
    assert set(groups[0]) == set(groups[1])
    assert packed[["patient_id", "lesion_id"]].isna().all(axis=None)
    assert len(packed[["fold", "cohort", "case_id"]].drop_duplicates()) == len(packed)
    # A cohort of the name it was trained on is another one here; its photos are known all the same.
    cases = open_artifact(demo / "artifacts" / "phantoms" / "cases").table().assign(cohort="phantoms")
    seen = leakage.check(cases, packed)
    assert seen.counts["pixels"] == seen.counts["file"] == trained["case_id"].nunique()
    assert "patient" not in seen.compared
    with pytest.raises(RefusedError):
        leakage.refuse(seen, "", "phantoms and training rows")
    model = open_classifier(open_artifact(server / "artifacts" / "models" / "lightgbm"))
    folds, developed = model.folds_for(cases, "phantoms")
    assert (set(folds), developed) == ({tuple(fold.number for fold in model.folds)}, False)


# ------------------------------------------------------------------------------------------------ what is refused


def test_every_changed_byte_is_noticed(carried: Carried, tmp_path: Path) -> None:
    _, pack, server = carried
    whole = pack.read_bytes()
    bad = tmp_path / "bad.skinkit"
    with zipfile.ZipFile(pack) as archive:
        members = archive.infolist()
    # Within every member's content, in every member's header, and all over the directory at the end.
    places = [m.header_offset + 30 + len(m.filename) + m.file_size // 2 for m in members]
    places += [m.header_offset for m in members]
    places += [m.header_offset + 30 for m in members]
    directory = struct.unpack("<I", whole[-6:-2])[0]
    places += range(directory, len(whole), 97)
    noticed = 0
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 0x55
        bad.write_bytes(bytes(changed))
        with pytest.raises(SkinkitError):
            model_pack.verify(bad, file_sha256(pack))
        code = skinkit("models", "verify", bad)
        assert code in (0, 4, 5)
        noticed += code != 0
        if code == 0:
            assert place >= directory  # fields of the directory that decide nothing, such as a date
            assert model_pack.verify(bad) == model_pack.verify(pack)
    assert noticed > len(members) * 3
    assert (server / "artifacts" / "models" / "lightgbm").is_dir()


def test_every_truncation_is_refused(carried: Carried, tmp_path: Path) -> None:
    whole, bad = carried[1].read_bytes(), tmp_path / "bad.skinkit"
    for tenth in range(10):
        bad.write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(InputError):
            model_pack.verify(bad)
    for content in (b"<html>404</html>", b"PK\5\6" + b"\0" * 18, b"PK\5\6" + b"\0" * 20, whole + b"x"):
        bad.write_bytes(content)
        with pytest.raises(InputError):
            model_pack.verify(bad)
    with pytest.raises(InputError, match="no file"):
        model_pack.verify(tmp_path / "absent")
    with pytest.raises(InputError, match="no file"):
        model_pack.verify(tmp_path)


def rewritten(pack: Path, target: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """A pack with other members and another index, all hashes in the index as they ought to be."""
    with zipfile.ZipFile(pack) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    index = json.loads(members.pop("pack.json"))
    change(index, members)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("pack.json", json.dumps(index))
        for name, data in members.items():
            archive.writestr(name, data)
    return target


def _listed(index: dict[str, Any], members: dict[str, bytes], name: str, data: bytes) -> None:
    import hashlib

    members[name] = data
    index["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    part, _, file = name.partition("/")
    index["parts"].setdefault(part, {"name": "x", "manifest": {}})["manifest"].setdefault("files", {})[file] = index[
        "files"
    ][name]["sha256"]


OUTSIDE = [
    "classifier/../../../escaped.json", "/escaped.json", "../escaped.json", "classifier/fold_0/../../escaped.json",
    "classifier/sub/deep/x.json", "classifier/run.py", "classifier/model.pkl", "classifier/.hidden.json",
    "classifier/fold_0/evil\n.json", "other/model.json", "classifier\\x.json", "classifier/" + "x" * 300 + ".json",
]  # fmt: skip


def test_a_pack_written_by_others_is_as_good(carried: Carried, tmp_path: Path) -> None:
    same = rewritten(carried[1], tmp_path / "same.skinkit", lambda index, members: None)
    assert model_pack.verify(same) == model_pack.verify(carried[1])


@pytest.mark.parametrize("name", OUTSIDE)
def test_members_of_other_names_are_refused(carried: Carried, tmp_path: Path, name: str) -> None:
    _, pack, server = carried
    bad = rewritten(pack, tmp_path / "bad.skinkit", lambda index, members: _listed(index, members, name, b"{}"))
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    with pytest.raises(SkinkitError):
        model_pack.install(load_workspace(server), bad, open_whole, name="evil")
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    assert model_pack.models_of(load_workspace(server)) == ["lightgbm"]


def _newer(index: dict[str, Any], members: dict[str, bytes]) -> None:
    index["version"] = 99


def _renamed(index: dict[str, Any], members: dict[str, bytes]) -> None:
    index["name"] = "../../evil"


def _claims(index: dict[str, Any], members: dict[str, bytes]) -> None:
    """Other weights under the identity of the trained model, every other hash put right."""
    _listed(index, members, "classifier/fold_0/lightgbm.txt", b"tree")


def _claims_more(index: dict[str, Any], members: dict[str, bytes]) -> None:
    _claims(index, members)
    manifest = index["parts"]["classifier"]["manifest"]
    manifest["installed"]["files"]["fold_0/lightgbm.txt"] = manifest["files"]["fold_0/lightgbm.txt"]


def _leads_out(index: dict[str, Any], members: dict[str, bytes]) -> None:
    index["asks_for"]["fused"]["name"] = "../../other"


def _unknown(index: dict[str, Any], members: dict[str, bytes]) -> None:
    index["files"] = {"classifier/model.json": {"bytes": "many", "sha256": 3}}


def _deep(index: dict[str, Any], members: dict[str, bytes]) -> None:
    index["parts"] = []


@pytest.mark.parametrize("change", [_newer, _renamed, _claims, _claims_more, _leads_out, _unknown, _deep])
def test_an_index_that_lies_is_refused(carried: Carried, tmp_path: Path, change: Callable[..., None]) -> None:
    bad = rewritten(carried[1], tmp_path / "bad.skinkit", change)
    with pytest.raises(SkinkitError) as error:
        model_pack.verify(bad)
    assert error.value.exit_code in (2, 4, 5)


def test_archives_that_are_more_than_they_seem_are_refused(carried: Carried, tmp_path: Path) -> None:
    with zipfile.ZipFile(carried[1]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def made(*, kind: int = zipfile.ZIP_STORED, mode: int = stat.S_IFREG, twice: bool = False) -> Path:
        target = tmp_path / f"bad-{kind}-{mode}-{twice}.skinkit"
        with zipfile.ZipFile(target, "w", kind) as archive:
            for name, data in members.items():
                entry = zipfile.ZipInfo(name)
                entry.compress_type = kind
                entry.external_attr = (mode | 0o644) << 16 if name.endswith("model.json") else 0
                archive.writestr(entry, data)
            if twice:
                with pytest.warns(UserWarning, match="Duplicate"):
                    archive.writestr("pack.json", members["pack.json"])
        return target

    model_pack.verify(made())
    for bad in (made(kind=zipfile.ZIP_DEFLATED), made(mode=stat.S_IFLNK), made(mode=stat.S_IFIFO), made(twice=True)):
        with pytest.raises(InputError):
            model_pack.verify(bad)
    # A directory of a million members is refused before it is read.
    huge = made()
    data = bytearray(huge.read_bytes())
    data[-12:-10] = struct.pack("<H", 65000)
    huge.write_bytes(bytes(data))
    with pytest.raises(InputError, match="65000 members"):
        model_pack.verify(huge)


def test_install_refuses_another_file_and_another_model(
    carried: Carried, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, pack, _ = carried
    server = copied(carried, tmp_path)
    assert skinkit("models", "install", pack, "--sha256", "0" * 64, "-w", server) == 5
    assert file_sha256(pack) in capsys.readouterr().err
    assert skinkit("models", "install", pack, "--sha256", "short", "-w", server) == 2
    model = server / "artifacts" / "models" / "lightgbm"
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["identity"] = "0" * 64
    (model / "manifest.json").write_text(json.dumps(manifest))
    assert skinkit("models", "install", pack, "-w", server) == 5
    assert "--replace" in capsys.readouterr().err
    assert skinkit("models", "verify", "-w", server) == 5
    assert skinkit("models", "install", pack, "--replace", "-w", server) == 0
    assert skinkit("models", "install", pack, "-w", server) == 0  # the same one again mends and changes nothing
    assert skinkit("models", "install", pack, "--name", "second", "-w", server) == 0
    assert model_pack.models_of(load_workspace(server)) == ["lightgbm", "second"]
    assert load_workspace(server).defaults["model"] == "lightgbm"
    assert skinkit("models", "verify", "-w", server) == 0


def test_settings_that_no_stage_knows_are_refused_before_anything_is_touched(
    carried: Carried, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(index: dict[str, Any], members: dict[str, bytes]) -> None:
        index["asks_for"]["features"]["config"] |= {"bin_widht": 5.0}

    bad = rewritten(carried[1], tmp_path / "bad.skinkit", ask)
    assert skinkit("models", "install", bad, "--name", "other", "-w", carried[2]) == 2
    assert "bin_width" in capsys.readouterr().err
    assert model_pack.models_of(load_workspace(carried[2])) == ["lightgbm"]


def test_a_changed_model_is_refused_before_it_is_used(
    carried: Carried, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = copied(carried, tmp_path)
    shutil.rmtree(server / "artifacts" / "walk_in", ignore_errors=True)
    weights = server / "artifacts" / "models" / "lightgbm" / "fold_0" / "lightgbm.txt"
    text = weights.read_text()
    weights.write_text(text.replace("leaf_value=-0.0", "leaf_value=0.0", 1))
    assert weights.read_text() != text
    assert skinkit("predict", "-w", server, "--jobs", "1") == 5
    assert "lightgbm.txt" in capsys.readouterr().err
    assert not (server / TABLE).exists()
    assert skinkit("models", "verify", "lightgbm", "-w", server) == 5
    assert skinkit("models", "pack", "lightgbm", "--output", tmp_path / "x", "-w", server) == 5
    assert not (tmp_path / "x").exists()


# ------------------------------------------------------------------------------------------- what comes before it


@pytest.fixture(scope="module")
def networked(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A workspace whose model reads measurements in masks of a network, coarser than usual, and the pack of it."""
    from written_segmenter import write_segmenter

    folder = tmp_path_factory.mktemp("networked")
    shutil.copytree(demo, folder / "home", symlinks=True)
    workspace = load_workspace(folder / "home")
    file = workspace.root / "skinkit.toml"
    file.write_text(file.read_text() + "\n[stage.radiomics]\nbin_width = 20.0\n[stage.predict]\nundecided = 0.5\n")
    write_segmenter(workspace, [{}], cohort="phantoms", tint=True)
    home = workspace.root
    assert skinkit("train", "--model", "lightgbm", "--name", "mine", "--fused", "tiny", "-w", home, "-j", "1") == 0
    assert skinkit("predict", "--name", "mine", "--cohort", "walk_in", "-w", home, "-j", "1") == 0
    assert skinkit("models", "pack", "mine", "--output", folder / "mine.skinkit", "-w", home) == 0
    return home, folder / "mine.skinkit"


def served(networked: tuple[Path, Path], folder: Path) -> Workspace:
    """A fresh workspace for the patients of a packed model."""
    source = networked[0] / "sources" / "walk_in"
    assert skinkit("init", folder / "server", "--cohort", f"walk_in=folder:{source}:inference") == 0
    return load_workspace(folder / "server")


@pytest.mark.slow
def test_the_segmenter_and_the_settings_travel(networked: tuple[Path, Path], tmp_path: Path) -> None:
    home, pack = networked
    server = served(networked, tmp_path)
    assert skinkit("models", "install", pack, "-w", server.root) == 0
    assert model_pack.models_of(server) == ["mine", "tiny"]
    assert load_workspace(server.root).defaults["segmenter"] == "tiny"
    # What skinkit.toml says of the stages before a frozen model does not count.
    file = server.root / "skinkit.toml"
    file.write_text(file.read_text() + "\n[stage.radiomics]\nbin_width = 5.0\n")
    assert skinkit("run", "-w", server.root, "-j", "1") == 0
    for table in ("walk_in/masks/tiny", "walk_in/features/tiny", "walk_in/predictions/mine"):
        here, there = (folder / "artifacts" / table / "table.parquet" for folder in (server.root, home))
        assert here.read_bytes() == there.read_bytes(), table
    features = open_artifact(server.path(Ref("features", "walk_in", "tiny")))
    assert features.config["bin_width"] == 20.0
    assert open_artifact(server.path(Ref("predictions", "walk_in", "mine"))).config["undecided"] == 0.5


@pytest.mark.slow
def test_two_models_with_other_segmenters_of_one_name(networked: tuple[Path, Path], tmp_path: Path) -> None:
    from written_segmenter import write_segmenter

    home, pack = networked
    server = served(networked, tmp_path)
    other = write_segmenter(load_workspace(home), [{}], cohort="phantoms", name="other", towards=(9,))
    shutil.copytree(other.path, server.path(Ref("models", name="tiny")))
    assert skinkit("models", "install", pack, "--name", "new", "-w", server.root) == 0
    assert model_pack.models_of(server) == ["new", "new-tiny", "tiny"]
    assert open_artifact(server.path(Ref("models", name="tiny"))).identity == other.identity
    assert skinkit("predict", "--name", "new", "-w", server.root, "-j", "1") == 0
    mine = [
        read_table(folder / "artifacts" / "walk_in" / "predictions" / name / "table.parquet")
        for folder, name in ((home, "mine"), (server.root, "new"))
    ]
    same = [name for name in mine[0] if name not in ("fingerprint", "model")]
    assert mine[0][same].equals(mine[1][same])


@pytest.mark.slow
def test_another_segmenter_than_it_was_trained_with_is_not_packed(
    networked: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from written_segmenter import write_segmenter

    home = tmp_path / "home"
    shutil.copytree(networked[0], home, symlinks=True)
    write_segmenter(load_workspace(home), [{}], cohort="phantoms", towards=(9,))
    assert skinkit("models", "pack", "mine", "--output", tmp_path / "x", "-w", home) == 5
    assert "segmenter" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["home"]


# ------------------------------------------------------------------------------------------------ skinkit.toml


def test_defaults_are_written_line_by_line() -> None:
    file = Path("skinkit.toml")
    text = "# mine\n[workspace]\nmodel = 'a'  # why\n\n[cohorts.x]\nmodel = 'kept'\n"
    changed = with_defaults(text, {"model": 'b"', "segmenter": "s"}, file)
    assert changed == '# mine\n[workspace]\nsegmenter = "s"\nmodel = "b\\""  # why\n\n[cohorts.x]\nmodel = \'kept\'\n'
    for bare in ("", "[cohorts.x]\nrole = 'external'\n", "# only a comment"):
        told = tomllib.loads(with_defaults(bare, {"model": "b"}, file))
        assert told == {**tomllib.loads(bare), "workspace": {"model": "b"}}
    with pytest.raises(ConfigError, match="line by line"):
        with_defaults("workspace = {model = 'a'}\n", {"model": "b"}, file)


def test_a_model_that_stays_whole_is_whole(carried: Carried) -> None:
    artifact = open_artifact(carried[2] / "artifacts" / "models" / "lightgbm")
    assert rehash(artifact) == []
    assert model_pack.checked(artifact) is artifact
    with pytest.raises(RefusedError):
        model_pack.checked(type(artifact)(artifact.path, {**artifact.manifest, "identity": "0"}))
