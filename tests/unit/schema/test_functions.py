"""The functions' SQL: as reviewed, and filled in with values that can't break out of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.ids import IdType
from tenantry.schema import Form, Identity
from tenantry.schema.rendering import checksum, functions, script
from tests.unit.schema.golden import IDENTITY, found, rendered

DATA = [Form.PLAIN, Form.HARDENED, Form.CITUS]
#: What running routers call: these names and parameters stay, whatever becomes of the bodies.
CALLED_BY_ROUTERS = {
    "bind(tenant text)",
    "bind(tenant text, proof text)",
    "enter(tenant text)",
    "enter(tenant text, proof text)",
    "enroll(tenant text, epoch bigint, proof text DEFAULT NULL)",
    "current_tenant()",
    "admitted()",
    "admitted_tenant()",
    "admit()",
}


def test_every_function_is_as_its_golden_file_says() -> None:
    assert found() == rendered(), "write the files anew by `python -m tests.unit.schema.golden`, and review them"


@pytest.mark.parametrize("form", DATA)
def test_each_form_has_every_function_that_routers_call(form: Form) -> None:
    assert functions(form, IDENTITY).keys() >= CALLED_BY_ROUTERS


def test_all_forms_have_the_same_functions() -> None:
    assert len({tuple(sorted(functions(form, IDENTITY))) for form in DATA}) == 1


@pytest.mark.parametrize("form", Form)
def test_nothing_is_left_to_be_filled_in(form: Form) -> None:
    left = re.compile(r":'(database|setting|id_type)'|:(type|setting)\b")
    assert left.search(script(form, IDENTITY)) is None


@pytest.mark.parametrize("form", DATA)
@pytest.mark.parametrize(
    "other",
    [
        IDENTITY._replace(database="acme"),
        IDENTITY._replace(setting="app.current_org"),
        IDENTITY._replace(id_type=IdType.TEXT),
    ],
)
def test_another_database_has_another_checksum(form: Form, other: Identity) -> None:
    assert checksum(form, other) != checksum(form, IDENTITY)
    assert checksum(form, IDENTITY) == checksum(form, IDENTITY)


@pytest.mark.parametrize("database", ["", "a'b", "a$$b", "a b", "a;b", "a\\b", "ä", "x" * 64, "a\nb", "a\n"])
def test_a_database_name_that_can_not_stand_in_sql_is_refused(database: str) -> None:
    with pytest.raises(ValueError, match="can't be a database's name"):
        script(Form.PLAIN, IDENTITY._replace(database=database))


@pytest.mark.parametrize("setting", ["", "app", "App.x", "app.x'", "app.x; DROP", "app..x", "app.$$", "app.x\n"])
def test_a_setting_that_can_not_stand_in_sql_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="can't be a setting's name"):
        script(Form.CITUS, IDENTITY._replace(setting=setting))


@given(st.text(), st.text())
def test_whatever_is_filled_in_is_refused_or_stays_inside_its_quotes(database: str, setting: str) -> None:
    identity = Identity(database, setting, IdType.UUID)
    try:
        text = script(Form.CITUS, identity)
    except ValueError:
        return
    assert text.count("$$") == script(Form.CITUS, IDENTITY).count("$$")
    assert text.count("'") == script(Form.CITUS, IDENTITY).count("'")
