"""Alembic's environment."""

from alembic import context

from examples.school.models import Base
from tenantry.integrations.alembic import migrate_env

migrate_env(context, Base.metadata)
