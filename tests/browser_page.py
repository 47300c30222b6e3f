"""An exported network run by onnxruntime-web in headless Chromium, from a server of this process on this machine."""

from __future__ import annotations

import http.server
import json
import mimetypes
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).with_name("browser") / "onnx.html"
PACKAGE = "onnxruntime-web"
_MINUTES = 4 * 60
_TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}


def browser() -> str:
    """Chromium; skips, loudly, where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("NO BROWSER: none of chromium, chromium-browser and google-chrome is installed")
    return found


@cache
def package(folder: Path) -> Path:
    """The folder ``dist`` of onnxruntime-web, installed by npm into this folder, outside of the repository.

    ``SKINKIT_ONNXRUNTIME_WEB`` names one that is there. Skips, loudly, without npm and without a network.
    """
    if named := os.environ.get("SKINKIT_ONNXRUNTIME_WEB"):
        return Path(named)
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("NO NPM: it installs onnxruntime-web; or name its folder dist in SKINKIT_ONNXRUNTIME_WEB")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PACKAGE]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_MINUTES)
        why = made.stderr.strip().splitlines()[-1:] if made.returncode else []
    except subprocess.TimeoutExpired:
        why = ["it took too long"]
    dist = folder / "node_modules" / PACKAGE / "dist"
    if why or not dist.is_dir():
        pytest.skip(f"NO ONNXRUNTIME-WEB: npm could not install it: {' '.join(why) or 'no folder dist'}")
    return dist


def answers(model: Path, inputs: Mapping[str, np.ndarray], dist: Path, chromium: str, folder: Path) -> dict[str, Any]:
    """Name of each output -> its numbers, as the page answers them.

    Args:
        model: the exported file.
        inputs: name -> float32 array.
        dist: of :func:`package`.
        chromium: of :func:`browser`.
        folder: for the browser's profile.
    """
    results: queue.Queue[dict[str, Any]] = queue.Queue()
    shapes = {name: list(array.shape) for name, array in inputs.items()}
    contents = {f"/{name}.bin": np.ascontiguousarray(array, dtype="<f4").tobytes() for name, array in inputs.items()}
    contents["/inputs.json"] = json.dumps(shapes).encode()
    files = {"/": PAGE, "/model.onnx": model, **{f"/ort/{file.name}": file for file in dist.iterdir()}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = contents.get(self.path)
            if data is None and self.path in files:
                data = files[self.path].read_bytes()
            self.send_response(404 if data is None else 200)
            kind = _TYPES.get(files.get(self.path, Path(self.path)).suffix) or mimetypes.guess_type(self.path)[0]
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.end_headers()
            self.wfile.write(data or b"")

        def do_POST(self) -> None:
            results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        [chromium, *flags, f"http://127.0.0.1:{server.server_address[1]}/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        result = results.get(timeout=_MINUTES)
    finally:
        process.terminate()
        process.wait(30)
        server.shutdown()
        server.server_close()
    assert "error" not in result, result["error"]
    outputs: dict[str, Any] = result["outputs"]
    return outputs
