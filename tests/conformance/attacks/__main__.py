"""`python -m tests.conformance.attacks`: write the threat model's tables into docs/explanation/security.md."""

from tests.conformance.attacks.table import PAGE, page

if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
