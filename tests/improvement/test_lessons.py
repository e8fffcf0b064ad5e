"""What is learned of a group of answers, and what they are worth: by hand."""

import numpy as np
import pytest

from mmpt.data.shards.tokens import TokenDocument, sequences
from mmpt.document import Image, Text
from mmpt.errors import ConfigError, DataError
from mmpt.improvement.lessons import Scored
from mmpt.improvement.lessons.best import Best
from mmpt.improvement.lessons.best_and_worst import BestAndWorst
from mmpt.improvement.lessons.group_advantage import GroupAdvantage
from mmpt.improvement.rewards.exact import Exact
from mmpt.improvement.rewards.function import Function
from mmpt.improvement.rewards.number import Number

WEIGHTS = np.float32([0, 1])


def group(*rewards: float) -> list[Scored]:
    return [
        Scored(TokenDocument(f"answer-{n}", "test", np.array([1, 5 + n]), WEIGHTS), reward) for n, reward in enumerate(rewards)
    ]


def test_advantages_by_hand():
    # Mean 0.5; deviations 0.5, −0.5, 0, 0; their mean square 0.125.
    found = list(GroupAdvantage().documents(group(1.0, 0.0, 0.5, 0.5)))
    assert [one.advantage for one in found] == pytest.approx([0.5 / 0.125**0.5, -0.5 / 0.125**0.5, 0, 0])
    plain = GroupAdvantage(scale=False).documents(group(1.0, 0.0, 0.5, 0.5))
    assert [one.advantage for one in plain] == [0.5, -0.5, 0, 0]
    assert not list(GroupAdvantage().documents(group(1.0, 1.0, 1.0)))


def test_the_best_answers_are_learned_once_each():
    answers = group(0.5, 1.0, 2.0, 1.0)
    answers.append(Scored(answers[2].document, 2.0))
    assert [one.id for one in Best(threshold=1.0, most=2).documents(answers)] == ["answer-2", "answer-1"]
    assert not list(Best(threshold=3.0).documents(answers))


def test_the_best_is_preferred_to_the_worst():
    (pair,) = BestAndWorst(threshold=0.5).documents(group(0.5, 1.0, 0.0))
    assert [one.ids.tolist() for one in sequences(pair)] == [[1, 6], [1, 7]]
    assert not list(BestAndWorst().documents(group(1.0, 1.0)))
    assert not list(BestAndWorst().documents(group(0.5, 0.0)))


def worth(reward, said: str, expected: str) -> float:
    return reward.of([Text("?")], [Text(said)], [Text(expected)])


def test_rewards_by_hand():
    assert worth(Exact(), " 42 ", "42") == 1 and worth(Exact(), "42.", "42") == 0
    assert worth(Exact(behind="####"), "6 × 7 #### 42", "so #### 42") == 1
    assert worth(Number(), "6 × 7 is 1,042.0", "#### 1042") == 1 and worth(Number(), "42 or 43", "42") == 0
    assert worth(Number(), "none", "none") == 0
    assert worth(Function(name="improvement_rewards:length"), "abc", "") == 3.0


def test_a_function_that_cannot_be_is_told():
    with pytest.raises(ConfigError, match="no_such_package"):
        worth(Function(name="no_such_package.x:y"), "", "")
    with pytest.raises(ConfigError, match="has no attribute"):
        worth(Function(name="improvement_rewards:missing"), "", "")
    with pytest.raises(DataError, match="expected a finite number"):
        worth(Function(name="improvement_rewards:nothing"), "", "")
    with pytest.raises(ValueError, match="expected package.module:function"):
        Function(name="os.system")


def test_media_are_no_text():
    assert Exact().of([], [Image(b"", "png", 1, 1), Text("a")], [Text("a")]) == 1
