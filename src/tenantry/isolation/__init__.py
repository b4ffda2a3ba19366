"""Row-level security that is generated, audited and attacked.

`policy` is the template, `catalog` the only reader of the system catalogs, everything else is a
plain function over the values that it reads: `tables` (which tables hold tenants' rows), `plan`
(the SQL that brings them to the standard), `audit` (what is wrong, one rule per file). `apply` runs
a plan, `probe` attacks.
"""
