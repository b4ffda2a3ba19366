"""`tenantry quickstart` decides what the catalogs decide, asks about the rest, and never takes anything away."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tenantry import Config, cli
from tenantry.embedded import EmbeddedServer
from tests.integration.cli.conftest import Ran

#: Never shown: trust authentication doesn't look at it.
CANARY = "Zxq7-canary-S3cret"
PLAIN = """
CREATE TABLE organizations (id uuid PRIMARY KEY, name text);
CREATE TABLE students (id int PRIMARY KEY, org_id uuid REFERENCES organizations);
CREATE TABLE lessons (id int PRIMARY KEY, org_id uuid REFERENCES organizations, student int REFERENCES students);
"""

Starts = Callable[..., Ran]


@pytest.fixture
def database(pg18: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]) -> str:
    return make_database(pg18)


@pytest.fixture
def start(pg18: EmbeddedServer, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Starts:
    """Run it in a folder on a database with a schema."""

    def run(schema: str, *arguments: str, user: str = "postgres") -> Ran:
        if schema:
            pg18.psql(schema, database)
        capsys.readouterr()
        dsn = pg18.dsn(database, user, CANARY)
        code = cli.main(["quickstart", "--dsn", dsn, "--folder", str(tmp_path), *arguments])
        seen = capsys.readouterr()
        assert CANARY not in seen.out + seen.err
        assert "Traceback" not in seen.err
        return Ran(code, seen.out, seen.err)

    return run


@pytest.fixture
def role(pg18: EmbeddedServer, database: str) -> Iterator[str]:
    name = f"{database}_stranger"
    pg18.psql(f"CREATE ROLE {name} LOGIN")
    yield name
    pg18.psql(f"DROP OWNED BY {name}; DROP ROLE {name}", database)


SCHEMAS = {
    "a list of tenants": (PLAIN, ("org_id", "uuid", "public.organizations.id"), {"public.organizations": "id"}),
    "numbers, another spelling, no list": (
        'CREATE TABLE a (id int, "companyId" int); CREATE TABLE b (id int, "companyId" bigint);',
        ("companyId", "bigint", "public.b.companyId"),
        {},
    ),
    "text": (
        "CREATE TABLE a (account_id varchar(30), user_id int); CREATE TABLE b (account_id text, user_id int);",
        ("account_id", "text", "public.b.account_id"),
        {},
    ),
    "a word of the product's own, in half of the tables": (
        "CREATE TABLE a (garage_id uuid); CREATE TABLE b (garage_id uuid); CREATE TABLE alembic_version (v text);",
        ("garage_id", "uuid", "public.b.garage_id"),
        {},
    ),
    "one tenant word in most tables, another in few": (
        "CREATE TABLE a (tenant_id uuid, customer_id int); CREATE TABLE b (tenant_id uuid);",
        ("tenant_id", "uuid", "public.b.tenant_id"),
        {},
    ),
}


@pytest.mark.parametrize("case", SCHEMAS)
def test_the_tenant_column_its_type_and_the_list_of_tenants_are_found(start: Starts, case: str) -> None:
    schema, (column, kind, ids_from), tables = SCHEMAS[case]
    found = start(schema, "--dry-run", "--json")
    assert found.code == 0, found.err
    said = found.json
    assert (said["column"], said["type"], said["ids_from"]) == (column, kind, ids_from)
    assert said["tables"] == tables


REFUSED = {
    "no tables": ("", "run your migrations first"),
    "two that would do": (
        "CREATE TABLE a (org_id uuid, account_id uuid); CREATE TABLE b (org_id uuid, account_id uuid)",
        r"account_id \(2 tables\), org_id \(2 tables\) could each be the tenant column: say which with --column",
    ),
    "none": ("CREATE TABLE a (id int, name text); CREATE TABLE b (a_id int)", "no column looks like a tenant's"),
    "a table that nobody has placed": (
        PLAIN + "CREATE TABLE countries (code text)",
        r"public\.countries has no tenant column(.|\n)*--table public\.countries=reference",
    ),
    "a column of a type that can't be compared": (
        "CREATE TABLE a (tenant_id uuid); CREATE TABLE b (tenant_id char(36))",
        r"public\.b the tenant column 'tenant_id' is character\(36\)",
    ),
    "an override of a table that is not there": (PLAIN, "public.nothing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_is_asked_and_nothing_is_written(start: Starts, tmp_path: Path, case: str) -> None:
    schema, words = REFUSED[case]
    more = ["--table", "public.nothing=ignore"] if "override" in case else []
    found = start(schema, *more)
    assert found.code == 4
    assert re.search(words, found.err), found.err
    assert list(tmp_path.iterdir()) == []


def test_an_answer_is_enough(start: Starts) -> None:
    schema = "CREATE TABLE a (org_id uuid, account_id uuid); CREATE TABLE b (org_id uuid, account_id uuid);"
    found = start(schema + "CREATE TABLE c (x int)", "--column", "org_id", "--table", "public.c=ignore", "--json")
    assert found.code == 0, found.err
    assert (found.json["column"], found.json["tables"]) == ("org_id", {"public.c": "ignore"})
    assert start("", "--column", "nothing", "--dry-run").code == 4


def test_tables_that_belong_to_tenants_by_a_key_alone_are_named(start: Starts) -> None:
    found = start(PLAIN + "CREATE TABLE grades (lesson int REFERENCES lessons)", "--dry-run")
    assert found.code == 0
    assert "public.grades belongs to a tenant only through its foreign key" in found.err
    assert "public.grades lack the tenant column" in found.out


def test_the_setting_is_the_one_that_the_products_policies_read(start: Starts) -> None:
    policy = (
        "ALTER TABLE students ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON students "
        "USING (org_id = current_setting('school.org')::uuid AND current_setting('school.user_id') <> '')"
    )
    assert start(PLAIN + policy, "--dry-run", "--json").json["setting"] == "school.org"


def test_nothing_is_overwritten_without_being_told(start: Starts, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    found = start(PLAIN)
    assert found.code == 4
    assert str(tmp_path / "app.py") in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["app.py"]
    assert (tmp_path / "app.py").read_text() == "mine"
    assert start("", "--dry-run").code == 0
    assert (tmp_path / "app.py").read_text() == "mine"
    assert start("", "--force").code == 0
    assert "FastAPI" in (tmp_path / "app.py").read_text()


def test_a_role_that_is_there_is_not_taken_over(
    pg18: EmbeddedServer, start: Starts, database: str, tmp_path: Path
) -> None:
    pg18.psql(f"CREATE ROLE {database}_app")
    try:
        found = start(PLAIN)
        assert found.code == 4
        assert "choose other names by --prefix" in found.err
        assert list(tmp_path.iterdir()) == []
        assert start("", "--prefix", "x" * 60).code == 4
        assert start("", "--prefix", f"{database}_other").code == 0
    finally:
        pg18.psql(f"DROP ROLE {database}_app")


def test_a_role_that_does_not_own_the_tables_is_refused(start: Starts, role: str) -> None:
    found = start(PLAIN, user=role)
    assert found.code == 4
    assert "does not own the tables (postgres does)" in found.err


def test_an_owner_that_policies_would_hold_is_made_to_bypass_them_by_a_superuser(
    pg18: EmbeddedServer, start: Starts, database: str, role: str, tmp_path: Path
) -> None:
    pg18.psql(
        PLAIN
        + "".join(f"ALTER TABLE {name} OWNER TO {role};" for name in ("organizations", "students", "lessons")),
        database,
    )
    found = start("", "--json", user=role)
    assert found.code == 0, found.err
    step = next(one for one in found.json["steps"] if "psql" in one["command"])
    assert "${SUPERUSER_DSN:?}" in step["command"]
    assert f"{role} may not make roles" in step["why"]
    environment = {"APP_PASSWORD": "a", "CONTROL_PASSWORD": "b"}

    def run(user: str) -> int:
        psql, where = str(pg18.bin("psql")), pg18.dsn(database, user)
        command = [psql, "-X", "-v", "ON_ERROR_STOP=1", "-f", "roles.sql", where]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False).returncode

    assert run(role) != 0
    assert pg18.psql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{database}_app'") == "0"
    try:
        assert run("postgres") == 0
        assert pg18.psql(f"SELECT rolbypassrls FROM pg_roles WHERE rolname = '{role}'") == "t"
    finally:
        for name in ("app", "control"):
            pg18.psql(f"DROP OWNED BY {database}_{name}; DROP ROLE {database}_{name}", database)


@pytest.mark.parametrize("dsn", ["nonsense", "postgresql://nobody@127.0.0.1:1/nothing"])
def test_an_address_that_leads_nowhere_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dsn: str
) -> None:
    code = cli.main(["quickstart", "--dsn", dsn, "--folder", str(tmp_path)])
    seen = capsys.readouterr()
    assert code == (2 if dsn == "nonsense" else 3), seen.err
    assert list(tmp_path.iterdir()) == []


HOSTILE = """
CREATE TABLE "or""g's" ("Id" text PRIMARY KEY);
CREATE TABLE "pu\\pils "" ' @app_sql@ $1" (id int, "Tenant-Id" text REFERENCES "or""g's");
INSERT INTO "or""g's" VALUES ('a'), ('b');
INSERT INTO "pu\\pils "" ' @app_sql@ $1" VALUES (1, 'a'), (2, 'b');
ANALYZE;
"""


def test_files_for_hostile_names_are_what_they_should_be(
    pg18: EmbeddedServer, start: Starts, database: str, tmp_path: Path
) -> None:
    prefix = f"{database}'s \"x"
    found = start(HOSTILE, "--prefix", prefix, "--json")
    assert found.code == 0, found.err
    for name in ("app.py", "test_tenants.py"):
        compile((tmp_path / name).read_text(), name, "exec")
    environment = dict(
        line.split("=", 1)
        for line in subprocess.run(
            ["bash", "-c", "set -a; . ./tenantry.env; env"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        if line.startswith(("TENANTRY_", "APP_", "CONTROL_"))
    )
    config = Config.parse(yaml.safe_load((tmp_path / "config/tenantry.yaml").read_text()), environment=environment)
    assert config.tenancy.column == "Tenant-Id"
    assert config.tenancy.tables == {"public.or\"g's": "Id"}
    try:
        done = subprocess.run(
            [pg18.bin("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-f", "roles.sql", pg18.dsn(database)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made = json.loads(pg18.psql("SELECT json_agg(rolname) FROM pg_roles WHERE rolcanlogin"))
        assert {f"{prefix}_app", f"{prefix}_control"} <= set(made)
        table = pg18.psql(
            "SELECT quote_ident(relname) FROM pg_class WHERE relname LIKE 'pu%' AND relkind = 'r'", database
        )
        query = next(line for line in (tmp_path / "app.py").read_text().splitlines() if "to_jsonb" in line)
        shown = subprocess.run(
            [sys.executable, "-c", f"print({query.partition('fetch(')[2].rpartition(')')[0]})"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert table in shown
        assert pg18.psql(shown, database).count("\n") == 1
    finally:
        for name in ("app", "control"):
            quoted = f"{prefix}_{name}".replace('"', '""')
            pg18.psql(f'DROP OWNED BY "{quoted}"; DROP ROLE "{quoted}"', database)
