"""Sequences of algorithms: each is checked by a reader that knows nothing of how it was made."""

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig
from mmpt.data.sources.procedural import Procedural, Task
from mmpt.errors import ConfigError


def read(**settings) -> list:
    source = Procedural(**{"count": 40, **settings})
    return [document for unit in source.units() for document in source.read(unit)]


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def balanced(text: str, depth: int, crossing: bool) -> bool:
    still_open: list[str] = []
    for word in text.split():
        if word.startswith("("):
            still_open.append(word[1:])
        elif crossing and word[:-1] in still_open:
            still_open.remove(word[:-1])
        elif not still_open or still_open.pop() != word[:-1]:
            return False
        if len(still_open) > depth:
            return False
    return not still_open


def right(task: str, text: str) -> bool:
    given_, _, found = (part.strip() for part in text.partition("|"))
    first, _, second = (part.strip() for part in given_.partition(","))
    one, two, made = numbers(first), numbers(second), numbers(found)
    if task == "union":
        return len(made) == len(set(made)) and set(made) == {*one, *two} and made == sorted(made, key=[*one, *two].index)
    if task == "delete":
        return two[0] in one and Counter(one) - Counter({two[0]: one.count(two[0])}) == Counter(made)
    if task == "unique":
        return len(made) == len(set(made)) and set(made) == set(one) and made == sorted(made, key=one.index)
    return {"identity": one, "reverse": list(reversed(one)), "sort": sorted(one)}[task] == made


@given(st.sampled_from(get_args(Task)), st.integers(0, 5), st.integers(2, 40), st.integers(2, 9), st.integers(1, 5))
def test_every_sequence_is_what_its_algorithm_says(task, seed, length, symbols, depth):
    for document in read(tasks=[task], count=3, seed=seed, length=[2, length], symbols=symbols, depth=depth):
        text = document.parts[0].text
        if task.startswith("dyck"):
            assert balanced(text, depth, crossing=task == "dyck_shuffle"), text
            assert 2 <= len(text.split()) <= length and len(text.split()) % 2 == 0
        else:
            assert right(task, text), text


def test_kinds_cross_in_a_shuffle_and_never_in_the_language_itself():
    texts = [document.parts[0].text for document in read(tasks=["dyck_shuffle"], length=[40, 40])]
    assert not all(balanced(text, 16, crossing=False) for text in texts)


def test_tasks_take_turns_and_a_document_is_a_function_of_its_number():
    found = read(seed=3)
    assert [document.meta["task"] for document in found[:8]] == list(get_args(Task))
    assert found == read(seed=3) and found[:10] == read(seed=3, count=10) and found != read(seed=4)
    assert len({document.id for document in found}) == 40


def test_mistakes_are_told():
    with pytest.raises(ConfigError, match="length: .*2 or more"):
        parse_config({"sources": [{"kind": "procedural", "count": 1, "length": [9, 3]}]}, BuildConfig, "test")
