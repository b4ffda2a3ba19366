"""The attacks on one table, as SQL. Pure: a target in, attacks out.

A policy may tie reads and leave a write open, and a statement without WHERE and RETURNING is held by the
write's policy alone. So success is told by how many rows a statement reached, and a constraint's complaint counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.values import Column, Index
from tenantry.isolation.attacks.attempt import Attack, Proof, Takes
from tenantry.isolation.attacks.report import Attempt, Outcome
from tenantry.isolation.attacks.scene import MOST_ROWS, AttackTarget
from tenantry.isolation.facts import Facts
from tenantry.runtime.sqltext import identifier, literal

NO_OWN = "the attacker has no row of its own there"
UNCHANGED = "its own row can't be changed"
_SAMPLED = 1_000_000
"""Rows of a table that TABLESAMPLE looks at, about."""


def unbound(setting: str, target_sql: str, column: str) -> Iterator[Attack]:
    """Without a tenant a table is empty, and no error says otherwise: the setting never set, and set to ''."""
    some = f"SELECT count(*) FROM (SELECT 1 FROM {target_sql} WHERE {column} IS NOT NULL LIMIT 1) AS t"
    clear = f"SELECT set_config({literal(setting)}, '', true)"
    yield Attack("read without a tenant", (some,), error=Proof.UNREACHED)
    yield Attack("read with an empty tenant", (clear, some), error=Proof.UNREACHED)


def reads(target: AttackTarget) -> Iterator[Attack | Attempt]:
    """Every way to look at another tenant's rows. Rows of nobody (NULL in the tenant column) are not another's."""
    if not target.rights.may("SELECT", target.column.name):
        yield _without_right(target, "read", "SELECT")
        return
    table = f"{target.relation.sql} AS t"
    others = f"{table} WHERE t.{target.quoted} <> {target.id(target.attacker)}"
    theirs = f"{table} WHERE t.{target.quoted} = {target.id(target.victim)}"
    yield Attack("read everything", (f"SELECT count(*) FROM {others}",))
    yield Attack("read by id", (f"SELECT count(*) FROM {theirs}",))
    yield Attack("exists", (f"SELECT (EXISTS (SELECT FROM {theirs}))::int",))
    grouped = f"SELECT t.{target.quoted} AS it FROM {table} GROUP BY 1"
    aggregate = f"SELECT count(*) FROM ({grouped}) AS g WHERE it <> {target.id(target.attacker)}"
    yield Attack("aggregate", (aggregate,))
    cursor = f"DECLARE tenantry_attack NO SCROLL CURSOR FOR SELECT 1 FROM {others}"
    yield Attack("cursor", (cursor, "FETCH 1 FROM tenantry_attack"), Takes.ROWS)
    yield Attack("copy", (f"SELECT 1 FROM {others}",), Takes.COPY)
    if target.relation.kind == "r":
        percent = 100 if target.relation.rows <= _SAMPLED else 100 * _SAMPLED / target.relation.rows
        sample = f"{target.relation.sql} AS t TABLESAMPLE SYSTEM ({percent:.6f})"
        yield Attack("sample", (f"SELECT count(*) FROM {others.replace(table, sample, 1)}",))
    yield Attack("lock", (f"SELECT 1 FROM {theirs} FOR UPDATE",), Takes.ROWS)


def writes(facts: Facts, target: AttackTarget) -> Iterator[Attack | Attempt]:
    """Every way to change, take, plant or give away rows."""
    if "TRUNCATE" in target.rights.whole:
        why = "policies don't hold it: grant SELECT, INSERT, UPDATE and DELETE only"
        yield Attempt(target.relation.key, "truncate", Outcome.BROKEN, why)
    else:
        yield _without_right(target, "truncate", "TRUNCATE")
    yield from _updates(facts, target)
    yield from _deletes(target)
    yield from _inserts(facts, target)
    for index in _arbiters(facts, target):
        yield from _upserts(facts, target, index)


def _updates(facts: Facts, target: AttackTarget) -> Iterator[Attack | Attempt]:
    column = _updatable(facts, target)
    if column is None:
        yield _without_right(target, "update", "UPDATE")
        return
    same = identifier(column.name)
    table, theirs = f"{target.relation.sql} AS t", f"t.{target.quoted} = {target.id(target.victim)}"
    update = f"UPDATE {table} SET {same} = t.{same} WHERE {theirs}"
    yield Attack("update", (update,), Takes.TAG)
    yield Attack("update returning", (f"{update} RETURNING 1",), Takes.ROWS)
    merge = f"MERGE INTO {table} USING (SELECT 1) AS s ON {theirs} WHEN MATCHED THEN UPDATE SET {same} = t.{same}"
    yield Attack("merge update", (merge,), Takes.TAG)
    if not target.rights.may("UPDATE", target.column.name):
        yield _without_right(target, "give away", "UPDATE")
        return
    taken = f"UPDATE {table} SET {target.quoted} = {target.id(target.attacker)}"
    yield _whole(target, Attack("update everything", (taken,), Takes.TAG, target.own_rows, Proof.PASSED))
    given = f"UPDATE {table} SET {target.quoted} = {target.id(target.victim)}"
    if target.own is None:
        yield Attempt(target.relation.key, "give away", Outcome.UNTRIED, NO_OWN)
        return
    yield _plants(target, "give away", f"{given} WHERE {target.own.at}", without=UNCHANGED)
    yield _whole(target, _plants(target, "give everything away", given, without=UNCHANGED))


def _deletes(target: AttackTarget) -> Iterator[Attack | Attempt]:
    if not target.rights.may("DELETE"):
        yield _without_right(target, "delete", "DELETE")
        return
    table, theirs = f"{target.relation.sql} AS t", f"t.{target.quoted} = {target.id(target.victim)}"
    # A foreign key complains of a row that the statement has reached.
    yield Attack("delete", (f"DELETE FROM {table} WHERE {theirs}",), Takes.TAG, error=Proof.PASSED)
    yield Attack(
        "delete returning", (f"DELETE FROM {table} WHERE {theirs} RETURNING 1",), Takes.ROWS, error=Proof.PASSED
    )
    merge = f"MERGE INTO {table} USING (SELECT 1) AS s ON {theirs} WHEN MATCHED THEN DELETE"
    yield Attack("merge delete", (merge,), Takes.TAG, error=Proof.PASSED)
    yield _whole(target, Attack("delete everything", (f"DELETE FROM {table}",), Takes.TAG, target.own_rows))


def _inserts(facts: Facts, target: AttackTarget) -> Iterator[Attack | Attempt]:
    """The victim's row again, value for value, so that nothing but a policy can refuse it before its keys."""
    listed, values, source = _row(facts, target, target.victim)
    if not listed or target.quoted not in listed:
        yield _without_right(target, "insert", "INSERT")
        return
    insert = _insert(target, listed, values, source)
    yield _plants(target, "insert", insert)
    merge = (
        f"MERGE INTO {target.relation.sql} AS t USING {source} ON false WHEN NOT MATCHED THEN "
        f"INSERT ({', '.join(listed)}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(values)})"
    )
    # MERGE has no RETURNING before PostgreSQL 17: whose row a trigger made it, an INSERT tells.
    yield _plants(target, "merge insert", merge)._replace(whose=_foreign(target, insert))


