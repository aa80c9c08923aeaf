"""Labels become numbers; long texts lose their end."""

import pytest
from tests.support.tiny_models import byte_tokenizer

from trimtab_trainer.data.formats import Example, Labelled
from trimtab_trainer.data.label_encoding import LabelEncoder
from trimtab_trainer.errors import TrainerError


def test_labels_become_their_index_and_long_texts_are_cut() -> None:
    encoder = LabelEncoder(byte_tokenizer(bos=True), 4, ("no", "yes"))
    short, long = encoder.encode([Example("1", Labelled("a", "yes")), Example("2", Labelled("abcdef", "no"))])
    assert (short.label, short.cut, long.label, long.cut, long.length) == (1, False, 0, True, 4)
    with pytest.raises(TrainerError, match="3: the label 'maybe' is unknown; the labels are: no, yes"):
        encoder.encode([Example("3", Labelled("a", "maybe"))])
