-- Where a migration is about to run: which database of which server process this is, and whether it takes writes. (Servers
-- that were made as copies of each other have the same system identifier.)
SELECT pg_postmaster_start_time()::text || ' ' ||
           (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS place,
       pg_is_in_recovery() AS standby
