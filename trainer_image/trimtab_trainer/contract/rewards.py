"""What an answer is worth: named rewards whose meaning is fixed here, and a reward model. Code of users is not among them."""

from typing import Annotated

from pydantic import Field

from trimtab_trainer.contract.base import Document, OneOf, rules
from trimtab_trainer.contract.spec import Digest, ModelURI

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
Pattern = Annotated[str, Field(min_length=1, max_length=512)]


class RewardTerm(Document):
    """One term of a weighted sum."""

    weight: float = Field(default=1.0, ge=-1000, le=1000)
    """Factor of this term in the sum; a negative one makes it a penalty."""


class ExactMatch(RewardTerm):
    """1 where the answer, without white space around it, is what a column of the prompt's row says; else 0."""

    column: ColumnName = "reference"
    """The column with the right answer."""
    extract: str = Field(default="", max_length=512)
    """Regular expression whose last match in the answer is compared instead of the whole answer: its first group, or all of it. No match: 0."""
    ignore_case: bool = False
    """Capital and small letters are the same."""


class WordOverlap(RewardTerm):
    """F1 of the words that the answer and a column of the prompt's row have in common, as SQuAD measures it (arXiv:1606.05250): 0 to 1."""

    column: ColumnName = "reference"
    """The column with a good answer."""


class RegularExpression(RewardTerm):
    """1 where the answer matches, else 0. A pattern that takes more than a second on one answer fails the job."""

    pattern: Pattern
    """In Python's grammar; `(?s)` and the like may stand at its start."""
    whole: bool = False
    """The whole answer must match, without white space around it; otherwise some part of it."""


class ValidJson(RewardTerm):
    """1 where the whole answer is one JSON document, else 0."""

    required_keys: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default_factory=list, max_length=32
    )
    """It must be an object that has at least these keys."""


class Length(RewardTerm):
    """1 where the answer's length lies within the bounds; outside it falls in a straight line to 0 over `toleranceTokens`."""

    model_config = rules(
        ("has(self.minimumTokens) || has(self.maximumTokens)", "length needs minimumTokens or maximumTokens"),
        (
            "!has(self.minimumTokens) || !has(self.maximumTokens) || self.minimumTokens <= self.maximumTokens",
            "minimumTokens must not be above maximumTokens",
        ),
    )

    minimum_tokens: int | None = Field(default=None, ge=1, le=131072)
    """Tokens of the model's tokenizer, the stop token included."""
    maximum_tokens: int | None = Field(default=None, ge=1, le=131072)
    """Likewise."""
    tolerance_tokens: int = Field(default=0, ge=0, le=131072)
    """Over how many tokens beyond a bound the reward falls to 0; 0: at once."""


class RewardModelSource(RewardTerm):
    """The score of a reward model: a sequence classifier with one output, as the objective `reward` publishes it. It is not bounded: weigh it."""

    model_config = rules(
        ("!self.uri.matches('(^|/)[.][.](/|$)')", "uri must not contain '..' as a part of its path"),
        (
            "!self.uri.startsWith('modelversion://') || !has(self.digest) || self.digest == ''",
            "digest is for other URIs: a ModelVersion has its own",
        ),
    )

    uri: ModelURI
    """`modelversion://name`: a ModelVersion of the same namespace, read as it was published; or a whole model at `s3://`, `hf://` or `pvc://`."""
    revision: str = Field(default="", max_length=128)
    """Commit, tag or branch of an `hf://` model."""
    digest: Digest = ""
    """Optional pin of a model that is no ModelVersion: `sha256:<hex>` of its files' listing. Without it, a resumed run still insists on the same bytes."""


class Reward(OneOf):
    """One term of the reward of an answer. Exactly one member."""

    exact_match: ExactMatch | None = None
    """The right answer."""
    word_overlap: WordOverlap | None = None
    """Words in common with a good answer."""
    regular_expression: RegularExpression | None = None
    """A pattern."""
    json_document: ValidJson | None = None
    """Valid JSON, with the keys that it needs."""
    length: Length | None = None
    """Neither too short nor too long."""
    reward_model: RewardModelSource | None = None
    """The score of a reward model; at most one in a job."""

    @property
    def term(self) -> RewardTerm:
        """The member that is set."""
        members = (getattr(self, name) for name in type(self).model_fields)
        return next(member for member in members if member is not None)


class Sampling(Document):
    """How answers are drawn from the model that learns: from the whole distribution, so that what is trained is what was drawn."""

    max_new_tokens: int = Field(default=128, ge=1, le=65536)
    """Longest answer. Prompts that leave less room within `data.maxSequenceLength` are left out and counted."""
    temperature: float = Field(default=1.0, gt=0, le=10)
    """The logits are divided by this, when answers are drawn and when their probabilities are computed."""
