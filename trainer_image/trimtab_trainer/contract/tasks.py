"""The parameters of each task: what the members of `spec.task` say."""

from typing import Annotated

from pydantic import Field

from trimtab_trainer.contract.base import Document, OneOf, rules

Labels = Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=1000)]


class WrittenAnswers(Document):
    """Answers that the model writes by itself to held-out examples, at every measurement, compared with the references by ROUGE."""

    examples: int = Field(default=32, ge=1, le=10000)
    """How many of each measured split, chosen by a hash of what they say. They cost as much time as the model needs to answer them."""
    max_new_tokens: int = Field(default=64, ge=1, le=4096)
    """Where an answer is broken off that does not end by itself."""


class CausalLanguageModeling(Document):
    """The next token."""

    written_answers: WrittenAnswers | None = None
    """Measure `rouge_1`, `rouge_2` and `rouge_l` (Lin, 2004) of answers that the model writes, on validation, test and general data, before and after
    training. With `objective.supervised`. Absent: nothing is written while it is measured."""


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
