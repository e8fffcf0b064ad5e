"""Prompts with two answers, of which one is preferred, in the forms of TRL, UltraFeedback and ms-swift.

sources: [{kind: preferences, rows: pairs.jsonl}]
"""

from dataclasses import replace
from typing import Any, ClassVar

from mmpt.data.formats.conversation_turns import read_turns
from mmpt.data.sources.conversations import Conversations, turn_parts
from mmpt.data.store import Store
from mmpt.document import Part
from mmpt.errors import DataError

_ANSWERS = ("prompt", "chosen", "rejected", "messages", "rejected_response")


class Preferences(Conversations):
    """Prompts with a preferred and a rejected answer (Rafailov et al. 2023, arXiv:2305.18290): `prompt`, `chosen` and `rejected`,
    each a text or a list of messages, as TRL reads them (the prompt may lie in the other two, as in UltraFeedback); or ms-swift's
    `messages` beside `rejected_response`.

    The parts are the prompt, of weight 0, the preferred answer as the assistant's, and the other with the role `rejected`. To
    tokens each becomes one sample of two sequences, which stay in one pack. The conversations must be the same but for the last
    turn. Pictures and recordings as in `conversations`.
    """

    carries: ClassVar[tuple[str, ...]] = ()

    def row_parts(self, row: dict, stores: dict[str, Store]) -> tuple[list[Part], set[str]]:
        """The parts of both answers of a row behind its prompt, and the keys that are not understood. Raises `DataError`."""
        chosen, rejected = _conversations(row)
        beside = {key: value for key, value in row.items() if key not in _ANSWERS}
        turns, unknown = read_turns({**beside, "messages": chosen})
        others, unread = read_turns({**beside, "messages": rejected})
        if turns[:-1] != others[:-1] or len(turns) < 2:
            raise DataError("chosen and rejected: expected one prompt, and conversations that are the same but for the last turn")
        if {turns[-1].role, others[-1].role} != {"assistant"}:
            raise DataError("chosen and rejected: expected the assistant's turn as the last of both")
        if turns[-1] == others[-1]:
            raise DataError("chosen and rejected are the same")
        prompt = [
            replace(part, weight=0.0) for number, turn in enumerate(turns[:-1]) for part in turn_parts(number, turn, stores)
        ]
        preferred, other = (turn_parts(len(turns) - 1, turn, stores) for turn in (turns[-1], others[-1]))
        return [*prompt, *preferred, *(replace(part, role="rejected") for part in other)], unknown | unread


def _conversations(row: dict) -> tuple[list, list]:
    """The messages of both, prompt and answer. Raises `DataError` where the row has not the form of any."""
    if isinstance(row.get("messages"), list) and isinstance(row.get("rejected_response"), str) and row["messages"]:
        last = row["messages"][-1]
        if not isinstance(last, dict):
            raise DataError("messages: expected turns of a role and a text")
        text = "content" if "content" in last else "value"
        return row["messages"], [*row["messages"][:-1], {**last, text: row["rejected_response"]}]
    chosen, rejected = ([*_prompt(row, name), *_messages(row, name, "assistant")] for name in ("chosen", "rejected"))
    return chosen, rejected


def _prompt(row: dict, answer: str) -> list:
    """The messages of the prompt, none where those of the answer hold it."""
    said = row.get(answer)
    within = isinstance(said, list) and len(said) > 1
    return [] if within else _messages(row, "prompt", "user")


def _messages(row: dict, key: str, role: str) -> list[Any]:
    said = row.get(key)
    if isinstance(said, str):
        return [{"role": role, "content": said}]
    if isinstance(said, list) and said:
        return said
    raise DataError(f"{key}: expected a text or a list of messages (a row has prompt, chosen and rejected)")
