"""Markdown of a study as one HTML file: pictures inside, nothing fetched, nothing of the text taken as markup."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from skinkit.commands._output import write_study
from skinkit.reporting.study_page import study_page


def drawn(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (200, 30, 30)).save(folder / name)
    return folder / name


def test_pictures_of_the_folder_and_those_beside_it_are_inside(tmp_path: Path) -> None:
    drawn(tmp_path / "gap", "a.png")
    drawn(tmp_path / "roc", "b c.png")
    html = study_page("# T\n\n![here](a.png)\n\n![beside](../roc/b%20c.png)", tmp_path / "gap").decode()
    assert html.count('src="data:image/png;base64,') == 2
    assert "<title>T</title>" in html


def test_pictures_of_elsewhere_are_left_out(tmp_path: Path) -> None:
    outside = drawn(tmp_path / "secret", "x.png")
    page = (
        f"# T\n\n![gone](none.png) ![outside](../../secret/x.png) ![whole]({outside}) ![web](https://example.org/x.png)"
    )
    html = study_page(page, tmp_path / "w" / "gap").decode()
    assert "<img" not in html
    assert all(word in html for word in ("gone", "outside", "whole", "web"))


def test_markup_in_the_text_stays_text(tmp_path: Path) -> None:
    html = study_page("# <b>T</b>\n\n## <i>S</i>\n\n| a |\n| --- |\n| <script>x</script> |", tmp_path).decode()
    assert not re.search("<script|<b>|<i>", html)
    assert "&lt;script&gt;" in html


def test_sections_are_in_the_contents_and_wide_tables_scroll(tmp_path: Path) -> None:
    html = study_page("# T\n\nfirst\n\n## One\n\n| a |\n| --- |\n| 1 |\n\n## Two\n\nmore", tmp_path).decode()
    anchors = re.findall(r'<li><a href="#([^"]+)">(\w+)</a>', html)
    assert [title for _, title in anchors] == ["One", "Two"]
    assert all(f'id="{anchor}"' in html for anchor, _ in anchors)
    assert '<div class="scroll"><table' in html


def test_a_study_with_figures_alone_has_a_page(tmp_path: Path) -> None:
    picture = drawn(tmp_path, "m-curve.png")
    written = write_study(tmp_path, "m", {"a": 1}, "  a  1", files={"png": str(picture)})
    html = Path(written.files["html"]).read_text(encoding="utf-8")
    assert 'src="data:image/png' in html
    assert "  a  1" in html
    assert "html" not in write_study(tmp_path, "n", {}, "text alone").files


def test_every_page_says_that_it_is_no_diagnosis(tmp_path: Path) -> None:
    written = write_study(tmp_path, "m", {}, "text", page="# T\n\nmore")
    assert Path(written.files["md"]).read_text(encoding="utf-8").endswith("Nothing here is a diagnosis.\n")
    assert "not a diagnosis" in Path(written.files["html"]).read_text(encoding="utf-8")
