"""One protocol for every comparison: split, fit, evaluate once, test, record."""
