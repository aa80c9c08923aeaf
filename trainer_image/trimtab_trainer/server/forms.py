"""Forms with files (multipart/form-data, RFC 7578), as far as one request for a transcription needs them."""

from email.message import Message

from trimtab_trainer.server.openai_api import ApiError

_MAX_PARTS = 16


def read_form(content_type: str, body: bytes) -> dict[str, bytes]:
    """The fields by their names.

    Raises:
        ApiError: 400 for what is no such form.
    """
    boundary = _parameter(content_type, "content-type", "boundary")
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise ApiError(400, f"The body must be multipart/form-data with a boundary; got {content_type or 'nothing'}.")
    # The first boundary has no line before it.
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if len(parts) > _MAX_PARTS + 2 or not parts[-1].startswith(b"--"):
        raise ApiError(400, f"The form must end with its boundary and have at most {_MAX_PARTS} fields.")
    fields: dict[str, bytes] = {}
    for part in parts[1:-1]:
        head, blank, content = part.partition(b"\r\n\r\n")
        name = _name(head.decode("utf-8", "replace"))
        if not blank or not name or name in fields:
            raise ApiError(400, "Every field of the form must have a name of its own and a content.")
        fields[name] = content
    return fields


def _name(head: str) -> str:
    for line in head.split("\r\n"):
        header, _, value = line.partition(":")
        if header.strip().lower() == "content-disposition":
            return _parameter(value.strip(), "content-disposition", "name")
    return ""


def _parameter(value: str, header: str, name: str) -> str:
    message = Message()
    message[header] = value
    found = message.get_param(name, "", header)
    return found if isinstance(found, str) else ""
