"""Sync tokens of devices: issued and revoked by operators. What a service does of it is `router.tokens`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from tenantry.directory.tokens import USUAL_DAYS, IssuedToken, SyncToken, id_of
from tenantry.errors import UnknownToken
from tenantry.operations.context import Context
from tenantry.router.tokens import unknown


class Tokens:
    """`Operations.tokens`. Raises (every method): DatabaseUnavailable: the control database doesn't answer."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def issue(
        self,
        tenant: object,
        *,
        scope: str | Sequence[str] = (),
        expires: timedelta | datetime | None = timedelta(days=USUAL_DAYS),
        label: str | None = None,
    ) -> IssuedToken:
        """Make a token for a device of the tenant. `.text` is what the device keeps, and can't be read again.

        Args:
            scope: what it may do, in words of the product's own; several as a list.
            expires: after so long, or when (with a zone); None: never.
            label: whose it is, for people.

        Raises:
            InvalidTenantId, UnknownTenant, TenantRemoved: nobody to issue it for.
            ConfigError: a scope, the label or the expiry can't be used.
            OperationRefused: the tenant has too many that are good.
        """
        context = self._context
        text = context.id_of(tenant)
        issued = await context.store.tokens.issue(
            text, scopes=scope, expires=expires, label=label, actor=context.actor
        )
        if issued is None:
            raise await unknown(context.store, text)
        return issued

    async def list(self, tenant: object | None = None, *, past: bool = False) -> AsyncIterator[SyncToken]:
        """Tokens by tenant, the oldest first, without their secrets.

        Args:
            tenant: of this one only.
            past: expired and revoked ones too, for 90 days.

        Raises:
            InvalidTenantId, UnknownTenant: there is no such tenant.
        """
        text = None if tenant is None else (await self._context.tenant(tenant)).id
        async for one in self._context.store.tokens.rows(text, past=past):
            yield one

    async def get(self, token: str) -> SyncToken:
        """One token, by its id or by the token itself.

        Raises:
            ConfigError: the text is neither.
            UnknownToken: there is none of that id.
        """
        name = id_of(token)
        found = await self._context.store.tokens.find([name])
        if name not in found:
            raise UnknownToken(name)
        return found[name].token

    async def revoke(self, token: str, *, reason: str | None = None) -> SyncToken:
        """Revoke a token: every router refuses it within a second. Repeatable. Raises as `get`."""
        one = await self.get(token)
        await self._context.store.tokens.revoke([one.id], None, actor=self._context.actor, reason=reason)
        return await self.get(one.id)

    async def revoke_all(self, tenant: object, *, reason: str | None = None) -> int:
        """Revoke every token of a tenant; returns how many were good or expired until then.

        Raises:
            InvalidTenantId, UnknownTenant: there is no such tenant.
        """
        row = await self._context.tenant(tenant)
        context = self._context
        return len(await context.store.tokens.revoke(None, row.id, actor=context.actor, reason=reason))
