"""The tables, with tenantry's policies from the first moment on.

`tenantry rls apply` gives the application's role its rights afterwards.
"""

import sqlalchemy as sa
from alembic import op

from tenantry.integrations.alembic import drop_tenant_table, tenant_table

revision = "0001"
down_revision = None


def student() -> list[sa.schema.SchemaItem]:
    """A column for a student, and its foreign key, which includes the tenant."""
    key = sa.ForeignKeyConstraint(
        ["tenant_id", "student_id"], ["students.tenant_id", "students.id"], ondelete="CASCADE"
    )
    return [sa.Column("student_id", sa.BigInteger, nullable=False), key]


def upgrade() -> None:
    tenant_table(op, "centres", sa.Column("name", sa.Text, nullable=False), primary_key=())
    tenant_table(
        op,
        "students",
        sa.Column("id", sa.BigInteger, sa.Identity()),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
    )
    op.create_index("students_email", "students", ["tenant_id", "email"], unique=True)
    tenant_table(
        op,
        "lessons",
        sa.Column("id", sa.BigInteger, sa.Identity()),
        *student(),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("cents", sa.Integer, nullable=False),
        sa.Column("attended", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    tenant_table(
        op,
        "invoices",
        sa.Column("id", sa.BigInteger, sa.Identity()),
        *student(),
        sa.Column("month", sa.Date, nullable=False),
        sa.Column("cents", sa.Integer, nullable=False),
    )
    op.create_index("invoices_month", "invoices", ["tenant_id", "month", "student_id"], unique=True)


def downgrade() -> None:
    for name in ("invoices", "lessons", "students", "centres"):
        drop_tenant_table(op, name)
