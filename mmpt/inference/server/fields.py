"""What the bodies of all requests have in common."""

from typing import Any

import pydantic


def present(content: object) -> object:
    """Without what is null, at any depth."""
    if isinstance(content, dict):
        return {key: present(value) for key, value in content.items() if value is not None}
    return [present(value) for value in content] if isinstance(content, list) else content


class Asked(pydantic.BaseModel):
    """A field that is not named is refused, with its reason."""

    model_config = pydantic.ConfigDict(extra="forbid")


class Body(Asked):
    """A whole body. A field that is null is absent; those of the last group change nothing in an answer."""

    model: str | None = None

    user: Any = None
    safety_identifier: Any = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, content: object) -> object:
        return present(content)
