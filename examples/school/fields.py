"""What a request may say: values that PostgreSQL can hold, so that garbage is a 422 and never a 500."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Number = Annotated[int, Field(ge=0, lt=2**63)]
#: Of a sync token, which is not the token.
TokenId = Annotated[str, Field(pattern="^[0-9a-f]{20}$")]
Cents = Annotated[int, Field(ge=0, lt=2**31)]
