"""What a trained checkpoint does outside training: well-formed answers, export, prompts read together, sound in a stream.

    OMP_NUM_THREADS=1 python recipes/benches/inference.py [RUN]

RUN: a finished quickstart (default runs/quickstart). Writes recipes/results/inference.json.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import torch

from mmpt.data.sources.spoken_scenes import SpokenScenes
from mmpt.document import Text
from mmpt.inference.engine import Engine, Prompt, write_all
from mmpt.inference.load import MultimodalModel, load
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.settings import Settings
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.export import export_hf
from mmpt.model.forward import causal_lm
from mmpt.results import Figure, report
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.tokenizers.text import train_text_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SAMPLES, ROOM, BATCH = 10_000, 60, 250
PROMPTS, PAIRS, BLOCK = 100, 7, 8
ALONE = """
import json, sys, torch
sys.modules["mmpt"] = None  # not to be had
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
asked = json.load(open(sys.argv[2]))
with torch.inference_mode():
    logits = [model(torch.tensor([ids])).logits[0, -1].tolist() for ids in asked]
    rows = [model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=120)[0, len(ids):].tolist() for ids in asked]
json.dump({"logits": logits, "rows": rows}, open(sys.argv[3], "w"))
"""


def main() -> None:
    model = load(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"))
    parts: tuple[Callable[[MultimodalModel], Iterator[Figure]], ...] = (well_formed, exported, prepacked, spoken)
    figures = [figure for part in parts for figure in part(model)]
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "inference.json") else 1)


def well_formed(model: MultimodalModel) -> Iterator[Figure]:
    """Sequences of a decoder of random weights at temperature 5: what breaks the grammar, and what does not decode."""
    tokenizer = model.tokenizer
    content = {"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
               "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}  # fmt: skip
    untrained = build_backbone(BackboneConfig(config=content), tokenizer.vocabulary.size, seed=0).eval()
    with torch.no_grad():  # nearly every id is as likely as any other: pictures and utterances are opened often
        for name in ("<|image|>", "<|speech|>", "<|end|>", "<|/speech|>"):
            untrained.get_output_embeddings().weight[tokenizer.vocabulary.special(name)] *= 8
    broken = undecoded = pictures = sounds = 0
    hot = TopP(temperature=5.0)
    for first in range(0, SAMPLES, BATCH):
        each = [
            Settings(
                max_new_tokens=ROOM, seed=first + n, text=hot, image=hot, speech=hot, alternate=(5, 7) if n % 5 == 0 else None
            )
            for n in range(BATCH)
        ]
        prompts = [Prompt([tokenizer.vocabulary.special("<|begin|>")])] * BATCH
        image_codes, speech_codes = [], []
        for ids in write_all(Engine(untrained, tokenizer.vocabulary, max_rows=BATCH), prompts, each):
            try:
                blocks = tokenizer.vocabulary.split(ids)
            except Exception as problem:
                broken += 1
                print(problem)
                continue
            image_codes += [codes for kind, codes in blocks if kind == "image"]
            speech_codes += [codes for kind, codes in blocks if kind == "speech"]
        pictures, sounds = pictures + len(image_codes), sounds + len(speech_codes)
        if image_codes:
            undecoded += len(image_codes) - len(tokenizer.image.decode(np.stack(image_codes)))
        heard = tokenizer.speech.decode(speech_codes) if speech_codes else []
        undecoded += sum(not np.isfinite(sound).all() or not len(sound) for sound in heard) + len(speech_codes) - len(heard)
    yield Figure(f"of {SAMPLES} sequences of an untrained decoder, against the grammar", broken, 0, at_most=True)
    yield Figure("pictures and utterances in them that do not decode", undecoded, 0, at_most=True)
    yield Figure("pictures in them", pictures, 1000)
    yield Figure("utterances in them", sounds, 1000)


def questions(model: MultimodalModel) -> list[Prompt]:
    """Prompts of the test scenes in every direction that the quickstart teaches."""
    config = SpokenScenes(split="test", count=PROMPTS)
    documents = list(islice(config.documents(), PROMPTS))
    asked = []
    for number, document in enumerate(documents):
        text, image, speech = (
            next(part for part in document.parts if type(part).__name__ == name) for name in ("Text", "Image", "Speech")
        )
        asked.append(
            [(Text("say"), text), (Text("transcribe"), speech), (Text("draw"), text), (Text("describe"), image)][number % 4]
        )
    return model.prompts(asked)


def exported(model: MultimodalModel) -> Iterator[Figure]:
    """The exported folder in a process that cannot import mmpt."""
    asked = questions(model)
    ours = write_all(model.engine(max_rows=8), asked, [Settings(max_new_tokens=121)] * len(asked))
    with torch.inference_mode():
        logits = torch.cat([model.engine().logits([prompt]) for prompt in asked])
    with tempfile.TemporaryDirectory() as folder:
        export_hf(find_checkpoint(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart")), Path(folder) / "hf")
        given, found = Path(folder) / "asked.json", Path(folder) / "found.json"
        given.write_text(json.dumps([prompt.ids for prompt in asked]))
        subprocess.run([sys.executable, "-c", ALONE, str(Path(folder) / "hf"), str(given), str(found)], check=True, cwd=folder)
        theirs = json.loads(found.read_text())
    end = model.tokenizer.vocabulary.special("<|end|>")
    rows = [row[: row.index(end)] if end in row else row for row in theirs["rows"]]
    yield Figure("exported folder, logits of plain transformers against ours, largest difference",
                 float((torch.tensor(theirs["logits"]) - logits).abs().max()), 1e-5, at_most=True)  # fmt: skip
    same = sum(a == b for a, b in zip(ours, rows, strict=True))
    yield Figure(f"exported folder, of {PROMPTS} greedy answers, with the same ids", same, PROMPTS)


@torch.inference_mode()
def prepacked(model: MultimodalModel) -> Iterator[Figure]:
    """32 prompts of 20 to 500 tokens read together: one packed row against one padded batch, useful tokens a second."""
    draw = np.random.default_rng(0)
    lengths = np.linspace(20, 500, 32).astype(int)
    prompts = [Prompt(draw.integers(0, model.tokenizer.vocabulary.text_size, length).tolist()) for length in lengths]
    longest = int(max(lengths))
    ids, mask = torch.zeros(len(prompts), longest, dtype=torch.int64), torch.zeros(len(prompts), longest, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[row, longest - len(prompt.ids) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    decoder = causal_lm(model.model)

    def packed() -> torch.Tensor:
        return model.engine().logits(prompts)

    def padded() -> torch.Tensor:
        given = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        return decoder(**given, use_cache=True, logits_to_keep=1).logits[:, -1]

    ratios, difference = [], float((packed() - padded()).abs().max())
    for pair in range(PAIRS):
        seconds = {}
        for one in (packed, padded) if pair % 2 else (padded, packed):
            start = time.perf_counter()
            one()
            seconds[one] = time.perf_counter() - start
        ratios.append(seconds[padded] / seconds[packed])
    yield Figure("prompts read together, useful tokens/s, packed over padded", median(ratios), 2.0)
    yield Figure("packed against padded, largest difference of the logits", difference, 1e-4, at_most=True)


def spoken(_: MultimodalModel) -> Iterator[Figure]:
    """A speech tokenizer of full width with blocks of 8 codes and a vocoder, random weights: seams, and the cost of a block."""
    torch.manual_seed(0)
    config = SpeechConfig(quantizer={"kind": "fsq", "levels": [8, 8]}, decoder={"block": BLOCK, "flow": {"steps": 4}})
    speech = SpeechTokenizer(config, train_text_tokenizer(["a b"], 260)).eval()
    speech.use_vocoder(Istft(mels=config.mels).build())
    for parameter in speech.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    codes = np.random.default_rng(0).integers(0, speech.codes, 800)
    (whole,) = speech.decode([codes])
    heard, seconds = [], {5: [], 60: []}
    with speech.speaking() as stream:
        for start in range(0, len(codes), BLOCK):
            begun = time.perf_counter()
            heard.append(stream.push(codes[start : start + BLOCK]))
            at = start / speech.rate
            for mark in seconds:
                if mark - 2.5 <= at < mark + 2.5:
                    seconds[mark].append(time.perf_counter() - begun)
        heard.append(stream.finish())
    found = np.concatenate(heard)
    noise, signal = np.square(found - whole).mean(), np.square(whole).mean()
    first = next(number for number, samples in enumerate(heard, start=1) if len(samples)) * BLOCK
    yield Figure("sound in blocks against at once, dB", float(10 * np.log10(noise / signal + 1e-20)), -40, at_most=True)
    yield Figure("codes before the first sound", first)
    yield Figure("tokens before it where 13 of text and 26 of speech alternate, mark included", 13 + 1 + first, 23, at_most=True)
    yield Figure(
        "seconds of a block at 60 s of sound over those at 5 s", median(seconds[60]) / median(seconds[5]), 1.1, at_most=True
    )


if __name__ == "__main__":
    main()
