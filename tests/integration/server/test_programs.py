"""The programs that read what we serve: a browser, and Prometheus."""

from __future__ import annotations

import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tenantry.embedded.server import free_port
from tests.integration.server.conftest import Serving
from tests.support.programs import require_program

SECONDS = 60.0


def browse(program: Path, home: Path, *arguments: str) -> str:
    """Run a browser without a screen; what it printed."""
    command = [str(program), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--no-first-run", "--hide-scrollbars", f"--user-data-dir={home}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True, cwd=home)
    return done.stdout


def colours(png: Path) -> set[bytes]:
    """The colours of the first pixel of each row of an 8-bit RGB or RGBA picture, read as the format says."""
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, _height, _depth, kind = struct.unpack(">IIBB", data[16:26])
    size, at, packed = {2: 3, 6: 4}[kind], 8, b""
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        packed += data[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        at += 12 + length
    rows = zlib.decompress(packed)
    return {rows[n + 1 : n + 1 + size] for n in range(0, len(rows), 1 + width * size)}


@pytest.fixture
def chromium() -> Path:
    """A browser."""
    return require_program("chromium")


def test_a_browser_shows_the_page_in_light_and_in_dark(served: Serving, chromium: Path, tmp_path: Path) -> None:
    pictures = {}
    for scheme, extra in (
        ("light", ()),
        ("dark", ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")),
    ):
        picture = tmp_path / f"{scheme}.png"
        arguments = (f"--screenshot={picture}", "--window-size=1100,1400", *extra, served.address + "/")
        browse(chromium, tmp_path, *arguments)
        pictures[scheme] = picture
        assert picture.stat().st_size > 20_000  # more than an empty page takes
    assert colours(pictures["light"]) != colours(pictures["dark"])


def test_a_browser_finds_the_page_as_it_was_meant(served: Serving, chromium: Path, tmp_path: Path) -> None:
    dom = browse(chromium, tmp_path, "--dump-dom", served.address + "/")
    assert "<h1>Overview</h1>" in dom
    assert dom.count("<section") == 6
    assert dom.count("<script") == 1


@pytest.fixture
def prometheus(served: Serving, tmp_path: Path) -> Iterator[str]:
    """A real Prometheus that scrapes the server; its address."""
    program = require_program("prometheus")
    config = tmp_path / "prometheus.yml"
    target = urlsplit(served.address).netloc
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: tenantry, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    address = f"127.0.0.1:{free_port()}"
    command = [str(program), f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    command += [f"--web.listen-address={address}"]
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(30)


def test_prometheus_scrapes_serve_and_answers_the_operators_question(served: Serving, prometheus: str) -> None:
    """Who is a candidate, and is the fleet's view complete?"""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            query = {"query": "tenantry_promotion_candidate == 1"}
            answer = httpx.get(f"{prometheus}/api/v1/query", params=query, timeout=5).json()
            if answer["status"] == "success" and answer["data"]["result"]:
                break
        except (httpx.TransportError, ValueError):
            pass  # it is still starting
        assert time.monotonic() < deadline, "Prometheus has no such sample"
        time.sleep(0.1)
    (result,) = answer["data"]["result"]
    assert result["metric"]["tenant"] == "heavy"
    (target,) = httpx.get(f"{prometheus}/api/v1/targets").json()["data"]["activeTargets"]
    assert target["health"] == "up"
    assert target["lastError"] == ""
    assert served.process.poll() is None
