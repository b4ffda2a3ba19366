"""Whatever is in the file: one line that names file, key and what to write, and no secret."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from tenantry import Config, ConfigError

CANARY = "Zxq7canary"
CONTROL = f"control: {{dsn: 'postgresql://c:{CANARY}@h/c'}}\n"
SHARED = f"databases: {{shared: {{kind: shared, dsn: 'postgresql://a:{CANARY}@h/s'}}}}\n"
BOTH = CONTROL + SHARED


def database(more: str) -> str:
    """A file whose only database says this too."""
    return CONTROL + f"databases: {{shared: {{kind: shared, dsn: 'postgresql://a:{CANARY}@h/s', {more}}}}}\n"


def dsn(written: str) -> str:
    return CONTROL + f"databases: {{shared: {{kind: shared, dsn: {written}}}}}\n"


GARBAGE = [
    ("", "", "must be a mapping with the keys control: and databases:"),
    ("- a", "", "must be a mapping with the keys control: and databases:"),
    (SHARED, "control", "is missing"),
    (CONTROL, "databases", "is missing"),
    ("control:\n" + SHARED, "control", "is empty; write its value, or take it out"),
    (BOTH + "router:\n", "router", "is empty"),
    (f"control: postgresql://c:{CANARY}@h/c\n" + SHARED, "control", "must be a mapping"),
    (CONTROL + "databases: [a]\n", "databases", "must be a mapping"),
    (CONTROL + "databases: {shared: x}\n", "databases.shared", "must be a mapping"),
    (CONTROL + "databases: {shared: }\n", "databases.shared", "is empty"),
    (BOTH + SHARED, "databases", "stands twice, in line 3 too"),
    (BOTH + "router:\n  queue: 1\n  timeout: 1s\n  queue: 2\n", "queue", "stands twice, in line 6 too"),
    (BOTH + "1: x\n", "1", "put it in quotes"),
    (CONTROL + "databases: {1: {kind: shared}}\n", "databases.1", "put it in quotes"),
    (BOTH + "tenacy: {type: uuid}\n", "tenacy", "did you mean tenancy?"),
    (BOTH + "references: {shared: x}\n", "references", "unknown key"),
    (CONTROL + f"databases: {{shared: {{kind: shared, dns: 'postgresql://a:{CANARY}@h/s'}}}}\n",
     "databases.shared.dns", "did you mean dsn?"),
    (dsn("5"), "databases.shared.dsn", "must be text"),
    (dsn(""), "databases.shared.dsn", "is empty"),
    (dsn(f"'host=h user=a password={CANARY} dbname=s'"), "databases.shared.dsn", "write postgresql://"),
    (dsn(f"'postgesql://a:{CANARY}@h/s'"), "databases.shared.dsn", "write postgresql://"),
    (dsn(f"'postgresql://a:{CANARY}@h:port/s'"), "databases.shared.dsn", "write postgresql://"),
    (dsn(f"'postgresql://a:{CANARY}@h/s?sslmode=requre'"), "databases.shared.dsn", "verify-full"),
    (dsn("'${NOPE_X}'"), "databases.shared.dsn", "NOPE_X is not set"),
    (dsn("'${NOPE-X}'"), "databases.shared.dsn", "${NAME:-default}"),
    (dsn("'${NOPE'"), "databases.shared.dsn", "${NAME:-default}"),
    (dsn("$NOPE"), "databases.shared.dsn", "written ${NAME}"),
    (database("kind: sharded").replace("kind: shared, ", ""), "databases.shared.kind", "'shared' or 'dedicated'"),
    (database("pool: 20"), "databases.shared.pool", "must be a mapping"),
    (database("pool: {max: -1}"), "databases.shared.pool.max", "must be 1 or more"),
    (database("pool: {max: lots}"), "databases.shared.pool.max", "must be a whole number"),
    (database("pool: {max: on}"), "databases.shared.pool.max", "must be a whole number"),
    (database("pool: {max: 99999999999999999999}"), "databases.shared.pool.max", "10000 or less"),
    (database("pool: {idle: 10 minutes}"), "databases.shared.pool.idle", "write 500ms, 30s, 10m, 2h or 14d"),
    (database("pool: {idle: .nan}"), "databases.shared.pool.idle", "above zero"),
    (database("settings: {jit: off}"), "databases.shared.settings.jit", "into quotes"),
    (database("settings: {application_name: x}"), "databases.shared.settings.application_name", "take it out"),
    (database("settings: {app.current_tenant: x}"), "databases.shared.settings.app.current_tenant", "take it out"),
    (database("settings: {Role: postgres}"), "databases.shared.settings.Role", "take it out"),
    (database("settings: {'a b;c': x}"), "databases.shared.settings", "no setting"),
    (database("prepared_statements: maybe"), "databases.shared.prepared_statements", "true or false"),
    (database("disk: 200 gigs"), "databases.shared.disk", "500MB, 20GB or 1TB"),
    (database("backup: pg_dump"), "databases.shared.backup", "must be a mapping"),
    (CONTROL + "databases: {acme: {kind: dedicated, server: nope}}\n", "databases.acme.server", "'nope'"),
    (CONTROL + "databases: {'a b': {kind: shared}}\n".replace("shared}", "shared, dsn: 'postgresql://a@h/s'}"),
     "databases", "no database's name"),
    (BOTH + "tenancy: {type: int}\n", "tenancy.type", "'uuid', 'bigint' or 'text'"),
    (BOTH + "tenancy: {column: ''}\n", "tenancy.column", "must not be empty"),
    (BOTH + "tenancy: {setting: tenant}\n", "tenancy.setting", "app.current_tenant"),
    (BOTH + "tenancy: {tables: {invoices: reference}}\n", "tenancy.tables", "write public.invoices"),
    (BOTH + "tenancy: {tables: {public.invoices: ''}}\n", "tenancy.tables", "reference, once or ignore"),
    (BOTH + f"tenancy: {{hardened: true, secret: {CANARY}}}\n", "tenancy.secret", "${TENANTRY_SECRET}"),
    (BOTH + "tenancy: {hardened: true, secret: $A_NAME}\n", "tenancy.secret", "${NAME}"),
    (BOTH + "router: {tenant_share: 75%}\n", "router.tenant_share", "a share is written 0.40"),
    (BOTH + "router: {timeout: .inf}\n", "router.timeout", "above zero"),
    (BOTH + "promotion: {threshold: 40}\n", "promotion.threshold", "below 1; a share is written 0.40"),
    (BOTH + "promotion: {window: 14}\n", "promotion", "whole number of days: write 14d"),
    (BOTH + "promotion: {bucket: week, window: 10d}\n", "promotion", "whole number of weeks: write 14d"),
    (BOTH + "promotion: {bucket: month}\n", "promotion.bucket", "'day' or 'week'"),
    (CONTROL + "databases: {acme: {kind: dedicated, dsn: 'postgresql://a@h/s', tenant: 007}}\n", "", "text"),
    (CONTROL + "databases: {acme: {kind: dedicated, dsn: 'postgresql://a@h/s', tenant: acme}}\n",
     "databases.acme.tenant", "write 32 hexadecimal digits"),
    ("control:\n\tdsn: x\n", "", "not YAML in line 2"),
    ("a: &a [*a]\n" + BOTH, "", "an alias (*) refers to what it stands in"),
    ("a: !!python/object:os.system x\n" + BOTH, "", "not YAML"),
    (BOTH + "---\nfoo: 1\n", "", "not YAML"),
    (BOTH + "\0", "", "not YAML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "said"), GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_in_the_file_is_one_line_with_file_key_and_what_to_write(
    tmp_path: Path, text: str, key: str, said: str
) -> None:
    path = tmp_path / "tenantry.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        Config.load(path, environment={})
    words = str(refused.value)
    assert words.startswith(f"{path}: {key}: " if key else f"{path}: ")
    assert said in words
    assert len(words.splitlines()) == 1
    assert len(words) < len(str(path)) + 250
    assert CANARY not in "".join(traceback.format_exception(refused.value))


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\0")
    for path in (tmp_path, binary, tmp_path / "none", Path("/dev/null/x")):
        with pytest.raises(ConfigError) as refused:
            Config.load(path)
        assert str(refused.value).startswith(f"{path}: ")
        assert len(str(refused.value).splitlines()) == 1


def test_blanks_around_a_dsn_and_a_mark_before_the_text_are_no_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "tenantry.yaml"
    path.write_text("\ufeff" + CONTROL + dsn("' postgresql://a@h/s '").removeprefix(CONTROL), encoding="utf-8")
    config = Config.load(path, environment={})
    assert config.databases["shared"].dsn.get_secret_value() == "postgresql://a@h/s"


def test_a_shells_own_variables_may_stand_in_a_backups_command() -> None:
    section = {"every": "6h", "command": "f=${f%.*}; pg_dump -f $TENANTRY_BACKUP_DATABASE"}
    shared = {"kind": "shared", "dsn": "postgresql://a@h/s", "backup": section}
    config = Config.parse({"control": {"dsn": "postgresql://c@h/c"}, "databases": {"shared": shared}})
    backup = config.databases["shared"].backup
    assert backup is not None
    assert backup.command == section["command"]
