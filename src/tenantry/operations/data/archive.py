"""The file: a zip archive that holds COPY's streams, uncompressed, and the manifest that vouches for them.

Written under another name in the same folder, made durable, and only then given its own: a file of that name is a
whole archive. Nothing is ever unpacked: an import reads the members that the manifest lists, by the names that
this module gives them, and refuses a file with any other member.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from tenantry.errors import ArchiveUnusable
from tenantry.operations.data.manifest import ArchivedPart, Manifest, ManifestUnusable

_MANIFEST: Final = "manifest.json"
_MEMBER: Final = re.compile(r"(tables|references|kits)/\d{4}\.copy", re.ASCII)
#: Bytes that are hashed, written or read at once, in a thread: what an archive costs in memory, twice.
BLOCK: Final = 1024 * 1024
_LARGEST_MANIFEST: Final = 64 * 1024 * 1024
#: What a damaged zip file may raise while it is read.
_DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError, OSError,
)  # fmt: skip


class ArchiveWriter:
    """An archive that is being written."""

    # Mutable state: the zip file, its open member, and the block that is being filled.

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self.started = 0
        """Members begun so far."""

    @contextlib.asynccontextmanager
    async def member(self, folder: str) -> AsyncIterator[MemberWriter]:
        """A new member in `folder`; complete at the body's end."""
        self.started += 1
        name = f"{folder}/{self.started:04}.copy"
        stream = self._zip.open(zipfile.ZipInfo(name), "w", force_zip64=True)
        writer = MemberWriter(self._path, name, stream)
        try:
            yield writer
            await writer.flush()
        finally:
            writer.drop()
            with _writing_to(self._path):
                stream.close()

    async def copied(
        self, folder: str, connection: Any, query: str, told: Callable[[int], None] = lambda _: None
    ) -> ArchivedPart:
        """A new member with the query's rows, as COPY's text. `told`: how many bytes more."""
        async with self.member(folder) as member:

            async def put(data: bytes) -> None:
                await member.write(data)
                told(len(data))

            status = await connection.copy_from_query(query, output=put, format="text")
        return member.part(int(status.split()[-1]))

    async def finish(self, manifest: Manifest) -> None:
        """Write the manifest and the end of the file."""
        text = manifest.to_json()
        with _writing_to(self._path):
            await asyncio.to_thread(self._zip.writestr, zipfile.ZipInfo(_MANIFEST), text)
            self._zip.close()

    def abandon(self) -> None:
        """Let go of the file, which is no archive."""
        with contextlib.suppress(
            ValueError, OSError
        ):  # a thread may still be writing a block, or the disk is full
            self._zip.close()


class MemberWriter:
    """One stream of an archive."""

    # Mutable state: _block, not written yet; _under_way, a thread that writes the one before it; _hash and _bytes,
    # of what was written.

    def __init__(self, path: Path, name: str, stream: IO[bytes]) -> None:
        self._path = path
        self._name = name
        self._stream = stream
        self._block = bytearray()
        self._under_way: asyncio.Future[None] | None = None
        self._hash = hashlib.sha256()
        self._bytes = 0

    async def write(self, data: bytes) -> None:
        """Take some bytes. While a block is written the next one is filled; then whoever brings more waits."""
        self._block += data
        if len(self._block) >= BLOCK:
            await self._begin()

    async def flush(self) -> None:
        """Write what is held."""
        await self._begin()
        await self._written()

    async def _begin(self) -> None:
        await self._written()
        block, self._block = self._block, bytearray()
        if block:
            self._under_way = asyncio.get_running_loop().run_in_executor(None, self._put, block)

    async def _written(self) -> None:
        future, self._under_way = self._under_way, None
        if future is not None:
            with _writing_to(self._path):
                await future

    def drop(self) -> None:
        """Nobody waits for what is still being written: the file is given up."""
        if self._under_way is not None:
            self._under_way.cancel()

    def _put(self, block: bytearray) -> None:
        self._hash.update(block)
        self._stream.write(block)
        self._bytes += len(block)

    @property
    def bytes(self) -> int:
        """Written so far."""
        return self._bytes

    def part(self, rows: int) -> ArchivedPart:
        """What the manifest says of it, once all is written."""
        return ArchivedPart(self._name, rows, self._bytes, self._hash.hexdigest())


