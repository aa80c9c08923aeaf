"""The parameters of each task: what the members of `spec.task` say."""

from typing import Annotated

from pydantic import Field

from trimtab_trainer.contract.base import Document, OneOf, rules

Labels = Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=1000)]


class SequenceClassification(Document):
    """One label for a whole text, or any number of them."""

    labels: Labels = Field(default_factory=list)
    """The labels in the order of the head's outputs. Empty: the sorted labels of the training split."""
    multi_label: bool = False
    """Several labels may be true of a text (or none): rows have a list `labels`, each label is decided by itself."""


class TokenClassification(Document):
    """One label for each word: named entities (tags like `B-PER`, `I-PER`, `O`) or parts of speech."""

    labels: Labels = Field(default_factory=list)
    """The tags in the order of the head's outputs. Empty: the sorted tags of the training split."""


class QuestionAnswering(Document):
    """The span of a context that answers a question (Rajpurkar et al., 2016, arXiv:1606.05250)."""

    stride: int = Field(default=128, ge=1, le=8192)
    """Tokens of the context that two neighbouring windows share, where it is longer than `maxSequenceLength`."""
    max_answer_length: int = Field(default=30, ge=1, le=1000)
    """Tokens of the longest answer that is looked for."""
    unanswerable: bool = False
    """The model may say that the context has no answer (Rajpurkar et al., 2018, arXiv:1806.03822)."""


class ImageClassification(Document):
    """One label for an image."""

    labels: Labels = Field(default_factory=list)
    """The labels in the order of the head's outputs. Empty: the sorted labels of the training split."""
    horizontal_flip: bool = False
    """Mirror every second image while training, at random. Not for letters and digits."""
    crop_padding: int = Field(default=0, ge=0, le=512)
    """Pixels by which images are padded on every side while training, before a random part of the old size is cut out."""


class ObjectDetection(Document):
    """Boxes and labels in an image."""

    labels: Labels = Field(default_factory=list)
    """The categories in the order of the head's outputs. Empty: the sorted categories of the training split."""


class ImageTextMatching(Document):
    """Images and texts in one space (Radford et al., 2021, arXiv:2103.00020)."""

    zero_shot_prompt: str = Field(default="a photo of a {}", min_length=2, max_length=256, pattern=r"\{\}")
    """The sentence that names a class, `{}` in the place of its label: zero-shot accuracy compares images with it."""


class SharedHead(OneOf):
    """What one of several heads predicts. Exactly one member."""

    sequence_classification: SequenceClassification | None = None
    """One label for a whole text, or any number of them."""
    token_classification: TokenClassification | None = None
    """One label for each word."""
    question_answering: QuestionAnswering | None = None
    """The span of a context that answers a question."""


class NamedTask(Document):
    """One of several tasks over one trunk."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)
    """What `data.*[].task` and the metrics call it."""
    head: SharedHead
    """What it predicts."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Of its loss; without it an average example of each task weighs the same."""


class MultiTask(Document):
    """Several tasks on texts over one shared trunk, each with a head of its own (Caruana, 1997)."""

    model_config = rules(
        ("self.tasks.all(one, self.tasks.filter(other, other.name == one.name).size() == 1)", "names must differ"),
    )

    tasks: list[NamedTask] = Field(min_length=2, max_length=8)
    """The tasks."""
    temperature: float = Field(default=1.0, ge=1, le=100)
    """How examples are drawn: a task with n of them gets a share of n^(1/temperature). 1: as many as there are; large values:
    every task equally often (arXiv:1907.05019)."""
