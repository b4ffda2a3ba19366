"""What every part needs and none owns: shielded cleanup, connection errors, lock numbers, SQLSTATEs, quoting.

Nothing here knows a tenant, a table of ours, or a part above it.
"""
