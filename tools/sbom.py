"""What is shipped, and under which licences: `make sbom`, after `make wheelhouse`.

The wheels of wheelhouse/ are installed in an environment of their own, without a network. Of it are written

    dist/skinkit.cdx.json   a bill of materials (CycloneDX 1.6, by cyclonedx-bom)
    dist/licences.txt       every package with its version, its licence and the licence files it brings

It needs the standard library, and uv, which fetches cyclonedx-bom.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / ".tools" / "shipped"
CYCLONEDX = "cyclonedx-bom==7.5.0"
IS_LICENCE = re.compile(r"(licen[cs]e|notice|copying|authors)[^/]*$", re.IGNORECASE)


def run(*command: str | Path) -> None:
    """A command whose failure ends the whole."""
    code = subprocess.run([str(word) for word in command], check=False, cwd=ROOT).returncode
    if code:
        raise SystemExit(f"found: {command[0]} ended with {code}\nexpected: 0\nfix: see above, then run this again")


def licence_of(package: Distribution) -> str:
    """What its metadata state: the expression, else the field, else the classifiers."""
    told = package.metadata.get("License-Expression") or package.metadata.get("License") or ""
    classifiers = package.metadata.get_all("Classifier", [])
    classified = [words.rpartition(" :: ")[2] for words in classifiers if words.startswith("License")]
    # Some put the whole text into the field; it is among the files too.
    return told.strip() if told and "\n" not in told.strip() else "; ".join(classified) or "not stated"


def texts_of(package: Distribution) -> Iterator[tuple[str, str]]:
    """The licence files that a package brings: name and text."""
    for file in package.files or ():
        if ".dist-info" in file.parts[0] and IS_LICENCE.search(str(file)):
            yield file.name, Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")


def licences(packages: list[Distribution]) -> str:
    """A table of packages, then their licence files, each text once."""
    rows = [f"{p.metadata['Name']} {p.version}: {licence_of(p)}" for p in packages]
    holders: dict[str, list[str]] = {}
    without = []
    for package in packages:
        texts = dict(texts_of(package))
        without += [] if texts else [package.metadata["Name"]]
        for name, text in texts.items():
            holders.setdefault(text.strip(), []).append(f"{package.metadata['Name']} ({name})")
    parts = [f"{'=' * 100}\n{', '.join(names)}\n{'=' * 100}\n\n{text}" for text, names in holders.items()]
    none = f"\n\nWithout a licence file in the package: {', '.join(without)}." if without else ""
    return "\n".join(rows) + none + "\n\n" + "\n\n".join(parts) + "\n"


def main() -> None:
    """Install, then write both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("uv", help="the program uv")
    uv = Path(parser.parse_args().uv).absolute()
    wheels = ROOT / "wheelhouse"
    if not (wheels / "requirements.txt").is_file():
        raise SystemExit("found: no wheelhouse\nexpected: its wheels\nfix: make wheelhouse VARIANT=tables")
    run(uv, "venv", "--quiet", "--clear", "--python", "3.11", SHIPPED)
    run(uv, "pip", "sync", "--quiet", "--python", SHIPPED, "--offline", "--no-index", "--find-links", wheels,
        "--require-hashes", wheels / "requirements.txt")  # fmt: skip
    (ROOT / "dist").mkdir(exist_ok=True)
    bill = ROOT / "dist" / "skinkit.cdx.json"
    run(uv, "tool", "run", "--quiet", "--from", CYCLONEDX, "cyclonedx-py", "environment", "--pyproject",
        ROOT / "pyproject.toml", "--output-reproducible", "--sv", "1.6", "--of", "JSON", "-o", bill,
        SHIPPED / "bin" / "python")  # fmt: skip
    site = next((SHIPPED / "lib").glob("python*/site-packages"))
    packages = sorted(distributions(path=[str(site)]), key=lambda package: package.metadata["Name"].lower())
    (ROOT / "dist" / "licences.txt").write_text(licences(packages), encoding="utf-8")
    print(f"{len(packages)} packages: {bill.relative_to(ROOT)}, dist/licences.txt")


if __name__ == "__main__":
    main()
