"""A product on tenantry: lessons, students and invoices of tutoring centres, each of which sees its own."""
