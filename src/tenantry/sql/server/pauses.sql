-- The pause of every move that has flipped, in seconds: what the clients of its tenant have waited at most.
SELECT (result ->> 'pause_seconds')::float8 AS pause FROM tenantry.move WHERE result ? 'pause_seconds'
