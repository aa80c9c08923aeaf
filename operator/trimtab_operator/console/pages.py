"""The pages: objects of the Store to HTML. Only what the templates name is shown; specs are never printed whole."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trimtab_operator.api.common import ApiObject
from trimtab_operator.api.v1alpha1 import FineTuneJob, ModelRollout, ModelVersion
from trimtab_operator.cluster import trim
from trimtab_operator.cluster.store import Store
from trimtab_operator.console.curves import loss_curve, weight_curve
from trimtab_operator.console.history import History
from trimtab_operator.console.words import ago, condition_mood, mood, number

SHOWN = 100
"""Of each kind, those that changed last."""
_TEMPLATES = Path(__file__).parent / "templates"
_Kind = TypeVar("_Kind", bound=ApiObject)


class Pages:
    """Renders from what is known now."""

    def __init__(self, store: Store, history: History) -> None:
        self._store, self._history = store, history
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {"mood": mood, "condition_mood": condition_mood, "number": number, "ago": ago}

    def overview(self, *, now: datetime) -> str:
        """Everything in three tables."""
        return self._render(
            "overview.html",
            title="Trimtab",
            jobs=self._newest(FineTuneJob),
            versions=self._newest(ModelVersion),
            rollouts=self._newest(ModelRollout),
            shown=SHOWN,
            now=now,
        )

    def job(self, namespace: str, name: str, *, now: datetime) -> str | None:
        """One FineTuneJob; None where there is none."""
        job = self._one(FineTuneJob, namespace, name)
        if job is None:
            return None
        return self._render("job.html", title=name, job=job, curve=loss_curve(self._history.losses(job)), now=now)

    def version(self, namespace: str, name: str, *, now: datetime) -> str | None:
        """One ModelVersion with its lineage, its gates and who came after it."""
        version = self._one(ModelVersion, namespace, name)
        if version is None:
            return None
        siblings = self._store.having(trim.versions_of_model(namespace, version.spec.model_name))
        children = [
            other.metadata.name
            for other in (ModelVersion.parse(found.body()) for found in siblings)
            if other.spec.lineage.parent_version == name
        ]
        gates = version.status.evaluation.gates if version.status.evaluation else []
        return self._render(
            "version.html", title=name, version=version, gates=gates or version.spec.gates, children=children, now=now
        )

    def rollout(self, namespace: str, name: str, *, now: datetime) -> str | None:
        """One ModelRollout with its weights over time."""
        rollout = self._one(ModelRollout, namespace, name)
        if rollout is None:
            return None
        siblings = self._store.having(trim.versions_of_model(namespace, rollout.spec.model_name))
        known = {ModelVersion.parse(found.body()).spec.version for found in siblings}
        curve = weight_curve(self._history.weights(rollout), now=now)
        return self._render("rollout.html", title=name, rollout=rollout, known=known, curve=curve, now=now)

    def style(self) -> str:
        """The style sheet."""
        return (_TEMPLATES / "style.css").read_text()

    def _render(self, template: str, **values: object) -> str:
        return self._templates.get_template(template).render(values)

    def _newest(self, kind: type[_Kind]) -> Iterable[_Kind]:
        stored = sorted(self._store.all(kind.resource.kind), key=lambda found: found.version, reverse=True)[:SHOWN]
        parsed = [kind.parse(found.body()) for found in stored]
        return sorted(parsed, key=lambda found: found.metadata.creation_timestamp, reverse=True)

    def _one(self, kind: type[_Kind], namespace: str, name: str) -> _Kind | None:
        stored = self._store.get(kind.resource.kind, namespace, name)
        return None if stored is None else kind.parse(stored.body())
