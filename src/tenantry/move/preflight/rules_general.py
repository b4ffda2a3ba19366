"""Rules of preflight about the two ends: who they are, what the mover may do there, what is free. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenantry.move.catalog import Side
from tenantry.move.errors import PreflightFinding
from tenantry.move.plan import Mechanism
from tenantry.move.preflight.facts import PreflightFacts
from tenantry.runtime.sqltext import identifier

#: First minor releases without known loss of data in logical replication's publisher (PostgreSQL release notes:
#: changes of concurrent transactions lost when a table is added to a publication, fixed in August 2025's minors
#: of 13-17 and in 18.0).
SAFE_MINORS: Final[Mapping[int, int]] = {15: 150013, 16: 160009, 17: 170005, 18: 180000}

_WORKER_ENDS: Final = {
    "transaction_timeout": "a transaction takes longer",
    "lock_timeout": "it waits for a lock for longer",
}


def _ends(facts: PreflightFacts) -> Iterator[tuple[str, Side]]:
    yield facts.source_name, facts.source
    yield facts.target_name, facts.target


def pooler(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    for name, side in _ends(facts):
        if side.pooled:
            yield PreflightFinding(
                "pooler", f"a pooler stands before {name}", "give the mover the database's direct DSN"
            )


def standby(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    for name, side in _ends(facts):
        if side.server["standby"]:
            yield PreflightFinding(
                "standby",
                f"{name} is on a standby, which takes no writes",
                "give the mover its primary's DSN, or promote it with SELECT pg_promote()",
            )


def earlier_schema(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """The gate and the markers of a schema that an earlier tenantry made would refuse this one's rows."""
    for name, side in _ends(facts):
        if side.server["installed"] and not side.server["knows_directions"]:
            problem = f"the tenantry schema in {name} is of an earlier version"
            yield PreflightFinding("schema-old", problem, "run `tenantry init`")


