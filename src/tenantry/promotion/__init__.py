"""Who has outgrown the shared database: the rule, pure.

`judge` says whether a tenant is a candidate for a database of its own, `judge_return` whether it
could come back, `reasons` says why in words. Days come from `tenantry.usage.shares`.
"""

from tenantry.promotion.explain import percent, reasons
from tenantry.promotion.fleet import span, verdicts
from tenantry.promotion.rule import (
    Action,
    Bucket,
    BucketResult,
    BucketStatus,
    Candidacy,
    PromotionRule,
    Verdict,
    judge,
    judge_return,
    window,
)

__all__ = [
    "Action",
    "Bucket",
    "BucketResult",
    "BucketStatus",
    "Candidacy",
    "PromotionRule",
    "Verdict",
    "judge",
    "judge_return",
    "percent",
    "reasons",
    "span",
    "verdicts",
    "window",
]
