"""Prometheus metrics of the server, per version; a rollout's analysis reads them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096)


class Metrics:
    """All metrics. `version` is the name of the version that answered, `base` for the base model, empty for none."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "trimtab_server_requests",
            "Requests that ended, by HTTP status; 499 when the client left.",
            ["version", "endpoint", "code"],
            registry=self.registry,
        )
        self.errors = Counter(
            "trimtab_server_errors",
            "Requests that ended with a fault of the server (5xx, or an error inside a stream).",
            ["version", "endpoint"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "trimtab_server_request_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["version", "endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.first_token_seconds = Histogram(
            "trimtab_server_first_text_seconds",
            "Time from a request's arrival to its first text.",
            ["version"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.prompt_tokens = Counter(
            "trimtab_server_prompt_tokens", "Tokens read.", ["version"], registry=self.registry
        )
        self.completion_tokens = Counter(
            "trimtab_server_completion_tokens", "Tokens generated.", ["version"], registry=self.registry
        )
        self.answer_tokens = Histogram(
            "trimtab_server_answer_tokens",
            "Length of answers.",
            ["version", "finish_reason"],
            buckets=_TOKENS,
            registry=self.registry,
        )
        self.running = Gauge("trimtab_server_running_requests", "Requests in a batch.", registry=self.registry)
        self.waiting = Gauge(
            "trimtab_server_waiting_requests", "Requests that wait for a batch.", registry=self.registry
        )
        self.weight = Gauge(
            "trimtab_server_version_weight",
            "Configured share of the traffic, in percent.",
            ["version"],
            registry=self.registry,
        )
        self.ready = Gauge(
            "trimtab_server_version_ready",
            "1 when the version can answer, else 0.",
            ["version"],
            registry=self.registry,
        )
        self.config_refused = Gauge(
            "trimtab_server_config_refused", "1 while the newest configuration cannot be used.", registry=self.registry
        )
