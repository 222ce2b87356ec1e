"""The metrics of `GET /metrics`, for Prometheus: counts and times, never content."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        """Make the metrics, all zero."""
        self._registry = CollectorRegistry()
        self._requests = Counter("jclip_requests", "Answered requests.", ["route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "jclip_request_seconds", "From the head of a request to its answer.", ["route"],
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._tokens = Counter(
            "jclip_tokens", "Tokens of what was embedded, as reported to clients.", ["kind"], registry=self._registry
        )
        self._batch_items = Histogram(
            "jclip_batch_items", "Items that the model was given at once.", ["kind"],
            buckets=_ITEMS, registry=self._registry,
        )  # fmt: skip
        self._batch_seconds = Histogram(
            "jclip_batch_seconds", "Time of the model for a batch.", ["kind"],
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._text_tokens, self._image_tokens = self._tokens.labels("text"), self._tokens.labels("image")
        self._by_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}  # a look-up costs as much as a count
        self._waiting = Gauge("jclip_waiting_tokens", "Cost of what waits for the model.", registry=self._registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is a pattern, not a path, so that there are few labels."""
        found = self._by_route.get((route, status))
        if found is None:
            found = self._by_route[route, status] = (
                self._requests.labels(route, str(status)),
                self._seconds.labels(route),
            )
        count, histogram = found
        count.inc()
        histogram.observe(seconds)

    def refused(self, route: str, status: int, count: int) -> None:
        """Count requests that were refused without being read; they have no time to record."""
        self._requests.labels(route, str(status)).inc(count)

    def tokens(self, *, text: int, image: int) -> None:
        """Count the embedded tokens."""
        self._text_tokens.inc(text)
        self._image_tokens.inc(image)

    def batch(self, kind: str, items: int, seconds: float) -> None:
        """Count a batch of the model."""
        self._batch_items.labels(kind).observe(items)
        self._batch_seconds.labels(kind).observe(seconds)

    def text(self, *, waiting_tokens: int) -> bytes:
        """Write all metrics in Prometheus' text format."""
        self._waiting.set(waiting_tokens)
        return generate_latest(self._registry)
