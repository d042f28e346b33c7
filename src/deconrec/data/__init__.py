"""Logs, features, splits and files. Nothing here imports torch."""
