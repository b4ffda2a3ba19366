"""A newcomer's fifteen minutes: an empty folder, the wheel, and the printed steps, followed to the letter."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.embedded.server import free_port
from tests.support.packaging import Fresh

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "quickstart.md"
SCHEMA = """
CREATE TABLE organizations (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE students (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organizations, name text NOT NULL, country text);
CREATE TABLE lessons (id bigserial PRIMARY KEY, org_id uuid NOT NULL REFERENCES organizations,
    student_id bigint NOT NULL REFERENCES students ON DELETE CASCADE, held date NOT NULL DEFAULT current_date);
CREATE TABLE countries (code text PRIMARY KEY, name text);
INSERT INTO organizations SELECT md5(i::text)::uuid, 'school ' || i FROM generate_series(1, 3) AS i;
INSERT INTO students (org_id, name)
    SELECT o.id, 'student ' || i FROM organizations AS o, generate_series(1, 20) AS i;
INSERT INTO lessons (org_id, student_id) SELECT org_id, id FROM students;
ANALYZE;
"""
#: Commands that say so by their exit code: there is something to do.
FINDS = {"tenantry rls plan --foreign-keys": 1}


def steps_of(printed: str) -> list[str]:
    """The commands of the printed steps."""
    _, found, steps = printed.partition("\nNext:\n")
    assert found, printed
    return [line.strip() for line in steps.splitlines() if line.startswith("  ") and not line.startswith("  #")]


def blocks(page: str) -> list[str]:
    """The commands of a page's shell blocks."""
    found = re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)
    return [line for block in found for line in block.splitlines() if line and not line.startswith("#")]


@pytest.fixture
def shop(pg18: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]) -> Any:
    """A product's database, and the role that owns it: no superuser."""
    database = make_database(pg18)
    owner = f"{database}_owner"
    pg18.psql(f"CREATE ROLE {owner} LOGIN CREATEROLE BYPASSRLS; ALTER DATABASE {database} OWNER TO {owner}")
    pg18.psql(SCHEMA, database, owner)
    yield database, owner
    for role in (f"{database}_app", f"{database}_control"):
        pg18.psql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}", database)
    pg18.psql(f"REASSIGN OWNED BY {owner} TO postgres; DROP OWNED BY {owner} CASCADE", database)
    pg18.psql(f"DROP ROLE {owner}")


def in_one_shell(script: str, folder: Path, environment: dict[str, str], seconds: float = 200) -> tuple[str, str]:
    """What it prints on both streams. Past its time all that it has started is ended, and the test told."""
    files = folder.parent / f"{folder.name}.out", folder.parent / f"{folder.name}.err"
    with files[0].open("w") as out, files[1].open("w") as err:
        shell = subprocess.Popen(
            ["bash", "-c", script], cwd=folder, env=environment, stdout=out, stderr=err, start_new_session=True
        )
        try:
            shell.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
            told = "".join(file.read_text() for file in files)
            pytest.fail(f"the steps did not end within {seconds:g} s:\n{told}", pytrace=False)
    return files[0].read_text(), files[1].read_text()


@pytest.mark.timeout(300)
def test_the_printed_steps_lead_from_an_empty_folder_to_the_first_request_and_a_green_test(
    pg18: EmbeddedServer, shop: tuple[str, str], fresh: Fresh, tmp_path: Path
) -> None:
    database, owner = shop
    dsn, port, began = pg18.dsn(database, owner), free_port(), time.monotonic()
    environment = fresh.environment
    environment["PATH"] = f"{environment['PATH']}:{pg18.bin('psql').parent}"
    quickstart = "tenantry quickstart --dsn {} --table public.countries=reference"
    printed = subprocess.run(
        shlex.split(quickstart.format(dsn)),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed.returncode == 0, printed.stderr
    steps = steps_of(printed.stdout)

    page = blocks(PAGE.read_text(encoding="utf-8"))
    assert quickstart.format('"$DATABASE_URL"') in page
    assert steps == page[-len(steps) :], "docs/tutorial/quickstart.md shows other steps than the program prints"

    # One shell, as one terminal: what a step exports, the next ones have. What is running in it ends with it.
    script = ["trap 'kill $(jobs -p)' EXIT"]
    script += [f"{step.replace('8000', str(port))}\nprintf '\\n::%s\\n' $?" for step in steps]
    stdout, stderr = in_one_shell("\n".join(script), tmp_path, environment)
    told = stdout + stderr
    answers = re.split(r"^::(\d+)\n", stdout, flags=re.M)
    codes = [int(code) for code in answers[1::2]]
    assert codes == [FINDS.get(step, 0) for step in steps], told
    outputs = dict(zip(steps, answers[::2], strict=False))
    assert "2 passed" in outputs[next(step for step in steps if "pytest" in step)], told

    (answer,) = re.findall(r"\[\{.*\}\]", outputs[steps[-1]])  # uvicorn's log stands beside it
    rows = json.loads(answer)
    asked = next(iter({row["org_id"] for row in rows}))
    assert {row["org_id"] for row in rows} == {asked}
    assert len(rows) == 20
    assert pg18.psql(f"SELECT count(*) FROM tenantry.tenant WHERE id = '{asked}'", database) == "1"
    assert time.monotonic() - began < 900, "fifteen minutes"
    assert pg18.psql("SELECT count(*) FROM students", database, owner) == "60", "the product's own code goes on"
    assert os.stat(tmp_path / "tenantry.env").st_mode & 0o077 == 0
