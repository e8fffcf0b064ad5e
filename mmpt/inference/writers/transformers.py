"""A model of transformers writes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.errors import ConfigError, DataError
from mmpt.inference.writers import Writer
from mmpt.inference.writers._folder import folder_state
from mmpt.media import decode_image


class Transformers(Writer):
    """A causal language model of transformers, or a model that sees pictures too, by its own chat template
    (huggingface/transformers, `generate`); one without a template continues the prompt."""

    side_by_side: ClassVar[bool] = True

    model: str
    """Folder or Hugging Face name."""
    pictures: bool = False
    """Whether it is loaded as a model that takes pictures (`AutoModelForImageTextToText`)."""

    def model_state(self) -> str:
        return folder_state(self.model)

    def write(self, prompts: Sequence[Prompt]) -> list[Answer]:
        if not self.pictures and any(prompt.image for prompt in prompts):
            raise ConfigError(f"writer.pictures: {self.model} is asked about pictures, expected true and a model that takes them")
        import torch

        model, reader = _loaded(self.model, self.pictures)
        tokenizer = getattr(reader, "tokenizer", reader)
        try:
            pictures = [[decode_image(prompt.image.data)] if prompt.image else [] for prompt in prompts]
        except DataError:
            return self._one_by_one(prompts)
        read: dict[str, Any] = {"images": pictures} if any(pictures) else {}
        texts = [self._asked(reader, prompt) for prompt in prompts]
        given = reader(text=texts, return_tensors="pt", padding=True, add_special_tokens=not self._templated(reader), **read)
        drawn = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0} if self.temperature else {}
        # A batch is drawn with one seed, and batches are the same from run to run.
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(sum(self.seeds(prompts)) % (1 << 63))
            written = model.generate(
                **given.to(model.device),
                max_new_tokens=self.max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                **(drawn or {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}),
            )
        new = written[:, given["input_ids"].shape[1] :].tolist()
        ends = _ends(model)
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        return [Answer(text.strip(), bool(ends & set(ids))) for text, ids in zip(texts, new, strict=True)]

    def _one_by_one(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """A picture that cannot be decoded costs its own answer alone."""
        found: list[Answer] = []
        for prompt in prompts:
            try:
                if prompt.image:
                    decode_image(prompt.image.data)
                found += self.write([prompt])
            except DataError as problem:
                found.append(Answer("", refused=str(problem)))
        return found

    @staticmethod
    def _templated(reader: Any) -> bool:
        return bool(getattr(reader, "chat_template", None))

    def _asked(self, reader: Any, prompt: Prompt) -> str:
        """The prompt as text, as the template has it."""
        if prompt.plain or not self._templated(reader):
            return prompt.text
        content: Any = prompt.text
        if self.pictures:
            content = [{"type": "image"}] * bool(prompt.image) + [{"type": "text", "text": prompt.text}]
        return reader.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)


@lru_cache(maxsize=1)
def _loaded(name: str, pictures: bool) -> tuple[Any, Any]:
    """(model, what makes its inputs), loaded once in each process: on a GPU in the dtype it was saved in, else in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    gpu = torch.cuda.is_available()
    try:
        kind, reads = (AutoModelForImageTextToText, AutoProcessor) if pictures else (AutoModelForCausalLM, AutoTokenizer)
        model: Any = kind.from_pretrained(name, dtype="auto" if gpu else torch.float32)
        reader: Any = reads.from_pretrained(name)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"writer.model: {name} cannot be loaded ({problem})") from None
    tokenizer = getattr(reader, "tokenizer", reader)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to("cuda" if gpu else "cpu").eval(), reader


def _ends(model: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set(ends if isinstance(ends, list) else [ends])
