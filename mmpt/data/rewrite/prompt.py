"""What a writer is asked, and what it answers."""

import hashlib
import json
from dataclasses import dataclass

from mmpt.document import Image


@dataclass(frozen=True)
class Prompt:
    """A single question: `text`, behind the picture `image` where there is one. `about` is the piece of a document that it asks
    about, which the answer is held against. `plain`: the text is continued as it is, without a chat template."""

    text: str
    about: str = ""
    image: Image | None = None
    plain: bool = False

    def key(self) -> str:
        """The same for prompts to which the same is answered."""
        picture = hashlib.sha256(self.image.data).hexdigest() if self.image else None
        asked = json.dumps([self.text, picture, self.plain], ensure_ascii=True)
        return hashlib.sha256(asked.encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """The `text` that was written. `finished`: it was ended, not cut off at its longest. `refused` says why nothing was written.
    Where it cannot be used, `rule` names what it is held against and `reason` says why."""

    text: str
    finished: bool = True
    refused: str = ""
    rule: str = ""
    reason: str = ""
