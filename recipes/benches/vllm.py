"""An exported model in vLLM: the ids that it writes there against our own.

    python -m mmpt.cli export RUN --to vllm --out EXPORTED
    vllm serve EXPORTED --dtype float32 --logits-processors mmpt.inference.vllm.grammar_v1:GrammarProcessor   # v2 on a GPU
    python recipes/benches/vllm.py RUN EXPORTED URL

Writes recipes/results/vllm.json.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from mmpt.document import Text
from mmpt.inference.engine import Prompt, write_all
from mmpt.inference.load import load
from mmpt.inference.settings import Settings
from mmpt.inference.vllm.model import VllmModel, connect, tokenizers_folder
from mmpt.results import Figure, report

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "say a red circle", "draw a star", "a blue square above a green star", "describe", "draw a red circle", "say", "hello",
    "say a yellow triangle left of a red square",
]  # fmt: skip
OUTPUTS = (("text", "image", "speech"), ("text", "image"))
DRAWN = {"text": {"temperature": 0.8}, "image": {"temperature": 1.0}, "speech": {"temperature": 0.8}}
PLAIN = 40


def main() -> None:
    run, exported, url = sys.argv[1:]
    remote, own = connect(tokenizers_folder(Path(exported)), url), load(run)
    asked = own.prompts([[Text(words)] for words in WORDS])
    settings = {
        "greedy": [Settings(max_new_tokens=100, outputs=outputs) for outputs in OUTPUTS for _ in WORDS],
        "drawn": [Settings(max_new_tokens=100, seed=seed, **DRAWN) for seed in range(2 * len(WORDS))],
    }
    figures = []
    for name, ones in settings.items():
        here = write_all(own.engine(), asked * 2, ones)
        there = write_all(remote.engine(max_rows=8), asked * 2, ones)
        same = sum(one == other for one, other in zip(here, there, strict=True))
        figures.append(Figure(f"of {len(ones)} answers in the grammar, {name}, with the same ids", same, len(ones)))
        print(f"{name}: {sum(map(len, here))} ids")
    same = sum(plain(remote, prompt) == reference(exported, prompt) for prompt in asked)
    figures.append(Figure(f"of {len(WORDS)} greedy answers without it, with the ids of transformers", same, len(WORDS)))
    version = remote.client.get("/version").json()["version"]
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "vllm.json", beside={"vllm": version}) else 1)


def plain(remote: VllmModel, prompt: Prompt) -> list[int]:
    """What vLLM writes by itself."""
    body = {"model": remote.name, "prompt": prompt.ids, "max_tokens": PLAIN, "temperature": 0, "ignore_eos": True}
    reply = remote.client.post("/v1/completions", json={**body, "return_token_ids": True}).raise_for_status()
    return reply.json()["choices"][0]["token_ids"]


def reference(exported: str, prompt: Prompt) -> list[int]:
    """What transformers writes."""
    model, ids = AutoModelForCausalLM.from_pretrained(exported).eval(), torch.tensor([prompt.ids])
    options = {"max_new_tokens": PLAIN, "min_new_tokens": PLAIN, "do_sample": False, "eos_token_id": None}
    with torch.inference_mode():
        return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(prompt.ids) :].tolist()


if __name__ == "__main__":
    main()
