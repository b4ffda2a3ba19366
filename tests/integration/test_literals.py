"""A tenant id's literal: PostgreSQL reads the id back, under every setting that changes how it reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tenantry.embedded import EmbeddedServer
from tenantry.runtime.sqltext import literal

ATTACKS = [
    "'; DROP TABLE students; --",
    "\\'; SELECT 1; --",
    "\\",
    "\\\\'",
    "''",
    "E'x'",
    "$$x$$",
    "x\n'; --",
    "\u2019",
    "\u02bc",
    "\uff07",
    "a'||(SELECT 1)||'b",
    "%s %(x)s {0} $1 :x ?",
    "\x7f\x01\x1b",
    "\U0010ffff\U0001f600",
    "/* ' */ -- '",
    "�\\u0027",
    "\\u0027",
    "\\x27",
    "\\047",
    "é" * 127,
]
texts = st.text(
    st.one_of(
        st.sampled_from("'\"\\;$-/*\n\r\t%_ \u00bf\u2019\uff07\u8868\u80fd\ufeffu027xEeUNn&"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    min_size=1,
    max_size=60,
)


class Asker:
    """A connection in an event loop of its own, for Hypothesis's plain functions."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.connection: Any = self.run(asyncpg.connect(server.dsn()))

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.run(self.connection.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def asker(pg18: EmbeddedServer) -> Iterator[Asker]:
    asker = Asker(pg18)
    yield asker
    asker.close()


def _example_all(test: Any) -> Any:
    for attack in ATTACKS:
        test = example(text=attack)(test)
    return test


@pytest.mark.parametrize("strings", ["on", "off"])
@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1", "SJIS", "BIG5", "GBK", "WIN1252"])
def test_a_literal_reads_back_as_the_text_under_every_setting(asker: Asker, strings: str, encoding: str) -> None:
    """Asked as the octets that the server reads, so that no client-side decoding can flatter it."""
    asker.run(
        asker.connection.execute(
            f"SET standard_conforming_strings = {strings}; SET escape_string_warning = off; "
            f"SET backslash_quote = off"
        )
    )
    asker.run(asker.connection.execute(f"SET client_encoding = '{encoding}'"))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(text=texts)
    @_example_all
    def check(text: str) -> None:
        quoted = literal(text)
        assert quoted.isascii()
        query = f"SELECT encode(convert_to({quoted}, 'UTF8'), 'hex'), 'sentinel'"
        row = asker.run(asker.connection.fetchrow(query))
        assert bytes.fromhex(row[0]) == text.encode()
        assert row[1] == "sentinel"

    try:
        check()
    finally:
        asker.run(asker.connection.execute("SET client_encoding = 'UTF8'; RESET ALL"))
