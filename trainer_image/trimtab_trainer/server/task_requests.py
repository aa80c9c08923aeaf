"""Requests of the tasks that answer at once. Where Hugging Face's inference API has a schema for a task, this is it.

`model` and `user` beside it are what all requests to this server have; `task` names one of several tasks over one trunk.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from trimtab_trainer.server.openai_api import Message, ServerRequest

MAX_TEXTS = 256
MAX_IMAGES = 16
_Text = Annotated[str, Field(min_length=1)]
_Words = Annotated[list[str], Field(min_length=1, max_length=100_000)]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRequest(ServerRequest):
    """What all of them say."""

    model: str = Field(min_length=1, max_length=512)
    user: str | None = Field(default=None, max_length=512)
    task: str | None = Field(default=None, max_length=64)
    """Of a model of several tasks: which one."""


class ClassifyRequest(ModelRequest):
    """POST /v1/classify."""

    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)] | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    """A conversation, for a reward model to score its last answer."""

    @property
    def texts(self) -> list[str]:
        """Always a list."""
        return [self.input] if isinstance(self.input, str) else self.input or []


class TokenParameters(_Parameters):
    """How words are given and answered."""

    is_split_into_words: bool = False
    """`inputs` are words, as in a row of data; else a running text."""
    aggregation_strategy: Literal["first", "none"] = "first"
    """`first`: whole entities, each word by its first token; `none`: every word with its tag."""


class TokenRequest(ModelRequest):
    """POST /v1/token-classification."""

    inputs: str | Annotated[list[str] | list[_Words], Field(min_length=1)]
    """A text or several; with `is_split_into_words` the words of a text, or of several."""
    parameters: TokenParameters = Field(default_factory=TokenParameters)


class QuestionInputs(BaseModel):
    """A question and the text that may answer it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: _Text
    context: _Text


class NoParameters(_Parameters):
    """There are none."""


class QuestionRequest(ModelRequest):
    """POST /v1/question-answering."""

    inputs: QuestionInputs | Annotated[list[QuestionInputs], Field(min_length=1, max_length=MAX_TEXTS)]
    parameters: NoParameters = Field(default_factory=NoParameters)


class ImagesRequest(ModelRequest):
    """What all requests about images say."""

    inputs: str | Annotated[list[str], Field(min_length=1, max_length=MAX_IMAGES)]
    """The bytes of an image file in base64."""


class LabelParameters(_Parameters):
    """How many labels are named."""

    top_k: int = Field(default=5, ge=1, le=1000)


class ImageRequest(ImagesRequest):
    """POST /v1/image-classification."""

    parameters: LabelParameters = Field(default_factory=LabelParameters)


class DetectionParameters(_Parameters):
    """What is likely enough to be named."""

    threshold: float = Field(default=0.5, ge=0, le=1)


class DetectionRequest(ImagesRequest):
    """POST /v1/object-detection."""

    parameters: DetectionParameters = Field(default_factory=DetectionParameters)


class ChoiceParameters(_Parameters):
    """What an image may be."""

    candidate_labels: Annotated[list[_Text], Field(min_length=1, max_length=MAX_TEXTS)]
    hypothesis_template: str | None = Field(default=None, max_length=256, pattern=r"\{\}")
    """The sentence, `{}` in the place of the label; as the model was trained where absent."""


class ChoiceRequest(ImagesRequest):
    """POST /v1/zero-shot-image-classification."""

    parameters: ChoiceParameters
