"""What the guard costs: one policy with both halves, and the tenant policy with the guard beside it.

Each form is on a table of its own with the same rows. One server process works through all of them by turns, in
scopes of one tenant that holds a thirtieth of the rows; what is measured is the processor time that the kernel
says this process used, so that neither the client nor the machine's other work counts.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import stage
from benchmarks.contract import Options, Row
from benchmarks.policy import Connected, tenant
from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import IdType, Kind
from tenantry.isolation.equality import predicate
from tenantry.isolation.guard import Guard, expressions
from tenantry.proof import bind_proof, database_key
from tenantry.schema import install_data

TENANTS: Final = 30
KEY: Final = database_key("a secret of the benchmarks, long enough", "shared")
MINE: Final = tenant(IdType.UUID, 3)
NONE: Final = "explicit WHERE, no RLS"


class Form(NamedTuple):
    """A permissive policy and, beside it, a restrictive one."""

    name: str
    permissive: str | None = None
    restrictive: str | None = None


class Question(NamedTuple):
    """What is asked of each table."""

    name: str
    statement: str
    turns: int
    planned: bool = False
    """Whether each turn parses and plans it anew."""
    settings: str = ""


SCAN: Final = (
    "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexonlyscan = off"
)
POINT: Final = "SELECT payload FROM {table} WHERE {mine} id = 3"
ALL: Final = "SELECT count(payload) FROM {table} WHERE {mine} true"
QUESTIONS: Final = (
    Question("point query, planned each time", POINT, 400, planned=True),
    Question("point query, prepared", POINT, 800),
    Question("insert, prepared", f"INSERT INTO {{table}} VALUES ('{MINE}', -1, 'x') ON CONFLICT DO NOTHING", 300),
    Question("the tenant's rows by index", ALL, 20),
    Question("the tenant's rows by a scan of all", ALL, 2, settings=SCAN),
)


def forms(tenancy: Tenancy) -> list[Form]:
    """Those that are compared; the explicit WHERE first."""
    mine = predicate("tenant_id", tenancy)
    fence, border = (expressions("tenant_id", tenancy, guard)[0] for guard in (Guard.FENCE, Guard.BORDER))
    found = [Form(NONE), Form("one policy", f"{mine} AND {fence}"), Form("tenant policy and guard", mine, fence)]
    if tenancy.hardened:
        plain = "tenant_id = (SELECT tenantry.admitted_tenant())"
        return [*found, Form("the guard as a plain equality", mine, plain)]
    return [*found, Form("guard with the border", mine, border)]


async def run(options: Options) -> list[Row]:
    """Both modes."""
    rows, rounds = (30_000, 3) if options.quick else (300_000, 13)
    found: list[Row] = []
    for hardened in (False, True):
        with stage.server(options.version) as server:
            async with Connected(server.dsn()) as admin:
                await admin.execute("CREATE DATABASE guarded")
                await admin.execute("CREATE ROLE guarded LOGIN")
            known = forms(Tenancy(hardened=hardened))
            async with Connected(server.dsn("guarded")) as admin:
                await prepare(admin, known, hardened, rows)
            async with Connected(server.dsn("guarded", user="guarded")) as scope:
                for question in QUESTIONS:
                    taken = await measure(scope, question, known, hardened, rounds)
                    found += told(question, taken, hardened, rounds, rows)
    return found


async def prepare(admin: Any, known: list[Form], hardened: bool, rows: int) -> None:
    """The tables, with their policies."""
    await install_data(
        admin, name="shared", kind=Kind.SHARED, setting="app.current_tenant", id_type=IdType.UUID,
        application_role="guarded", key=KEY if hardened else None,
    )  # fmt: skip
    ids = ", ".join(f"'{tenant(IdType.UUID, number)}'" for number in range(TENANTS))
    await admin.execute(
        f"INSERT INTO tenantry.placement (tenant, database, epoch) SELECT unnest(ARRAY[{ids}]), 'shared', 1"
    )
    for number, form in enumerate(known):
        table = f"t{number}"
        await admin.execute(
            f"CREATE TABLE {table} (tenant_id uuid, id bigint, payload text, PRIMARY KEY (tenant_id, id));"
            f"INSERT INTO {table} SELECT (ARRAY[{ids}])[n % {TENANTS} + 1]::uuid, n, repeat('x', 50) "
            f"FROM generate_series(1, {rows}) AS n; GRANT SELECT, INSERT ON {table} TO guarded"
        )
        for kind, text in (("PERMISSIVE", form.permissive), ("RESTRICTIVE", form.restrictive)):
            if text is not None:
                await admin.execute(
                    f"CREATE POLICY {kind.lower()} ON {table} AS {kind} USING ({text}) WITH CHECK ({text});"
                    f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
                )
        await admin.execute(f"VACUUM ANALYZE {table}")


async def measure(
    scope: Any, question: Question, known: list[Form], hardened: bool, rounds: int
) -> dict[str, float]:
    """Microseconds of the server's processor time for each form: the median of the rounds, the first left out."""
    times: dict[str, list[float]] = {form.name: [] for form in known}
    for number in range(rounds + 1):
        async with scope.transaction():
            await bind(scope, hardened)
            await scope.execute(f"SET LOCAL max_parallel_workers_per_gather = 0; {question.settings}")
            order = [*range(number % len(known), len(known)), *range(number % len(known))]
            for position in order:
                mine = f"tenant_id = '{MINE}' AND" if position == 0 else ""
                statement = question.statement.format(table=f"t{position}", mine=mine)
                times[known[position].name].append(await turns(scope, statement, question))
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


async def bind(scope: Any, hardened: bool) -> None:
    """As a router does."""
    if hardened:
        await scope.execute("SELECT tenantry.bind($1, $2)", MINE, bind_proof(KEY, scope.get_server_pid(), MINE))
    else:
        await scope.execute("SELECT tenantry.bind($1)", MINE)


async def turns(scope: Any, statement: str, question: Question) -> float:
    """Microseconds for one turn. Many texts travel in one message, so that the network is not what is measured."""
    together = 20 if question.planned else 1
    message = ";".join([statement] * together)
    prepared = None if question.planned else await scope.prepare(statement)
    for repeat in (1, question.turns // together):  # the first one warms up
        before = processor_time(scope.get_server_pid())
        for _ in range(repeat):
            await (scope.execute(message) if prepared is None else prepared.fetch())
    return (processor_time(scope.get_server_pid()) - before) / question.turns


def processor_time(pid: int) -> float:
    """Microseconds that a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e3


def told(question: Question, taken: dict[str, float], hardened: bool, rounds: int, rows: int) -> list[Row]:
    """One line for each form."""
    mode, base = "hardened" if hardened else "plain", taken[NONE]
    return [
        Row(
            f"guard, {mode}: {question.name}: {name}",
            f"{took:.1f} µs of the server's processor time against {base:.1f} µs",
            "",
            "shown",
            NONE,
            f"median of {rounds} rounds by turns, {rows} rows, a thirtieth of them the tenant's",
            {"microseconds": took, "without": base},
        )
        for name, took in taken.items()
        if name != NONE
    ]
