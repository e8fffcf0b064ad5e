"""Conversations as ids: the turns marked by a chat template, the same where tokens are made, in answering and after export.

The template is a Jinja text as Hugging Face tokenizers carry it (huggingface/transformers, `apply_chat_template`), rendered by
transformers; of turns of text alone the ids are those of `apply_chat_template(..., tokenize=True)`. Special tokens come from the
template alone: those that are spelled out in what somebody says stay plain text.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jinja2
import pydantic
from tokenizers import processors

from mmpt.chat_template import NAMED, pinned
from mmpt.checkpoint_section import CheckpointSection
from mmpt.config import Schema
from mmpt.document import Image, Part, Role, Text
from mmpt.errors import ConfigError, DataError, VocabularyError
from mmpt.vocabulary import SPECIAL, Vocabulary

if TYPE_CHECKING:  # transformers takes seconds
    from transformers import PreTrainedTokenizerBase

_PLACE = "<|mmpt:part|>"
"""Stands for a part that is no text while the rest is encoded: a special token, as the marks of its block are."""


class ChatFormat(CheckpointSection):
    """How conversations become ids: what token shards and checkpoints keep of it."""

    file = "chat.json"
    schema_format = "mmpt-chat/1"

    template: str
    """The chat template, a Jinja text that depends on nothing but the messages."""
    pictures: str = "{image}"
    """How a picture stands in a turn."""
    alternate: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None
    """(text, speech): so many tokens and codes in turn wherever the assistant's text is followed by speech."""


class ChatConfig(Schema):
    """How the turns of conversations are marked."""

    template: str = "own"
    """`own`: that of the text tokenizer; `chatml`, `plain` (needs no special token of the text tokenizer), or a Jinja file."""
    options: dict[str, bool | int | float | str] = {}
    """Variables of the template, such as `enable_thinking: false`; they hold for every use of the model."""
    pictures: str = "{image}"
    """How a picture stands in a turn: "image {index}: {image}" counts from 0 as MMICL, "(image {number}: {image})" from 1 as
    MANTIS."""
    alternate: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None
    """(text, speech): wherever the assistant's text is followed by speech, so many tokens and codes in turn, what is left of
    either at the end (GLM-4-Voice, arXiv:2412.02612, section 3.3, with 13 and 26)."""

    @pydantic.field_validator("pictures")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if value.count("{image}") != 1:
            raise ValueError("expected {image} once in it")
        return value

    def of(self, tokenizer: "PreTrainedTokenizerBase") -> ChatFormat:
        """The format with a text tokenizer. Raises `ConfigError` where there is no such template, or it cannot be used."""
        template = NAMED.get(self.template)
        if self.template == "own":
            try:
                template = tokenizer.get_chat_template()
            except ValueError:
                raise ConfigError(
                    "chat.template: the text tokenizer has none of its own; expected plain, chatml or a Jinja file"
                ) from None
        elif template is None:
            try:
                template = Path(self.template).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as problem:
                raise ConfigError(
                    f"chat.template: {self.template!r} is neither own, {', '.join(NAMED)} nor a Jinja file ({problem})"
                ) from None
        tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
        return ChatFormat(template=pinned(template, tokens, self.options), pictures=self.pictures, alternate=self.alternate)


class Coded(NamedTuple):
    """Stands in a conversation for what was said before, by the ids that it was written in; see `ChatMarker.coded`."""

    ids: tuple[int, ...]
    role: Role | None = "assistant"
    turn: int = 0


Said = Part | Coded
"""A part of a conversation that an answer follows."""


class Stretch(NamedTuple):
    """Of a sequence: `ids` of text with their loss `weight`, or in their place the part of this number. `answer`: the assistant
    says it."""

    ids: list[int]
    part: int | None
    weight: float
    answer: bool


