"""The kinds of trimtab.dev/v1alpha1."""

from trimtab_operator.api.v1alpha1.fine_tune_job import FineTuneJob
from trimtab_operator.api.v1alpha1.model_rollout import ModelRollout
from trimtab_operator.api.v1alpha1.model_version import ModelVersion
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.api.v1alpha1.storage_profile import StorageProfile
from trimtab_operator.api.v1alpha1.training_profile import TrainingProfile

KINDS = (TrainingProfile, StorageProfile, FineTuneJob, ModelVersion, ModelRollout)
"""Every kind, profiles first."""

__all__ = ["KINDS", "FineTuneJob", "ModelRollout", "ModelVersion", "Reason", "StorageProfile", "TrainingProfile"]
