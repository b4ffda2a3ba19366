"""No form of a password gets through."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.config.secrets import HIDDEN, of_dsn, scrub


@given(password=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=4, max_size=30))
def test_a_known_password_is_hidden_in_every_form(password: str) -> None:
    dsn = f"postgresql://app:{quote(password, safe='')}@db.example:5432/shop"
    known = of_dsn(dsn)
    for form in (password, quote(password, safe=""), dsn):
        assert form not in scrub(f"can't use <{form}> now", known) or form == HIDDEN or form in "can't use <> now"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://app:hunter2hunter2@db/shop",
        "postgres://:hunter2hunter2@db/shop",
        "connection to host=db password=hunter2hunter2 failed",
        "host=db password = 'hunter2hunter2' user=x",
        "postgresql://db/shop?password=hunter2hunter2&user=x",
        "postgresql://db/shop?sslpassword=hunter2hunter2",
    ],
)
def test_what_looks_like_a_password_is_hidden_even_if_nobody_knows_it(text: str) -> None:
    assert "hunter2" not in scrub(text)


@pytest.mark.parametrize("password", ["se#cretcret", "se/cretcret", "se?cretcret", "se@cretcret", "se:cretcret"])
def test_the_pieces_of_a_password_that_was_not_encoded_are_hidden(password: str) -> None:
    known = of_dsn(f"postgresql://app:{password}@db:5432/shop")
    assert "cretcret" not in scrub(f"invalid literal for int(): '{password}' and 'cretcret'", known)


def test_words_that_are_no_secrets_stay() -> None:
    text = "database shared is unavailable at db:5432"
    assert scrub(text, of_dsn("postgresql://app:abc@db:5432/shop")) == text
