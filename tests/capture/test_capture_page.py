"""The photo page in a browser: from the camera to the report, what it loses, and whom it shuts out."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from camera_page import LAPTOP, PHONE, blurred, chromium, film, skin
from captured import HOSPITAL_ID, serving_page, store_of
from conftest import run_skinkit
from PIL import Image

from skinkit.api import open_workspace
from skinkit.capture.app import STATIC
from skinkit.capture.classifying import Classifier
from skinkit.capture.words import LANGUAGES, TEXTS, words
from skinkit.console import Console
from skinkit.images import quality_checks
from skinkit.taxonomy import REGION_SITES, SYMPTOMS
from skinkit.workspace import Workspace, load_workspace

SCRIPTS = sorted(STATIC.glob("*.js"))
_KEY = re.compile(r'\bt\("([a-z][\w.]+)"')
_PLACES = re.compile(r"\{(\w+)\}")


# --------------------------------------------------------------------------------------------------------- words


def test_both_languages_have_every_word_with_the_same_places() -> None:
    tables = {language: words(language) for language in LANGUAGES}
    assert {file.stem for file in TEXTS.glob("*.toml")} == set(LANGUAGES)
    assert tables["en"].keys() == tables["zh-CN"].keys()
    for key, text in tables["en"].items():
        assert text.strip()
        assert tables["zh-CN"][key].strip()
        assert set(_PLACES.findall(text)) == set(_PLACES.findall(tables["zh-CN"][key])), key


def test_every_word_that_the_page_names_is_there() -> None:
    known = words("en").keys()
    named = {key for file in SCRIPTS for key in _KEY.findall(file.read_text(encoding="utf-8"))}
    assert len(named) > 80
    assert named <= known
    texts = tomllib.loads(Path(quality_checks.__file__).with_name("quality_words.toml").read_text(encoding="utf-8"))
    for language in LANGUAGES:
        for key, text in texts[language].items():
            checked = "check" if key in quality_checks.CHECKS else "remedy"
            assert words(language)[f"{checked}.{key}"] == text
    assert {f"site.{code}" for code in REGION_SITES} <= known
    assert {f"symptom.{name}" for name in SYMPTOMS} <= known


def test_the_page_has_nothing_inline_and_names_no_other_origin() -> None:
    index = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", index) == []
    for file in STATIC.iterdir():
        found = re.findall(r"https?://[^\"'\s)]+", file.read_text(encoding="utf-8"))
        assert set(found) <= {"http://www.w3.org/2000/svg"}, file.name


# ------------------------------------------------------------------------------------------------------- browser


class Visit:
    """A tab with the page open, and what went wrong in it."""

    def __init__(self, page: Any, port: int) -> None:
        self.page, self.origin = page, f"http://127.0.0.1:{port}"
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.on("request", self._request)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.origin + "/", "blob:", "data:")):
            self.elsewhere.append(request.url)

    def open(self) -> None:
        self.page.goto(self.origin)

    def at(self, *screens: str) -> str:
        """Wait for one of these screens; its name."""
        self.page.wait_for_selector(", ".join(f"body[data-ready={one}]" for one in screens), timeout=30_000)
        return str(self.page.get_attribute("body", "data-ready"))

    def go(self, *screens: str) -> str:
        """Press what is offered first, and wait."""
        self.page.click(".actions .primary:visible")
        return self.at(*screens) if screens else ""

    def shoot(self) -> None:
        self.at("camera")
        self.page.wait_for_selector(".shutter:enabled")
        self.page.wait_for_function("document.querySelector('video').videoWidth > 0")
        self.page.click(".shutter")

    def outline(self, radius: float = 0.24) -> None:
        surface = self.page.locator(".surface")
        surface.scroll_into_view_if_needed()
        box = surface.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x + radius * box["height"], y)
        self.page.mouse.down()
        for i in range(1, 25):
            turn = 2 * math.pi * i / 24
            self.page.mouse.move(
                x + radius * box["height"] * math.cos(turn), y + radius * box["height"] * math.sin(turn)
            )
        self.page.mouse.up()

    def form(self, seen: Callable[[str], None] = lambda name: None) -> None:
        """From the drawing to the consent, filled in."""
        self.go("patient")
        seen("patient")
        self.go()
        assert self.page.inner_text("#missing")
        self.page.fill("[data-name=patient]", HOSPITAL_ID)
        self.page.fill("[data-name=age]", "63")
        self.go("site")
        self.page.focus(".figure.front [data-site=CHEST]")
        self.page.keyboard.press("Enter")
        seen("site")
        assert self.page.input_value("select") == "CHEST"
        self.go("skin")
        seen("skin")
        self.page.check("input[value='3']")
        self.go("symptoms")
        seen("symptoms")
        self.page.check("fieldset:first-of-type input[value=true]")
        self.go("diagnosis")
        self.page.select_option("select", "nevus")
        self.page.check("input[value=histology]")
        seen("diagnosis")
        self.go("consent")
        seen("consent")
        self.page.locator("fieldset").nth(0).locator("input[value=true]").check()
        self.page.locator("fieldset").nth(1).locator("input[value=false]").check()

    def kept(self) -> int:
        """Photos that wait in this browser."""
        count: int = self.page.evaluate(
            """() => new Promise((done) => {
              const request = indexedDB.open("skinkit-capture", 1);
              request.onupgradeneeded = () => request.result.createObjectStore("photos", { keyPath: "key" });
              request.onsuccess = () => {
                const all = request.result.transaction("photos").objectStore("photos").count();
                all.onsuccess = () => { request.result.close(); done(all.result); };
              };
            })"""
        )
        return count


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    film(file, skin())
    return file


@pytest.fixture(scope="module")
def opened(camera: Path) -> Iterator[Any]:
    with chromium(camera) as one:
        yield one


@pytest.fixture(scope="module")
def ward(opened: Any, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A demo with a model and a cohort of records; not made where there is no browser."""
    folder = tmp_path_factory.mktemp("page") / "demo"
    subprocess.run(["cp", "-a", str(demo), str(folder)], check=True)
    key = folder.parent / "ward.key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    with (folder / "skinkit.toml").open("a", encoding="utf-8") as stream:
        stream.write(
            f'\n[cohorts.ward]\nrole = "inference"\nsource = "capture"\npath = "ward"\npseudonymise = "{key}"\n'
        )
    return load_workspace(folder)


