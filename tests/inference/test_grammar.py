"""Whatever a model's logits are, what is sampled under the grammar is well-formed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.codebooks import by_frame
from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.inference.grammar import Grammar, Masks
from mmpt.inference.settings import Settings
from mmpt.vocabulary import Vocabulary

VOCABULARY = Vocabulary(10, "f" * 64, image_codes=6, codes_per_image=3, speech_codes=5, speech_rate=12.5)
MASKS = Masks(VOCABULARY, torch.device("cpu"))
END, IMAGE, SPEECH = (VOCABULARY.special(name) for name in ("<|end|>", "<|image|>", "<|speech|>"))
END_IMAGE, END_SPEECH = VOCABULARY.special("<|/image|>"), VOCABULARY.special("<|/speech|>")
KINDS = st.sets(st.sampled_from(["text", "image", "speech"]), min_size=1)


def sample(seed: int, vocabulary: Vocabulary = VOCABULARY, masks: Masks = MASKS, **asked) -> list[int]:
    """A sequence sampled uniformly from what the grammar allows, until it is finished, without the end."""
    grammar, draw, found = Grammar(vocabulary, Settings(**asked)), torch.Generator().manual_seed(seed), []
    while not grammar.finished:
        allowed = (~masks.forbidden(grammar.allowed())).nonzero().flatten()
        token = int(allowed[torch.randint(len(allowed), (1,), generator=draw)])
        grammar.advance(token)
        found.append(token)
    assert len(found) <= asked["max_new_tokens"] and END not in found[:-1]
    return found[:-1] if found[-1] == END else found


@given(st.integers(0, 10**6), st.integers(1, 40), KINDS, st.integers(1, 4))
@settings(deadline=None, max_examples=100)
def test_every_sample_is_well_formed_and_keeps_to_the_outputs(seed, room, outputs, parts):
    answer = sample(seed, max_new_tokens=room, outputs=tuple(outputs), max_parts=parts)
    blocks = VOCABULARY.split(answer)  # raises on anything malformed
    kinds = [kind for kind, _ in blocks]
    assert set(kinds) <= outputs and len(kinds) - kinds.count("text") <= parts
    assert all(len(codes) == 3 for kind, codes in blocks if kind == "image")
    assert all(len(codes) > 0 for kind, codes in blocks if kind == "speech")
    assert VOCABULARY.special("<|feature|>") not in answer


@given(st.integers(0, 10**6), st.integers(1, 90), st.integers(1, 5), st.integers(1, 6))
@settings(deadline=None, max_examples=100)
def test_text_and_speech_in_turn(seed, room, text, speech):
    blocks = VOCABULARY.split(sample(seed, max_new_tokens=room, alternate=(text, speech)))
    kinds = [kind for kind, _ in blocks]
    assert "image" not in kinds
    # Before the last: so many tokens of text, so many codes. Text that is shorter says that it is over.
    sounds = [number for number, kind in enumerate(kinds) if kind == "speech"]
    for number in sounds:
        full = number and kinds[number - 1] == "text" and len(blocks[number - 1][1]) == text
        if full:
            assert len(blocks[number][1]) == speech
        else:
            assert number == len(blocks) - 1
    assert all(len(values) <= text for kind, values in blocks if kind == "text")


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_a_picture_of_several_codebooks_comes_codebook_by_codebook(seed, room, codebooks):
    vocabulary = Vocabulary(10, "f" * 64, 2 * codebooks, 3 * codebooks, 5, 12.5, image_codebooks=codebooks)
    masks = Masks(vocabulary, torch.device("cpu"))
    for kind, codes in vocabulary.split(sample(seed, vocabulary, masks, max_new_tokens=room, outputs=("text", "image"))):
        if kind == "image":
            assert (codes // 2).tolist() == [book for book in range(codebooks) for _ in range(3)]


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 4), st.sampled_from(["flatten", "delay"]), st.booleans())
@settings(deadline=None, max_examples=100)
def test_codebooks_of_speech_come_in_turn_and_frames_are_whole(seed, room, codebooks, layout, alternate):
    vocabulary = Vocabulary(10, "f" * 64, 6, 3, 2 * codebooks, 12.5, codebooks, layout)
    asked = {"alternate": (2, 2 * codebooks)} if alternate else {}
    masks = Masks(vocabulary, torch.device("cpu"))
    for kind, codes in vocabulary.split(sample(seed, vocabulary, masks, max_new_tokens=room, **asked)):
        if kind == "speech":
            assert len(by_frame(codes, codebooks, 2, layout))  # raises on a code out of turn, and on a frame that is not whole


@pytest.mark.parametrize("kind", ["text", "image", "speech"])
def test_one_output_alone_is_produced(kind):
    answers = [sample(seed, max_new_tokens=30, outputs=(kind,)) for seed in range(4)]
    assert all(VOCABULARY.split(answer)[0][0] == kind for answer in answers)


def test_allowed_ids_in_each_state():
    text, pictures, sounds = (set(range(*VOCABULARY.ranges()[kind])) for kind in ("text", "image", "speech"))
    picture, sound = VOCABULARY.image_offset, VOCABULARY.speech_offset

    def allowed(*generated: int, **asked) -> set[int]:
        grammar = Grammar(VOCABULARY, Settings(**{"max_new_tokens": 100, **asked}))
        for token in generated:
            grammar.advance(token)
        return set((~MASKS.forbidden(grammar.allowed())).nonzero().flatten().tolist())

    assert allowed() == text | {IMAGE, SPEECH}
    assert allowed(3) == text | {IMAGE, SPEECH, END}
    assert allowed(IMAGE) == allowed(IMAGE, picture, picture + 1) == pictures
    assert allowed(IMAGE, picture, picture, picture) == {END_IMAGE}
    assert allowed(IMAGE, picture, picture, picture, END_IMAGE) == text | {IMAGE, SPEECH, END}
    assert allowed(SPEECH) == sounds
    assert allowed(SPEECH, sound) == sounds | {END_SPEECH}
    assert allowed(3, END) == {END}
    assert allowed(3, 4, alternate=(2, 2)) == {SPEECH} and allowed(3, alternate=(2, 2)) == text | {SPEECH}
    assert allowed(3, 4, SPEECH, sound, alternate=(2, 2)) == sounds
    assert allowed(3, 4, SPEECH, sound, sound, alternate=(2, 2)) == {END_SPEECH}
    assert allowed(3, SPEECH, sound, sound, sound, alternate=(2, 2)) == sounds | {END_SPEECH}
    assert allowed(3, SPEECH, sound, END_SPEECH, alternate=(2, 2)) == {END}


def test_kinds_without_codes_are_never_opened():
    plain = Vocabulary(10, "f" * 64, image_codes=0, codes_per_image=0, speech_codes=0, speech_rate=0.0)
    assert Grammar(plain, Settings()).allowed() == {"text"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"outputs": []}, "expected some of"),
        ({"outputs": ["smell"]}, "outputs"),
        ({"outputs": ["text"], "alternate": [13, 26]}, "alternate needs text and speech"),
        ({"text": {"top_p": 0}}, "text.top_p"),
        ({"image": {"temperature": -1}}, "image.temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_settings_that_make_no_sense(asked, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(asked, Settings, "settings")


def test_an_id_of_the_text_may_end_a_sequence():
    """As the end of a turn of a chat template: it is never within a text, and mmpt's own end is not written."""
    grammar = Grammar(VOCABULARY, Settings(max_new_tokens=100, outputs=("text",)), end=7)

    def allowed() -> set[int]:
        return set((~MASKS.forbidden(grammar.allowed(), grammar.end)).nonzero().flatten().tolist())

    text = set(range(*VOCABULARY.ranges()["text"]))
    assert allowed() == text - {7}
    grammar.advance(3)
    assert allowed() == text and not grammar.finished
    grammar.advance(7)
    assert grammar.finished and allowed() == {7}
