"""The threat model as values: what SQL injected into one tenant's scope tries, and what it gets in either mode.

`run` tries an attack on a real server; `test_g01_injection.py` holds every value to what is seen there, in both
directions. `python -m tests.conformance.attacks` writes docs/explanation/security.md's table from them.
"""

from typing import Final

from tests.conformance.attacks import kept, looking, proofs, rows, session, setting
from tests.conformance.attacks.attack import Kind

KINDS: Final[tuple[Kind, ...]] = (
    *setting.KINDS,
    *proofs.KINDS,
    *rows.KINDS,
    *looking.KINDS,
    *session.KINDS,
    *kept.KINDS,
)
