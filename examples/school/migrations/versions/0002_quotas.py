"""How many students a plan has room for. Needs the kit: `tenantry init --with quotas`."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("SELECT tenantry.quota_on('public.students')")
    op.execute(
        "INSERT INTO tenantry.quota_limit VALUES "
        "('default', 'students', 3), ('basic', 'students', 5), ('pro', 'students', NULL)"
    )


def downgrade() -> None:
    op.execute("DELETE FROM tenantry.quota_limit WHERE resource = 'students'")
    op.execute("SELECT tenantry.quota_off('public.students')")
