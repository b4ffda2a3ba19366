"""`tenantry tokens …`: sync tokens of devices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from tenantry.cli.command import MEANS_TENANT, command, group
from tenantry.cli.options import ReasonOption, TenantArgument, YesOption, seconds_of
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session
from tenantry.directory.tokens import SyncToken
from tenantry.errors import ConfigError

COLUMNS = (
    OutputColumn("id", "TOKEN"),
    OutputColumn("tenant", whole=True),
    OutputColumn("state"),
    OutputColumn("scopes"),
    OutputColumn("label"),
    OutputColumn("issued_at", "ISSUED"),
    OutputColumn("expires_at", "EXPIRES"),
    OutputColumn("last_used_at", "LAST USED"),
)
ScopeOption = Annotated[
    list[str] | None, typer.Option("--scope", "-s", help="What it may do, as orders:read; may be repeated.")
]
ExpiresOption = Annotated[str, typer.Option("--expires", help="It is good for so long: 30d, 12h; or never.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="Whose it is, for people.")]
OfOption = Annotated[str | None, typer.Option("--tenant", "-t", help="Of this tenant only."), MEANS_TENANT]
PastOption = Annotated[bool, typer.Option("--past", help="Expired and revoked ones too, for 90 days.")]
TokenArgument = Annotated[str | None, typer.Argument(help="The token's id; the token itself will do.")]
AllOfOption = Annotated[str | None, typer.Option("--all-of", help="Every token of this tenant."), MEANS_TENANT]

app = group("tokens", "Sync tokens of devices.")


@command(app, "issue")
async def issue_token(
    session: Session,
    tenant: TenantArgument,
    scope: ScopeOption = None,
    expires: ExpiresOption = "90d",
    label: LabelOption = None,
) -> None:
    """Make a token for a device of the tenant. It is shown this once: nobody can read it again."""
    seconds = None if expires == "never" else seconds_of(expires, "--expires")
    after = None if seconds is None else timedelta(seconds=seconds)
    issued = await session.ops.tokens.issue(tenant, scope=scope or (), expires=after, label=label)
    session.out.facts({"secret": issued.text, **row_of(issued.token)}, titles={"id": "token"})
    session.out.say("the secret is what the device sends, as `Authorization: Bearer …`; it is not shown again")


@command(app, "list")
async def list_tokens(session: Session, tenant: OfOption = None, past: PastOption = False) -> None:
    """Tokens by tenant, the oldest first, without their secrets."""
    found = session.ops.tokens.list(tenant, past=past)
    await session.out.stream(COLUMNS, (row_of(one) async for one in found), empty="no tokens")


@command(app, "revoke")
async def revoke_tokens(
    session: Session,
    token: TokenArgument = None,
    all_of: AllOfOption = None,
    reason: ReasonOption = None,
    yes: YesOption = False,
) -> None:
    """Revoke a token, or all of a tenant's: every router refuses them within a second."""
    if (token is None) == (all_of is None):
        raise ConfigError("pass a token's id, or --all-of TENANT")
    if token is not None:
        one = await session.ops.tokens.get(token)
        session.out.confirm(f"Revoke token {one.id} of tenant {one.tenant}? Its device must renew it.", yes=yes)
        session.out.facts(row_of(await session.ops.tokens.revoke(one.id, reason=reason)), titles={"id": "token"})
        return
    row = await session.ops.tenants.get(all_of)
    session.out.confirm(f"Revoke every token of tenant {row.id}? Its devices must renew them.", yes=yes)
    revoked = await session.ops.tokens.revoke_all(row.id, reason=reason)
    session.out.facts({"tenant": row.id, "revoked": revoked})


def row_of(one: SyncToken) -> dict[str, Any]:
    """A token with the columns' keys."""
    return {**one._asdict(), "scopes": list(one.scopes), "state": one.state(datetime.now(UTC))}


def register(root: typer.Typer) -> None:
    """Add `tokens …`."""
    root.add_typer(app)
