"""A model of our own writes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Image, Part, Text
from mmpt.errors import DataError
from mmpt.inference.samplers.greedy import Greedy
from mmpt.inference.samplers.top_p import TopP
from mmpt.inference.writers import Writer
from mmpt.inference.writers._folder import folder_state

if TYPE_CHECKING:  # it takes torch
    from mmpt.inference.load import MultimodalModel


class Engine(Writer):
    """A run or checkpoint of mmpt, by its own engine (own: continuous batching after Orca, Yu et al. 2022); where it has a chat
    template, the prompt is what the user says."""

    run: str
    """Folder of the run or checkpoint."""

    def model_state(self) -> str:
        return folder_state(self.run)

    def write(self, prompts: Sequence[Prompt]) -> list[Answer]:
        from mmpt.inference.engine import write_all
        from mmpt.inference.settings import Settings

        model = _loaded(self.run)
        sampler = TopP(temperature=self.temperature, top_p=self.top_p) if self.temperature else Greedy()
        base = Settings(outputs=("text",), max_new_tokens=self.max_new_tokens, text=sampler)
        engine = model.engine()
        found: list[Answer | None] = []
        asked, settings = [], []
        for prompt, seed in zip(prompts, self.seeds(prompts), strict=True):
            try:
                (one,) = model.prompts([_parts(prompt, model.tokenizer.chat is not None)])
                fitted = engine.fitted(one, base.model_copy(update={"seed": seed}))
            except DataError as problem:
                found.append(Answer("", refused=str(problem)))
                continue
            asked.append(one)
            settings.append(fitted)
            found.append(None)
        written = iter(zip(write_all(engine, asked, settings), settings, strict=True))
        return [one or _answer(model, *next(written)) for one in found]


def _answer(model: "MultimodalModel", ids: list[int], settings) -> Answer:
    text = "".join(part.text for part in model.tokenizer.decode(ids) if isinstance(part, Text))
    return Answer(text.strip(), len(ids) < settings.max_new_tokens)  # the end is a token too, and not among them


def _parts(prompt: Prompt, chat: bool) -> list[Part]:
    role = "user" if chat and not prompt.plain else None
    parts: list[Part] = []
    if prompt.image:
        image = prompt.image
        parts.append(Image(image.data, image.suffix, image.width, image.height, role=role))
    return [*parts, Text(prompt.text, role=role)]


@lru_cache(maxsize=1)
def _loaded(run: str) -> "MultimodalModel":
    from mmpt.inference.load import load

    return load(run)
