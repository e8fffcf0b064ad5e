"""Documents that are a clip: one utterance, and what it says."""

from mmpt.document import Document, Speech, Text


def lone_utterance(document: Document) -> Speech | None:
    """The utterance of a document that holds nothing but it and, before or after it, what it says as a text; None: it is another
    document."""
    parts = document.parts
    spoken = [part for part in parts if isinstance(part, Speech) and part.role is None]
    said = [part for part in parts if isinstance(part, Text) and part.role is None]
    if len(spoken) != 1 or len(said) > 1 or len(spoken) + len(said) != len(parts):
        return None
    return spoken[0] if all(part.text.strip() == spoken[0].text.strip() for part in said) else None
