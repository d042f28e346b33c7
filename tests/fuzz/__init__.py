"""Seeded fuzzing in this process: `mutate` makes the cases, `bounds` watches over them."""
