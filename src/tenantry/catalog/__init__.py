"""What a database's catalogs hold, and which of its tables are tenants'.

`read` is the only reader of the catalogs for tables, `values` is what it reads. `tables` places every table
once for all who ask: the generator, audit and probe of row-level security, the testing kit, the mover, the
router's check of its role, the estimate of storage, `tenantry check`. `tenancy` is the configuration behind it.
"""
