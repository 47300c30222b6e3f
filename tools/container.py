"""Build the image of the Dockerfile and try it: `make container`, after `make wheelhouse`.

It builds with docker or podman, whichever answers, else with buildah, which needs no service. Without a registry,
``--debootstrap`` first makes the base image from Debian's packages. Then, in the image and without a network: the user
is not root, the code cannot be written, a file in the workspace can, and `skinkit selftest` ends with 0.

It needs the standard library only.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = "debian:bookworm-slim"
OWN_BASE = "localhost/skinkit-base"
SERVICES = ("docker", "podman")
CHECKS = {
    "the user is not root": 'test "$(id -u)" != 0',
    "the code cannot be written": "test ! -w /opt/skinkit && test ! -w /opt/skinkit/bin/skinkit",
    "the workspace can be written": "touch /work/written && rm /work/written",
    "skinkit answers": "skinkit --version",
    "everything works": "skinkit selftest --quiet",
}
"""What must hold in the image: a sentence, and a line of shell that ends with 0."""


def answers(*command: str) -> bool:
    """Whether a command exists and ends with 0."""
    return (
        shutil.which(command[0]) is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


def run(*command: str | Path) -> None:
    """A command whose failure ends the whole."""
    words = [str(word) for word in command]
    print("+", " ".join(words[:6]), flush=True)
    code = subprocess.run(words, check=False, cwd=ROOT).returncode
    if code:
        raise SystemExit(f"found: {words[0]} ended with {code}\nexpected: 0\nfix: see above, then run this again")


class Builder:
    """docker, podman or buildah.

    Attributes:
        name: the program.
    """

    def __init__(self) -> None:
        service = next((name for name in SERVICES if answers(name, "info")), None)
        if service is None and not answers("buildah", "--version"):
            raise SystemExit(
                "NO BUILDER: the image is not built\n"
                "found: neither docker nor podman answers, and there is no buildah\n"
                "expected: one of them\nfix: start the service, or install buildah (apt-get install buildah)"
            )
        self.name = service or "buildah"

    def build(self, tag: str, base: str) -> None:
        """The Dockerfile, on a base image."""
        # chroot needs no privileges that a machine may refuse; docker's own format keeps HEALTHCHECK.
        more = ["--isolation", "chroot", "--network", "host", "--format", "docker"] if self.name == "buildah" else []
        run(self.name, "build", *more, "--build-arg", f"BASE={base}", "--tag", tag, ".")

    def import_base(self, archive: Path) -> None:
        """Make a base image of the files of an archive."""
        if self.name != "buildah":
            run(self.name, "import", archive, OWN_BASE)
            return
        made = subprocess.run(["buildah", "from", "scratch"], capture_output=True, text=True, check=True)
        container = made.stdout.strip()
        run("buildah", "add", "--quiet", container, archive, "/")
        run("buildah", "commit", "--quiet", "--rm", container, OWN_BASE)

    def try_out(self, tag: str) -> None:
        """Each of the checks, without a network."""
        if self.name != "buildah":
            for line in CHECKS.values():
                run(self.name, "run", "--rm", "--network", "none", "--entrypoint", "sh", tag, "-c", line)
            return
        made = subprocess.run(["buildah", "from", tag], capture_output=True, text=True, check=True)
        container = made.stdout.strip()
        try:
            for line in CHECKS.values():
                # buildah's chroot shares the network of the machine: a namespace without any is put around it.
                run("unshare", "--net", "buildah", "run", "--isolation", "chroot", container, "--", "sh", "-c", line)
        finally:
            run("buildah", "rm", container)


def debootstrap(builder: Builder) -> str:
    """A base image from Debian's packages, by the mirror this machine is told to use."""
    if shutil.which("debootstrap") is None:
        raise SystemExit("found: no debootstrap\nexpected: it\nfix: apt-get install debootstrap")
    with tempfile.TemporaryDirectory() as folder:
        run("debootstrap", "--variant=minbase", "bookworm", Path(folder) / "root")
        archive = Path(folder) / "base.tar"
        run("tar", "--directory", Path(folder) / "root", "--create", "--file", archive, ".")
        builder.import_base(archive)
    return OWN_BASE


def main() -> None:
    """Build, then try."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tag", default="skinkit:latest", help="name of the image (default: skinkit:latest)")
    parser.add_argument("--base", default=BASE, help=f"base image (default: {BASE})")
    parser.add_argument("--debootstrap", action="store_true", help="make the base image here from Debian's packages")
    given = parser.parse_args()
    if not (ROOT / "wheelhouse" / "requirements.txt").is_file():
        raise SystemExit("found: no wheelhouse\nexpected: its wheels\nfix: make wheelhouse VARIANT=tables")
    builder = Builder()
    builder.build(given.tag, debootstrap(builder) if given.debootstrap else given.base)
    builder.try_out(given.tag)
    print(f"{given.tag}: " + "; ".join(CHECKS), file=sys.stdout)


if __name__ == "__main__":
    main()
