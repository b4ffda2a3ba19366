"""Scopes over TLS: whatever the router sends beside asyncpg's messages goes through the encryption too."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import uvloop

from tenantry.embedded import EmbeddedServer
from tenantry.embedded.folder import Folder
from tests.support.product import Product, product_on
from tests.support.programs import missing, require_program
from tests.support.quiet import nothing_leaked


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Product]:
    """A product on Debian's PostgreSQL 15, which is built with OpenSSL; the wheels are not."""
    folder = Folder.temporary("tenantry-tls-", short=True)
    key, certificate = folder.path / "key.pem", folder.path / "certificate.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    command = [str(require_program("openssl")), *request.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    if os.geteuid() == 0:  # the server runs as somebody who may not be root
        shutil.chown(key, "nobody")
    folder.path.chmod(0o755)
    settings = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
    try:
        with EmbeddedServer.start(15, settings=settings) as server, product_on(server) as product:
            yield product.behind(lambda dsn: f"{dsn}?sslmode=require")
    except FileNotFoundError:
        missing("pg15", "PostgreSQL 15 (Debian's package postgresql-15) is not installed")
    finally:
        folder.remove()


async def scopes(product: Product) -> None:
    """Alone, behind one another, and as one-shots."""
    async with product.open(pool={"max": 2}) as router:
        tenants = await product.signed_up(router, 4)
        for number, tenant in enumerate(tenants):
            await router.execute(tenant, "INSERT INTO students (id, name) VALUES (1, $1)", f"of {number}")

        async def work(number: int) -> None:
            tenant = tenants[number % 4]
            async with router.tenant(tenant) as conn:
                assert await conn.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                assert await conn.fetchval("SELECT name FROM students WHERE id = $1", 1) == f"of {number % 4}"
            assert (
                await router.fetchval(tenant, "SELECT name FROM students WHERE id = $1", 1) == f"of {number % 4}"
            )

        await asyncio.gather(*(work(number) for number in range(60)))
        [idle] = {one.proof_context.pipelined for one in router.pools.open_pools()["shared"].connections.idle}
        assert idle, "openings travel with statements here, too"
        await nothing_leaked(router)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_scopes_over_tls_are_pipelined_and_encrypted(encrypted: Product, loop: str) -> None:
    (asyncio if loop == "asyncio" else uvloop).run(scopes(encrypted))
