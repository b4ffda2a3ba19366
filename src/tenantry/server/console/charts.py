"""Charts as SVG, drawn here: no script, no style attribute, no request. Colours are the style sheet's. Pure.

Each has a title for screen readers; the pages print the same figures as a table beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

from tenantry.promotion import percent
from tenantry.server.console.history import largest, together
from tenantry.server.console.values import Slot

WIDTH: Final = 720
HEIGHT: Final = 180
_LEFT: Final = 40
_BOTTOM: Final = 22
_TOP: Final = 8
#: Labels under the columns, at most.
_LABELS: Final = 7


def parts(slot: Slot, tenants: Sequence[str]) -> list[tuple[str, float]]:
    """Class and share of each layer of one column, from the bottom to the top; together 1 at most."""
    named = [(f"t{n}", slot.parts.get(tenant, 0.0)) for n, tenant in enumerate(tenants)]
    rest = slot.others + sum(share for tenant, share in slot.parts.items() if tenant not in tenants)
    return [*named, ("others", rest), ("nobodys", slot.nobodys)]


def columns(slots: Sequence[Slot], tenants: Sequence[str], *, threshold: float, title: str, label: str) -> Markup:
    """Shares over time, stacked, with the rule's threshold as a line.

    Args:
        slots: the oldest first.
        tenants: those that have a colour, the same on every chart of a database.
        threshold: share, 0 to 1.
        title: for screen readers.
        label: of a column's begin, as of `strftime`.
    """
    step = (WIDTH - _LEFT) / max(1, len(slots))
    height = HEIGHT - _TOP - _BOTTOM
    drawn = []
    every = -(-len(slots) // _LABELS)
    for n, slot in enumerate(slots):
        x = _LEFT + n * step
        if slot.busy is None:
            drawn.append(_rect("unknown", x, _TOP, step - 1, height))
        bottom = float(_TOP + height)
        for name, share in parts(slot, tenants):
            tall = min(max(share, 0.0), 1.0) * height
            if tall >= 0.05:
                bottom -= tall
                drawn.append(_rect(name, x, bottom, step - 1, tall))
        if n % every == 0 and x < WIDTH - 30:
            text = escape(slot.begin.strftime(label))
            drawn.append(Markup('<text x="{:.1f}" y="{}">{}</text>').format(x, HEIGHT - 6, text))
    for share in (0.0, 0.5, 1.0):
        y = _TOP + height * (1 - share)
        drawn.append(
            Markup('<text class="scale" x="{}" y="{:.1f}">{}</text>').format(_LEFT - 5, y + 4, f"{share:.0%}")
        )
        drawn.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(_LEFT, WIDTH, y=y)
        )
    y = _TOP + height * (1 - threshold)
    drawn.append(
        Markup('<line class="limit" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(_LEFT, WIDTH, y=y)
    )
    return _svg("columns", WIDTH, HEIGHT, title, drawn)


def bar(slot: Slot, tenants: Sequence[str], *, threshold: float, title: str) -> Markup:
    """One column, lying."""
    drawn, x = [], 0.0
    for name, share in parts(slot, tenants):
        wide = min(max(share, 0.0), 1.0) * WIDTH
        drawn.append(_rect(name, x, 0, wide, 20))
        x += wide
    drawn.append(
        Markup('<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="20"/>').format(x=threshold * WIDTH)
    )
    return _svg("bar", WIDTH, 20, title, drawn)


def line(values: Sequence[float | None], *, title: str) -> Markup:
    """One figure over time, as columns of its own scale; None is a gap."""
    most = max((value for value in values if value is not None), default=0.0)
    step = WIDTH / max(1, len(values))
    drawn = [
        _rect("t0", n * step, 60 * (1 - value / most), step - 1, 60 * value / most)
        for n, value in enumerate(values)
        if value and most
    ]
    return _svg("line", WIDTH, 60, title, drawn)


def meter(share: float | None) -> Markup:
    """A share as a small bar; nothing for one that is not known. Its figure stands beside it."""
    if share is None:
        return Markup("")
    rect = _rect("t0", 0, 0, min(max(share, 0.0), 1.0) * 100, 8)
    return Markup('<svg class="meter" viewBox="0 0 100 8" aria-hidden="true" focusable="false">{}</svg>').format(
        rect
    )


def summary(slots: Sequence[Slot]) -> str:
    """Who used most of it, in words: what a chart's title says."""
    whole = together(slots)
    if whole is None or not whole.busy:
        return "nothing is known of the load"
    told = [f"{tenant} {percent(whole.parts.get(tenant, 0.0))}" for tenant in largest(slots, 3)]
    return ", ".join([*told, f"no tenant {percent(whole.nobodys)}"])


def _rect(name: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        name, x, y, max(0.1, width), height
    )


def _svg(kind: str, width: int, height: int, title: str, drawn: Sequence[Markup]) -> Markup:
    fit = "xMidYMid" if kind == "columns" else "none"  # columns have text, which must not be stretched
    return Markup(
        '<svg class="chart {}" viewBox="0 0 {} {}" preserveAspectRatio="{}" role="img" aria-label="{}" '
        'focusable="false">{}</svg>'
    ).format(kind, width, height, fit, title, Markup("").join(drawn))
