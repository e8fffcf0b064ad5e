"""Documents become sequences in the order asked for, each id with the loss weight of its part."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from chats import DEFAULT_SYSTEM, THINKING, text_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mmpt.chat import ChatConfig, ChatMarker
from mmpt.data.arrange import Arrangement, arrange
from mmpt.data.feature_rows import PictureRows, SpeechRows
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import Medium
from mmpt.data.shards.write import TokenShardWriter
from mmpt.data.token_documents import token_documents
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import encode_png, encode_wav
from mmpt.vocabulary import Vocabulary

VOCABULARY = Vocabulary(50, "f" * 64, image_codes=8, codes_per_image=2, speech_codes=9, speech_rate=12.5)
BEGIN, END = VOCABULARY.special("<|begin|>"), VOCABULARY.special("<|end|>")
IMAGE = [
    VOCABULARY.special("<|image|>"),
    VOCABULARY.image_offset + 3,
    VOCABULARY.image_offset + 4,
    VOCABULARY.special("<|/image|>"),
]
SPEECH = [VOCABULARY.special("<|speech|>"), VOCABULARY.speech_offset + 1, VOCABULARY.special("<|/speech|>")]


def encode(sequences):
    """Stands for `MultimodalTokenizer.encode`: a text is its letters' places in the alphabet, media are fixed codes."""
    return [
        [[ord(c) - 97 for c in p.text] if isinstance(p, Text) else IMAGE if isinstance(p, Image) else SPEECH for p in sequence]
        for sequence in sequences
    ]


TOKENIZER = SimpleNamespace(vocabulary=VOCABULARY, encode=encode)
WHOLE = Document("w", "s", (Image(b"", "png", 1, 1), Speech(b"", "flac", 16000, 1.0, weight=0.5), Text("ab")))
TEXT_ONLY = Document("t", "s", (Text("cd"), Text("")))


def sequences(documents, *arrangements):
    return [(d.id, d.ids.tolist(), d.weights.tolist()) for d in token_documents(documents, TOKENIZER, arrangements)]


def test_as_it_stands():
    (whole, text) = sequences([WHOLE, TEXT_ONLY])
    assert whole == ("w/0", [BEGIN, *IMAGE, *SPEECH, 0, 1, END], [0, 1, 1, 1, 1, 0.5, 0.5, 0.5, 1, 1, 1])
    assert text == ("t/0", [BEGIN, 2, 3, END], [0, 1, 1, 1])


def test_arrangements_order_weigh_and_prompt():
    found = sequences(
        [WHOLE, TEXT_ONLY],
        Arrangement(order=("text", "image"), weights=(0.0, 2.0)),
        Arrangement(order=("speech", "text"), prompt="ef", weights=(1.0, 3.0)),
    )
    assert found == [
        ("w/0", [BEGIN, 0, 1, *IMAGE, END], [0, 0, 0, 2, 2, 2, 2, 2]),
        ("w/1", [BEGIN, 4, 5, *SPEECH, 0, 1, END], [0, 0, 0, 0.5, 0.5, 0.5, 3, 3, 3]),
    ]  # the text-only document fits neither


def test_a_prompt_equal_to_the_text_keeps_its_own_weight():
    (found,) = sequences([Document("x", "s", (Text("ab"),))], Arrangement(order=("text",), prompt="ab"))
    assert found == ("x/0", [BEGIN, 0, 1, 0, 1, END], [0, 0, 0, 1, 1, 1])


def test_many_documents_keep_their_order():
    documents = [Document(str(i), "s", (Text(chr(97 + i % 26)),)) for i in range(600)]
    found = list(token_documents(documents, TOKENIZER))
    assert [d.id for d in found] == [f"{i}/0" for i in range(600)]
    assert all(np.array_equal(d.ids, [BEGIN, i % 26, END]) for i, d in enumerate(found))


