"""Prompts, a model's answers to them, and what these are worth."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mmpt.data.shards.tokens import Medium, TokenDocument
from mmpt.data.sources import Source
from mmpt.document import Document, Part, Text
from mmpt.errors import ConfigError
from mmpt.improvement.lessons import Scored
from mmpt.improvement.rewards import Reward, text_of
from mmpt.inference.engine import Prompt
from mmpt.inference.load import MultimodalModel
from mmpt.inference.settings import Settings
from mmpt.vocabulary import Vocabulary

AT_ONCE = 512
"""Answers that wait in the engine at most: their prompts are in memory."""


class Question(NamedTuple):
    """`asked`, and what is `expected` as the answer."""

    id: str
    asked: tuple[Part, ...]
    expected: tuple[Part, ...]


class Rollout(NamedTuple):
    """An answer to a question as a row of answers.jsonl, and as a sequence with its reward."""

    told: dict
    scored: Scored


def questions(sources: Sequence[Source]) -> list[Question]:
    """All of the sources' conversations. Raises `ConfigError` where one has nothing to ask or to expect, or there is none."""
    documents = [one for source in sources for one in source.documents() if isinstance(one, Document)]
    if not documents:
        raise ConfigError("prompts: no conversation in them")
    return [_question(one) for one in documents]


def drawn(count: int, wanted: int, round_: int, seed: int) -> list[int]:
    """Which `wanted` of `count` questions are asked in a round (from 0): the next in an order drawn anew for each pass."""
    found: list[int] = []
    for place in range(round_ * wanted, (round_ + 1) * wanted):
        order = np.random.default_rng((seed, place // count)).permutation(count)
        found.append(int(order[place % count]))
    return found


def rollouts(
    model: MultimodalModel, asked: Sequence[Question], reward: Reward, settings: Settings, answers: int, seed: int
) -> Iterator[list[Rollout]]:
    """The `answers` to each question, question by question. A function of its arguments: what is written beside an answer does
    not change it. Raises `ConfigError` where the model marks no turns."""
    if model.tokenizer.chat is None:
        raise ConfigError("the model has no chat template, so nothing ends its answers (chat: of to_tokens)")
    each = max(1, AT_ONCE // answers)
    for first in range(0, len(asked), each):
        batch = asked[first : first + each]
        prompts = model.prompts([one.asked for one in batch])
        engine = model.engine()
        written = []
        for number, prompt in enumerate(prompts, start=first):
            for answer in range(answers):
                own = int(np.random.SeedSequence((seed, number, answer)).generate_state(1, np.uint64)[0] >> 2)
                written.append(engine.submit(prompt, settings.model_copy(update={"seed": own})))
        while engine.busy:
            engine.step()
        for number, (question, prompt) in enumerate(zip(batch, prompts, strict=True), start=first):
            group, start = [], (number - first) * answers
            for place, one in enumerate(written[start : start + answers]):
                ended = len(one.ids) < one.settings.max_new_tokens  # the end counts among them
                parts = model.tokenizer.decode(one.ids)
                worth = reward.of(question.asked, parts, question.expected)
                told = {"id": question.id, "asked": _shown(question.asked), "answered": _shown(parts)}
                told |= {"expected": _shown(question.expected), "reward": worth, "ended": ended}
                document = _document(
                    f"{number}/{question.id}/{place}", question, prompt, one.ids, ended, model.tokenizer.vocabulary
                )
                group.append(Rollout(told, Scored(document, worth)))
            yield group


def _question(document: Document) -> Question:
    last = document.parts[-1] if document.parts else Text("")
    asked = tuple(part for part in document.parts if part.turn != last.turn)
    if last.role != "assistant" or not asked:
        raise ConfigError(f"prompts: {document.id}: expected a conversation whose last turn is the assistant's")
    return Question(document.id, asked, tuple(part for part in document.parts if part.turn == last.turn))


def _document(
    name: str, question: Question, prompt: Prompt, ids: list[int], ended: bool, vocabulary: Vocabulary
) -> TokenDocument:
    """The prompt and the ids of an answer, which alone have a weight, its end with them."""
    assert prompt.end is not None  # a conversation's
    answer = [*ids, prompt.end] if ended else ids
    weights = np.repeat(np.array([0, 1], np.float32), [len(prompt.ids), len(answer)])
    media = media_of(question, prompt, vocabulary)
    return TokenDocument(name, "answers", np.array([*prompt.ids, *answer]), weights, media)


def media_of(question: Question, prompt: Prompt, vocabulary: Vocabulary) -> tuple[Medium, ...]:
    """What of the question enters as features, with its bytes and its slots in the prompt."""
    kinds = {kind for kind, *_ in prompt.media}
    given = iter(part for part in question.asked if not isinstance(part, Text) and type(part).__name__.lower() in kinds)
    found = []
    for (kind, places, _), part in zip(prompt.media, given, strict=True):
        mark = vocabulary.special(f"<|{kind}|>")  # behind it stand the slots, and tags before those of tiles
        start = max(place for place, token in enumerate(prompt.ids[: places[0]]) if token == mark) + 1
        stretches = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        runs = tuple((int(one[0]) - start, len(one)) for one in stretches)
        found.append(Medium(kind, part.suffix, part.data, start, len(places), () if runs == ((0, len(places)),) else runs))
    return tuple(found)


def _shown(parts: Sequence[Part]) -> str:
    return (
        text_of(parts)
        if all(isinstance(part, Text) for part in parts)
        else " ".join(text_of([part]) if isinstance(part, Text) else f"[{type(part).__name__.lower()}]" for part in parts)
    )
