"""The operator's own configuration, read once from the environment (`TRIMTAB_*`), set by the chart."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What the administrator decided at installation."""

    namespace: str = "trimtab-system"
    """Namespace of the operator itself: its Lease and status Service live here."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to serve; empty for all."""
    trainer_image: str = "trimtab-trainer:latest"
    """Image of profiles that name none."""
    status_url: str = "https://trimtab-status.trimtab-system.svc:8443"
    """Base URL of the status endpoint as pods reach it."""
    status_ca: str = ""
    """PEM of the authority that signed the status endpoint's certificate; pods get it."""
    tls_directory: Path = Path("/etc/trimtab/tls")
    """`tls.crt`, `tls.key` and `ca.crt` of the status endpoint."""
    bind_address: str | None = None
    """Address to listen on; all of them where there is none."""
    status_port: int = 8443
    probe_port: int = 8080
    metrics_port: int = 9090
    console: bool = False
    """Serve pages for people at `/console` of the metrics port."""
    workers: int = 16
    """Reconciles that run side by side."""
    progress_interval: timedelta = timedelta(seconds=5)
    """At most one status write per job in this time when only progress changed."""
    sweep_interval: timedelta = timedelta(minutes=5)
    """Time between full LISTs that find what the watches lost."""
    lease_name: str = "trimtab-operator"
    leader_election: bool = True
    identity: str = "local"
    """Name of this process in the Lease: `<pod name>_<pod IP>`."""

    @classmethod
    def from_environment(cls, environment: dict[str, str] | None = None) -> "Settings":
        """Read `TRIMTAB_*` variables; absent ones keep their defaults."""
        env = dict(os.environ) if environment is None else environment
        defaults = cls()
        tls_directory = Path(env.get("TRIMTAB_TLS_DIRECTORY", str(defaults.tls_directory)))
        authority = tls_directory / "ca.crt"
        return cls(
            namespace=env.get("TRIMTAB_NAMESPACE", defaults.namespace),
            watch_namespaces=tuple(env.get("TRIMTAB_WATCH_NAMESPACES", "").replace(",", " ").split()),
            trainer_image=env.get("TRIMTAB_TRAINER_IMAGE", defaults.trainer_image),
            status_url=env.get("TRIMTAB_STATUS_URL", defaults.status_url).rstrip("/"),
            status_ca=authority.read_text() if authority.is_file() else "",
            tls_directory=tls_directory,
            bind_address=env.get("TRIMTAB_BIND_ADDRESS") or None,
            status_port=int(env.get("TRIMTAB_STATUS_PORT", defaults.status_port)),
            probe_port=int(env.get("TRIMTAB_PROBE_PORT", defaults.probe_port)),
            metrics_port=int(env.get("TRIMTAB_METRICS_PORT", defaults.metrics_port)),
            console=env.get("TRIMTAB_CONSOLE", "false").lower() == "true",
            workers=int(env.get("TRIMTAB_WORKERS", defaults.workers)),
            progress_interval=timedelta(seconds=float(env.get("TRIMTAB_PROGRESS_INTERVAL_SECONDS", "5"))),
            sweep_interval=timedelta(seconds=float(env.get("TRIMTAB_SWEEP_INTERVAL_SECONDS", "300"))),
            lease_name=env.get("TRIMTAB_LEASE_NAME", defaults.lease_name),
            leader_election=env.get("TRIMTAB_LEADER_ELECTION", "true").lower() == "true",
            identity=f"{env.get('TRIMTAB_POD_NAME', 'local')}_{env.get('TRIMTAB_POD_IP', '127.0.0.1')}",
        )