def test_arrange_takes_the_first_of_each_kind():
    document = Document("x", "s", (Text("a"), Text("b")))
    assert arrange(document, Arrangement(order=("text",))) == [(Text("a"), 1.0)]
    assert arrange(document, Arrangement(order=("text", "speech"))) is None


def test_arrange_uses_no_part_twice():
    """A spoken question, its answer in writing and in speech: what is learned is the answer, never the question again."""
    question, answer = (Speech(b"x", "wav", 16000, 1.0, text) for text in ("question", "answer"))
    document = Document("dialogue", "test", (question, Text("answer"), answer))
    arrangement = Arrangement(order=("speech", "text", "speech"), weights=(0, 1, 1))
    assert [part for part, _ in arrange(document, arrangement)] == [question, Text("answer"), answer]
    assert arrange(document, Arrangement(order=("speech", "text", "speech", "speech"))) is None


def test_weights_must_fit_the_order():
    with pytest.raises(ValidationError, match="1 weights for 2 parts"):
        Arrangement(order=("text", "image"), weights=(1.0,))


def slots(kind: str, count: int) -> list[int]:
    return [VOCABULARY.special(f"<|{kind}|>"), *[VOCABULARY.special("<|feature|>")] * count, VOCABULARY.special(f"<|/{kind}|>")]


PNG, WAV = encode_png(PIL.Image.new("RGB", (4, 3))), encode_wav(np.zeros(1600, dtype=np.float32), 16_000)
SEEN = Document("s", "s", (Image(PNG, "png", 4, 3), Text("ab"), Speech(WAV, "wav", 16_000, 0.1)))


def test_what_is_not_learned_enters_as_features_and_what_is_learned_as_codes():
    tokenizer = SimpleNamespace(vocabulary=VOCABULARY, encode=encode, text=None, image=object(), speech=None)
    asked = Arrangement(order=("image", "text"), weights=(0.0, 1.0))
    drawn = Arrangement(order=("text", "image"), weights=(0.0, 1.0))
    seen, shown, whole = token_documents([SEEN], tokenizer, [asked, drawn, Arrangement(order=("speech", "text"))],
                                         {"image": PictureRows(rows=3), "speech": SpeechRows(rows=2)})  # fmt: skip
    assert seen.ids.tolist() == [BEGIN, *slots("image", 3), 0, 1, END] and seen.weights.tolist() == [0] * 6 + [1, 1, 1]
    assert seen.media == (Medium("image", "png", PNG, 2, 3),)
    assert shown.ids.tolist() == [BEGIN, 0, 1, *IMAGE, END] and not shown.media
    # No speech tokenizer: speech enters as features whatever its weight, and is not learned.
    assert whole.ids.tolist() == [BEGIN, *slots("speech", 2), 0, 1, END] and whole.weights.tolist() == [0] * 5 + [1, 1, 1]


def test_media_travel_in_token_shards_and_their_slots_count(tmp_path):
    tokenizer = SimpleNamespace(vocabulary=VOCABULARY, encode=encode, text=None, image=None, speech=None)
    (document,) = token_documents([SEEN], tokenizer, (), {"image": PictureRows(rows=3), "speech": SpeechRows(rows=2)})
    with TokenShardWriter(tmp_path / "set", vocabulary=VOCABULARY, built={}) as writer:
        writer.write(document)
    shards = TokenShards(tmp_path / "set")
    assert shards.lengths.tolist() == [13] and shards[0].media == document.media
    assert [medium.start for medium in document.media] == [2, 9]