def placement(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    if facts.source.local is None:
        yield PreflightFinding(
            "not-installed", f"{facts.source_name} has no tenantry schema", "run `tenantry init`"
        )
    elif facts.source_home is None or facts.source_home[0] != facts.source.local.name:
        yield PreflightFinding(
            "not-here",
            f"tenant {facts.tenant} does not live in {facts.source_name}",
            "check the directory with `tenantry tenants show`",
        )
    if facts.source.local is not None and facts.source.local.name != facts.source_name:
        yield PreflightFinding(
            "wrong-name",
            f"the database behind {facts.source_name} calls itself {facts.source.local.name}",
            "correct the DSN",
        )


def target_identity(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    local = facts.target.local
    if local is None:
        return
    if local.name != facts.target_name:
        yield PreflightFinding(
            "wrong-name",
            f"the database behind {facts.target_name} calls itself {local.name}",
            "correct the DSN",
        )
    if local.tenant not in (None, facts.tenant):
        yield PreflightFinding(
            "foreign-stamp",
            f"{facts.target_name} is stamped for tenant {local.tenant}",
            "choose a database of its own for this tenant",
        )
    source = facts.source.local
    if source and (local.setting, local.id_type) != (source.setting, source.id_type):
        yield PreflightFinding(
            "tenancy-differs",
            f"{facts.target_name} tells tenants apart by {local.setting} ({local.id_type}), "
            f"{facts.source_name} by {source.setting} ({source.id_type})",
            "install both with the same tenancy settings",
        )


def privileges(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    for name, side in _ends(facts):
        role = side.server["role"]
        if side.server["superuser"]:
            continue
        if not side.server["bypasses"]:
            yield PreflightFinding(
                "no-bypassrls",
                f"role {role} on {name} would see no rows of tables with row-level security",
                f"ALTER ROLE {identifier(role)} BYPASSRLS",
            )
        if not side.server["quiets_triggers"]:
            yield PreflightFinding(
                "no-replica-role",
                f"role {role} on {name} can't keep triggers from firing on copied rows",
                f"GRANT SET ON PARAMETER session_replication_role TO {identifier(role)}",
            )
        if facts.mechanism is Mechanism.REPLICATION and not side.server["subscribes"]:
            yield PreflightFinding(
                "no-subscription",
                f"role {role} may not subscribe in {name}",
                f"GRANT pg_create_subscription TO {identifier(role)} (16 and newer), or ALTER ROLE "
                f"{identifier(role)} SUPERUSER",
            )
        if not side.server["replicates"] and facts.mechanism is Mechanism.REPLICATION:
            yield PreflightFinding(
                "no-replication",
                f"role {role} on {name} may not make replication slots",
                f"ALTER ROLE {identifier(role)} REPLICATION",
            )
        if not side.server["may_create"]:
            yield PreflightFinding(
                "no-create",
                f"role {role} may not create in {name}",
                f"GRANT CREATE ON DATABASE {identifier(side.server['database'])} TO {identifier(role)}",
            )


def servers(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    for name, side in _ends(facts):
        version = side.server["version"]
        if version < 150000:
            yield PreflightFinding(
                "too-old", f"{name} runs PostgreSQL {version // 10000}", "upgrade it to 15 or newer"
            )
        elif version < SAFE_MINORS.get(version // 10000, 0):
            yield PreflightFinding(
                "unsafe-minor",
                f"{name} runs {version // 10000}.{version % 10000}, whose logical replication can lose changes",
                f"update it to {version // 10000}.{SAFE_MINORS[version // 10000] % 10000} or newer",
            )
    source, target = facts.source.server, facts.target.server
    if source["encoding"] != target["encoding"]:
        yield PreflightFinding(
            "encoding-differs",
            f"encodings differ: {source['encoding']} and {target['encoding']}",
            f"make the target with ENCODING '{source['encoding']}' TEMPLATE template0",
        )
    if _order(source) != _order(target):
        yield PreflightFinding(
            "collation-differs",
            f"collations differ: {' '.join(_order(source))} and {' '.join(_order(target))}",
            f"make the target with LOCALE '{source['collate']}' TEMPLATE template0 and the same provider",
        )


def _order(server: Mapping[str, Any]) -> tuple[str, ...]:
    """What decides how text sorts, and which characters are letters."""
    provider = {"c": "libc", "i": "icu", "b": "builtin"}.get(server["provider"], server["provider"])
    return tuple(filter(None, (provider, server["collate"], server["ctype"], server["locale"])))


def resources(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    if facts.mechanism is not Mechanism.REPLICATION:
        return
    wanted = 2 if facts.selection.reference else 1
    for name, side in _ends(facts):
        server = side.server
        if server["wal_level"] != "logical":
            yield PreflightFinding(
                "wal-level",
                f"{name} has wal_level = {server['wal_level']}",
                "ALTER SYSTEM SET wal_level = 'logical' and restart, or consent to a pause",
            )
        for what, setting in (
            ("slots", "max_replication_slots"),
            ("senders", "max_wal_senders"),
            ("workers", "max_logical_replication_workers"),
        ):
            free = server[what] - server[f"{what}_used"]
            if free < wanted:
                yield PreflightFinding(
                    f"no-{what}",
                    f"{name} has {free} of {setting} left, the move needs {wanted}",
                    f"ALTER SYSTEM SET {setting} = {server[what] + wanted} and restart",
                )


def subscriptions(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Whether the target's server can run the move's subscriptions, and the source's the one of the way back."""
    if facts.mechanism is not Mechanism.REPLICATION:
        return
    wanted = 2 if facts.selection.reference else 1
    target, source = facts.target.server, facts.source.server
    ends = [(facts.target_name, target, wanted, wanted), (facts.source_name, source, 1, 1)]
    if target["cluster"] == source["cluster"]:  # the move's own is disabled when the way back starts, and is kept
        ends = [(facts.target_name, target, wanted, wanted + 1)]
    for name, server, processes, origins in ends:
        free = server["processes"] - server["processes_used"]
        if free < processes:
            yield PreflightFinding(
                "no-worker-processes",
                f"{name} has {free} of max_worker_processes left, the move needs {processes}",
                f"ALTER SYSTEM SET max_worker_processes = {server['processes'] + processes} and restart, "
                "its standbys first",
            )
        yield from _origins(name, server, origins)
        for setting, timeout in server.get("worker_timeouts", {}).items():
            if timeout:
                yield PreflightFinding(
                    "worker-timeout",
                    f"{setting} is {timeout} ms for role {server['role']} in {name}: it ends the worker that "
                    f"applies the changes there when {_WORKER_ENDS[setting]}",
                    f"ALTER ROLE {identifier(server['role'])} IN DATABASE {identifier(server['database'])} "
                    f"SET {setting} = 0",
                    refuses=False,
                )
        if timeout := server.get("slot_timeout", 0):
            yield PreflightFinding(
                "slot-timeout",
                f"{name} takes away replication slots that nobody has read for {timeout} s "
                "(idle_replication_slot_timeout): with a connection down for longer the move starts again, or its "
                "way back is gone",
                "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf()",
                refuses=False,
            )


def _origins(name: str, server: Mapping[str, Any], wanted: int) -> Iterator[PreflightFinding]:
    free = max(server["origins"] - server["origins_used"], 0)
    if free >= wanted:
        return
    setting = "max_active_replication_origins" if server["version"] >= 180000 else "max_replication_slots"
    fix = f"ALTER SYSTEM SET {setting} = {server['origins'] + wanted} and restart, or drop what is not needed"
    if not server["sees_origins"]:
        fix = (
            f"GRANT EXECUTE ON FUNCTION pg_show_replication_origin_status() TO {identifier(server['role'])}; "
            f"without, those that are not in use are counted too. If it is true: {fix}"
        )
    yield PreflightFinding("no-origins", f"{name} has {free} of {setting} left, the move needs {wanted}", fix)


def hidden(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    for name, side in _ends(facts):
        role, count = side.server["role"], side.server["sessions_hidden"]
        if count:
            yield PreflightFinding(
                "sessions-hidden",
                f"role {role} may not see what {count} sessions on {name} are: whether they write past the fence, "
                "or take the last of max_worker_processes, can't be told",
                f"GRANT pg_monitor TO {identifier(role)}",
                refuses=False,
            )


def bypassing(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    for who in facts.bypassing:
        yield PreflightFinding(
            "bypassing-writer",
            f"{who} writes the tenants' tables now, past row-level security and the fence",
            "end it, or let it log in as a role without BYPASSRLS",
        )
    for who in facts.bypassing_open:
        yield PreflightFinding(
            "bypassing-session",
            f"{who} has a session open, and could write past row-level security and the fence",
            "end it if it writes tenants' rows, or let it log in as a role without BYPASSRLS",
            refuses=False,
        )


def long_running(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    for gid in facts.source.server["prepared"]:
        yield PreflightFinding(
            "prepared-transaction",
            f"prepared transaction {gid} holds up the slot until it ends",
            "COMMIT PREPARED or ROLLBACK PREPARED it",
        )
    for who in facts.source.server["long_transactions"]:
        yield PreflightFinding(
            "long-transaction",
            f"{who}: the slot waits for its end",
            "let it end, or end it with pg_terminate_backend",
            refuses=False,
        )


def logins(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    for database, program, said in facts.failed_logins:
        yield PreflightFinding(
            "login-fails",
            f"{program} can't log in at {database}: {said}",
            f"put the password of the mover's role into the operator_dsn of {database}, or into a password file "
            "that this process may read; and let that server ask for it (pg_hba.conf)",
        )


def distributed(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Citus keeps rows on its workers: their writes are not in the log that logical replication reads, and rows
    that it brings to a coordinator go past the distribution. Acknowledged writes would be lost."""
    if facts.mechanism is not Mechanism.REPLICATION or not facts.distributed:
        return
    by_database: dict[str, list[str]] = {}
    for database, table in facts.distributed:
        by_database.setdefault(database, []).append(table)
    for database, tables in by_database.items():
        yield PreflightFinding(
            "distributed-tables",
            f"Citus distributes {', '.join(tables)} in {database}, which logical replication does not carry",
            f"consent to a copy under the fence: --pause {max(facts.estimate, 1):.0f}s or more",
        )


def consent(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    if facts.mechanism is not Mechanism.COPY:
        return
    if facts.consent is None or facts.consent < facts.estimate:
        yield PreflightFinding(
            "no-consent",
            f"by a copy under the fence the tenant pauses for about {facts.estimate:.1f} s",
            f"move by logical replication, without --pause; or consent to {max(facts.estimate, 1):.0f}s or more",
        )
