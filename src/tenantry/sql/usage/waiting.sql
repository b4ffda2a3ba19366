-- Who waits for a connection now: callers by database and tenant, over all routers. Runnable in psql.
--
-- A router that has not said anything for three turns is gone, and nobody waits in it any more.
SELECT queue ->> 0 AS database, queue ->> 1 AS tenant, sum((queue ->> 2)::bigint)::bigint AS callers
FROM tenantry.waiting AS w, jsonb_array_elements(w.queues) AS queue
WHERE w.said_at > clock_timestamp() - make_interval(secs => 3 * w.every_seconds)
GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
