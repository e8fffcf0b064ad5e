"""Pictures with what is asked about each, from pairs and short conversations, and the words by which a text speaks of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import pydantic

from mmpt.data.curate.rights import shared_meta
from mmpt.data.lost import Lost
from mmpt.document import Document, Image, Part, Role, Text


class Asked(NamedTuple):
    """A picture of `document`, the question that its user asks about it (empty: it is a pair), and the answer with its weight."""

    document: Document
    image: Image
    question: str
    answer: Text


def asked(document: Document) -> Asked | None:
    """What a document of one picture asks: a pair of picture and text, or a conversation of one question about it; None: it is
    neither."""
    pictures = [part for part in document.parts if isinstance(part, Image)]
    said = [part for part in document.parts if isinstance(part, Text)]
    if len(pictures) != 1 or len(said) + 1 != len(document.parts):
        return None
    (picture,) = pictures
    if len(said) == 1 and picture.role is said[0].role is None and said[0].text.strip():
        return Asked(document, picture, "", said[0])
    users = [part for part in said if part.role == "user"]
    answers = [part for part in said if part.role == "assistant"]
    if picture.role != "user" or len(answers) != 1 or len(users) + 1 != len(said) or document.parts[-1] is not answers[0]:
        return None
    if len({part.turn for part in (picture, *users)}) > 1 or not answers[0].text.strip():
        return None
    return Asked(document, picture, "".join(part.text for part in users).strip(), answers[0])


def grouped(documents: Iterable[Document | Lost], size: int) -> Iterator[list[Asked] | Document | Lost]:
    """Groups of `size` neighbours that `asked` understands, of fewer at the end, one alone as the document it is; everything else
    as it is, where it comes."""
    group: list[Asked] = []
    for one in documents:
        found = None if isinstance(one, Lost) else asked(one)
        if found is None:
            yield one
            continue
        group.append(found)
        if len(group) == size:
            yield group
            group = []
    if len(group) > 1:
        yield group
    else:
        yield from (one.document for one in group)


def composed(group: Sequence[Asked], parts: Iterable[Part]) -> Document:
    """Under the first one's id and source; `meta` names each. Texts of one turn and weight are one part."""
    first = group[0].document
    meta = {**without_boxes(shared_meta(one.document for one in group)), "composed": [one.document.id for one in group]}
    return Document(first.id, first.source, tuple(joined(parts)), meta)


def without_boxes(meta: dict) -> dict:
    """The meta of a document whose parts have moved: where objects are is said by the numbers of parts."""
    return {key: value for key, value in meta.items() if key != "boxes"}


def joined(parts: Iterable[Part]) -> Iterator[Part]:
    """`parts` without empty texts, and with texts that follow each other in one turn as one."""
    last: Part | None = None
    for part in parts:
        if isinstance(part, Text) and not part.text:
            continue
        if isinstance(part, Text) and isinstance(last, Text) and replace(last, text=part.text) == part:
            last = replace(last, text=last.text + part.text)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last


def _one_picture(form: str) -> str:
    if form.count("{image}") != 1:
        raise ValueError("expected {image} once in it")
    return form


def _counted(form: str) -> str:
    if "{index}" not in form and "{number}" not in form:
        raise ValueError("expected {index} (from 0) or {number} (from 1) in it")
    return form


def _with_question(form: str) -> str:
    if form.count("{question}") != 1:
        raise ValueError("expected {question} once in it")
    return form


Mark = Annotated[str, pydantic.AfterValidator(_one_picture)]
"""How a picture stands in a text: {image} the picture, {index} its number from 0, {number} from 1."""
Question = Annotated[str, pydantic.AfterValidator(_counted)]
"""A question that names a picture by {index} or {number}."""
About = Annotated[str, pydantic.AfterValidator(_counted), pydantic.AfterValidator(_with_question)]
"""How a question that was asked about a lone picture names it among others."""


def filled(form: str, index: int, **more: str) -> str:
    """A form with the number of a picture, and what `more` names, in it."""
    for name, value in {"index": str(index), "number": str(index + 1), **more}.items():
        form = form.replace(f"{{{name}}}", value)
    return form


def marked(form: str, index: int, image: Image, role: Role | None, turn: int, weight: float) -> list[Part]:
    """A picture with its mark around it."""
    before, behind = (filled(one, index) for one in form.split("{image}"))
    place = replace(image, role=role, turn=turn, weight=weight)
    return [Text(before, weight, role, turn), place, Text(behind, weight, role, turn)]


def question_of(one: Asked, index: int, of_pair: str, of_conversation: str) -> str:
    """What is asked about picture `index`."""
    return filled(of_conversation, index, question=one.question) if one.question else filled(of_pair, index)
