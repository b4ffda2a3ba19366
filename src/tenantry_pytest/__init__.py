"""Goes as soon as no environment has the old entry point."""

from tenantry.pytest_plugin import *  # noqa: F403
