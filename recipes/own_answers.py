"""Conversations of a text model with itself, to be replayed while it learns something else, so that it keeps how it answers.

    python recipes/own_answers.py MODEL OUT [--answers N]

Short questions of a few kinds, and what MODEL (a folder or Hugging Face name) answers to each, greedily, by its own chat
template; an answer that does not end within --longest tokens is left out. OUT/conversations.jsonl has one conversation a row, as
`messages`.

What a model says itself moves it less than what others say: Yang et al. 2024, "Self-Distillation Bridges Distribution Gap in
Language Model Fine-Tuning", arXiv:2402.13669.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from mmpt.scripts import main_guard
from mmpt.storage import write_bytes

KINDS = {
    "What is {}?": (
        "gravity, a volcano, bread, a compass, electricity, a poem, a glacier, coffee, democracy, a telescope, rust, an "
        "island, a library, chess, a violin, yeast, a desert, the moon, a bridge, paper, a bicycle, honey, a contract, "
        "steel, a kitchen garden"
    ),
    "Why {}?": (
        "do leaves fall in autumn, do cats purr, is ice slippery, do we dream, does bread rise, do boats float, are there "
        "tides, do stars twinkle, is salt put on roads, do birds migrate, does iron rust, do onions make us cry"
    ),
    "Write one sentence about {}.": (
        "the mountains, a train, the rain, an old house, a market, winter, a river, a clock, music, a garden, a "
        "lighthouse, breakfast, a long walk, the stars"
    ),
    "Name three {}.": (
        "colours, animals, countries, vegetables, planets, sports, rivers, musical instruments, tools, trees, metals, "
        "birds, languages, rooms of a house"
    ),
    "What does a {} do?": (
        "teacher, baker, pilot, plumber, judge, gardener, nurse, carpenter, librarian, farmer, translator, tailor"
    ),
    "Give me one tip for {}.": (
        "learning a language, cooking rice, saving money, running faster, writing a letter, taking photographs, staying "
        "calm, growing tomatoes, packing a suitcase, reading more, public speaking, keeping a diary"
    ),
    "Who was {}?": (
        "Albert Einstein, Cleopatra, Mozart, Napoleon, Marie Curie, Leonardo da Vinci, Isaac Newton, Abraham Lincoln, "
        "Charles Darwin, Jane Austen, Galileo, Mahatma Gandhi"
    ),
    "Translate '{}' into French.": (
        "thank you, good night, my name is Anna, where is the station, I am hungry, see you tomorrow, a red house, how are you"
    ),
    "What is the capital of {}?": (
        "Canada, Australia, Egypt, Brazil, Portugal, Norway, Greece, India, Kenya, Mexico, Poland, Turkey"
    ),
    "How many {}?": (
        "days are in a week, months are in a year, legs does a dog have, sides does a triangle have, minutes are in an "
        "hour, continents are there, players are in a football team, letters are in the English alphabet"
    ),
    "Tell me a short story about {}.": (
        "a fox, a lost key, two friends, a snowman, a brave mouse, an empty boat, a baker, a kite"
    ),
    "Explain {} to a child.": ("money, the internet, rainbows, why we sleep, earthquakes, how plants grow, time zones, germs"),
}


def questions(random: np.random.Generator) -> list[str]:
    """Each of them once, in the order drawn."""
    found = [form.format(thing) for form, things in KINDS.items() for thing in things.split(", ")]
    return [str(one) for one in random.permutation(found)]


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--answers", type=int, help="questions to ask; by default all")
    parser.add_argument("--longest", type=int, default=120, help="tokens of an answer")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model).eval()
    rows, asked_for = [], questions(np.random.default_rng(arguments.seed))[: arguments.answers]
    for question in asked_for:
        messages = [{"role": "user", "content": question}]
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            ids = model.generate(**asked, max_new_tokens=arguments.longest, do_sample=False)[0, asked["input_ids"].shape[1] :]
        answer = tokenizer.decode(ids, skip_special_tokens=True).strip()
        if len(ids) < arguments.longest and answer:
            rows.append({"messages": [*messages, {"role": "assistant", "content": answer}]})
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_bytes(arguments.out / "conversations.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    print(f"{arguments.out}: {len(rows)} of {len(asked_for)} answers ended")


if __name__ == "__main__":
    main()
