"""Doors to other libraries, imported only when used: scikit-learn's protocol, and trackers of experiments."""
