"""Speech batches are a function of the step alone, and an epoch is every example once."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from examples_in_memory import speech_batches
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.errors import DataError
from mmpt.tokenizers.speech.batches import SpeechExample, code_count, why_not_trained
from mmpt.tokenizers.speech.config import SpeechConfig

CONFIG = SpeechConfig(quantizer={"kind": "fsq", "levels": [4, 4]}, mels=16, window=20)
STILL = CONFIG.model_copy(update={"augment": type(CONFIG.augment)(speed=0, pitch=0, gain=0, tilt=0, noise=0)})


@dataclass(frozen=True)
class Plan:
    batch_size: int
    seed: int = 0


def examples(lengths: list[int]) -> list[SpeechExample]:
    random = np.random.default_rng(0)
    return [SpeechExample(random.normal(0, 0.1, n).astype(np.float32), f"text {i}") for i, n in enumerate(lengths)]


@settings(deadline=None, max_examples=12)
@given(lengths=st.lists(st.integers(1, 25_600), min_size=1, max_size=12), size=st.integers(1, 5), seed=st.integers(0, 3))
def test_every_epoch_holds_every_example(lengths, size, seed):
    batches = speech_batches(examples(lengths), CONFIG, Plan(size, seed))
    per_epoch = -(-len(lengths) // size)
    for epoch in range(2):
        found = Counter(text for step in range(per_epoch) for text in batches(epoch * per_epoch + step).texts)
        assert set(found) == {f"text {i}" for i in range(len(lengths))}
        assert sum(found.values()) == per_epoch * size  # the last batch is filled up


@settings(deadline=None, max_examples=12)
@given(step=st.integers(0, 30), size=st.integers(1, 4))
def test_a_batch_is_padded_to_its_longest_and_zero_past_each_end(step, size):
    lengths = [500, 4000, 12_800, 25_600, 25_599, 1281]
    batch = speech_batches(examples(lengths), CONFIG, Plan(size))(step)
    assert batch.spoken.shape == batch.heard.shape == (size, int(batch.lengths.max()) * 8, 16)
    assert batch.lengths.min() >= 1 and batch.lengths.max() <= CONFIG.window
    for mel in (batch.spoken, batch.heard):
        assert mel.isfinite().all()
        for row, length in zip(mel, batch.lengths * 8, strict=True):
            assert (row[length:] == 0).all() and row[: length - 8].abs().sum() > 0 or length == 8


def test_a_batch_is_a_function_of_seed_and_step():
    spoken = examples([9000, 5000, 12_000, 7000, 3000])
    one, other = (speech_batches(spoken, CONFIG, Plan(2, 7)) for _ in range(2))
    for _ in range(3):
        other(0)
    for step in (4, 0, 11):
        a, b = one(step), other(step)
        assert a.texts == b.texts and torch.equal(a.spoken, b.spoken) and torch.equal(a.heard, b.heard)
    alone = spoken[:1]
    first, second = (speech_batches(alone, CONFIG, Plan(1, 7))(step).heard[:, :8] for step in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, speech_batches(alone, CONFIG, Plan(1, 8))(0).heard[:, :8])


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    spoken = examples([4000] * 12)
    orders = [
        tuple(text for step in range(3) for text in speech_batches(spoken, STILL, Plan(4, seed))(3 * epoch + step).texts)
        for seed in range(2)
        for epoch in range(3)
    ]
    assert len(set(orders)) == 6


def test_without_augmentation_a_batch_holds_the_features_themselves():
    batch = speech_batches(examples([9000]), STILL, Plan(1))(5)
    assert torch.equal(batch.spoken, batch.heard)
    assert batch.lengths.tolist() == [code_count(9000, STILL)] == [8]


def test_batches_are_of_like_length():
    lengths = [1280 * (1 + i % 20) for i in range(160)]
    batches = speech_batches(examples(lengths), STILL, Plan(8))
    spreads = [int(b.lengths.max() - b.lengths.min()) for b in map(batches, range(20))]
    assert np.mean(spreads) <= 2
    assert len({tuple(batches(i).lengths.tolist()) for i in range(5)}) > 1  # but not in the order of length


def test_slower_speech_never_leaves_the_window():
    slow = CONFIG.model_copy(update={"augment": type(CONFIG.augment)(speed=0.4)})
    batches = speech_batches(examples([25_600]), slow, Plan(1))
    assert max(int(batches(step).lengths.max()) for step in range(20)) == 20
    assert min(int(batches(step).lengths.max()) for step in range(20)) < 19


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (SpeechExample(np.zeros(0, np.float32), "a"), "finite float32"),
        (SpeechExample(np.array([np.nan], np.float32), "a"), "finite float32"),
        (SpeechExample(np.zeros(900), "a"), "finite float32"),
        (SpeechExample(np.zeros(25_601, np.float32), "a"), "25601 samples, at most 25600"),
        (SpeechExample(np.zeros(900, np.float32), " "), "no letter"),
    ],
)
def test_what_cannot_be_trained_on_is_told_why(bad, said):
    assert said in why_not_trained(bad, CONFIG)


def test_what_can_be_trained_on_has_no_reason_and_nothing_is_refused():
    assert why_not_trained(*examples([900]), CONFIG) == ""
    with pytest.raises(DataError, match="no speech"):
        speech_batches([], CONFIG, Plan(2))
