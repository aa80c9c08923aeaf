"""What labels are to a model: numbers."""

from collections.abc import Sequence

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError


class LabelNumbers:
    """The number of each label."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._numbers = {label: number for number, label in enumerate(labels)}

    def of(self, label: str, place: str) -> int:
        """The number of a label that a row names.

        Raises:
            TrainerError: DatasetInvalid where training does not have that label.
        """
        if label not in self._numbers:
            raise TrainerError(
                TrainerReason.DATASET_INVALID,
                f"{place}: the label '{label}' is unknown; the labels are: {', '.join(self._labels[:20])}. "
                "Every label must occur in the training split or in `labels`.",
            )
        return self._numbers[label]