class _Turn(NamedTuple):
    role: Role
    parts: list[tuple[int, Said, float]]
    """(number in the conversation, part, loss weight)."""

    @property
    def weights(self) -> list[float]:
        """Of the text before the first part that is no text, between each two of them, and after the last."""
        found: list[float | None] = [None]
        media: list[float] = []
        for number, part, weight in self.parts:
            if not isinstance(part, Text):
                media.append(weight)
                found.append(None)
            elif found[-1] not in (None, weight):
                raise DataError(f"part {number}: texts of one turn that follow each other have the weights {found[-1]}, {weight}")
            else:
                found[-1] = weight
        # Where nothing is said, what the template writes there goes with the part before it, at the beginning with that behind.
        media = [media[0], *media] if media else [0.0]
        return [near if weight is None else weight for weight, near in zip(found, media, strict=True)]


class _Answer(NamedTuple):
    """Ids of what the assistant says in a turn: from `start` to `end` (its end of turn is the last) of `ids`, those of the
    conversation up to there."""

    turn: int
    start: int
    end: int
    ids: list[int]


class ChatMarker:
    """Marks the turns of conversations for one vocabulary. `end` is the id with which the assistant ends its turn."""

    def __init__(self, chat: ChatFormat, tokenizer: "PreTrainedTokenizerBase", vocabulary: Vocabulary) -> None:
        """Raises `ConfigError` where the template takes no conversation, or ends answers by no special token."""
        self.format, self.vocabulary = chat, vocabulary
        if not tokenizer.is_fast:
            raise ConfigError("chat: the text tokenizer is none of the library `tokenizers`, which says where a token begins")
        # The template may write `<|begin|>` and `<|end|>`: after export they are tokens of the text tokenizer too.
        self._tokenizer = copy.deepcopy(tokenizer)
        # Else a token is said to begin behind its spaces.
        backend: Any = self._tokenizer.backend_tokenizer
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
        known = self._tokenizer.get_vocab()
        added = [name for name in (*SPECIAL, _PLACE) if name not in known]
        self._tokenizer.add_tokens(added, special_tokens=True)
        self._tokenizer.split_special_tokens = False
        ids = self._tokenizer.get_vocab()
        self._place = ids[_PLACE]
        self._own: dict[int, int] = {ids[name]: vocabulary.special(name) for name in added if name != _PLACE}
        special = [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special]
        self._special = frozenset(self._own.get(ids[name], ids[name]) for name in special)
        self._spelled = re.compile("|".join(re.escape(name) for name in sorted(special, key=len, reverse=True)))
        # Also where one spelling lies over another: looked at from every character.
        self._anywhere = re.compile(f"(?=({self._spelled.pattern}))")
        self.end = self._probed()

    def sequences(self, parts: Sequence[tuple[Part, float]]) -> list[list[Stretch]]:
        """Training sequences of a conversation of (part, loss weight): the whole, in which each answer is learned that stands
        there as it would be written; a template may change answers once others follow (thoughts are left out), and those are
        learned in sequences of their own that end with them. So what is learned is always what is asked for.

        Only what the assistant says is learned, its end of turn included. Raises `DataError` on turns that the template refuses.
        """
        turns, spelling = _turns(parts), self._spelling(parts)
        answers = {one.turn: one for one in self._answers(turns, spelling)}
        left = {number for number in answers if any(weight for *_, weight in turns[number].parts)}
        found, last = [], len(turns)
        while True:
            ids = self._ids(self._rendered(turns[:last], spelling), spelling)
            own = {number for number in left if answers[number].ids == ids[: answers[number].end]}
            if own or not left:
                there = [one for number, one in answers.items() if number < last]
                found.append(list(self._stretches(turns, ids, there, own)))
            left -= own
            if not left:
                return found
            last = max(left) + 1

    def coded(self, ids: Sequence[int], turn: int) -> Coded:
        """What the assistant said in a turn, written in `ids`.

        Raises `DataError` where no answer could be written so: they break the grammar of blocks, or hold the end of a turn.
        """
        try:
            self.vocabulary.split(list(ids))
        except VocabularyError as problem:
            raise DataError(f"ids: {problem}") from None
        if self.end in ids:
            raise DataError("ids: the end of a turn among them")
        return Coded(tuple(ids), "assistant", turn)

    def question(self, parts: Sequence[Said]) -> list[Stretch]:
        """What an answer to a conversation follows. Raises `DataError` on turns that the template refuses."""
        weightless: list[tuple[Said, float]] = [(part, 0.0) for part in parts]
        turns, spelling = _turns(weightless), self._spelling(weightless)
        answers = list(self._answers(turns, spelling)) if self.format.alternate else []
        ids = self._ids(self._rendered(turns, spelling, asking=True), spelling)
        return list(self._stretches(turns, ids, answers, set()))

    def _answers(self, turns: Sequence[_Turn], spelling: "_Spelling") -> Iterator[_Answer]:
        for number, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            if number == 0:
                raise DataError("the first turn is the assistant's, to which nobody asked")
            asked, said = self._rendered(turns[:number], spelling, asking=True), self._rendered(turns[: number + 1], spelling)
            if not said.startswith(asked):
                raise DataError(f"turn {number}: the template asks by {asked[-40:]!r} for what it does not write so")
            ids, start = self._split(said, spelling, len(asked))
            if self.end not in ids[start:]:
                raise DataError(f"turn {number}: the template does not end it as others")
            end = ids.index(self.end, start) + 1
            yield _Answer(number, start, end, ids[:end])

    def _stretches(
        self, turns: Sequence[_Turn], ids: list[int], answers: Sequence[_Answer], learned: set[int]
    ) -> Iterator[Stretch]:
        """`ids` cut at parts, and where answers begin and end."""
        edges = []
        for answer in answers:
            number, start, end = answer.turn, answer.start, answer.end
            if answer.ids != ids[:end]:  # it stands in another form, or not at all
                start = min(start, _common(answer.ids, ids))
                end = next((place + 1 for place in range(start, len(ids)) if ids[place] in self._special), start)
            edges.append((start, end, number))
        at = 0
        for start, end, number in sorted(edges):
            yield from _cut(ids[at:start])
            at, own = max(at, end), turns[number]
            weights = own.weights if number in learned else [0.0] * len(own.weights)
            media = {n: weight if number in learned else 0.0 for n, _, weight in own.parts}
            slot = 0
            for one in _cut(ids[start:end]):
                slot += one.part is not None
                weight = weights[min(slot, len(weights) - 1)] if one.part is None else media.get(one.part, 0.0)
                yield one._replace(weight=weight, answer=True)
        yield from _cut(ids[at:])

    def _spelling(self, parts: Sequence[tuple[Said, float]]) -> "_Spelling":
        return _Spelling(self.format.template, [part.text for part, _ in parts if isinstance(part, Text)])

    def _rendered(self, turns: Sequence[_Turn], spelling: "_Spelling", asking: bool = False) -> str:
        """The turns as one text in that spelling; `asking`: the assistant is to go on."""
        pictures = 0
        messages = []
        for turn in turns:
            content = ""
            for text, group in groupby(turn.parts, key=lambda one: _is_text(one[1])):
                if text:
                    said = "".join(part.text for _, part, _ in group if isinstance(part, Text))
                    content += self._harmless(said, spelling)
                    continue
                for number, part, _ in group:
                    form = self.format.pictures if isinstance(part, Image) else "{image}"
                    form = form.replace("{index}", str(pictures)).replace("{number}", str(pictures + 1))
                    content += form.replace("{image}", spelling.part(number))
                    pictures += isinstance(part, Image)
            messages.append({"role": turn.role, "content": content})
        try:
            text = self._tokenizer.apply_chat_template(
                messages, chat_template=self.format.template, tokenize=False, add_generation_prompt=asking
            )
        except jinja2.TemplateError as problem:
            raise DataError(f"the chat template refuses it: {problem}") from None
        return str(text)

    def _harmless(self, text: str, spelling: "_Spelling") -> str:
        """`text` with a cut in each special token that is spelled out in it."""
        if any(match[1] == text[match.start()] for match in self._anywhere.finditer(text)):
            raise DataError("what is said has a special token of a single character, which cannot be cut")
        places = [match.start() + 1 for match in self._anywhere.finditer(text)]
        pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
        return spelling.cut.join(pieces)

    def _ids(self, text: str, spelling: "_Spelling") -> list[int]:
        return self._split(text, spelling)[0]

    def _split(self, text: str, spelling: "_Spelling", place: int = 0) -> tuple[list[int], int]:
        """(ids in the vocabulary, -1 - n for part n; the number of the first that begins at `place` in `text` or behind it)."""
        read, numbers = spelling.parts(text)
        before = spelling.parts(text[:place])[0].split(spelling.cut)  # `place` is in its last piece, where that ends
        found: list[int] = []
        first = None
        for number, piece in enumerate(read.split(spelling.cut)):
            split = self._tokenizer(piece, add_special_tokens=False, split_special_tokens=False, return_offsets_mapping=True)
            ids = [self._own.get(token, token) for token in cast(list[int], split["input_ids"])]
            if sum(token in self._special for token in ids) != len(self._spelled.findall(piece)):
                raise DataError("what is said would become a special token")
            if first is None and number >= len(before) - 1:
                edge = len(before[-1]) if number == len(before) - 1 else 0
                first = next((len(found) + n for n, (start, _) in enumerate(split["offset_mapping"]) if start >= edge), None)
            found += ids
        places = iter(numbers)
        return [-1 - next(places) if token == self._place else token for token in found], len(found) if first is None else first

    def _probed(self) -> int:
        """The first special token behind what the assistant says last."""
        said = chr(0x10FFFD)
        parts: list[tuple[Said, float]] = [(Text("a", role="user"), 0.0), (Text(said, role="assistant"), 0.0)]
        spelling = self._spelling(parts)
        try:
            _, found, behind = self._rendered(_turns(parts), spelling).rpartition(said)
        except DataError as problem:
            raise ConfigError(f"chat.template: {problem}") from None
        end = next((token for token in self._ids(behind, spelling) if token in self._special), None)
        if not found or end is None:
            raise ConfigError("chat.template: no special token of the text tokenizer ends what the assistant says")
        return end


