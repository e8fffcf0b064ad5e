"""Whatever a model's logits are, what is sampled under the grammar is well-formed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.inference.grammar import Grammar
from mmpt.vocabulary import Vocabulary

VOCABULARY = Vocabulary(10, "f" * 64, image_codes=6, codes_per_image=3, speech_codes=5, speech_rate=12.5)
END = VOCABULARY.special("<|end|>")


def sample(seed: int, room: int, outputs: set[str], rows: int = 4) -> list[list[int]]:
    """Sequences sampled uniformly from what the grammar allows, until the room is used up."""
    grammar = Grammar(VOCABULARY, prompt_length=2, room=room, outputs=outputs)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(rows, 2, dtype=torch.int64)
    for _ in range(room):
        scores = grammar(ids, torch.randn(rows, VOCABULARY.size, generator=generator))
        ids = torch.cat([ids, torch.multinomial(scores.softmax(-1), 1, generator=generator)], dim=1)
    return ids[:, 2:].tolist()


@given(
    st.integers(0, 10**6), st.integers(1, 40), st.sets(st.sampled_from(["text", "image", "speech"]), min_size=1)
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_every_sample_is_well_formed_and_keeps_to_the_outputs(seed, room, outputs):
    for row in sample(seed, room, outputs):
        answer = row[: row.index(END)] if END in row else row
        blocks = VOCABULARY.split(answer)  # raises on anything malformed
        assert {kind for kind, _ in blocks} <= outputs
        assert all(len(codes) == 3 for kind, codes in blocks if kind == "image")
        assert all(len(codes) > 0 for kind, codes in blocks if kind == "speech")
        assert set(row[len(answer) :]) <= {END}


@pytest.mark.parametrize("kind", ["text", "image", "speech"])
def test_one_output_alone_is_produced(kind):
    rows = sample(0, 30, {kind})
    assert all(VOCABULARY.split(row[: row.index(END)] if END in row else row)[0][0] == kind for row in rows)


def test_allowed_ids_in_each_state():
    grammar = Grammar(VOCABULARY, 0, 100, {"text", "image", "speech"})
    image, end_image = VOCABULARY.special("<|image|>"), VOCABULARY.special("<|/image|>")
    speech, end_speech = VOCABULARY.special("<|speech|>"), VOCABULARY.special("<|/speech|>")
    text, pictures, sounds = (set(range(*VOCABULARY.ranges()[kind])) for kind in ("text", "image", "speech"))

    def allowed(*generated: int) -> set[int]:
        return set(grammar.allowed(list(generated)).nonzero().flatten().tolist())

    assert allowed() == text | {image, speech}
    assert allowed(3) == text | {image, speech, END}
    assert allowed(image) == allowed(image, 16, 17) == pictures
    assert allowed(image, 16, 17, 18) == {end_image}
    assert allowed(image, 16, 17, 18, end_image) == text | {image, speech, END}
    assert allowed(speech) == sounds
    assert allowed(speech, 22) == sounds | {end_speech}
    assert allowed(3, END) == {END}
