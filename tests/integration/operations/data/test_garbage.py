"""Files that are no whole archive: refused by name, before a row is written."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenantry import InvalidTenantId, OperationRefused
from tenantry.errors import ArchiveUnusable
from tenantry.operations.data.archive import reading
from tests.integration.operations.data.conftest import World

Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def rewritten(path: Path, change: Change, *, compression: int = zipfile.ZIP_STORED) -> Path:
    """A copy of an archive whose manifest and members somebody has changed."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(manifest, members)
    there = path.with_name(f"{uuid.uuid4().hex}.zip")
    with zipfile.ZipFile(there, "w", compression) as new:
        for name, data in members.items():
            new.writestr(name, data)
        new.writestr("manifest.json", json.dumps(manifest))
    return there


def replace_stream(
    manifest: dict[str, Any], members: dict[str, bytes], change: Callable[[bytes], bytes], **more: int
) -> None:
    """Other rows of the accounts, with the right hash."""
    [part] = [one["part"] for one in manifest["tables"] if one["name"] == "account"]
    data = members[part["member"]] = change(members[part["member"]])
    part |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **more}


async def test_damaged_and_foreign_files_are_refused_by_name_and_nothing_is_written(world: World) -> None:
    data, before = world.ops.data, await world.rows("shared")
    await data.export(world.tenant, world.file)
    await data.erase(world.tenant)
    whole = world.file.read_bytes()
    bad = world.folder / "bad.zip"

    async def refused(path: Path, match: str) -> None:
        with pytest.raises((ArchiveUnusable, OperationRefused), match=match):
            await data.import_(path)
        assert not any((await world.rows("shared")).values()), path

    await refused(world.folder / "none.zip", "no such file")
    await refused(world.folder, "directory")
    for part in (b"", b"not a zip", whole[: len(whole) // 2], whole[:-1], whole[len(whole) // 2 :]):
        bad.write_bytes(part)
        await refused(bad, "bad.zip: ")

    def manifest(**values: Any) -> Change:
        return lambda found, _: found.update(values)

    def member(name: str, text: bytes = b"") -> Change:
        return lambda _, members: members.update({name: text})

    def pop(_: dict[str, Any], members: dict[str, bytes]) -> None:
        members.pop("tables/0001.copy")

    def strange(found: dict[str, Any], _: dict[str, bytes]) -> None:
        found["tables"][0]["part"]["member"] = "../../etc/passwd"

    def elsewhere(found: dict[str, Any], members: dict[str, bytes]) -> None:
        found["tables"][0]["part"]["member"] = "/etc/passwd"
        members["/etc/passwd"] = members.pop("tables/0001.copy")

    def injected(found: dict[str, Any], _: dict[str, bytes]) -> None:
        found["tables"][0]["name"] = 'x"; DROP TABLE account; --'

    def shorter(found: dict[str, Any], members: dict[str, bytes]) -> None:
        replace_stream(found, members, lambda rows: rows.split(b"\n", 1)[1])

    def other_value(found: dict[str, Any], members: dict[str, bytes]) -> None:
        replace_stream(found, members, lambda rows: rows.replace(b"1\t0", b"1\t9", 1))

    for change, match in (
        (manifest(version=2), "format version 2"),
        (manifest(format="tar"), "no archive of a tenant"),
        (manifest(extra=1), "strange 'extra'"),
        (manifest(tables="x"), "no list"),
        (manifest(tenant=7), "no str"),
        (manifest(weight=-1), "terms"),
        (manifest(id_type="text"), "id is a text"),
        (member("../evil.sh"), "members are not those"),
        (member("tables/9999.copy"), "members are not those"),
        (pop, "members are not those"),
        (strange, "names a member"),
        (elsewhere, "names a member"),
        (injected, "no table"),
        (shorter, "the archive has 9 rows and says 10"),
        (other_value, "not in shared what they are in the archive"),
    ):
        await refused(rewritten(world.file, change), match)
    await refused(rewritten(world.file, lambda *_: None, compression=zipfile.ZIP_DEFLATED), "compressed")
    with pytest.raises(InvalidTenantId):
        await data.import_(rewritten(world.file, manifest(tenant="nobody")))
    # The way in is open all the same.
    assert (await data.import_(world.file)).written
    assert await world.rows("shared") == before


async def test_a_bit_that_flips_anywhere_is_refused_or_changes_nothing(world: World) -> None:
    await world.ops.data.export(world.tenant, world.file)
    with reading(world.file) as archive:
        right = archive.manifest
    whole, chance = world.file.read_bytes(), random.Random(5)
    bad, refused = world.folder / "bad.zip", 0
    for _ in range(400):
        place = chance.randrange(len(whole))
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :])
        try:
            with reading(bad) as archive:
                await archive.check(lambda *_: None)
                # Dates and attributes of members are nothing to us.
                assert archive.manifest == right
        except ArchiveUnusable:
            refused += 1
    assert refused > 300


async def test_an_archive_can_not_bring_rows_of_another_tenant(world: World) -> None:
    """Whoever rewrites the streams, hashes included, gets no line into the database that does not begin with the
    importing tenant's id."""
    await world.ops.data.export(world.tenant, world.file)
    await world.ops.data.erase(world.tenant)
    victim, others = world.estate.tenants[1], await world.others()
    hostile = (
        b"1\r%s\t99\t1000000\r",  # another kind of line end, which COPY would take from its first line
        b"1\t5\r\n%s\t99\t1000000\r\n",
        b"1\t5\\\n%s\t99\t1000000\n",  # an escaped line end
        b"1\t5\n\\.\n%s\t99\t1000000\n",  # the end of the data
        b"%s\t99\t1000000\n",
        b"1\t5\n%s\t99\t1000000",
    )
    for text in hostile:

        def change(found: dict[str, Any], members: dict[str, bytes], text: bytes = text) -> None:
            data = text.replace(b"%s", str(victim).encode())
            replace_stream(found, members, lambda _: data, rows=2)

        with pytest.raises(OperationRefused):
            await world.ops.data.import_(rewritten(world.file, change))
        assert await world.others() == others
        assert not any((await world.rows("shared")).values())


async def test_a_file_that_is_there_is_never_written_over(world: World) -> None:
    world.file.write_text("mine")
    with pytest.raises(ArchiveUnusable, match="there already"):
        await world.ops.data.export(world.tenant, world.file)
    with pytest.raises(ArchiveUnusable, match="can't be written"):
        await world.ops.data.export(world.tenant, world.folder / "none" / "x.zip")
    assert world.file.read_text() == "mine"
    assert [one.name for one in world.folder.iterdir()] == ["tenant.zip"]
