-- The triggers that people made.
SELECT t.tgrelid::bigint AS relation, t.tgname::text AS name, t.tgfoid::bigint AS function,
       t.tgenabled <> 'D' AS enabled, t.tgenabled IN ('A', 'R') AS replicated
FROM pg_trigger AS t
WHERE NOT t.tgisinternal
ORDER BY t.tgrelid, t.tgname
