"""Transforms of a text's tokens: what is made holds the whole text, as often and as cut as the settings say."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpt.config import parse_config
from mmpt.data.curate.steps.to_tokens import ToTokens
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.transforms import mark_ids
from mmpt.data.transforms.condition import Condition
from mmpt.data.transforms.denoise import Denoise, ul2
from mmpt.data.transforms.fill_in_the_middle import FillInTheMiddle
from mmpt.document import Document, Text
from mmpt.errors import ConfigError, DataError
from mmpt.tokenizers.text import encode_text, train_text_tokenizer
from mmpt.vocabulary import Vocabulary

NAMES = (*FillInTheMiddle().marks(), *Denoise().marks())
MARKS = {name: 500 + number for number, name in enumerate(NAMES)}
VOCABULARY = Vocabulary(700, "text", image_codes=8, codes_per_image=2, speech_codes=0, speech_rate=25.0)
BEGIN, END = VOCABULARY.special("<|begin|>"), VOCABULARY.special("<|end|>")


def text(length: int, name: str = "t/0") -> TokenDocument:
    """Of ids that all differ where there are few enough, with weights that tell which token is which."""
    body = np.arange(length) % 499
    return TokenDocument(name, "test", np.array([BEGIN, *body, END]), np.array([0, *(1 + body), 1], np.float32))


def made(transform, document) -> list[TokenDocument]:
    return list(transform.documents(document, VOCABULARY, MARKS))


def filled_in(ids: list[int]) -> tuple[str, list[int]]:
    """(its form, the text that it was made of)."""
    prefix, suffix, middle = (MARKS[name] for name in FillInTheMiddle().marks())
    if prefix not in ids:
        return "plain", ids
    assert ids[0] == prefix and Counter(ids)[suffix] == Counter(ids)[middle] == 1
    turn, asking = ids.index(suffix), ids.index(middle)
    if turn == 1:
        return "suffix first", ids[asking + 1 :] + ids[2:asking]
    return "prefix first", ids[1:turn] + ids[asking + 1 :] + ids[turn + 1 : asking]


@given(st.integers(1, 300), st.integers(0, 5))
def test_prefix_suffix_and_middle_are_the_text(length, seed):
    document = text(length)
    (found,) = made(FillInTheMiddle(rate=1, seed=seed), document)
    assert filled_in(found.ids[1:-1].tolist())[1] == document.ids[1:-1].tolist()
    assert found.weights[0] == 0 and found.ids[0] == BEGIN and found.ids[-1] == END
    own = {int(token): weight for token, weight in zip(found.ids[1:-1], found.weights[1:-1], strict=True) if token < 499}
    assert all(weight == 1 + token for token, weight in own.items())  # each token keeps its weight


def test_as_many_are_turned_as_asked_and_cut_anywhere():
    transform = FillInTheMiddle(rate=0.6, suffix_first=0.25)
    found = [filled_in(one.ids[1:-1].tolist())[0] for number in range(3000) for one in made(transform, text(400, f"d{number}"))]
    shares = {form: count / 3000 for form, count in Counter(found).items()}
    assert shares["plain"] == pytest.approx(0.4, abs=0.03) and shares["suffix first"] == pytest.approx(0.15, abs=0.02)
    cuts = [made(FillInTheMiddle(rate=1, suffix_first=0), text(99, f"d{number}"))[0].ids[1:-1].tolist() for number in range(2000)]
    middles = [len(ids) - 1 - ids.index(MARKS["<|fim_middle|>"]) for ids in cuts]
    assert np.mean(middles) == pytest.approx(100 / 3, rel=0.06)  # of two cuts drawn evenly


def undone(ids: list[int], sentinels: list[int]) -> tuple[int | None, list[int], list[int]]:
    """(mode, the text that it was made of, lengths of the gaps): from `inputs targets`, split where the first sentinel comes
    again."""
    if sentinels[0] not in ids:
        return None, ids, []
    mode = ids[0] if ids[0] >= 500 else None
    start = len(ids) - 1 - ids[::-1].index(sentinels[0])
    inputs, targets, gaps = ids[mode is not None : start], ids[start:], {}
    for token in targets:
        if token in sentinels:
            gaps[token] = []
        else:
            gaps[next(reversed(gaps))].append(token)
    whole = [inner for token in inputs for inner in gaps.get(token, [token])]
    return mode, whole, [len(gap) for gap in gaps.values()]


SENTINELS = [MARKS[f"<extra_id_{number}>"] for number in range(100)]


@given(st.integers(1, 498), st.integers(0, 50))
def test_inputs_and_targets_give_back_the_text(length, seed):
    document = text(length)
    (found,) = made(Denoise(seed=seed), document)
    _, whole, gaps = undone(found.ids[1:-1].tolist(), SENTINELS)
    assert whole == document.ids[1:-1].tolist()
    learned = found.ids[found.weights > 0]
    if gaps:  # the targets alone, with their own weights, and the end
        assert len(learned) == sum(gaps) + len(gaps) + 1
        own = {int(i): w for i, w in zip(found.ids, found.weights, strict=True) if w and i < 499}
        assert all(weight == 1 + token for token, weight in own.items())
    (everything,) = made(Denoise(seed=seed, learn="all"), document)
    assert everything.ids.tolist() == found.ids.tolist() and (everything.weights[2:] > 0).all()


@pytest.mark.parametrize("denoiser", ul2(), ids=lambda one: f"{one.mode}-{one.rate}-{one.span}")
def test_gaps_are_as_many_and_as_long_as_the_table_says(denoiser):
    found = [
        undone(one.ids[1:-1].tolist(), SENTINELS)
        for n in range(200)
        for one in made(Denoise(denoisers=(denoiser,)), text(400, f"d{n}"))
    ]
    assert {mode for mode, *_ in found} == {MARKS[denoiser.mode]}
    gaps = [gap for *_, own in found for gap in own]
    assert sum(gaps) / (200 * 400) == pytest.approx(denoiser.rate, abs=0.005)
    wanted = 100 if denoiser.span is None else denoiser.span
    assert np.mean(gaps) == pytest.approx(wanted, rel=0.08 if denoiser.span != 64 else 0.1)
    if denoiser.span is None:
        assert all(len(own) == 1 for *_, own in found)


def test_denoisers_are_drawn_as_often_as_they_should():
    found = Counter(undone(made(Denoise(), text(100, f"d{n}"))[0].ids[1:-1].tolist(), SENTINELS)[0] for n in range(3000))
    shares = [found[MARKS[mode]] / 3000 for mode in ("[NLU]", "[S2S]", "[NLG]")]
    assert shares == pytest.approx([2 / 7, 1 / 7, 4 / 7], abs=0.03)


def test_copies_differ_and_the_same_seed_and_id_draw_the_same():
    transform = Denoise(copies=3, length=50, denoisers=ul2()[3:4])
    found = made(transform, text(120))
    assert [one.id for one in found] == [f"t/0/{s}{c}" for c in ("", "/1", "/2") for s in (0, 50, 100)]
    assert len({tuple(one.ids) for one in found}) == 9
    again = made(transform, text(120))
    assert all(np.array_equal(one.ids, other.ids) for one, other in zip(found, again, strict=True))
    assert made(Denoise(seed=1), text(120))[0].ids.tolist() != made(Denoise(), text(120))[0].ids.tolist()


def test_a_text_stands_behind_a_word_on_its_score_that_is_never_learned():
    transform, marks = Condition(score="quality", threshold=0.5, unmarked=0.25), {"<|good|>": 600, "<|bad|>": 601}
    found = Counter()
    for number in range(2000):
        document, score = text(30, f"d{number}"), number % 10 / 10
        (one,) = transform.documents(document, VOCABULARY, marks, {"quality": score if number % 2 else [score, score]})
        first, rest = int(one.ids[1]), slice(2 if one.ids[1] >= 600 else 1, None)
        assert one.ids[rest].tolist() == document.ids[1:].tolist() and one.weights[rest].tolist() == document.weights[1:].tolist()
        if first >= 600:
            assert first == (600 if score >= 0.5 else 601) and one.weights[1] == 0
        found[first if first >= 600 else None] += 1
    assert found[None] / 2000 == pytest.approx(0.25, abs=0.03) and found[600] == pytest.approx(found[601], rel=0.15)
    with pytest.raises(DataError, match=r"no score 'quality' .meta.scores has other"):
        list(transform.documents(text(9), VOCABULARY, marks, {"other": 1.0}))


def test_what_is_no_text_alone_stays_as_it_is():
    for ids in ([BEGIN, 5, *VOCABULARY.encode_image(np.array([1, 2])), 6, END], [5, 6, 7], [BEGIN, END]):
        document = TokenDocument("d", "test", np.array(ids))
        assert made(FillInTheMiddle(rate=1), document) == [document]


def test_documents_become_tokens_through_a_tokenizer_that_has_the_marks(tmp_path):
    words = [f"the {colour} lamp stands in the {place}" for colour in ("red", "green") for place in ("hall", "yard")] * 9
    train_text_tokenizer(words, 400, FillInTheMiddle().marks()).save_pretrained(tmp_path / "with")
    train_text_tokenizer(words, 400).save_pretrained(tmp_path / "without")
    documents = [Document("a", "s", (Text("the red lamp <|fim_middle|> stands"),))]
    options = {"kind": "to_tokens", "text": str(tmp_path / "with")}
    (plain,) = parse_config(options, ToTokens, "test").run(documents)
    step = parse_config({**options, "transform": {"kind": "fill_in_the_middle", "rate": 1}}, ToTokens, "test")
    (found,) = step.run(documents)
    marks = mark_ids(FillInTheMiddle().marks(), step._tokenizer().text.get_vocab())
    assert sorted(found.ids.tolist()) == sorted([*plain.ids.tolist(), *marks.values()])
    scored = [Document("b", "s", documents[0].parts, {"scores": {"repetition": 0.1}}), *documents]
    step = parse_config(
        {**options, "transform": {"kind": "condition", "score": "repetition", "threshold": 0.5, "bad": "<|fim_prefix|>",
                                  "good": "<|fim_suffix|>"}}, ToTokens, "test"
    )  # fmt: skip
    kept, lost = step.run(scored)  # a document without the score is listed, the others are there
    assert lost.document == "a" and "no score 'repetition'" in lost.reason
    assert kept.ids.tolist() == [plain.ids[0], marks["<|fim_prefix|>"], *plain.ids[1:]]
    # Spelled out in a text, a mark is text.
    assert not set(marks.values()) & set(encode_text(step._tokenizer().text, documents[0].parts[0].text))
    step = parse_config({"kind": "to_tokens", "text": str(tmp_path / "without"), "transform": "denoise"}, ToTokens, "test")
    with pytest.raises(ConfigError, match=r"no token \[NLU\], \[S2S\], \[NLG\] and 100 more; name others"):
        list(step.run(documents))
