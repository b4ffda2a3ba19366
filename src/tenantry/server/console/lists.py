"""Lists that sort and filter by links: what the address asks for is what is shown, so a link to it lasts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

#: Rows of one page.
PAGE: Final = 50
#: Characters of what is searched for.
_LONGEST: Final = 200


class ListColumn(NamedTuple):
    """What a list can be sorted by."""

    key: str
    title: str
    value: Callable[[Any], Any] | None = None
    """By which rows are sorted; None: it isn't sorted by this."""
    numeric: bool = False


class Heading(NamedTuple):
    """A column's heading."""

    title: str
    link: str | None
    """That sorts by it, or turns the order round; None: it isn't sorted by this."""
    order: str | None
    """"ascending" or "descending" if the list is sorted by it."""
    numeric: bool


class Choice(NamedTuple):
    """One value of a filter."""

    label: str
    link: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as it is shown."""

    path: str
    rows: Sequence[Any]
    """Of this page."""
    headings: Sequence[Heading]
    filters: Mapping[str, Sequence[Choice]]
    """By the filter's name: its values."""
    search: str
    kept: Sequence[tuple[str, str]]
    """What a new search keeps of the address: names and values."""
    found: int | None
    """Rows that match; None: not counted."""
    before: str | None
    """Link to the page before; None: there is none."""
    after: str | None


class Asked(NamedTuple):
    """What an address asks of a list, made harmless."""

    path: str
    query: Mapping[str, str]
    sort: str
    down: bool
    search: str
    page: int
    """From 0."""

    def link(self, **changes: str) -> str:
        """The address with some values changed; "" leaves one out. Of the first page, unless it says another."""
        values = {**self.query, "page": "", **changes}
        kept = [(key, value) for key, value in values.items() if value]
        return f"{self.path}?{urlencode(kept)}" if kept else self.path


def asked(path: str, query: Mapping[str, str], columns: Sequence[ListColumn], *, default: str) -> Asked:
    """Read an address.

    Args:
        default: column that the list is sorted by; with "-" in front: downwards.
    """
    keys = {column.key for column in columns}
    wish = query.get("sort", default)
    if wish.removeprefix("-") not in keys:
        wish = default
    number = query.get("page", "0")
    page = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 0
    search = query.get("q", "")[:_LONGEST].strip().replace("\x00", "")
    return Asked(path, query, wish.removeprefix("-"), wish.startswith("-"), search, page)


def headings(of: Asked, columns: Sequence[ListColumn]) -> list[Heading]:
    """The headings, with links that sort."""
    found = []
    for column in columns:
        ours = column.key == of.sort
        turned = column.key if (ours and of.down) or not (ours or column.numeric) else f"-{column.key}"
        order = ("descending" if of.down else "ascending") if ours else None
        link = of.link(sort=turned) if column.value is not None else None
        found.append(Heading(column.title, link, order, column.numeric))
    return found


def choices(of: Asked, name: str, values: Sequence[str]) -> list[Choice]:
    """A filter: each value, and all of them."""
    now = of.query.get(name, "")
    return [Choice(value or "all", of.link(**{name: value}), value == now) for value in ("", *values)]


def arrange(
    path: str,
    query: Mapping[str, str],
    rows: Sequence[Any],
    columns: Sequence[ListColumn],
    *,
    default: str,
    filters: Mapping[str, Callable[[Any], str]] | None = None,
    text: Callable[[Any], str] = str,
) -> Listing:
    """A list whose rows are all in memory.

    Args:
        filters: by name, the value of a row that a filter compares.
        text: of a row, that a search looks in.
    """
    of = asked(path, query, columns, default=default)
    shown = [row for row in rows if of.search.lower() in text(row).lower()] if of.search else list(rows)
    told = {}
    for name, value in (filters or {}).items():
        told[name] = choices(of, name, sorted({value(row) for row in rows}))
        if query.get(name):
            shown = [row for row in shown if value(row) == query[name]]
    key = next((column.value for column in columns if column.key == of.sort), None)
    if key is not None:
        known = [row for row in shown if key(row) is not None]
        known.sort(key=key, reverse=of.down)
        shown = known + [row for row in shown if key(row) is None]
    return listing(of, columns, shown[of.page * PAGE : (of.page + 1) * PAGE], told, found=len(shown))


def listing(
    of: Asked,
    columns: Sequence[ListColumn],
    rows: Sequence[Any],
    filters: Mapping[str, Sequence[Choice]],
    *,
    found: int | None,
    more: bool | None = None,
) -> Listing:
    """A list whose page has been cut already.

    Args:
        found: rows that match; None: not counted, and `more` says whether another page follows.
    """
    follows = more if found is None else found > (of.page + 1) * PAGE
    return Listing(
        of.path,
        rows,
        headings(of, columns),
        filters,
        of.search,
        [(key, value) for key, value in of.query.items() if key not in ("q", "page") and value],
        found,
        of.link(page=str(of.page - 1) if of.page > 1 else "") if of.page else None,
        of.link(page=str(of.page + 1)) if follows else None,
    )
