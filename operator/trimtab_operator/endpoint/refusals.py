"""Why the endpoint refuses a request: a status code and a sentence for the person who reads the trainer's log."""


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of ours
    """An answer other than 200."""

    def __init__(self, code: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
