"""What users of a server wait for: the first token of a conversation's next turn, and the next token while another's long
prompt is read.

    OMP_NUM_THREADS=1 python recipes/benches/turns.py MODEL

MODEL: a folder of a decoder of transformers with 8,192 tokens of context, for instance SmolLM2-135M; four minutes of a
processor. Writes recipes/results/turns.json.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from transformers import AutoTokenizer, PreTrainedModel

from mmpt.inference.engine import READ_TOKENS, Engine, Prompt
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.server.limits import Limits
from mmpt.inference.settings import Settings
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.results import Figure, report
from mmpt.tokenizers.text import text_fingerprint
from mmpt.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 3
PAST, ANSWER, QUESTION, LONG = 1000, 50, 50, 4000
"""Tokens of a conversation's first turn, of the answer to it, of the next turn, and of a long prompt."""


def main() -> None:
    torch.set_num_threads(1)
    given = opened(Path(sys.argv[1]))
    figures = [figure for part in (next_turn, beside_a_long_prompt) for figure in part(*given)]
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "turns.json") else 1)


def opened(folder: Path) -> tuple[PreTrainedModel, Vocabulary, list[int]]:
    """The decoder with rows for the special tokens, and a long text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    none = {"image_codes": 0, "codes_per_image": 0, "speech_codes": 0, "speech_rate": 0.0}
    vocabulary = Vocabulary(len(tokenizer), text_fingerprint(tokenizer), **none)
    model = build_backbone(BackboneConfig(path=str(folder)), vocabulary.size, seed=0, text_size=len(tokenizer)).eval()
    return model, vocabulary, tokenizer((ROOT / "docs" / "log.md").read_text())["input_ids"]


def first(engine: Engine, prompt: Prompt, settings: Settings) -> tuple[float, list[int]]:
    """(Seconds until the first token of the answer, the answer)."""
    begun, seconds = time.perf_counter(), 0.0
    writing = engine.submit(prompt, settings)
    while not writing.finished:
        engine.step()
        if writing.ids or writing.finished:  # before, pieces of the prompt are read
            seconds = seconds or time.perf_counter() - begun
    return seconds, writing.ids


def next_turn(model: PreTrainedModel, vocabulary: Vocabulary, text: list[int]) -> Iterator[Figure]:
    """The second turn of a conversation with what is kept of the first, and without."""
    settings, limits = Settings(max_new_tokens=ANSWER), Limits()
    engines = {
        kept: Engine(model, vocabulary, read_tokens=limits.read_tokens, kept_tokens=kept) for kept in (limits.kept_tokens, 0)
    }
    seconds: dict[int, list[float]] = {kept: [] for kept in engines}
    same = 0
    for pair in range(PAIRS):
        answers = []
        for kept, engine in [*engines.items()][:: 1 if pair % 2 else -1]:
            asked = text[pair * PAST :][:PAST]
            _, said = first(engine, Prompt(asked), settings)
            passed, answer = first(engine, Prompt([*asked, *said, *text[-(pair + 1) * QUESTION :][:QUESTION]]), settings)
            seconds[kept].append(passed)
            answers.append(answer)
        same += answers[0] == answers[1]
    with_it, without = seconds.values()
    turn = f"first token of a turn of {QUESTION} tokens after {PAST + ANSWER}"
    yield Figure(f"{turn}, all read again, s", median(without))
    yield Figure(f"{turn}, what is new read alone, s", median(with_it))
    ratio = median(b / a for a, b in zip(with_it, without, strict=True))
    yield Figure(f"{turn}, all read again over what is new alone", ratio, 5.0)
    yield Figure(f"of {PAIRS} greedy answers to it, with the same ids both ways", same, PAIRS)


def beside_a_long_prompt(model: PreTrainedModel, vocabulary: Vocabulary, text: list[int]) -> Iterator[Figure]:
    """The longest gap in a stream while a long prompt is read, and how long that prompt waits, by pieces and at once."""
    endless, by_pieces = ((vocabulary.special("<|end|>"), -100.0),), Limits().read_tokens
    stream = Settings(outputs=("text",), max_new_tokens=1000, text=TopP(temperature=1.0), logit_bias=endless)
    gaps: dict[int, list[float]] = {by_pieces: [], READ_TOKENS: []}
    waits: dict[int, list[float]] = {by_pieces: [], READ_TOKENS: []}
    for pair in range(PAIRS):
        for tokens in [*gaps][:: 1 if pair % 2 else -1]:
            engine = Engine(model, vocabulary, read_tokens=tokens)
            engine.submit(Prompt(text[pair * 100 :][:20]), stream)
            engine.step()
            begun = last = time.perf_counter()
            long, gap = engine.submit(Prompt(text[pair * 1000 :][:LONG]), Settings(max_new_tokens=1)), 0.0
            while not long.finished:
                engine.step()
                gap, last = max(gap, time.perf_counter() - last), time.perf_counter()
            gaps[tokens].append(gap)
            waits[tokens].append(last - begun)
    (pieces, whole), (reading, at_once) = gaps.values(), waits.values()
    beside = f"longest gap of a stream while {LONG} tokens are read"
    yield Figure(f"{beside} at once, s", median(whole))
    yield Figure(f"{beside} by {by_pieces}, s", median(pieces))
    yield Figure(f"{beside}, at once over by {by_pieces}", median(b / a for a, b in zip(pieces, whole, strict=True)), 8.0)
    slower = median(a / b for a, b in zip(reading, at_once, strict=True))
    yield Figure(f"first token of {LONG}, by {by_pieces} over at once", slower, 1.5, at_most=True)


if __name__ == "__main__":
    main()
