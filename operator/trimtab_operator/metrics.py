"""Every Prometheus metric of the operator."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry(auto_describe=True)

RECONCILE_SECONDS = Histogram(
    "trimtab_reconcile_duration_seconds",
    "Time of one reconcile.",
    ("kind", "result"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("trimtab_queue_depth", "Keys that wait for a worker.", registry=REGISTRY)
QUEUE_OLDEST_SECONDS = Gauge("trimtab_queue_oldest_seconds", "Age of the key that waits longest.", registry=REGISTRY)
API_REQUESTS = Counter(
    "trimtab_api_requests_total", "Requests to the API server.", ("verb", "resource", "code"), registry=REGISTRY
)
API_SECONDS = Histogram(
    "trimtab_api_request_duration_seconds",
    "Time of one request to the API server.",
    ("verb",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10),
    registry=REGISTRY,
)
EVENTS_RECEIVED = Counter(
    "trimtab_watch_events_total", "Watch events taken into the Store.", ("kind",), registry=REGISTRY
)
EVENTS_STALE = Counter(
    "trimtab_watch_events_stale_total", "Watch events older than the Store.", ("kind",), registry=REGISTRY
)
SWEEP_REPAIRS = Counter(
    "trimtab_sweep_repairs_total",
    "Changes that a full LIST found and the watch had lost.",
    ("kind",),
    registry=REGISTRY,
)
WATCH_AGE_SECONDS = Gauge(
    "trimtab_watch_age_seconds", "Seconds since a watch last showed a sign of life.", ("kind",), registry=REGISTRY
)
WATCH_RESTARTS = Counter("trimtab_watch_restarts_total", "Restarts of Kopf inside the process.", registry=REGISTRY)
LOOP_LAG_SECONDS = Gauge("trimtab_loop_lag_seconds", "How late the event loop ran its last tick.", registry=REGISTRY)
LEADER = Gauge("trimtab_leader", "1 while this replica leads.", registry=REGISTRY)
LEASE_AGE_SECONDS = Gauge(
    "trimtab_lease_age_seconds", "Seconds since the Lease was last renewed by this replica.", registry=REGISTRY
)
ATTEMPTS_ENDED = Counter(
    "trimtab_attempts_ended_total", "Attempts that ended, by reason.", ("reason",), registry=REGISTRY
)
JOBS = Gauge("trimtab_jobs", "FineTuneJobs by state.", ("namespace", "state"), registry=REGISTRY)
CHECKPOINT_AGE_SECONDS = Gauge(
    "trimtab_checkpoint_age_seconds",
    "Age of the oldest newest checkpoint among running jobs of a namespace: the work that a crash would repeat.",
    ("namespace",),
    registry=REGISTRY,
)
REPORTS = Counter(
    "trimtab_status_requests_total", "Requests to the status endpoint.", ("route", "code"), registry=REGISTRY
)
KUBERNETES_EVENTS = Counter("trimtab_events_total", "Kubernetes Events by outcome.", ("outcome",), registry=REGISTRY)
