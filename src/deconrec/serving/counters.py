"""What /metrics tells, in the text format of Prometheus. No id of a user or an item is a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)


class Counters:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "deconrec_requests",
            "Requests by path and status.",
            ["path", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "deconrec_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.lists = Counter(
            "deconrec_lists",
            "Lists served, by where their scores are from and by policy.",
            ["source", "explore"],
            registry=self.registry,
        )
        self.reloads = Counter(
            "deconrec_reloads", "Reloads of the model, by result.", ["result"], registry=self.registry
        )
        self.unlogged = Counter(
            "deconrec_unlogged", "Lists refused because they could not be logged.", registry=self.registry
        )
        self.model = Gauge(
            "deconrec_model_info", "1 for the model that serves now.", ["model"], registry=self.registry
        )
        self._lists: dict[tuple[str, str], Counter] = {}
        self._of: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that is over."""
        found = self._of.get((path, status))
        if found is None:
            found = self.requests.labels(path, str(status)), self.seconds.labels(path)
            self._of[path, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def list(self, source: str, explore: str) -> None:
        """Count a list."""
        found = self._lists.get((source, explore))
        if found is None:
            found = self._lists[source, explore] = self.lists.labels(source, explore)
        found.inc()

    def serves(self, model: str) -> None:
        """Name the model that serves now."""
        self.model.clear()
        self.model.labels(model).set(1)

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)
