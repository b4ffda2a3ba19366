"""Who asks: people and devices of a centre, and the product's own staff."""

from __future__ import annotations

import os
import time
import uuid
from typing import Annotated

import jwt
from fastapi import Depends, Request

from tenantry import TenantId
from tenantry.integrations.fastapi import jwt_tenant, scope, sync_token
from tenantry.integrations.starlette import Resolver

CENTRE = "school"
STAFF = "school-staff"
#: What nobody's sync token has: endpoints that ask for it are for people.
people_only = scope("people")


def key() -> str:
    """The key that tokens are signed with. An identity provider's is public, and read by `jwks_url=`."""
    return os.environ["SCHOOL_JWT_KEY"]


def centre() -> Resolver:
    """Of requests to a centre: a person's JWT, or a device's sync token."""
    person = jwt_tenant(key(), algorithms=["HS256"], audience=CENTRE, parse=uuid.UUID, pass_claims=["sub"])
    return sync_token(otherwise=person)


async def signed_in_staff(request: Request) -> str:
    """The member of staff who asks; a centre's token has another audience and is refused."""
    return str(await jwt_tenant(key(), algorithms=["HS256"], audience=STAFF, claim="sub")(request))


Staff = Annotated[str, Depends(signed_in_staff)]


def person_token(tenant: TenantId, name: str, seconds: int = 3600) -> str:
    """What an identity provider would give to somebody of a centre."""
    return _signed({"aud": CENTRE, "sub": name, "tenant_id": str(tenant)}, seconds)


def staff_token(name: str, seconds: int = 3600) -> str:
    """The same for the product's staff."""
    return _signed({"aud": STAFF, "sub": name}, seconds)


def _signed(claims: dict[str, str], seconds: int) -> str:
    return jwt.encode({**claims, "exp": int(time.time()) + seconds}, key(), algorithm="HS256")
