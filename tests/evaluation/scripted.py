"""A model whose answers are given, and what the tests of the benchmarks share."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from pydantic import TypeAdapter

from mmpt.document import Part, Text
from mmpt.evaluation.benchmarks import Benchmark, Result
from mmpt.inference.load import Answer
from mmpt.media import encode_png, encode_wav


@dataclass
class Scripted:
    """Stands for a model: answers in the order in which it is asked, and remembers what it was asked."""

    answers: list[tuple[Part, ...]]
    tokenizer: object = None

    def __post_init__(self) -> None:
        self.asked: list[tuple[Part, ...]] = []
        self.settings: dict = {}
        self.seeds: list[int] = []

    def answer(self, prompts: Sequence[Sequence[Part]], **settings) -> list[Answer]:
        self.asked += [tuple(prompt) for prompt in prompts]
        self.settings = settings
        self.seeds.append(settings["seed"])
        return [Answer([], self.answers[len(self.asked) - len(prompts) + number]) for number in range(len(prompts))]


def run(content: dict, model) -> Result:
    return TypeAdapter(Benchmark).validate_python({"name": "test", **content}).run(model)


def values(result: Result) -> dict[str, float]:
    return {one.name: one.value for one in result.measures}


def texts(*said: str) -> list[tuple[Part, ...]]:
    return [(Text(text),) for text in said]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def picture(path: Path, colour: str, size: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(PIL.Image.new("RGB", (size, size), colour)))


def sound(path: Path, pitch: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_wav((0.3 * np.sin(np.arange(9600) * pitch)).astype(np.float32), 16_000))


def by_hand(model, ids: list[int]) -> list[float]:
    """ln p of each id after the first, by transformers' own logits in float64."""
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
    return [float(logits[place][token] - logits[place].logsumexp(0)) for place, token in enumerate(ids[1:])]


def coco(folder: Path, said: dict[str, list[str]], name: str = "captions") -> dict:
    for colour in said:
        picture(folder / "images" / f"{colour}.png", colour)
    content = {
        "images": [{"id": number, "file_name": f"{colour}.png"} for number, colour in enumerate(said)],
        "annotations": [{"image_id": n, "caption": text} for n, own in enumerate(said.values()) for text in own],
    }
    (folder / f"{name}.json").write_text(json.dumps(content))
    return {"annotations": str(folder / f"{name}.json"), "images": str(folder / "images")}


def likeliest(model, ids, low=0, high=None) -> int:
    with torch.no_grad():
        return int(model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1, low:high].argmax())
