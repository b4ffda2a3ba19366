"""Kits by name, and the typed error."""

from __future__ import annotations

import pytest

from tenantry import kits
from tenantry.errors import ConfigError


def test_kits_come_in_the_order_in_which_they_are_installed() -> None:
    assert kits.parse(" usage,quotas,,quotas") == ("quotas", "usage")
    assert kits.parse([]) == kits.parse("") == ()


def test_an_unknown_kit_is_named() -> None:
    with pytest.raises(ConfigError, match="no kit 'nope'; there are: quotas, audit, usage"):
        kits.parse(["audit", "nope"])


def test_an_error_without_detail_still_has_attributes() -> None:
    error = kits.QuotaExceeded("x")
    assert (error.resource, error.limit, error.used) == ("", 0, 0)