@pytest.mark.parametrize(
    ("media", "message"),
    [
        ((), "3 slots of features, 0 media"),
        ((Medium("image", "png", b"x", 2, 2),), "no block of 2 slots of image"),
        ((Medium("speech", "wav", b"x", 2, 3),), "no block of 3 slots of speech"),
        ((Medium("image", "png", b"", 2, 3),), "image of 0 bytes"),
        ((Medium("image", "png", b"x", 2, 3),) * 2, "no block"),
    ],
)
def test_slots_and_media_that_do_not_belong_together(tmp_path, media, message):
    tokenizer = SimpleNamespace(vocabulary=VOCABULARY, encode=encode, text=None, image=None, speech=None)
    (document,) = token_documents([Document("s", "s", SEEN.parts[:2])], tokenizer, (), {"image": PictureRows(rows=3)})
    with pytest.raises(DataError, match=message), TokenShardWriter(tmp_path / "s", vocabulary=VOCABULARY, built={}) as writer:
        writer.write(replace(document, media=media))


def test_a_picture_that_cannot_be_decoded_never_becomes_slots():
    tokenizer = SimpleNamespace(vocabulary=VOCABULARY, encode=encode, text=None, image=None, speech=None)
    with pytest.raises(DataError, match="no picture"):
        list(token_documents([Document("s", "s", (Image(b"?", "png", 1, 1),))], tokenizer, (), {"image": PictureRows(rows=3)}))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.integers(1, 90), st.integers(1, 13), st.integers(1, 26))
def test_text_and_speech_in_turn_as_the_grammar_has_it(words, codes, tokens, run):
    """Nothing is lost, and whatever is long enough in speech is a sequence that generation could have written."""
    spoken = [*[VOCABULARY.speech_offset + i % 9 for i in range(codes)]]
    ends = VOCABULARY.special("<|speech|>"), VOCABULARY.special("<|/speech|>")

    def encode(sequences):
        return [[[3] * words if isinstance(p, Text) else [ends[0], *spoken, ends[1]] for p in parts] for parts in sequences]

    tokenizer = SimpleNamespace(vocabulary=VOCABULARY, encode=encode)
    document = Document("d", "s", (Text("x"), Speech(b"", "flac", 16_000, 1.0)))
    asked = Arrangement(order=("text", "speech"), weights=(1.0, 2.0), alternate=(tokens, run))
    (found,) = token_documents([document], tokenizer, [asked])
    blocks = VOCABULARY.split(found.ids.tolist())
    assert sum(len(values) for kind, values in blocks if kind == "text") == words
    assert np.concatenate([v for kind, v in blocks if kind == "speech"]).tolist() == [i % 9 for i in range(codes)]
    assert found.weights[found.ids == 3].tolist() == [1.0] * words
    kinds = [kind for kind, _ in blocks]
    assert kinds[-1] == "speech" and all(len(v) == run for kind, v in blocks[:-1] if kind == "speech")
    text_runs = [len(v) for kind, v in blocks if kind == "text"]
    assert all(length == tokens for length in text_runs[: kinds.count("speech") - 1])


def test_an_alternation_needs_text_and_speech_at_the_end():
    with pytest.raises(ValidationError, match="ends with text and speech"):
        Arrangement(order=("speech", "text"), alternate=(13, 26))


def chatting(template: str, **chat) -> SimpleNamespace:
    """A tokenizer that marks turns, and whose every utterance has the codes 0 to 6."""
    text = text_tokenizer(template)
    vocabulary = replace(VOCABULARY, text_size=len(text))
    marker = ChatMarker(ChatConfig(**chat).of(text), text, vocabulary)

    def encode(sequences):
        return [[vocabulary.encode_speech(np.arange(7)) for part in parts if isinstance(part, Speech)] for parts in sequences]

    return SimpleNamespace(vocabulary=vocabulary, encode=encode, chat=marker, text=text, speech=object(), image=None)


def spoken(role: str, turn: int) -> Speech:
    return Speech(WAV, "wav", 16_000, 0.1, role=role, turn=turn)


DIALOGUE = Document(
    "d",
    "s",
    (
        spoken("user", 0), Text("xyzw", role="assistant", turn=1), spoken("assistant", 1),
        spoken("user", 2), Text("zwxyz", role="assistant", turn=3), spoken("assistant", 3),
    ),
)  # fmt: skip


