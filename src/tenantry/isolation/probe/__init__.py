"""Attacks the isolation of every tenant table, as the application role, and takes everything back.

The audit reads; the probe tries. For each table it takes a row of one real tenant, binds another one, and tries to
read, change, copy, plant and refer to that row in every way that SQL has. What it could not try it says, and a
probe that tried nothing does not pass.
"""

from __future__ import annotations

from tenantry.isolation.probe.report import Attempt, Outcome, ProbeReport
from tenantry.isolation.probe.run import probe

__all__ = ["Attempt", "Outcome", "ProbeReport", "probe"]
