"""How tasks on images and recordings read their requests and write their answers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.requests import Request

from trimtab_trainer.contract.tasks import ImageTextMatching
from trimtab_trainer.data.media import Media
from trimtab_trainer.server.exchange import read_bytes
from trimtab_trainer.server.forms import read_form
from trimtab_trainer.server.images import MAX_BODY_BYTES, image_of
from trimtab_trainer.server.openai_api import ApiError
from trimtab_trainer.server.servable import Head
from trimtab_trainer.server.task_requests import ChoiceRequest, DetectionRequest, ImageRequest, ImagesRequest
from trimtab_trainer.server.task_shapes import Prepared, Shape, in_words_of, ranked
from trimtab_trainer.tasks.object_detection import Detected
from trimtab_trainer.tasks.recordings import read_recording

MAX_RECORDING_BYTES = 25 << 20
"""OpenAI's limit."""
_FORM_BYTES = 1 << 16
"""What the other fields and the form itself may take."""


class ImageShape(Shape):
    """Labels with scores for an image."""

    url, endpoint, body = "/v1/image-classification", "image-classification", ImageRequest
    kinds = ("imageClassification",)
    max_body_bytes = MAX_BODY_BYTES
    is_media = True

    def prepare(self, asked: ImageRequest, head: Head) -> Prepared:
        """Images as the model's processor makes them."""
        examples = [head.encoder.encode_image(image) for image, _ in _images(asked)]

        def describe(answers: list[list[float]]) -> Any:
            return _as_asked(asked, [ranked(scores, head.labels)[: asked.parameters.top_k] for scores in answers])

        return Prepared(examples, describe)


class DetectionShape(Shape):
    """Boxes with labels and scores, in pixels."""

    url, endpoint, body = "/v1/object-detection", "object-detection", DetectionRequest
    kinds = ("objectDetection",)
    max_body_bytes = MAX_BODY_BYTES
    is_media = True

    def prepare(self, asked: DetectionRequest, head: Head) -> Prepared:
        """Images as the model's processor makes them."""
        images = _images(asked)
        examples = [head.encoder.encode_image(image, size) for image, size in images]

        def describe(answers: list[Detected]) -> Any:
            least = asked.parameters.threshold
            sizes = [size for _, size in images]
            return _as_asked(
                asked, [_boxes(one, size, head.labels, least) for one, size in zip(answers, sizes, strict=True)]
            )

        return Prepared(examples, describe)


class ChoiceShape(Shape):
    """Which of some labels or sentences belongs to an image."""

    url, endpoint, body = "/v1/zero-shot-image-classification", "zero-shot-image-classification", ChoiceRequest
    kinds = ("imageTextMatching",)
    max_body_bytes = MAX_BODY_BYTES
    is_media = True

    def prepare(self, asked: ChoiceRequest, head: Head) -> Prepared:
        """Labels in the sentence that the model was trained to know them by."""
        wanted = asked.parameters
        settings = head.settings.task.image_text_matching or ImageTextMatching()
        template = wanted.hypothesis_template or settings.zero_shot_prompt
        texts = [template.replace("{}", label) for label in wanted.candidate_labels]
        for index, text in enumerate(texts):
            length = len(head.encoder.tokenizer(text).input_ids)
            if length > head.encoder.max_length:
                field = f"parameters.candidate_labels.{index}"
                raise ApiError(
                    400,
                    f"This model takes {head.encoder.max_length} tokens of text; `{field}` has {length}.",
                    param=field,
                    code="context_length_exceeded",
                )
        examples = [head.encoder.encode_choice(image, texts) for image, _ in _images(asked)]

        def describe(answers: list[list[float]]) -> Any:
            return _as_asked(asked, [ranked(scores, wanted.candidate_labels) for scores in answers])

        return Prepared(examples, describe)


class Recording(NamedTuple):
    """POST /v1/audio/transcriptions."""

    model: str
    user: str | None
    task: str | None
    file: bytes
    response_format: str


class RecordingShape(Shape):
    """What is said in a recording, by OpenAI's interface."""

    url, endpoint = "/v1/audio/transcriptions", "transcriptions"
    kinds = ("speechRecognition",)
    is_media = True

    async def read(self, request: Request) -> Recording:
        """A form with the file.

        Raises:
            ApiError: 400 naming the field, 413 for too large a body.
        """
        body = await read_bytes(request, MAX_RECORDING_BYTES + _FORM_BYTES)
        form = read_form(request.headers.get("content-type", ""), body)
        _check_fields(form)
        texts = {name: value.decode("utf-8", "replace") for name, value in form.items() if name != "file"}
        return Recording(texts["model"], texts.get("user"), None, form["file"], texts.get("response_format", "json"))

    def prepare(self, asked: Recording, head: Head) -> Prepared:
        """Samples at the model's rate."""
        rate = int(head.processor.feature_extractor.sampling_rate)
        samples = in_words_of(
            "file",
            lambda: read_recording(
                Media(content=asked.file), rate=rate, place="request", max_seconds=head.encoder.max_seconds
            ),
        )
        example = head.encoder.encode_recording(samples)
        if example.is_too_long or len(samples) < head.encoder.min_samples:
            raise ApiError(
                400,
                f"`file` has {len(samples) / rate:.3f} seconds; this model takes "
                f"{head.encoder.min_samples / rate:.3f} to {head.encoder.max_seconds:.1f}.",
                param="file",
            )

        def describe(answers: list[str]) -> Any:
            return {"text": answers[0]} if asked.response_format == "json" else answers[0] + "\n"

        return Prepared([example], describe)


def _check_fields(form: dict[str, bytes]) -> None:
    known = ("file", "model", "user", "response_format", "temperature")
    for name in ("file", "model"):
        if not form.get(name):
            raise ApiError(400, f"`{name}` is required.", param=name)
    other = next((name for name in form if name not in known), "")
    if other:
        raise ApiError(
            400, f"`{other}` is not supported by this server; leave it out.", param=other, code="unsupported_parameter"
        )
    if form.get("response_format", b"json") not in (b"json", b"text"):
        raise ApiError(400, "`response_format` must be json or text.", param="response_format")
    if form.get("temperature", b"0") not in (b"0", b"0.0"):
        raise ApiError(400, "`temperature` must be 0: nothing is drawn.", param="temperature")


def _images(asked: ImagesRequest) -> list[tuple[Media, tuple[int, int]]]:
    if isinstance(asked.inputs, str):
        return [image_of(asked.inputs, "inputs")]
    return [image_of(text, f"inputs.{index}") for index, text in enumerate(asked.inputs)]


def _as_asked(asked: ImagesRequest, answers: list[Any]) -> Any:
    """A list for a list."""
    return answers[0] if isinstance(asked.inputs, str) else answers


def _boxes(found: Detected, size: tuple[int, int], labels: Sequence[str], least: float) -> list[dict[str, Any]]:
    width, height = size
    scale = (width, height, width, height)
    answers = []
    for score, label, box in zip(found.scores, found.labels, found.boxes, strict=True):
        if score >= least:
            places = [round(float(edge) * whole) for edge, whole in zip(box, scale, strict=True)]
            named = dict(zip(("xmin", "ymin", "xmax", "ymax"), places, strict=True))
            answers.append({"score": float(score), "label": labels[int(label)], "box": named})
    return answers
