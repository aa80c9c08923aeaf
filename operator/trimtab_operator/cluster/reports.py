"""The trainers' newest messages, in memory. They hurry the status along; what must survive is read from objects."""

from dataclasses import replace
from datetime import datetime

from trimtab_operator.state import Report
from trimtab_trainer.contract.messages import KubeflowTrainerStatus, TrainerReport


class Reports:
    """One report per FineTuneJob, and one store probe per StorageProfile."""

    def __init__(self) -> None:
        self._by_job: dict[str, Report] = {}
        self._probes: dict[str, TrainerReport] = {}

    def of(self, job_uid: str, attempt: int) -> Report | None:
        """What the trainer of that attempt said last."""
        report = self._by_job.get(job_uid)
        return report if report is not None and report.attempt == attempt else None

    def probe(self, storage: str) -> TrainerReport | None:
        """The newest report with a probe of that StorageProfile."""
        return self._probes.get(storage)

    def take(
        self,
        job_uid: str,
        attempt: int,
        *,
        at: datetime,
        trainer: TrainerReport | None = None,
        kubeflow: KubeflowTrainerStatus | None = None,
    ) -> bool:
        """Keep a message. False: one of a newer attempt is here already."""
        known = self._by_job.get(job_uid)
        if known is not None and known.attempt > attempt:
            return False
        if known is None or known.attempt < attempt:
            known = Report(attempt=attempt, received_at=at)
        known = replace(known, received_at=at, trainer=trainer or known.trainer, kubeflow=kubeflow or known.kubeflow)
        self._by_job[job_uid] = known
        return True

    def take_probe(self, storage: str, report: TrainerReport) -> None:
        """Keep a report that carries a probe of a StorageProfile."""
        self._probes[storage] = report

    def forget(self, job_uid: str) -> None:
        """The FineTuneJob is gone."""
        self._by_job.pop(job_uid, None)
