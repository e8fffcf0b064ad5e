"""What SmolLM2 can do after it has learned to hear and to speak, old skills before and after beside each other.

    python recipes/benches/speech_smollm2.py RUN [--base MODEL] [--text SHARDS]

RUN: a run of recipes/speech_smollm2.yaml that recipes/evaluate.py has measured by recipes/evaluate_speech_smollm2.yaml. Both
models are asked as transformers has them, RUN as `mmpt export` gives it: perplexity of the text of SHARDS in pieces of 256
tokens, every id of its vocabulary in the running, and ten questions, answered greedily after the model's own chat template.
Writes recipes/results/speech_smollm2.json (or --results), with the answers, and exits 1 where a bar is missed.
"""

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mmpt.data.shards.read import DocumentShards
from mmpt.document import Text
from mmpt.evaluation.suite import read_results
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.export import export_hf
from mmpt.results import Figure, report
from mmpt.scripts import main_guard
from mmpt.storage import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
PIECE = 256
QUESTIONS = (
    "What is the capital of Germany?",
    "Why is the sky blue?",
    "What is 12 plus 7?",
    "Write one sentence about the sea.",
    "Name three fruits.",
    "What does a dentist do?",
    "Translate 'good morning' into Spanish.",
    "Give me one tip for sleeping well.",
    "Who wrote Romeo and Juliet?",
    "How many legs does a spider have?",
)
# of the suite: (benchmark, measure) → (bar, whether it is the largest value that will do); `chance`: more than a guess
BARS = {
    ("speech to text", "WER"): (0.5, True),
    ("text to speech", "WER"): (0.5, True),
}
ASKED = ("spoken question", "spoken question, spoken answer")


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--base", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="the model before: a folder or Hugging Face name"
    )
    parser.add_argument(
        "--text", type=Path, default=Path("shards/text_test"), help="document shards of text that was not learned"
    )
    parser.add_argument("--tokens", type=int, default=6000, help="about so many of it, from its front")
    parser.add_argument("--results", type=Path, default=ROOT / "recipes" / "results" / "speech_smollm2.json")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.base)
    text = list(islice(pieces(tokenizer, arguments.text), max(1, arguments.tokens // PIECE)))
    before = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory() as folder:
        export_hf(find_checkpoint(arguments.run), Path(folder) / "after")
        after = AutoModelForCausalLM.from_pretrained(Path(folder) / "after", dtype=torch.float32).eval()
    perplexities = [perplexity(model, text) for model in (before, after)]
    answers = [
        {"question": one, "before": answer(before, tokenizer, one), "after": answer(after, tokenizer, one)} for one in QUESTIONS
    ]
    figures = [
        *suite_figures(arguments.run / "benchmarks"),
        Figure("text perplexity, before", perplexities[0]),
        Figure("text perplexity, after", perplexities[1]),
        Figure("text perplexity, after / before", perplexities[1] / perplexities[0], 1.05, at_most=True),
    ]
    ok = report(figures, arguments.results)
    write_json(arguments.results, {**read_json(arguments.results), "answers": answers})
    for one in answers:
        print(f"{one['question']}\n  before: {one['before']}\n  after:  {one['after']}")
    sys.exit(0 if ok else 1)


def suite_figures(folder: Path) -> Iterator[Figure]:
    """The measures of the suite with their intervals, and the chance of those who guess the commonest answer."""
    for result in read_results(folder)["results"]:
        for one in result["measures"]:
            name, bar = f"{result['name']}, {one['name']}", BARS.get((result["name"], one["name"]), (None, False))
            yield Figure(name, one["value"], *bar)
            yield Figure(f"{name}, low end", one["low"], chance(folder, result) if result["name"] in ASKED else None)
            yield Figure(f"{name}, high end", one["high"])
        if result["name"] in ASKED:
            yield Figure(f"{result['name']}, commonest answer", chance(folder, result))


def chance(folder: Path, result: dict[str, Any]) -> float:
    """Share of the commonest answer among those expected: what a guess that does not listen is right in."""
    expected = Counter(document.meta["expected"] for document in DocumentShards(folder / result["examples"]))
    return expected.most_common(1)[0][1] / sum(expected.values())


def pieces(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Iterator[list[int]]:
    """Whole pieces of the text of each document."""
    for document in DocumentShards(folder):
        text = "\n\n".join(part.text for part in document.parts if isinstance(part, Text))
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportAssignmentType]
        yield from (ids[start : start + PIECE] for start in range(0, len(ids) - PIECE + 1, PIECE))


@torch.inference_mode()
def perplexity(model: PreTrainedModel, text: list[list[int]]) -> float:
    """exp of the mean nll in nats of each token given those before it in its piece."""
    total, count = 0.0, 0
    for ids in text:
        row = torch.tensor([ids])
        scores = model(row).logits[0, :-1].double().log_softmax(dim=-1)
        total -= float(scores.gather(1, row[0, 1:, None]).sum())
        count += len(ids) - 1
    return math.exp(total / count)


@torch.inference_mode()
def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    turns = [{"role": "user", "content": question}]
    asked: Any = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    made = model.generate(**asked, max_new_tokens=48, do_sample=False, eos_token_id=ends)  # pyright: ignore[reportCallIssue]
    said: Any = tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    return said.strip()


if __name__ == "__main__":
    main()
