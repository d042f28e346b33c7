"""Plain modules, called with a `Pairs` or a `Rows`."""
