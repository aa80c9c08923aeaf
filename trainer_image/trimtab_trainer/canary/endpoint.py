"""Requests to the rollout's Service, patient with servers that start anew."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from trimtab_trainer.canary.questions import COMPLETIONS, Question, answer_in
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError

PAUSES: Sequence[float] = (1, 2, 4, 8, 16)
"""Seconds before each further try: a server that starts has its versions within that time."""
_SECONDS = 120
"""For one answer."""
_PASSING = frozenset({404, 408, 425, 429})
"""Besides all of 5xx. A server that has just started does not know the version yet."""
_FAULTS = 500
_NO_TEMPLATE = re.compile("no chat template|provide a chat template")
"""In the words of the built-in server, and in vLLM's."""
_BAD_REQUEST = 400


class RefusedError(Exception):
    """The server refuses this very request; asking again is no use."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Endpoint:
    """One address. Threads may share it."""

    def __init__(self, address: str, *, pauses: Sequence[float] = PAUSES) -> None:
        self._address = address.rstrip("/")
        self._pauses = pauses
        # The pod's proxy is for the world outside.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, question: Question, model: str) -> str:
        """The model's answer.

        Raises:
            TrainerError: DatasetInvalid where the server refuses the row, TrainerError where it does not answer.
        """
        try:
            try:
                return answer_in(question.path, self._post(question.path, {"model": model, **question.body}))
            except RefusedError as error:
                if question.fallback is None or error.code != _BAD_REQUEST or not _NO_TEMPLATE.search(str(error)):
                    raise
                return answer_in(COMPLETIONS, self._post(COMPLETIONS, {"model": model, **question.fallback}))
        except RefusedError as error:
            raise TrainerError(
                TrainerReason.DATASET_INVALID, f"{question.place}: {model} cannot be asked this: {error}"
            ) from error
        except (KeyError, IndexError, TypeError) as error:
            raise TrainerError(
                TrainerReason.TRAINER_ERROR, f"{self._address}{question.path} answers in another form: {error!r}"
            ) from error

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        for pause in (*self._pauses, None):
            try:
                return self._once(path, body)
            except (OSError, ValueError) as error:
                why = f"{type(error).__name__}: {error}"
            if pause is not None:
                time.sleep(pause)
        raise TrainerError(TrainerReason.TRAINER_ERROR, f"{self._address}{path} does not answer: {why}")

    def _once(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the operator names the Service
            self._address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=_SECONDS) as reply:
                document: dict[str, Any] = json.load(reply)
                return document
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(4096).decode(errors="replace")
            if error.code >= _FAULTS or error.code in _PASSING:
                raise OSError(f"{error.code} {text}"[:512]) from error
            raise RefusedError(error.code, _said(text)) from error


def _said(text: str) -> str:
    """The message of an error in OpenAI's form."""
    try:
        return str(json.loads(text)["error"]["message"])[:400]
    except (ValueError, KeyError, TypeError):
        return text[:400]
