"""How rows of any columns become prompts and completions."""

from typing import Annotated

from pydantic import Field

from trimtab_trainer.contract.base import Document

TemplateText = Annotated[str, Field(min_length=1, max_length=4096)]


class Template(Document):
    """One way to ask and to answer; `{column}` stands for what a row has in that column."""

    prompt: TemplateText
    """For example `Which desk answers this? {text}`."""
    completion: TemplateText
    """For example `{label}`."""
