"""Samplers, programs (steps and phases) and the trainer that runs them."""
