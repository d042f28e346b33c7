"""Numerical kernels that methods share."""
