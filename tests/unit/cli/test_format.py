"""How the command line writes and reads shares, bytes and durations."""

from __future__ import annotations

import pytest

from tenantry.cli import format
from tenantry.cli.moves import _limits
from tenantry.config import size
from tenantry.errors import ConfigError
from tenantry.promotion import percent
from tenantry.server.console.words import FILTERS


@pytest.mark.parametrize("text", ["100kB", "20MB", "1.5GB"])
def test_a_size_means_the_same_behind_rate_as_in_the_configuration_and_is_written_as_it_is_read(text: str) -> None:
    assert _limits(text, 1).copy_rate == size(text)
    assert size(format.size(size(text)).replace(" ", "")) == size(text)


@pytest.mark.parametrize("text", ["", "fast", "20mb", "20 MiB", "99kB", "-1MB", "0", "1e9", "inf"])
def test_a_rate_that_is_none_is_refused_with_the_options_name(text: str) -> None:
    with pytest.raises(ConfigError, match="--rate"):
        _limits(text, 1)


def test_a_share_is_written_the_same_in_tables_on_the_page_and_in_reasons() -> None:
    assert {format.share(0.41666), FILTERS["share"](0.41666), percent(0.41666)} == {"41.7%"}
    assert (format.share(None), format.share(0.0), format.share(1.0)) == ("-", "0.0%", "100.0%")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89.4, "89 s"), (120, "2 min"), (9000, "2.5 h"), (260_000, "3.0 d")]
)
def test_a_duration_is_written_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert format.duration(seconds) == text
