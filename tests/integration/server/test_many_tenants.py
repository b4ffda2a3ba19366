"""A scrape and the console with 100,000 tenants: short, and no statement of their own. `scrape` has the time."""

from __future__ import annotations

import re
import time
import urllib.request

import pytest

from tenantry.server import fleet
from tests.integration.server.conftest import Serving

TENANTS = 100_000
SCRAPES = 300
SCREENS = 100
MANY = f"""
SET session_replication_role = replica; -- nobody needs to hear of each: a third of the time
INSERT INTO tenantry.tenant (id, database) SELECT 'many-' || n, 'shared' FROM generate_series(1, {TENANTS}) AS n;
INSERT INTO tenantry.usage (hour, database, tenant, busy_seconds, commits)
    SELECT date_trunc('hour', now(), 'UTC') - hour * interval '1 hour', 'shared', 'many-' || n, 1000.0 / n, 1
    FROM generate_series(1, {TENANTS}) AS n, generate_series(0, 1) AS hour;
ANALYZE;
"""


@pytest.mark.timeout(300)  # 200,000 rows are made for it, on a machine that may be busy
def test_a_scrape_and_the_first_screen_run_no_statement_however_many_tenants_there_are(
    serving: Serving,
) -> None:
    server = serving.server
    server.psql(MANY, serving.control)
    server.psql(f'ALTER DATABASE "{serving.control}" SET log_min_duration_statement = 0')
    server.psql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = '{serving.control}' AND pid <> pg_backend_pid()"
    )

    def statements() -> int:
        """That the control database has executed, from whomever."""
        ran = re.compile(rf"@{serving.control} LOG:  duration: [\d.]+ ms  (execute|statement)")
        return len(ran.findall(server.log_text()))

    def scrape() -> bytes:
        with urllib.request.urlopen(serving.address + "/metrics", timeout=30) as answer:
            text: bytes = answer.read()
        return text

    def until_read() -> None:
        """Until a whole reading has gone by: its statements are in the log."""
        deadline = time.monotonic() + 60
        before = statements()
        while statements() < before + 8:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            scrape()

    scrape()  # the server reads in the background from here on
    until_read()
    before, began = statements(), time.monotonic()
    for _ in range(SCRAPES):
        text = scrape().decode()
    took, during = time.monotonic() - began, statements() - before

    series = [line for line in text.splitlines() if not line.startswith("#")]
    readings = took / fleet.PAUSE + 2  # so many at most, of a dozen statements, and the watches' few
    print(f"\n{len(series)} series, {during} statements in {took:.1f} s")
    assert during <= 20 * readings, "scrapes must not query"
    assert 30 < len(series) < 400
    assert sum("many-" in line for line in series) >= 20

    def first_screen() -> str:
        with urllib.request.urlopen(serving.address + "/index.json", timeout=60) as answer:
            text: bytes = answer.read()
        return text.decode()

    deadline = time.monotonic() + 60
    while '"state":"pending"' in first_screen():  # the console reads in the background from here on, too
        assert time.monotonic() < deadline
        time.sleep(0.2)
    before, began = statements(), time.monotonic()
    for _ in range(SCREENS):
        screen = first_screen()
    took, during = time.monotonic() - began, statements() - before
    readings = took / fleet.PAUSE + 2  # the console's own are a dozen statements, and some when checks are due
    print(f"{len(screen)} bytes, {during} statements in {took:.1f} s")
    assert during <= 40 * readings, "the first screen must not query"
    assert screen.count("many-") < 1000
