"""Whether each program of a move can log in as it will: pg_dump from here, the subscriptions from the servers."""

from __future__ import annotations

import secrets

import asyncpg

from tenantry.move.pg_dump import login_error
from tenantry.move.preflight.facts import FailedLogin
from tenantry.move.session import CONNECT_SECONDS, Connection, Endpoint, conninfo
from tenantry.runtime.connection_errors import DATABASE_ERRORS
from tenantry.runtime.sqltext import literal


async def by_pg_dump(program: str, endpoint: Endpoint) -> tuple[FailedLogin, ...]:
    """Let pg_dump log in."""
    said = await login_error(program, endpoint)
    return () if said is None else (FailedLogin(endpoint.name, "pg_dump", said),)


async def by_subscription(subscriber: Connection, publisher: Endpoint) -> tuple[FailedLogin, ...]:
    """Let the subscriber's server log in at the publisher: by a subscription that is made to connect, and rolled
    back. It makes no slot, copies nothing, and is seen by nobody."""
    name = f"tenantry_preflight_{secrets.token_hex(5)}"
    info = conninfo(publisher.peer_dsn or publisher.dsn, application_name=name)
    transaction = subscriber.transaction()
    await transaction.start()
    try:
        await subscriber.execute(
            f"CREATE SUBSCRIPTION {name} CONNECTION {literal(info)} PUBLICATION {name} "
            "WITH (connect = true, create_slot = false, slot_name = NONE, enabled = false, copy_data = false)",
            timeout=CONNECT_SECONDS,
        )
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError):
        return ()  # rules of their own say what is missing, and that it is a standby
    except TimeoutError:
        return (FailedLogin(publisher.name, "a subscription", f"no answer within {CONNECT_SECONDS:g} s"),)
    except DATABASE_ERRORS as error:
        return (FailedLogin(publisher.name, "a subscription", " ".join(str(error).split())),)
    finally:
        await transaction.rollback()
    return ()
