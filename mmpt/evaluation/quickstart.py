"""The quickstart's evaluation: figures on held-out data, and the questions and answers as document shards for the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.progress import Progress

from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Speech, Text
from mmpt.evaluation.pictures import Reader, nearest_neighbour_reader, read_scene, same_scene
from mmpt.evaluation.recognition import normalise, word_error_rate
from mmpt.evaluation.suite.base import Result
from mmpt.evaluation.tasks import image_to_text, speech_to_text, text_to_image, text_to_speech
from mmpt.inference.load import MultimodalModel
from mmpt.media import decode_image, decode_speech, encode_png, encode_wav
from mmpt.storage import write_json
from mmpt.tokenizers.codebook_health import codebook_use

SHOWN = 6  # reconstructions kept for the report


def evaluate_quickstart(
    model: MultimodalModel,
    train: DocumentShards,
    test: DocumentShards,
    reader: Literal["scenes", "nearest_neighbour"],
    prompts: dict[str, str],
    folder: Path,
    progress: Progress,
) -> dict[str, float]:
    """Score all four directions and both tokenizers on `test`; `prompts` maps each task to its prompt.

    Writes `figures.json`, `codes.json` (how often each code was used) and the document shards `answers` and `reconstructions`
    into `folder`. `train` is read only to know what the classes look like (reader "nearest_neighbour").
    """
    documents = list(test)
    read, same = (read_scene, same_scene) if reader == "scenes" else (_class_reader(train), _same_text)
    task = progress.add_task("evaluation", total=5)
    figures, counts = _tokenizers(model, documents, read, same, folder)
    progress.advance(task)
    results: list[Result] = []
    for ask in (
        lambda: speech_to_text(model, documents, prompts["speech_to_text"]),
        lambda: text_to_speech(model, documents, prompts["text_to_speech"]),
        lambda: image_to_text(model, documents, prompts["image_to_text"], same),
        lambda: text_to_image(model, documents, prompts["text_to_image"], read, same),
    ):
        results.append(ask())
        progress.advance(task)
    names = ("speech_to_text_wer", "text_to_speech_wer", "image_to_text_accuracy", "text_to_image_accuracy")
    figures = {**{name: round(result.measures[0].value, 4) for name, result in zip(names, results, strict=True)}, **figures}
    _write_answers(results, folder / "answers")
    write_json(folder / "codes.json", counts)
    write_json(folder / "figures.json", figures)
    return figures


def _tokenizers(model: MultimodalModel, documents: Sequence[Document], read: Reader, same, folder: Path) -> tuple[dict, dict]:
    """Figures of the tokenizers alone (no LLM between), use counts of their codes, and some reconstructions on disk."""
    tokenizer = model.tokenizer
    heard = [(d, p) for d in documents for p in d.parts if isinstance(p, Speech)]
    seen = [(d, p) for d in documents for p in d.parts if isinstance(p, Image)]
    rate = tokenizer.speech.sample_rate
    speech_codes = tokenizer.speech.encode([decode_speech(part.data, rate) for _, part in heard])
    sounds = tokenizer.speech.decode(speech_codes)
    transcripts = [part.text for _, part in heard]
    image_codes = tokenizer.image.encode([decode_image(part.data) for _, part in seen])
    pictures = tokenizer.image.decode(image_codes)
    right = [same(part.alt, read(picture)) for (_, part), picture in zip(seen, pictures, strict=True)]
    all_speech, all_image = torch.from_numpy(np.concatenate(speech_codes)), torch.from_numpy(np.asarray(image_codes))
    speech_use, image_use = codebook_use(all_speech, tokenizer.speech.codes), codebook_use(all_image, tokenizer.image.codes)
    figures = {
        "speech_codebook_used": speech_use["used"],
        "image_codebook_used": image_use["used"],
        "speech_codebook_entropy": speech_use["entropy"],
        "image_codebook_entropy": image_use["entropy"],
        "speech_tokenizer_wer": word_error_rate(transcripts, tokenizer.speech.transcribe(speech_codes)),
        "speech_reconstruction_wer": word_error_rate(transcripts, tokenizer.speech.transcribe(tokenizer.speech.encode(sounds))),
        "image_reconstruction_accuracy": sum(right) / len(right),
    }
    counts = {
        "speech": torch.bincount(all_speech.reshape(-1), minlength=tokenizer.speech.codes).tolist(),
        "image": torch.bincount(all_image.reshape(-1), minlength=tokenizer.image.codes).tolist(),
    }
    with ShardWriter(folder / "reconstructions", built={"by": "evaluation"}) as writer:
        for (document, part), samples in list(zip(heard, sounds, strict=True))[:SHOWN]:
            again = Speech(encode_wav(samples, rate), "wav", rate, len(samples) / rate)
            writer.write(Document(f"speech/{document.id}", document.source, (part, again), {"kind": "speech"}))
        for (document, part), picture in list(zip(seen, pictures, strict=True))[: 2 * SHOWN]:
            again = Image(encode_png(picture), "png", picture.width, picture.height)
            writer.write(Document(f"image/{document.id}", document.source, (part, again), {"kind": "image"}))
    return {name: round(value, 4) for name, value in figures.items()}, counts


def _write_answers(results: Sequence[Result], folder: Path) -> None:
    with ShardWriter(folder, built={"by": "evaluation"}) as writer:
        for result in results:
            for one in result.outcomes:
                meta = {"task": result.name, "asked": len(one.asked), "expected": one.expected, "read": one.found}
                parts = (*one.asked, *one.answered)
                writer.write(Document(f"{result.name}/{one.item}", "evaluation", parts, {**meta, "right": one.score == 1}))


def _class_reader(train: DocumentShards) -> Reader:
    pairs = [(p, t) for d in train for p in d.parts[:1] for t in d.parts[-1:] if isinstance(p, Image) and isinstance(t, Text)]
    return nearest_neighbour_reader([decode_image(picture.data) for picture, _ in pairs], [text.text for _, text in pairs])


def _same_text(one: str, other: str) -> bool:
    return normalise(one) == normalise(other)
