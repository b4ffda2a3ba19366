"""Sorts the policies that let foreign rows through: always, on a condition, or for writing only."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.values import Column, Policy, Relation
from tenantry.isolation.audit.finding import Subject
from tenantry.isolation.facts import OBSERVE
from tenantry.isolation.policy_set import ACTIONS, Action, PolicyGap
from tenantry.isolation.policy_verdict import ExpressionVerdict

Place = tuple[Relation, Column, Policy, list[Action]]
_CHECKS = ("insert", "update check")


def opened(subject: Subject, *, beside: bool) -> Iterator[Place]:
    """Policies that let every row through; `beside` those that undo another one."""
    for relation, column, policy, openings in _grouped(subject, ExpressionVerdict.OPEN):
        reading = any(opening.action not in _CHECKS for opening in openings)
        if reading and any(opening.beside for opening in openings) == beside:
            yield relation, column, policy, [opening.action for opening in openings]


def opened_for_writing(subject: Subject) -> Iterator[Place]:
    """Policies that let foreign rows be written only."""
    for relation, column, policy, openings in _grouped(subject, ExpressionVerdict.OPEN):
        if all(opening.action in _CHECKS for opening in openings):
            yield relation, column, policy, [opening.action for opening in openings]


def widened_by_claims(subject: Subject) -> Iterator[Place]:
    """Policies by which a request's claims let rows of others through, and that nobody passes without claims."""
    always = {policy for _, _, policy, _ in _grouped(subject, ExpressionVerdict.OPEN)}
    verdicts = (ExpressionVerdict.GATED, ExpressionVerdict.FOREIGN, ExpressionVerdict.UNPROVEN)
    for relation, column, policy, openings in _grouped(subject, *verdicts):
        if policy not in always and subject.reads_claims(policy):
            yield relation, column, policy, [opening.action for opening in openings]


def gated(subject: Subject) -> Iterator[Place]:
    """Policies that let every row through on a condition, and never without one. On claims: see above."""
    always = {policy for _, _, policy, _ in _grouped(subject, ExpressionVerdict.OPEN)}
    for relation, column, policy, openings in _grouped(subject, ExpressionVerdict.GATED):
        if policy not in always and not subject.reads_claims(policy):
            yield relation, column, policy, [opening.action for opening in openings]


def unproven(subject: Subject) -> Iterator[Place]:
    """Policies that let nothing through for sure, and of which no proof was found."""
    worse = {
        policy
        for verdict in (ExpressionVerdict.OPEN, ExpressionVerdict.GATED)
        for _, _, policy, _ in _grouped(subject, verdict)
    }
    for relation, column, policy, openings in _grouped(subject, ExpressionVerdict.UNPROVEN):
        if policy not in worse and not subject.reads_claims(policy):
            yield relation, column, policy, [opening.action for opening in openings]


def _grouped(
    subject: Subject, *verdicts: ExpressionVerdict
) -> Iterator[tuple[Relation, Column, Policy, list[PolicyGap]]]:
    for relation, column in subject.guarded:
        found: dict[Policy, list[PolicyGap]] = {}
        for action in ACTIONS:
            for opening in subject.policy_set.openings(relation.oid, action):
                if opening.verdict in verdicts and opening.policy.name != OBSERVE:
                    found.setdefault(opening.policy, []).append(opening)
        for policy, openings in found.items():
            yield relation, column, policy, openings