def shown(document, tokenizer) -> list[str | list[int]]:
    """Runs of text, and the codes of blocks."""
    blocks = tokenizer.vocabulary.split(document.ids.tolist())
    return [tokenizer.text.decode(values) if kind == "text" else values.tolist() for kind, values in blocks]


def test_in_a_conversation_only_answers_are_learned_whatever_the_parts_weigh():
    tokenizer = chatting(DEFAULT_SYSTEM)
    (found,) = token_documents([DIALOGUE], tokenizer)
    codes = [0, 1, 2, 3, 4, 5, 6]
    assert found.id == "d/0" and shown(found, tokenizer) == [
        "<|im_start|>system\nBe useful<|im_end|>\n<|im_start|>user\n", codes,
        "<|im_end|>\n<|im_start|>assistant\nxyzw", codes,
        "<|im_end|>\n<|im_start|>user\n", codes,
        "<|im_end|>\n<|im_start|>assistant\nzwxyz", codes, "<|im_end|>\n",
    ]  # fmt: skip
    learned = replace(found, ids=found.ids[found.weights > 0])
    assert shown(learned, tokenizer) == ["xyzw", codes, "<|im_end|>zwxyz", codes, "<|im_end|>"]


def test_text_and_speech_of_every_answer_stand_in_turn():
    tokenizer = chatting(DEFAULT_SYSTEM, alternate=(2, 3))
    (found,) = token_documents([DIALOGUE], tokenizer)
    learned = replace(found, ids=found.ids[found.weights > 0])
    assert shown(learned, tokenizer) == [
        "xy", [0, 1, 2], "zw", [3, 4, 5], [6], "<|im_end|>zw", [0, 1, 2], "xy", [3, 4, 5], "z", [6], "<|im_end|>",
    ]  # fmt: skip
    # The questions' speech, and what is said before it, stand as they were.
    assert shown(found, tokenizer)[1] == [0, 1, 2, 3, 4, 5, 6]


def test_a_conversation_that_a_template_tells_twice_becomes_two_sequences():
    tokenizer = chatting(THINKING, alternate=(50, 3))
    first, second = token_documents([DIALOGUE], tokenizer)
    assert (first.id, second.id) == ("d/0", "d/0.1")
    for found, last in ((first, "zwxyz"), (second, "xyzw")):
        learned = replace(found, ids=found.ids[found.weights > 0])
        assert shown(learned, tokenizer) == [f"<think>\n\n</think>\n\n{last}", [0, 1, 2, 3, 4, 5, 6], "<|im_end|>"]


def test_arrangements_choose_parts_of_conversations_too():
    tokenizer = chatting(DEFAULT_SYSTEM)
    asked = Arrangement(order=("speech", "text"), prompt="what is said?", weights=(1.0, 2.0))
    (found,) = token_documents([DIALOGUE], tokenizer, [asked])
    assert shown(found, tokenizer)[0].endswith("<|im_start|>user\nwhat is said?")
    assert set(found.weights.tolist()) == {0.0, 2.0}


def test_questions_enter_as_features_and_spoken_answers_stay_codes():
    tokenizer = chatting(DEFAULT_SYSTEM)
    (found,) = token_documents([DIALOGUE], tokenizer, (), {"speech": SpeechRows(rows=2)})
    assert [medium.slots for medium in found.media] == [2, 2]
    assert [kind for kind, _ in tokenizer.vocabulary.split(found.ids.tolist())][1::2] == ["speech features", "speech"] * 2


def test_a_conversation_without_a_template_stops_the_run():
    tokenizer = SimpleNamespace(vocabulary=VOCABULARY, encode=encode, chat=None)
    with pytest.raises(ConfigError, match=r"d is a conversation: .*chat: {template: own}"):
        list(token_documents([DIALOGUE], tokenizer))
