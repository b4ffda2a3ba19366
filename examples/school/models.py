"""The tables, as SQLAlchemy's models. `migrations/` makes them; a test compares the two."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import BigInteger, Date, Identity, Index, Integer, Text, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tenantry.integrations.sqlalchemy import TenantMixin, tenant_foreign_key


class Base(DeclarativeBase):
    """Of all models."""


class Centre(Base):
    """A tutoring centre: the tenant, as the product describes it. Its plan is in tenantry's directory."""

    __tablename__ = "centres"
    tenant_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str] = mapped_column(Text)


class Student(TenantMixin, Base):
    """Who takes lessons. How many a centre may have, its plan says."""

    __tablename__ = "students"
    __table_args__ = (Index("students_email", "tenant_id", "email", unique=True),)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text)


class Lesson(TenantMixin, Base):
    """One that was booked. `attended` is what the tablet at the door has said."""

    __tablename__ = "lessons"
    __table_args__ = (tenant_foreign_key("student_id", "students", ondelete="CASCADE"),)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    student_id: Mapped[int] = mapped_column(BigInteger)
    subject: Mapped[str] = mapped_column(Text)
    day: Mapped[datetime.date] = mapped_column(Date)
    cents: Mapped[int] = mapped_column(Integer)
    attended: Mapped[bool] = mapped_column(default=False)


class Invoice(TenantMixin, Base):
    """What a student owes for a month. The nightly job writes them."""

    __tablename__ = "invoices"
    __table_args__ = (
        tenant_foreign_key("student_id", "students", ondelete="CASCADE"),
        Index("invoices_month", "tenant_id", "month", "student_id", unique=True),
    )
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    student_id: Mapped[int] = mapped_column(BigInteger)
    month: Mapped[datetime.date] = mapped_column(Date)
    cents: Mapped[int] = mapped_column(Integer)
