"""Slow, obvious twins: the risks of both papers, by loops over u and i, written from the papers alone."""
