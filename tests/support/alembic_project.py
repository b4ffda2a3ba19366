"""A product's folder with Alembic in it: two revisions, of which the second one can be made to fail."""

from __future__ import annotations

from pathlib import Path

INI = """
[alembic]
script_location = %(here)s
path_separator = os

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(levelname)-5.5s [%(name)s] %(message)s
"""

ENV = """
from logging.config import fileConfig

import sqlalchemy as sa
from alembic import context
from tenantry.integrations.alembic import migrate_env

fileConfig(context.config.config_file_name)
migrate_env(context, sa.MetaData())
"""

FIRST = '''
"""lessons"""
revision, down_revision = "r1", None
import sqlalchemy as sa
from alembic import op
import tenantry.integrations.alembic

def upgrade():
    op.tenant_table(
        "lessons",
        sa.Column("id", sa.BigInteger, sa.Identity()),
        sa.Column("title", sa.Text, nullable=False),
    )

def downgrade():
    op.drop_tenant_table("lessons")
'''

SECOND = '''
"""colour"""
revision, down_revision = "r2", "r1"
import sqlalchemy as sa
from alembic import op

def upgrade():
    op.add_column("lessons", sa.Column("colour", sa.Text, server_default="none"))

def downgrade():
    op.drop_column("lessons", "colour")
'''


def make_project(folder: Path) -> list[str]:
    """Make it; returns the command that upgrades one database."""
    folder.mkdir()
    (folder / "versions").mkdir()
    (folder / "alembic.ini").write_text(INI)
    (folder / "env.py").write_text(ENV)
    (folder / "script.py.mako").write_text("")
    (folder / "versions" / "r1.py").write_text(FIRST)
    return ["alembic", "-c", str(folder / "alembic.ini"), "upgrade", "head"]


def add_revision(folder: Path) -> None:
    """The product's next release."""
    (folder / "versions" / "r2.py").write_text(SECOND)
