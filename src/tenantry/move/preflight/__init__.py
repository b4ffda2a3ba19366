"""What is looked at and judged before a move touches anything."""
