"""OpenAI's requests, answers and errors, as far as this server speaks them."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Stop = str | Annotated[list[str], Field(max_length=4)] | None


class ApiError(Exception):
    """An answer in OpenAI's error format."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    def body(self) -> dict[str, Any]:
        """The JSON document."""
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"  # noqa: PLR2004 - HTTP
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class ServerRequest(BaseModel):
    """A request body. Unknown fields are refused, so that a typing error is not silently another request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ignored: ClassVar[frozenset[str]] = frozenset(
        {
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "verbosity",
        }
    )
    """Fields that change nothing in an answer."""
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """Fields that are not supported, and the values that ask for nothing."""

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        for name, values in cls.neutral.items():
            if body.get(name) is not None and body[name] not in values:
                raise ApiError(
                    400,
                    f"`{name}` is not supported by this server; leave it out.",
                    param=name,
                    code="unsupported_parameter",
                )
        return {name: value for name, value in body.items() if name not in cls.ignored and name not in cls.neutral}


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include_usage: bool = False
    include_obfuscation: bool = False


class _TextRequest(ServerRequest):
    """What both ways to ask for text share."""

    model: str = Field(min_length=1, max_length=512)
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stop = None
    user: str | None = Field(default=None, max_length=512)
    max_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, body: Any) -> Any:
        return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "`stream_options` needs `stream: true`.", param="stream_options")
        return self

    @property
    def stop_sequences(self) -> tuple[str, ...]:
        """Never empty strings: they would end every answer before it begins."""
        several = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in several if stop)

    @property
    def wants_usage(self) -> bool:
        """A last chunk with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextPart(BaseModel):
    """A piece of a message. Only text."""

    model_config = ConfigDict(frozen=True)

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def for_template(self) -> dict[str, str]:
        """As chat templates expect it; they know no developer."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


_NO_PENALTIES: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}


class ChatRequest(_TextRequest):
    """POST /v1/chat/completions."""

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {
        **_NO_PENALTIES,
        "logprobs": (False,),
        "top_logprobs": (0,),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "parallel_tool_calls": (True, False),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "reasoning_effort": (),
        "web_search_options": (),
    }

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    @property
    def limit(self) -> int | None:
        """Tokens of the answer, at most."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(_TextRequest):
    """POST /v1/completions."""

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {
        **_NO_PENALTIES,
        "logprobs": (),
        "echo": (False,),
        "best_of": (1,),
        "suffix": ("",),
    }

    prompt: str | list[str] | list[int]

    @property
    def limit(self) -> int:
        """Tokens of the answer, at most; OpenAI's default."""
        return self.max_tokens or 16

    @property
    def one_prompt(self) -> str | list[int]:
        """The prompt, as text or tokens."""
        if isinstance(self.prompt, str):
            return self.prompt
        tokens = [item for item in self.prompt if isinstance(item, int)]
        if tokens:
            return tokens
        texts = [item for item in self.prompt if isinstance(item, str)]
        if len(texts) != 1:
            raise ApiError(
                400,
                f"`prompt` must be one text or one list of tokens; got a list of {len(texts)}. Send them as requests of their own.",
                param="prompt",
            )
        return texts[0]


def explain(error: ValidationError) -> ApiError:
    """The first problem of a body, naming its field."""
    problems = error.errors(include_url=False, include_input=False)
    field = _field(problems[0]["loc"])
    if not field:
        return ApiError(400, "The body must be a JSON object.")
    if problems[0]["type"] == "extra_forbidden":
        return ApiError(400, f"`{field}` is not a field of this request.", param=field)
    # A field that takes several types has a problem with each.
    reasons = dict.fromkeys(_lower(problem["msg"]) for problem in problems if _field(problem["loc"]) == field)
    return ApiError(400, f"`{field}`: {', or '.join(reasons)}.", param=field)


def _field(place: tuple[int | str, ...]) -> str:
    """The name of a field as the reader wrote it, without pydantic's names for the types of a union."""
    return ".".join(str(part) for part in place if not _is_union_member(part))


def _is_union_member(part: int | str) -> bool:
    # Of the fields, none begins with a capital.
    return isinstance(part, str) and (part in {"str", "int"} or "[" in part or part[:1].isupper())


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
