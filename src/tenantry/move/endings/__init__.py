"""How a move ends: completed, aborted, rolled back, released."""
