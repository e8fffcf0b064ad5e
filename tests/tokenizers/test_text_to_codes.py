"""The text-to-token model: it learns a code language by heart, and what it says of a text depends on that text alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.errors import CheckpointError, DataError
from mmpt.tokenizers.speech import text_to_codes
from mmpt.tokenizers.speech.text_to_codes import CodesBatch, SpeechCodes, TextToCodes, TextToCodesConfig, codes_batches, pace
from mmpt.tokenizers.text import train_text_tokenizer
from mmpt.training.config import FitConfig

pytestmark = pytest.mark.slow

SAYS = {"do": [1, 1, 2], "re": [3, 4, 4], "mi": [5, 6], "fa": [7]}
PLAN = FitConfig(steps=1, batch_size=8, optimizer={"learning_rate": 1e-3})


def codes_of(text: str) -> np.ndarray:
    return np.array([code for word in text.split() for code in SAYS[word]])


def build(**changes) -> TextToCodes:
    torch.manual_seed(0)
    text = train_text_tokenizer(["do re mi fa fa mi re do"] * 20, 300)
    return TextToCodes(TextToCodesConfig(dim=48, layers=2, heads=4, **changes), text, SpeechCodes(8, 12.5, "x" * 64))


@pytest.fixture(scope="module")
def trained() -> TextToCodes:
    torch.set_num_threads(1)
    model, draw = build(), np.random.default_rng(0)
    texts = [" ".join(draw.choice(list(SAYS), draw.integers(1, 4))) for _ in range(200)]
    batches = codes_batches(model, [(text, codes_of(text)) for text in texts], PLAN)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    model.train()
    for step in range(500):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 500)
        term = model.loss(batches(step), 0.0)["codes"]
        optimizer.zero_grad()
        (term.total / term.count).backward()
        optimizer.step()
    return model.eval()


def test_new_sentences_are_spoken(trained):
    texts = ["fa do re mi", "mi mi do", "re fa fa re", "do"]
    for temperature in (0.0, 0.5):
        for text, spoken in zip(texts, trained.speak(texts, temperature=temperature), strict=True):
            assert spoken.finished and spoken.codes.tolist() == codes_of(text).tolist()
            assert spoken.codes.dtype == np.int64


@settings(deadline=None, max_examples=15)
@given(
    texts=st.lists(st.sampled_from([*SAYS, "do re", "fa mi do", "re re re mi", "xyz 7"]), min_size=1, max_size=9),
    seed=st.integers(0, 9),
)
def test_what_is_said_depends_on_the_text_and_the_seed_alone(texts, seed):
    model = build()  # untrained: every choice is open
    together = model.speak(texts, seed=seed, temperature=1.0, batch=4)
    for text, spoken in zip(texts, together, strict=True):
        alone = model.speak([text], seed=seed, temperature=1.0)[0]
        assert np.array_equal(spoken.codes, alone.codes) and spoken.finished == alone.finished
        assert ((spoken.codes >= 0) & (spoken.codes < 8)).all()


def test_another_seed_says_it_another_way_and_a_limit_is_reported():
    model = build(codes_per_token=1, more_codes=3)
    with torch.no_grad():
        model.model.lm_head.weight[model.end] = 0  # of logit 0, seldom the best
    spoken = [model.speak(["do re mi"], seed=seed, temperature=3.0, top_k=8)[0] for seed in range(12)]
    assert len({tuple(one.codes.tolist()) for one in spoken}) > 6
    limit = len(model.prompt("do re mi")) - 1 + 3
    assert all(len(one.codes) <= limit and one.finished == (len(one.codes) < limit) for one in spoken)
    assert not all(one.finished for one in spoken)


def test_only_codes_and_the_end_are_learned():
    model = build(joined=1.0)
    batch = codes_batches(model, [("do re", codes_of("do re")), ("fa", codes_of("fa"))], PLAN)(3)
    for ids, learned in zip(batch.ids, batch.learned, strict=True):
        row = ids.tolist()
        mark = row.index(model.mark)
        end = row.index(model.end)
        text = model.text.decode(row[:mark]).split()
        assert [code - model.first_code for code in row[mark + 1 : end]] == codes_of(" ".join(text)).tolist() and len(text) > 1
        assert learned.tolist() == [mark < place <= end for place in range(len(row))]


def test_text_stands_about_where_it_is_spoken():
    """With `pace`, what a code sees of its own token of text is turned by the same angle wherever both are."""
    text = build().text
    pairs = [("do re", codes_of("do re")), ("fa", codes_of("fa"))]
    tokens = sum(len(build().prompt(words)) - 1 for words, _ in pairs)
    assert pace(pairs, text) == pytest.approx(7 / tokens)
    model, seen = build(pace=2.5), []
    model.model.model.rotary_emb.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    batch = codes_batches(model, pairs, PLAN)(0)
    model.loss(batch, 0.0)
    for row, found in zip(batch.ids.tolist(), seen[0]["position_ids"], strict=True):
        before = row.index(model.mark)
        wanted = [*(2.5 * i for i in range(before)), *range(len(row) - 1 - before)]
        assert found.tolist() == wanted


@pytest.mark.parametrize("speed", [None, 3.0])
def test_what_is_learned_is_what_is_spoken(speed):
    """The probabilities of a training step are those that codes are drawn from, one by one, beside shorter texts."""
    model = build(pace=speed).eval()
    with torch.no_grad():
        for layer in model.model.model.layers:  # so that it is seen whom it attends to
            layer.self_attn.q_proj.weight.mul_(30)
    text, codes = "re mi fa do re", codes_of("re mi fa do re")
    prompt = model.prompt(text)
    ids = torch.tensor([[*prompt, *(codes + model.first_code).tolist(), model.end]])
    learned = torch.zeros_like(ids, dtype=torch.bool)
    learned[:, len(prompt) :] = True
    term = model.loss(CodesBatch(ids, learned), 0.0)["codes"]
    forced, surprise = [*codes.tolist(), model.end - model.first_code], []

    def pick(logits, draws, temperature, top_k):
        code = forced[len(surprise)]
        surprise.append(-torch.log_softmax(full[-1][draws.index(first)], dim=0)[model.first_code + code].item())
        return [code] * len(draws)

    full: list[torch.Tensor] = []
    model.model.register_forward_hook(lambda module, args, out: full.append(out.logits[:, -1].clone()))
    first, other = np.random.default_rng(0), np.random.default_rng(1)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(text_to_codes, "_pick", pick)
        model._speak([model.prompt("fa"), prompt], [other, first], 1.0, 1)
    assert sum(surprise) == pytest.approx(term.total.item(), rel=1e-5) and len(surprise) == len(forced)


def test_batches_are_a_function_of_the_step_whatever_the_ranks():
    model = build()
    pairs = [(word, codes_of(word)) for word in SAYS] * 5
    one, other = (codes_batches(model, pairs, PLAN) for _ in range(2))
    for step in (4, 0, 4):
        assert torch.equal(one(step).ids, other(step).ids)
    texts = [[row[: row.index(model.mark)] for row in one(2, rank, 2).ids.tolist()] for rank in range(2)]
    assert [*texts[0], *texts[1]] == [row[: row.index(model.mark)] for row in one(2).ids.tolist()]


def test_saved_and_loaded_it_says_the_same(trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = TextToCodes.load(tmp_path / "model")
    assert loaded.speech == trained.speech and loaded.config == trained.config
    texts = ["do re", "fa", "mi do fa"]
    for one, other in zip(trained.speak(texts), loaded.speak(texts), strict=True):
        assert np.array_equal(one.codes, other.codes)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="model.safetensors"):
        TextToCodes.load(tmp_path / "model")


def test_nothing_to_say_and_nothing_to_learn_are_refused(trained):
    with pytest.raises(DataError, match=r"nothing to say in '\?!'"):
        trained.speak(["do", "?!"])
    assert trained.speak([]) == []
    with pytest.raises(DataError, match="no speech with text"):
        codes_batches(trained, [], PLAN)