@pytest.fixture(scope="module")
def port(ward: Workspace) -> Iterator[int]:
    model = Classifier(open_workspace(ward.root, device="cpu", console=Console(quiet=True)), "lightgbm")
    with serving_page(ward, classifier=model) as (number, _):
        yield number


@pytest.fixture
def visit(opened: Any, port: int, camera: Path) -> Iterator[Visit]:
    film(camera, skin())
    context = opened.new_context(viewport={"width": PHONE[0], "height": PHONE[1]}, has_touch=True, locale="en-GB")
    yield Visit(context.new_page(), port)
    context.close()


def test_a_lesion_from_the_camera_to_the_report(visit: Visit, ward: Workspace, camera: Path) -> None:
    page = visit.page
    film(camera, blurred(skin()))
    visit.open()
    visit.at("start")
    visit.go("camera")
    page.wait_for_selector(".guidance[data-state=fail]", timeout=20_000)
    page.wait_for_function("document.getElementById('spoken').textContent !== ''")
    assert float(page.get_attribute(".camera", "data-frames-per-second")) > 0
    visit.shoot()
    visit.at("verdict")
    assert words("en")["verdict.fail"] in page.inner_text("main")
    assert words("en")["remedy.focus_low"] in page.inner_text("main")
    film(camera, skin())
    visit.go("camera")
    page.wait_for_selector(".guidance[data-state=pass]", timeout=20_000)
    visit.shoot()
    visit.at("verdict")
    page.wait_for_selector(".verdictword:not(.fail)")
    assert visit.kept() == 0
    visit.go("draw")
    visit.outline()
    visit.form()
    assert visit.go("answer", "region") == "answer"
    said = page.inner_text("main")
    assert "no diagnosis" in said
    assert words("en")["answer.worst"] in said
    assert "100" not in said
    visit.go("sealed")
    code = page.inner_text(".bigcode")
    (record,) = [one for one in store_of(ward).records("SEALED") if one["record_id"].upper().startswith(code)]
    assert (record["age"], record["site"], record["fitzpatrick"], record["retakes"]) == (63, "CHEST", 3, 1)
    assert (record["diagnosis"], record["diagnosis_source"]) == ("nevus", "histology")
    assert record["symptoms"]["itch"] is True
    assert record["consent"] == {"train": True, "share": False, "expires": None}
    centre = record["centre"]
    assert (centre[0], centre[1]) == pytest.approx((640, 480), abs=12)
    assert HOSPITAL_ID not in json.dumps(record)
    assert visit.errors == []
    assert visit.elsewhere == []
    for command in (("ingest",), ("report", "--for", "clinic")):
        done = run_skinkit(*command, "--cohort", "ward", "--workspace", ward.root, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
    cases = open_workspace(ward.root, console=Console(quiet=True)).cases("ward")
    assert cases["diagnosis"].tolist() == ["nevus"]
    report = (ward.root / "artifacts" / "report" / "clinic-ward" / "index.html").read_text(encoding="utf-8")
    shown = {str(value) for name in ("image_id", "case_id", "patient_id", "lesion_id") for value in cases[name]}
    assert any(name in report for name in shown)
    assert HOSPITAL_ID not in report


def test_a_torn_connection_loses_no_photo(visit: Visit) -> None:
    page = visit.page
    tries = []

    def torn(route: Any) -> None:
        tries.append(route.request.method)
        route.abort() if len(tries) < 3 else route.continue_()

    page.route(re.compile(r"/api/records/[^/]+/photo$"), torn)
    visit.open()
    visit.at("start")
    visit.go("camera")
    visit.shoot()
    visit.at("sending")
    page.wait_for_selector("#again:visible")
    assert visit.kept() == 1
    visit.at("verdict")
    assert len(tries) == 3
    assert visit.kept() == 0


def test_a_closed_tab_loses_no_photo(visit: Visit, ward: Workspace, port: int) -> None:
    page = visit.page
    page.route(re.compile(r"/api/records/[^/]+/photo$"), lambda route: route.abort())
    visit.open()
    visit.at("start")
    visit.go("camera")
    visit.shoot()
    page.wait_for_selector("#again:visible")
    context = page.context
    page.close()
    again = Visit(context.new_page(), port)
    again.open()
    again.at("start")
    assert again.kept() == 1
    before = {one["record_id"] for one in store_of(ward).records("QC_PASS")}
    again.page.click(f"text={words('en')['start.unsent']}")
    again.at("verdict")
    assert again.kept() == 0
    assert len({one["record_id"] for one in store_of(ward).records("QC_PASS")} - before) == 1
    again.open()  # the record is offered again, with its photo
    again.at("start")
    again.page.click(f"text={words('en')['left.QC_PASS']}")
    again.at("draw")
    # By keys alone: a box over the middle of the photo.
    again.page.check("input[value=box]")
    again.page.focus(".surface")
    for _ in range(8):
        again.page.keyboard.press("ArrowLeft")
        again.page.keyboard.press("ArrowUp")
    again.page.keyboard.press("Enter")
    for _ in range(16):
        again.page.keyboard.press("ArrowRight")
        again.page.keyboard.press("ArrowDown")
    again.page.keyboard.press("Enter")
    again.go("patient")


def test_a_wrong_file_is_said_and_not_kept(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "note.jpg"
    file.write_bytes(b"no photo")
    visit.open()
    visit.at("start")
    visit.go("camera")
    visit.page.set_input_files("#file", str(file))
    visit.at("unsent")
    said = visit.page.inner_text(".problem")
    assert words("en")["error.found"] in said
    assert words("en")["error.fix"] in said
    visit.go("camera")
    assert visit.kept() == 0


@pytest.mark.real
def test_a_real_lesion_goes_through_to_the_answer(visit: Visit, ward: Workspace, camera: Path, real_data: Path) -> None:
    with Image.open(next(iter(sorted((real_data / "pad" / "images").glob("*.*"))))) as image:
        photo = image.convert("RGB")
    longer = 1280 / max(photo.size)
    size = (round(photo.width * longer) // 2 * 2, round(photo.height * longer) // 2 * 2)
    film(camera, photo.resize(size))
    visit.open()
    visit.at("start")
    visit.go("camera")
    visit.shoot()
    visit.at("verdict")
    if visit.page.query_selector(".verdictword.fail"):  # enlarged: the copies here have at most 512 pixels
        visit.page.click(f"text={words('en')['verdict.keep']}")
        visit.at("reason")
    visit.go("draw")
    visit.outline()
    visit.form()
    if visit.go("answer", "region") == "region":
        visit.page.click(f"text={words('en')['verdict.keep']}")
        visit.at("reason")
        visit.go("answer")
    assert "no diagnosis" in visit.page.inner_text("main")
    visit.go("sealed")
    assert visit.errors == []


# ------------------------------------------------------------------------------------------------- accessibility


@pytest.mark.slow
def test_axe_finds_nothing_serious_on_any_screen(opened: Any, ward: Workspace, camera: Path) -> None:
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("NO AXE: pip install axe_playwright_python")
    axe = Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    problems: list[str] = []
    seen: set[str] = set()
    model = Classifier(open_workspace(ward.root, device="cpu", console=Console(quiet=True)), "lightgbm")
    film(camera, blurred(skin()))
    with serving_page(ward, classifier=model, code=True) as (port, sessions):
        # axe is put into the page past its policy; the page itself is tested under it above.
        context = opened.new_context(viewport={"width": PHONE[0], "height": PHONE[1]}, bypass_csp=True, locale="en-GB")
        visit = Visit(context.new_page(), port)
        page = visit.page

        def check(name: str) -> None:
            visit.at(name)
            seen.add(name)
            if not page.evaluate("Boolean(window.axe)"):
                page.evaluate(axe)
            for language in ("zh-CN", "en"):
                page.click(f"#languages [lang={language}]")
                page.wait_for_function(f"document.documentElement.lang === '{language}'")
                for width, height in (LAPTOP, PHONE):
                    page.set_viewport_size({"width": width, "height": height})
                    where = f"{name} {width} {language}"
                    problems.extend(
                        f"{where}: {one['id']} {one['nodes'][0]['target']}"
                        for one in page.evaluate("axe.run()")["violations"]
                        if one["impact"] in ("serious", "critical")
                    )
                    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                        problems.append(f"{where}: wider than the screen")
                    small = page.evaluate(
                        """() => [...document.querySelectorAll("button, select, summary, .option, label.button")]
                        .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 44)
                        .map((one) => one.textContent)"""
                    )
                    problems.extend(f"{where}: low target {text}" for text in small)

        visit.open()
        check("pair")
        page.fill("[data-name=code]", "wrong")
        visit.go()
        page.wait_for_selector(".problem")
        check("pair")
        page.fill("[data-name=code]", sessions.code)
        visit.go("start")
        check("start")
        visit.go("camera")
        check("camera")
        visit.shoot()
        check("verdict")
        page.click(".actions .second")
        check("reason")
        page.click(".actions .plain")
        visit.at("verdict")
        film(camera, skin())
        visit.go("camera")
        visit.shoot()
        check("verdict")
        visit.go("draw")
        visit.outline()
        check("draw")
        visit.form(check)
        assert visit.go("answer", "region") == "answer"
        check("answer")
        visit.go("sealed")
        check("sealed")
        context.close()
    assert problems == []
    assert {"pair", "start", "camera", "verdict", "reason", "draw", "site", "answer", "sealed"} <= seen