class _Spelling:
    """Two characters that nobody uses: one cuts spelled special tokens in two, the other stands around the numbers of parts."""

    def __init__(self, template: str, texts: Sequence[str]) -> None:
        used = set(template).union(*texts)
        free = (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in used)  # a plane for private use
        self.cut, self._mark = next(free), next(free)

    def part(self, number: int) -> str:
        return f"{self._mark}{number}{self._mark}"

    def parts(self, text: str) -> tuple[str, list[int]]:
        """`text` with `_PLACE` for each part, and the numbers of the parts in order."""
        pattern = re.compile(f"{self._mark}(\\d+){self._mark}")
        return pattern.sub(_PLACE, text), [int(match[1]) for match in pattern.finditer(text)]


def _is_text(part: Said) -> bool:
    return isinstance(part, Text)


def _turns(parts: Sequence[tuple[Said, float]]) -> list[_Turn]:
    """Raises `DataError` where a part has no role, or there is none."""
    without = next((number for number, (part, _) in enumerate(parts) if part.role is None), None)
    if without is not None or not parts:
        raise DataError(f"part {without} of a conversation has no role" if parts else "a conversation without a turn")
    turns = groupby(enumerate(parts), key=lambda one: (one[1][0].role, one[1][0].turn))
    return [
        _Turn(role, [(number, part, weight) for number, (part, weight) in group])
        for (role, _), group in turns
        if role is not None
    ]


def _cut(ids: Sequence[int]) -> Iterator[Stretch]:
    """Stretches of text and parts by turns, weightless."""
    for text, group in groupby(ids, key=lambda token: token >= 0):
        if text:
            yield Stretch(list(group), None, 0.0, False)
        else:
            yield from (Stretch([], -1 - token, 0.0, False) for token in group)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids are the same at the beginning."""
    return next((place for place, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))  # noqa: B905
