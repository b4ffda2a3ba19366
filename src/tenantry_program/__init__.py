"""Goes as soon as no environment has the old entry point."""

from tenantry.__main__ import main as main
