"""Ranking, rating and calibration metrics, and what may be said about their differences."""
