"""Where a tenant lives: the store (authority), the cache, and the feed of changes."""

from tenantry.directory import placements
from tenantry.directory.cache import Directory, Entry, Profile
from tenantry.directory.feed import Feed
from tenantry.directory.store import DatabaseRow, Store, TenantRow

__all__ = ["DatabaseRow", "Directory", "Entry", "Feed", "Profile", "Store", "TenantRow", "placements"]