def _upserts(facts: Facts, target: AttackTarget, index: Index) -> Iterator[Attack]:
    """An INSERT that takes the victim's row over by its key: in the victim's name, and in the attacker's own."""
    listed, values, source = _row(facts, target, target.victim)
    _, claimed, _ = _row(facts, target, target.attacker)
    keys = ", ".join(map(identifier, facts.catalog.names(target.relation.oid, index.keys)))
    over = f"ON CONFLICT ({keys}) DO UPDATE SET {target.quoted} = {target.id(target.attacker)}"
    yield _plants(target, "upsert", f"{_insert(target, listed, values, source)} {over}")
    if target.column.number not in index.keys:
        taken = f"{_insert(target, listed, claimed, source)} {over}"
        yield Attack("upsert that takes a row", (taken,), Takes.TAG, error=Proof.TAKEN)


def _plants(target: AttackTarget, name: str, statement: str, *, without: str = "") -> Attack:
    """An attack that writes a row of the victim's, which the policies must refuse."""
    foreign = _foreign(target, statement)
    return Attack(name, (statement,), Takes.TAG, error=Proof.PASSED, whose=foreign, without=without)


def _foreign(target: AttackTarget, statement: str) -> str:
    written = f"WITH w AS ({statement} RETURNING t.{target.quoted} AS it)"
    return f"{written} SELECT count(*) FROM w WHERE it IS DISTINCT FROM {target.id(target.attacker)}"


def _insert(target: AttackTarget, listed: list[str], values: list[str], source: str) -> str:
    return (
        f"INSERT INTO {target.relation.sql} AS t ({', '.join(listed)}) OVERRIDING SYSTEM VALUE "
        f"SELECT {', '.join(values)} FROM {source}"
    )


def _row(facts: Facts, target: AttackTarget, tenant: str) -> tuple[list[str], list[str], str]:
    """Columns, values and source of the victim's row as a row of `tenant`; columns that may be written only."""
    names = [
        column.name
        for column in facts.catalog.columns[target.relation.oid]
        if column.generated in ("", "\0") and target.rights.may("INSERT", column.name)
    ]
    values = [target.id(tenant) if name == target.column.name else f"r.{identifier(name)}" for name in names]
    source = f"jsonb_populate_record(NULL::{target.relation.sql}, {literal(target.theirs.values)}::jsonb) AS r"
    return [identifier(name) for name in names], values, source


def _arbiters(facts: Facts, target: AttackTarget) -> list[Index]:
    """Unique keys that ON CONFLICT can name and that the victim's row has a value for."""
    needed = target.rights
    if not (needed.may("INSERT", target.column.name) and needed.may("UPDATE", target.column.name)):
        return []
    values = target.theirs.parsed()
    return [
        index
        for index in facts.catalog.indexes.get(target.relation.oid, ())
        if index.unique
        and index.valid
        and index.immediate
        and index.predicate is None
        and 0 not in index.keys
        and all(values.get(name) is not None for name in facts.catalog.names(target.relation.oid, index.keys))
    ]


def _updatable(facts: Facts, target: AttackTarget) -> Column | None:
    """A column that may be set to itself: the tenant column where the role may, else any."""
    columns = sorted(facts.catalog.columns[target.relation.oid], key=lambda column: column != target.column)
    may = target.rights.may
    plain = (c for c in columns if c.generated in ("", "\0") and c.identity != "a")
    return next((c for c in plain if may("UPDATE", c.name) and may("SELECT", c.name)), None)


def _without_right(target: AttackTarget, attack: str, right: str) -> Attempt:
    return Attempt(target.relation.key, attack, Outcome.HELD, f"the role has no right to {right}")


def _whole(target: AttackTarget, attack: Attack) -> Attack | Attempt:
    """An attack without WHERE, where it locks few enough rows."""
    if target.own_rows <= MOST_ROWS:
        return attack
    why = f"it would lock more than {MOST_ROWS} rows: `assert_isolated` tries it on a test database"
    return Attempt(target.relation.key, attack.name, Outcome.UNTRIED, why)
