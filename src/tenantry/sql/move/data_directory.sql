-- Where the server's files are, and when their folder changed last: the same folder here says so too.
SELECT current_setting('data_directory') AS folder,
    extract(epoch FROM (pg_stat_file('.')).modification)::bigint AS changed
