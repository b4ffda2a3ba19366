"""What one tenant can do to the others' service, as values; each names the test that proves it."""

from __future__ import annotations

from typing import Final, NamedTuple

_HERE: Final = "tests/conformance/test_availability.py"


class Threat(NamedTuple):
    """A row of the threat model."""

    attempt: str
    others: str
    """What becomes of the other tenants."""
    bound: str
    test: str
    """Path and name."""
    holds: bool = False
    """Whether the others are served all the same."""


THREATS: Final = (
    Threat(
        "more requests than the pool serves",
        "are served by turns",
        "admission (G9)",
        "tests/conformance/test_g09_no_starvation.py::"
        "test_others_are_served_while_one_tenant_keeps_hundreds_waiting",
        True,
    ),
    Threat(
        "connections held for long",
        "have the rest of the pool",
        "a tenant has three quarters of a pool at most while others ask (`connections` among its limits: fewer)",
        "tests/conformance/test_g09_no_starvation.py::"
        "test_one_tenant_never_holds_more_than_its_share_while_others_exist",
        True,
    ),
    Threat(
        "a line that fills up",
        "have lines of their own",
        "`router.queue`: the tenant that is too much gets `TenantBusy`",
        "tests/conformance/test_g11_cancellation.py::test_a_full_queue_is_tenant_busy_for_that_tenant_only",
        True,
    ),
    Threat(
        "requests that are cancelled as fast as they come",
        "are served; the server sees no more sessions than the pool has",
        "one cancel request for each connection at a time",
        f"{_HERE}::test_a_flood_of_cancelled_requests_keeps_to_the_pool_and_others_are_served",
        True,
    ),
    Threat(
        "a statement or a transaction that does not end, by mistake",
        "have the rest of the pool; it is ended",
        "`statement_timeout` among the tenant's limits; `idle_in_transaction_session_timeout` of the database's "
        "`settings`. Without them, nothing",
        f"{_HERE}::test_a_statement_and_a_transaction_that_do_not_end_are_ended_by_the_limits",
        True,
    ),
    Threat(
        "the same on purpose: any SQL can SET these timeouts to 0",
        "have the rest of the pool only",
        "the tenant's part of the pool; nothing ends it. Suspend the tenant, end its session",
        f"{_HERE}::test_injected_sql_lifts_the_limits_of_its_scope",
    ),
    Threat(
        "statements that cost processors",
        "share what is left",
        "nothing; every second is metered, and a promotion takes the tenant to a database of its own",
        "tests/integration/router/test_no_free_ride.py::"
        "test_every_second_that_the_server_works_is_the_tenant_s_by_whatever_way_it_was_asked",
    ),
    Threat(
        "filling the disk by temporary files",
        "are served where `temp_file_limit` is set",
        "`ALTER ROLE … SET temp_file_limit` by a superuser: SQL of the role can't lift it. Unset: nothing",
        f"{_HERE}::test_temporary_files_are_bounded_by_a_limit_that_sql_can_not_lift",
        True,
    ),
    Threat(
        "filling the disk by rows",
        "are served where the quota kit is used",
        "[quotas](../how-to/kits.md); without them, nothing",
        "tests/integration/kits/test_quotas.py::test_the_application_role_can_not_get_around_its_limit",
        True,
    ),
    Threat(
        "another tenant's advisory lock",
        "that tenant waits, then gets `TenantMoving`",
        "the scope's end gives it back; behind a pooler, the next opening on that session",
        f"{_HERE}::test_another_tenants_lock_shuts_it_out_until_the_scope_ends",
    ),
    Threat(
        "the same lock in a transaction that is prepared",
        "that tenant is shut out until somebody rolls it back",
        "`max_prepared_transactions = 0`, PostgreSQL's default",
        f"{_HERE}::test_a_prepared_transaction_keeps_another_tenants_lock_until_it_is_rolled_back",
    ),
    Threat(
        "a lock on a table, or on rows of a table without tenants",
        "wait",
        "the scope's end; `lock_timeout` and `statement_timeout` of those who wait",
        f"{_HERE}::test_a_locked_table_makes_others_wait_until_the_scope_ends",
    ),
    Threat(
        "so many locks that the server has room for no more",
        "fail with 53200",
        "the scope's end; `max_locks_per_transaction`",
        f"{_HERE}::test_a_full_table_of_locks_fails_others_until_the_scope_ends",
    ),
    Threat(
        "`pg_terminate_backend`, `pg_cancel_backend` on sessions of the same role",
        "a statement that runs fails; what is idle is replaced without an error",
        "nothing: all scopes of a database share the application's role",
        f"{_HERE}::test_ending_and_cancelling_others_sessions_fails_what_runs_and_nothing_else",
    ),
    Threat(
        "`ALTER ROLE CURRENT_USER SET …` (timeouts, read-only, another role), or another password",
        "fail on connections that are opened later",
        "nothing in PostgreSQL: a role may change its own. `ALTER ROLE … RESET ALL`; let it in by certificate or "
        "by host, not by password",
        f"{_HERE}::test_a_role_can_spoil_its_own_later_sessions",
    ),
    Threat(
        "work left for the COMMIT or for the reset",
        "wait for that connection, or take another",
        "the tenant's part of the pool; it is metered",
        f"{_HERE}::test_work_left_for_the_commit_holds_that_connection_only",
    ),
    Threat(
        "a flood of `NOTIFY`",
        "are served",
        "notices are hints, and looked after now and then",
        "tests/integration/directory/test_notices.py::"
        "test_a_flood_of_false_notices_puts_everything_in_doubt_only_now_and_then",
        True,
    ),
    Threat(
        "false placements, by `enroll` after the transaction's end",
        "are served; rows are left in `tenantry.placement`, in plain mode only",
        "hardened: `enroll` wants the router's proof",
        f"{_HERE}::test_false_placements_harm_nobody_and_hardened_mode_refuses_them",
        True,
    ),
    Threat(
        "ending the transaction behind a pooler, where a service that is not tenantry's shares its sessions",
        "of that service find settings and temporary tables of the scope",
        "`server_reset_query_always = 1` in PgBouncer, or another role for the other service",
        f"{_HERE}::test_another_service_behind_the_pooler_finds_what_an_ended_transaction_leaves_unless_it_resets",
    ),
    Threat(
        "a dead dedicated database",
        "are served",
        "its own tenant alone is without service (G8)",
        "tests/conformance/test_g08_blast_radius.py::"
        "test_a_dead_dedicated_database_harms_its_own_tenant_alone_and_heals",
        True,
    ),
    Threat(
        "a dead control database",
        "are served where their placement is cached (G8)",
        "sign-ups and first requests fail until it is back",
        "tests/conformance/test_g08_blast_radius.py::"
        "test_a_dead_control_database_harms_nobody_whose_placement_is_cached",
        True,
    ),
    Threat(
        "a tenant that is moved",
        "are served; it waits for the pause",
        "the pause has a cap, past which the attempt aborts by itself (G16)",
        "tests/faults/test_switch.py::test_a_fence_without_its_mover_ends_within_the_cap",
        True,
    ),
)
