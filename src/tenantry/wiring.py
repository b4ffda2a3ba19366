"""Config in, running objects out: the composition root."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from tenantry.catalog.tenancy import Tenancy
from tenantry.config import Config, ResolvedDatabase, of_config, resolve
from tenantry.directory import DatabaseRow, Directory, Feed, Store
from tenantry.events import Events, Sink
from tenantry.ids import TenantId
from tenantry.metrics import PrometheusSink
from tenantry.residence import Residence
from tenantry.router import DatabaseSpec, Pools, ProcessLimits, TenantRouter
from tenantry.router.driver import OnConnect
from tenantry.usage import Ledger, Meter, QueueReporter


class Router(TenantRouter):
    """Gives a service a tenant's connection.

    It is opened once for each process and event loop:

        async with Router.open("config/tenantry.yaml") as router:
            async with router.tenant(tenant_id) as conn:
                rows = await conn.fetch("SELECT * FROM students")
    """

    @classmethod
    def open(
        cls,
        config: Config | str | Path,
        *,
        registry: Any = None,
        metrics: bool = True,
        sinks: tuple[Sink, ...] = (),
        on_connect: OnConnect | None = None,
        pinned: TenantId | None = None,
    ) -> Opening:
        """Open a router: `async with Router.open(…) as router`, or `router = await Router.open(…)`.

        Args:
            config: a path, or a `Config`.
            registry: the `prometheus_client` registry that gets the metrics; None: the global one.
            metrics: False registers none.
            sinks: functions that are told every event of `tenantry.events`.
            on_connect: awaited with every new connection, for type codecs and the like.
            pinned: the only tenant that this router serves; every other id, and operators' scopes, are refused.

        Raises (when entered): ConfigError, UnsafeRole, InvalidTenantId for `pinned`. A database that is down is
        no error here: what needs it fails, the rest works.
        """
        return Opening(
            lambda: cls._start(config, registry, metrics, sinks, on_connect, pinned),
        )

    @classmethod
    async def _start(
        cls,
        source: Config | str | Path,
        registry: Any,
        metrics: bool,
        sinks: tuple[Sink, ...],
        on_connect: OnConnect | None,
        pinned: TenantId | None,
    ) -> Self:
        config = source if isinstance(source, Config) else Config.load(source)
        events = Events(*sinks)
        router = cls.assemble(config, events, on_connect, pinned)
        if metrics:
            sink = PrometheusSink(router, top=config.metrics.top, registry=registry)
            events.subscribe(sink)
            router.add_close_callback(sink.close)
        if config.usage.record:
            meter = Meter()
            events.subscribe(meter)
            pool = await router.directory.store.pool()
            ledger = Ledger(meter, pool, uuid4(), every=config.usage.flush)
            ledger.start()
            router.add_close_callback(ledger.close)
            waiting = QueueReporter(pool, ledger.router, partial(queues, router.pools))
            waiting.start()
            router.add_close_callback(waiting.close)
        try:
            await router.start()
        except BaseException:
            await router.close()
            raise
        return router

    @classmethod
    def assemble(
        cls,
        config: Config,
        events: Events,
        on_connect: OnConnect | None = None,
        pinned: TenantId | None = None,
    ) -> Self:
        """Put the parts together without any I/O."""
        store = Store(config.control.dsn.get_secret_value())
        directory = Directory(store, config.tenancy.type, events)
        limits = ProcessLimits(
            connections=config.router.connections,
            tenant_share=config.router.tenant_share,
            queue=config.router.queue,
            timeout=config.router.timeout,
            connect_timeout=config.router.connect_timeout,
        )

        async def look_up(name: str) -> DatabaseSpec | None:
            row = next((row for row in await store.databases() if row.name == name), None)
            return None if row is None else spec_of(config, resolve(config, row), row)

        async def residence_of(name: str) -> Residence | None:
            if name in config.databases:
                return config.databases[name].site.residence
            row = next((row for row in await store.databases() if row.name == name), None)
            return None if row is None else resolve(config, row).site.residence

        pools = Pools(
            {name: spec_of(config, of_config(config, name)) for name in config.databases},
            limits=limits,
            tenancy=tenancy_of(config),
            events=events,
            resolve=look_up,
            on_connect=on_connect,
        )
        return cls(
            ids=config.tenancy.type,
            directory=directory,
            feed=Feed(directory, config.control.listen_dsn, poll=config.control.poll),
            pools=pools,
            limits=limits,
            events=events,
            default_database=config.tenancy.default_database,
            rooms=config.rooms(),
            residence_of=residence_of,
            pinned=pinned,
        )


class Opening:
    """What `Router.open` returns: to be awaited, or entered."""

    # Mutable state: _router, once it is open.

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._router: Router | None = None

    def __await__(self) -> Generator[Any, None, Router]:
        return self._start().__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> Router:
        self._router = await self._start()
        assert self._router is not None
        return self._router

    async def __aexit__(self, *_: object) -> None:
        assert self._router is not None
        await self._router.close()


def queues(pools: Pools) -> dict[tuple[str, str], int]:
    """Callers that wait for a connection, by database and tenant."""
    return {
        (name, str(tenant)): callers
        for name, pool in pools.open_pools().items()
        for tenant, callers in pool.admission.queues().items()
    }


def tenancy_of(config: Config) -> Tenancy:
    """How the configured product's tables tell their tenants apart."""
    section = config.tenancy
    return Tenancy(
        column=section.column,
        id_type=section.type,
        setting=section.setting,
        hardened=section.hardened,
        tables=section.tables,
    )


def spec_of(config: Config, database: ResolvedDatabase, row: DatabaseRow | None = None) -> DatabaseSpec:
    """A database, as the pools want it.

    Args:
        row: the directory's, from which it can be resolved again; None: the configuration names it.

    Raises:
        DsnUnreadable: its reference leads nowhere here.
    """
    return DatabaseSpec(
        name=database.name,
        kind=database.kind,
        dsn=database.require_dsn(),
        operator_dsn=database.operator_dsn,
        size=database.pool.max,
        idle=database.pool.idle,
        settings=database.server_settings,
        key=config.key(database.name),
        prepared_statements=database.prepared_statements,
        reread=None if row is None else lambda: spec_of(config, resolve(config, row), row),
    )