@contextlib.asynccontextmanager
async def writing(path: Path) -> AsyncIterator[ArchiveWriter]:
    """An archive that is there under its name when the body has ended well, and not at all when it has not.

    Only its owner may read it. A process that is killed leaves a file `.NAME.….part`.

    Raises:
        ArchiveUnusable: there is a file of that name, or the folder takes none.
    """
    _refuse_taken(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    with _writing_to(path):
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            archive = ArchiveWriter(path, file)
            try:
                yield archive
            except BaseException:
                archive.abandon()
                raise
            with _writing_to(path):
                await asyncio.to_thread(_make_durable, file)
        with _writing_to(path):
            _publish(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing_to(path: Path) -> Iterator[None]:
    """Around what writes the file and nothing else: a database's broken connection is an OSError too."""
    try:
        yield
    except OSError as error:
        raise ArchiveUnusable(str(path), f"it can't be written: {error.strerror or error}") from error


def _refuse_taken(path: Path) -> None:
    if os.path.lexists(path):
        raise ArchiveUnusable(str(path), "it is there already: name another file, or move it away")


def _make_durable(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _publish(part: Path, path: Path) -> None:
    """Give a finished file its name, unless somebody has taken that meanwhile."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise ArchiveUnusable(str(path), "somebody else has made it meanwhile: name another file") from None
    except OSError:  # a file system without links
        os.rename(part, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class ArchiveReader:
    """An archive that is there. What it gives has been compared with the manifest's hashes."""

    def __init__(self, path: Path, file: zipfile.ZipFile, manifest: Manifest) -> None:
        self._path = path
        self._zip = file
        self.manifest = manifest

    async def check(self, told: Callable[[ArchivedPart, int], None]) -> None:
        """Read every stream once; `told` of which how many bytes.

        Raises:
            ArchiveUnusable: one is not what the manifest says.
        """
        for part in self.manifest.parts:
            async for block in self.stream(part):
                told(part, len(block))

    async def stream(self, part: ArchivedPart) -> AsyncIterator[bytes]:
        """A stream's bytes, in blocks; raises ArchiveUnusable at its end at the latest."""
        digest, size, last = hashlib.sha256(), 0, b"\n"
        try:
            with self._zip.open(part.member) as stream:
                while block := await asyncio.to_thread(_read, stream, digest):
                    # COPY's text writes this one as an escape. Here it would begin lines that nobody has counted.
                    if b"\r" in block:
                        raise ArchiveUnusable(str(self._path), f"{part.member} is no text of COPY")
                    size, last = size + len(block), block[-1:]
                    yield block
        except _DAMAGED as error:
            raise ArchiveUnusable(str(self._path), f"{part.member} is damaged ({type(error).__name__})") from error
        if last != b"\n" or size != part.bytes or digest.hexdigest() != part.sha256:
            raise ArchiveUnusable(
                str(self._path), f"{part.member} is not what was written: its bytes have another hash"
            )


def _read(stream: IO[bytes], digest: hashlib._Hash) -> bytes:
    block = stream.read(BLOCK)
    digest.update(block)
    return block


@contextlib.contextmanager
def reading(path: Path) -> Iterator[ArchiveReader]:
    """Open an archive and read its manifest.

    Raises:
        ArchiveUnusable: it can't be read, or it is none that this release reads.
    """
    try:
        file = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ArchiveUnusable(str(path), "there is no such file") from None
    except _DAMAGED as error:
        why = getattr(error, "strerror", None) or "it is no zip file, or its end is missing"
        raise ArchiveUnusable(str(path), why) from None
    with file:
        try:
            manifest = _manifest(file)
        except ManifestUnusable as error:
            raise ArchiveUnusable(str(path), str(error)) from None
        except _DAMAGED as error:
            raise ArchiveUnusable(str(path), f"its manifest is damaged ({type(error).__name__})") from None
        yield ArchiveReader(path, file, manifest)


def _manifest(file: zipfile.ZipFile) -> Manifest:
    there = file.infolist()
    odd = [one for one in there if one.compress_type != zipfile.ZIP_STORED or one.flag_bits & 0x1]
    if odd:
        raise ManifestUnusable(f"{odd[0].filename[:80]!r} is compressed or encrypted, as no archive of ours is")
    if _MANIFEST not in file.namelist():
        raise ManifestUnusable("it has no manifest")
    if file.getinfo(_MANIFEST).file_size > _LARGEST_MANIFEST:
        raise ManifestUnusable("its manifest is too large to be one")
    manifest = Manifest.from_json(file.read(_MANIFEST))
    wanted = [_MANIFEST, *(part.member for part in manifest.parts)]
    if bad := [name for name in wanted[1:] if not _MEMBER.fullmatch(name)]:
        raise ManifestUnusable(f"its manifest names a member {bad[0][:80]!r}")
    names = [one.filename for one in there]
    if sorted(names) != sorted(wanted):
        strange = sorted({*names} - {*wanted}) or sorted({*wanted} - {*names}) or sorted(names)
        raise ManifestUnusable(f"its members are not those of the manifest: {strange[0][:80]!r}")
    return manifest
