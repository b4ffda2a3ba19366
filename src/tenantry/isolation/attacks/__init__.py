"""Attacks the isolation of tenants as the application role, and takes everything back.

The audit reads; the attacks try. There is one battery. `probe` runs it on any database that an administrator
can reach, with tenants that it finds there; `tenantry.testing` runs it in a product's CI, through the product's
router. The two differ in their `Binder` alone. An attack without anything to attack is "untried", never "held".
"""

from __future__ import annotations

from tenantry.isolation.attacks.battery import PARTS, battery
from tenantry.isolation.attacks.probe import probe
from tenantry.isolation.attacks.report import Attempt, Outcome, Report

__all__ = ["PARTS", "Attempt", "Outcome", "Report", "battery", "probe"]
