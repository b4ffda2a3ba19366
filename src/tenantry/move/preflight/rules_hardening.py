"""A hardened database's tenant goes to a hardened database only, whose key the routers have. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.move.errors import PreflightFinding
from tenantry.move.preflight.facts import PreflightFacts


def hardening(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """A tenant of a hardened database goes to a hardened database only, whose key the routers have."""
    ends = ((facts.source_name, facts.source_hardening), (facts.target_name, facts.target_hardening))
    source, target = facts.source_hardening, facts.target_hardening
    if source.hardened and not target.has_key:
        yield PreflightFinding(
            "no-key",
            f"{facts.source_name} is hardened, and the mover has no key for {facts.target_name}",
            "set tenancy.hardened and tenancy.secret in the mover's configuration, as the routers have them",
        )
    wanted = source.hardened or target.hardened or source.has_key or target.has_key
    for name, end in ends:
        if wanted and end.hardened is False:
            yield PreflightFinding(
                "not-hardened",
                f"{name} is not hardened, but the other side or the configuration is",
                "run `tenantry init` with tenancy.hardened, then `tenantry rls apply` there",
            )
        if end.hardened and end.right_key is False:
            yield PreflightFinding(
                "wrong-key",
                f"{name} was hardened with another secret than the mover has",
                "give the mover the routers' tenancy.secret, or run `tenantry init` to bring the database to it",
            )
