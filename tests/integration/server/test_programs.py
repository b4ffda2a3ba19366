"""The program that reads what we serve beside browsers: Prometheus."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tenantry.embedded.server import free_port
from tests.integration.server.conftest import Serving
from tests.support.programs import require_program

SECONDS = 60.0


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
