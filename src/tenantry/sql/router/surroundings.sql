-- What the meaning of a statement's text hangs on, beside the text: where its names are looked up, and how its literals
-- are read. A prepared statement keeps the types and the constants that were found when it was read. Names are qualified:
-- the session's own must not get in front.
SELECT pg_catalog.concat_ws('|', CURRENT_USER,
    pg_catalog.current_setting('search_path'), pg_catalog.current_setting('client_encoding'),
    pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('backslash_quote'),
    pg_catalog.current_setting('DateStyle'), pg_catalog.current_setting('IntervalStyle'),
    pg_catalog.current_setting('TimeZone'), pg_catalog.current_setting('timezone_abbreviations'),
    pg_catalog.current_setting('array_nulls'), pg_catalog.current_setting('transform_null_equals'),
    pg_catalog.current_setting('xmloption'), pg_catalog.current_setting('lc_monetary'),
    pg_catalog.current_setting('default_text_search_config')) AS surroundings
