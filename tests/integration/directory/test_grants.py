"""What the routers' role may do where the control database is a data database too."""

from __future__ import annotations

from tenantry.embedded import EmbeddedServer
from tenantry.schema import grant_control
from tests.support.product import product_on


async def test_the_routers_role_gets_nothing_of_a_data_database_that_is_also_the_control_database(
    pg: EmbeddedServer,
) -> None:
    """Reading the secret would break hardened mode, writing a placement would bring a moved tenant back."""
    with product_on(pg) as product:
        async with product.admin() as admin:
            transaction = admin.transaction()
            await transaction.start()
            await admin.execute("CREATE ROLE routers_of_this_test")
            await grant_control(admin, "routers_of_this_test")
            granted = {
                row["relname"]
                for row in await admin.fetch(
                    "SELECT relname FROM pg_class WHERE relnamespace = 'tenantry'::regnamespace AND relkind = 'r' "
                    "AND (has_table_privilege('routers_of_this_test', oid, 'SELECT') "
                    "OR has_table_privilege('routers_of_this_test', oid, 'INSERT, UPDATE, DELETE'))"
                )
            }
            await transaction.rollback()
    assert granted >= {"tenant", "database", "usage", "move", "event"}, "the check saw no grants"
    assert not granted & {"secret", "placement", "database_identity", "move_gate", "move_marker"}
