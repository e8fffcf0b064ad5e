"""Writing with kept keys and values, many sequences side by side, is writing each alone by whole forward passes."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from thorough import thorough
from torch.nn import functional as F

from mmpt.errors import ConfigError, DataError
from mmpt.inference.engine import Engine, Prompt, write_all
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.sampling import choose
from mmpt.inference.settings import Settings
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.forward import packed_logits
from mmpt.model.key_values import GROWTH
from mmpt.vocabulary import Vocabulary

VOCABULARY = Vocabulary(40, "f" * 64, image_codes=9, codes_per_image=4, speech_codes=7, speech_rate=12.5)
BACKBONES = {
    "qwen3": {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "head_dim": 8},
    "mistral": {"model_type": "mistral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8,
                "num_attention_heads": 4, "num_key_value_heads": 4, "sliding_window": 5},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
}  # fmt: skip
SHARP = 8.0


def build(name: str = "qwen3"):
    model = build_backbone(BackboneConfig(config=BACKBONES[name]), VOCABULARY.size, seed=1).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(SHARP)  # so that what came before matters
    return model


def alone(model, ids: list[int]) -> torch.Tensor:
    """Logits [V] after `ids`, by a pass over all of them."""
    with torch.inference_mode():
        row = torch.tensor([ids])
        return packed_logits(model, row, torch.arange(len(ids))[None], torch.tensor([0, len(ids)]))[0, -1]


def prompts(count: int) -> list[Prompt]:
    draw = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 20, (count,), generator=draw).tolist()
    return [Prompt(torch.randint(0, 40, (length,), generator=draw).tolist()) for length in lengths]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3", "mistral", *thorough("gpt2")])
def test_greedy_tokens_are_those_of_whole_passes_however_many_run(name):
    model, given_prompts = build(name), prompts(9)
    settings = Settings(max_new_tokens=24)
    for rows in (1, 3, 64):
        written = write_all(Engine(model, VOCABULARY, max_rows=rows), given_prompts, [settings] * 9)
        for prompt, ids in zip(given_prompts, written, strict=True):
            engine = Engine(model, VOCABULARY)
            grammar_row = _replay(engine, prompt, settings, ids)
            assert grammar_row == ids
    assert any(written)


def _replay(engine: Engine, prompt: Prompt, settings: Settings, ids: list[int]) -> list[int]:
    """The greedy choice at each place of `ids`, each by a pass of its own."""
    from mmpt.inference.grammar import Grammar

    grammar, found = Grammar(VOCABULARY, settings), []
    for place in range(len(ids) + 1):
        logits = alone(engine.model, [*prompt.ids, *ids[:place]])
        token = int(logits.masked_fill(engine._masks.forbidden(grammar.allowed()), float("-inf")).argmax())
        if token != VOCABULARY.special("<|end|>"):
            found.append(token)
        grammar.advance(token)
        if grammar.finished:
            break
    return found


@pytest.mark.slow
def test_a_sampled_sequence_does_not_depend_on_what_else_runs():
    model, given_prompts = build(), prompts(12)
    hot = TopP(temperature=1.5, top_p=0.9, top_k=20)
    each = [Settings(max_new_tokens=30, seed=number, text=hot, image=hot, speech=hot) for number in range(12)]
    together = write_all(Engine(model, VOCABULARY), given_prompts, each)
    few = write_all(Engine(model, VOCABULARY, max_rows=2), given_prompts, each)
    single = [write_all(Engine(model, VOCABULARY), [prompt], [one])[0] for prompt, one in zip(given_prompts, each, strict=True)]
    assert together == few == single and len({tuple(ids) for ids in together}) == 12


def test_those_that_come_later_and_those_that_go_change_nothing_for_the_others():
    model, given_prompts = build(), prompts(6)
    each = [Settings(max_new_tokens=25, seed=number, text=TopP(temperature=1.0)) for number in range(6)]
    wanted = [write_all(Engine(model, VOCABULARY), [prompt], [one])[0] for prompt, one in zip(given_prompts, each, strict=True)]
    engine = Engine(model, VOCABULARY, max_rows=4)
    running = [engine.submit(given_prompts[0], each[0]), engine.submit(given_prompts[1], each[1])]
    for number in range(2, 6):
        for _ in range(3):
            engine.step()
        running.append(engine.submit(given_prompts[number], each[number]))
        if number == 3:
            engine.cancel(running[1])
    engine.cancel(engine.submit(given_prompts[0], each[0]))  # before its first step
    seen = {writing: [] for writing in running}
    while engine.busy:
        for writing, ids in engine.step():
            seen[writing] += ids
    assert [writing.ids for writing in running if writing is not running[1]] == [wanted[i] for i in (0, 2, 3, 4, 5)]
    assert running[1].finished and wanted[1][: len(running[1].ids)] == running[1].ids and len(running[1].ids) < len(wanted[1])
    assert seen[running[5]] == wanted[5] and len(engine._cache) == 0


def test_guided_pictures_are_drawn_away_from_what_comes_without_the_prompt():
    model = build()
    prompt, opening = prompts(1)[0], VOCABULARY.special("<|image|>")
    begin = VOCABULARY.special("<|begin|>")
    settings = Settings(outputs=("image",), max_new_tokens=7, guidance=3.0, max_parts=1)
    others = [Settings(max_new_tokens=20), Settings(outputs=("image",), max_new_tokens=30, guidance=2.0, max_parts=3)]
    engine = Engine(model, VOCABULARY)
    written = write_all(engine, [prompt, *prompts(2)], [settings, *others])[0]
    codes = written[1:-1]
    first, last = VOCABULARY.ranges()["image"]
    for place in range(4):
        seen, free = alone(model, [*prompt.ids, opening, *codes[:place]]), alone(model, [begin, opening, *codes[:place]])
        guided = (free + 3.0 * (seen - free))[first:last]
        assert first + int(guided.argmax()) == codes[place]
    assert len(engine._cache) == 0


def test_prompts_read_together_give_the_logits_of_each_alone():
    model, given_prompts = build(), prompts(7)
    with torch.inference_mode():
        found = Engine(model, VOCABULARY).logits(given_prompts)
    for row, prompt in zip(found, given_prompts, strict=True):
        assert (row - alone(model, prompt.ids)).abs().max() <= 1e-5


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6), st.floats(0.1, 5.0), st.floats(0.05, 1.0), st.integers(0, 12), st.sets(st.integers(0, 11), max_size=11)
)
def test_a_choice_is_one_that_the_settings_allow(seed, temperature, top_p, top_k, forbidden):
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(1, 12, generator=draw)
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[0, list(forbidden)] = True
    one = TopP(temperature=temperature, top_p=top_p, top_k=top_k)
    (token,) = choose(logits.clone(), mask, [one], [draw])
    # By hand, in plain Python.
    left = sorted((i for i in range(12) if i not in forbidden), key=lambda i: -float(logits[0, i]))[: top_k or 12]
    weights = [2.718281828459045 ** (float(logits[0, i]) / temperature) for i in left]
    nucleus, reached = [], 0.0
    for i, weight in zip(left, weights, strict=True):
        nucleus.append(i)
        reached += weight / sum(weights)
        if reached >= top_p + 1e-5:
            break
    assert token in nucleus and token not in forbidden


def test_samples_have_the_softmaxs_frequencies():
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0, 0.5]])
    draw, none = torch.Generator().manual_seed(0), torch.zeros(1, 5, dtype=torch.bool)
    counts = torch.zeros(5)
    for _ in range(4000):
        counts[choose(logits, none, [TopP(temperature=0.8)], [draw])[0]] += 1
    assert (counts / 4000 - F.softmax(logits[0] / 0.8, dim=-1)).abs().max() < 0.03


def test_an_empty_prompt_is_refused():
    with pytest.raises(DataError, match="empty"):
        Engine(build(), VOCABULARY).submit(Prompt([]), Settings())


def _tables(engine: Engine) -> int:
    """Tokens that the tables of a layer have room for."""
    return max((keys.shape[0] * keys.shape[2] for keys, _ in engine._cache._tables.values()), default=0)


@hypothesis_settings(deadline=None, max_examples=6)
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 12)), min_size=2, max_size=5), st.integers(2, 5))
def test_with_little_room_sequences_wait_and_are_the_same(asked, room):
    model, draw = build(), torch.Generator().manual_seed(5)
    given_prompts = [Prompt(torch.randint(0, 40, (length,), generator=draw).tolist()) for length, _ in asked]
    each = [Settings(max_new_tokens=count, seed=number, text=TopP(temperature=1.0)) for number, (_, count) in enumerate(asked)]
    wanted = write_all(Engine(model, VOCABULARY), given_prompts, each)
    engine = Engine(model, VOCABULARY, kv_tokens=room * GROWTH)
    written = [engine.submit(prompt, one) for prompt, one in zip(given_prompts, each, strict=True)]
    while engine.busy:
        engine.step()
        assert _tables(engine) <= room * GROWTH
    assert [one.ids for one in written] == wanted


def test_what_never_fits_is_refused_and_a_guided_picture_counts_twice():
    engine, prompt = Engine(build(), VOCABULARY, kv_tokens=2 * GROWTH), prompts(1)[0]
    with pytest.raises(DataError, match="there is room for 512 in all"):
        engine.submit(prompt, Settings(max_new_tokens=2 * GROWTH))
    engine.submit(prompt, Settings(max_new_tokens=GROWTH))
    with pytest.raises(DataError, match="there is room"):
        engine.submit(prompt, Settings(max_new_tokens=GROWTH, guidance=2.0))
    with pytest.raises(ConfigError, match="kv_tokens: 100, expected 256"):
        Engine(engine.model, VOCABULARY, kv_tokens=100)


def test_the_room_of_a_long_sequence_is_given_back_while_a_short_one_runs_on():
    model, long = build(), Prompt(list(range(40)) * 40)
    settings = Settings(outputs=("speech",), max_new_tokens=40, speech=TopP(temperature=1.0))
    wanted = write_all(Engine(model, VOCABULARY), prompts(1), [settings])
    engine = Engine(model, VOCABULARY)
    short, other = engine.submit(prompts(1)[0], settings), engine.submit(long, settings)
    for _ in range(2):
        engine.step()
    assert _tables(engine) >= 2 * len(long.ids)
    engine.cancel(other)
    assert _tables(engine) <= GROWTH
    while engine.busy:
        engine.step()
    assert [short.ids] == wanted and _tables(engine) <= GROWTH
