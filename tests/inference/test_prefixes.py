"""What is kept of sequences that have ended, and prompts read in pieces: the answers are those of a fresh engine that
reads all at once."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mmpt.errors import ConfigError
from mmpt.inference.engine import Engine, Prompt, write_all
from mmpt.inference.prefixes import SHORT
from mmpt.inference.reading import dealt
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.settings import Settings
from mmpt.model.adaptation import add_adapter
from mmpt.model.adapters.lora import Lora
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.key_values import GROWTH
from mmpt.vocabulary import Vocabulary

from .test_engine import BACKBONES, SHARP, VOCABULARY, build

BOOKS = Vocabulary(40, "f" * 64, image_codes=9, codes_per_image=4, speech_codes=6, speech_rate=12.5, speech_codebooks=2)
ANSWERS = ({"text": TopP(temperature=1.2)}, {}, {"outputs": ("speech",)}, {"outputs": ("image",), "guidance": 1.5})


def adapted():
    """With an adapter beside the weights that is not yet merged, and does something."""
    model = add_adapter(build(), Lora(rank=2), 0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return model.eval()


def several_books():
    model = build_backbone(BackboneConfig(config=BACKBONES["qwen3"]), BOOKS.size, seed=1).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(SHARP)
    return model


MODELS = {
    "qwen3": (build, VOCABULARY),
    "mistral": (lambda: build("mistral"), VOCABULARY),
    "adapter": (adapted, VOCABULARY),
    "books": (several_books, BOOKS),
}


def words(draw: np.random.Generator, count: int) -> list[int]:
    return draw.integers(0, 40, count).tolist()


def alone(model, vocabulary, prompt: Prompt, settings: Settings) -> list[int]:
    return write_all(Engine(model, vocabulary), [prompt], [settings])[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@hypothesis_settings(deadline=None, max_examples=8)
@given(
    turns=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 90), st.integers(0, 3), st.integers(0, 50), st.booleans()),
        min_size=3,
        max_size=9,
    ),
    kept=st.sampled_from([0, 64, 200, 4000]),
    read=st.integers(3, 200),
    room=st.sampled_from([None, 4 * GROWTH, 8 * GROWTH]),
    seed=st.integers(0, 99),
)
def test_conversations_of_several_clients_go_on_as_if_all_were_read_anew(name, turns, kept, read, room, seed):
    """Each turn: whose, how many new words, what is answered, how much of the past is forgotten, whether all is waited for."""
    make, vocabulary = MODELS[name]
    model, draw = make(), np.random.default_rng(seed)
    engine = Engine(model, vocabulary, kept_tokens=kept, read_tokens=read, kv_tokens=room, max_rows=4)
    past: dict[int, list[int]] = {}
    common, running = words(draw, 40), []

    def finish() -> None:
        while engine.busy:
            engine.step()
            held = engine.held
            assert held.kept <= kept and (room is None or held.used + held.kept <= room)
        for who, prompt, settings, written in running:
            assert written.ids == alone(model, vocabulary, prompt, settings)
            past[who] = [*prompt.ids, *written.ids]
        running.clear()

    for number, (who, count, answer, forgotten, waits) in enumerate(turns):
        if any(one[0] == who for one in running):
            finish()
        before = past.get(who, common)
        ids = [*before[: max(1, min(len(before), 300) - forgotten)], *words(draw, count)]
        settings = Settings(max_new_tokens=20, seed=number, **ANSWERS[answer])
        prompt = Prompt(ids, client=f"client {who // 2}")  # two conversations of each
        running.append((who, prompt, settings, engine.submit(prompt, settings)))
        for _ in range(3):
            engine.step()
        if waits:
            finish()
    finish()


def test_the_next_turn_reads_what_is_new_alone_and_other_clients_all():
    model, draw = build(), np.random.default_rng(0)
    engine, settings = Engine(model, VOCABULARY, kept_tokens=1000), Settings(max_new_tokens=20, outputs=("speech",))
    first = Prompt(words(draw, 50), client="a")
    written = engine.submit(first, settings)
    while engine.busy:
        engine.step()
    assert written.reused == 0 and written.ids
    seen = 50 + len(written.ids) - (not len(written.ids) < 20)  # the last of an answer that was cut off was never read
    following = [*first.ids, *written.ids, *words(draw, 9)]
    for client, reused in (("b", 0), ("", 0), ("a", seen)):
        again = engine.submit(Prompt(following, client=client), settings)
        engine.step()
        assert again.reused == reused
        while engine.busy:
            engine.step()
    assert engine.submit(Prompt(first.ids, client="a"), settings)
    engine.step()
    assert engine._rows[0].writing.reused == 49  # of its last token the logits are wanted


def test_what_was_used_last_stays_and_a_new_request_takes_what_it_needs():
    model, draw = build(), np.random.default_rng(1)
    engine, settings = Engine(model, VOCABULARY, kept_tokens=130, kv_tokens=2 * GROWTH), Settings(max_new_tokens=1)
    asked = [Prompt(words(draw, 60)) for _ in range(3)]

    def reused(prompt: Prompt) -> int:
        written = engine.submit(prompt, settings)
        while engine.busy:
            engine.step()
        return written.reused

    assert [reused(one) for one in (asked[0], asked[1])] == [0, 0] and engine.held.kept == 120
    assert reused(asked[0]) == 59  # used again: of the two the other one goes
    assert [reused(asked[2]), reused(asked[0]), reused(asked[1])] == [0, 59, 0]
    # A long one leaves no room while it runs.
    long = engine.submit(Prompt(words(draw, 300)), Settings(max_new_tokens=200))
    engine.step()
    assert engine.held == (2 * GROWTH, 0) and not long.finished
    assert reused(Prompt(words(draw, SHORT - 2))) == 0 and engine.held.used == 0
    engine.reset()
    assert engine.held == (0, 0)


def test_a_question_that_was_broken_off_is_kept_as_far_as_it_was_read():
    model, draw = build(), np.random.default_rng(2)
    engine, settings = Engine(model, VOCABULARY, kept_tokens=1000, read_tokens=40), Settings(max_new_tokens=8)
    prompt = Prompt(words(draw, 100))
    broken = engine.submit(prompt, settings)
    engine.step()
    engine.step()
    engine.cancel(broken)
    again = engine.submit(prompt, settings)
    while engine.busy:
        engine.step()
    assert again.reused == 80 and again.ids == alone(model, VOCABULARY, prompt, settings)


def test_without_a_budget_nothing_is_kept_and_bad_ones_are_told():
    engine = Engine(build(), VOCABULARY)
    write_all(engine, [Prompt(list(range(40)) * 2)] * 2, [Settings(max_new_tokens=4)] * 2)
    assert engine.held == (0, 0)
    for wrong in ({"read_tokens": 0}, {"kept_tokens": -1}):
        with pytest.raises(ConfigError, match="expected 1 and 0 at least"):
            Engine(engine.model, VOCABULARY, **wrong)


@pytest.mark.parametrize("name", ["qwen3", "mistral"])
def test_logits_after_pieces_are_those_of_one_pass(name):
    model = build(name)
    prompts = [Prompt(words(np.random.default_rng(3), count)) for count in (90, 7, 33)]
    whole = Engine(model, VOCABULARY).logits(prompts)
    engine = Engine(model, VOCABULARY, read_tokens=16)
    told: dict[int, torch.Tensor] = {}
    write = engine._write

    def written(rows, logits) -> None:
        for row, one in zip(rows, logits, strict=True):
            told.setdefault(len(row.prompt.ids), one.clone())
        write(rows, logits)

    engine._write = written
    write_all(engine, prompts, [Settings(max_new_tokens=3)] * 3)
    for prompt, wanted in zip(prompts, whole, strict=True):
        assert torch.allclose(told[len(prompt.ids)], wanted, atol=1e-5)


def test_while_a_long_prompt_is_read_others_are_answered_and_short_ones_begin():
    model, draw = build(), np.random.default_rng(4)
    engine = Engine(model, VOCABULARY, read_tokens=50)
    settings = Settings(outputs=("speech",), max_new_tokens=100, speech=TopP(temperature=1.0))
    first = engine.submit(Prompt(words(draw, 20)), settings)
    engine.step()
    long = engine.submit(Prompt(words(draw, 1000)), settings)
    engine.step()
    short = engine.submit(Prompt(words(draw, 25)), settings)
    counts = []
    while not long.ids:
        engine.step()
        counts.append((len(first.ids), len(short.ids)))
    assert all(after == before + 1 for (before, _), (after, _) in pairwise(counts)) and len(counts) >= 19
    assert counts[0][1] == 1  # in the next pass


@given(st.lists(st.integers(0, 300), max_size=8), st.integers(1, 400))
def test_a_pass_is_dealt_out_whole_and_the_oldest_always_goes_on(wanted, most):
    found = dealt(wanted, most)
    assert sum(found) == min(most, sum(wanted)) and all(0 <= a <= b for a, b in zip(found, wanted, strict=True))
    assert not wanted or found[0] >= min(wanted[0], (most + 1) // 2)
