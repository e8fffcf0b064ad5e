"""Scenarios of training on pictures and sounds as continuous features, each rank a process forked from this one.

Runs under tests/training/scenarios.py.
"""

import io
import json
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
import torch
from PIL import Image
from transformers import WhisperConfig, WhisperModel

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]
from chats import text_tokenizer  # noqa: E402
from launching import facts, import_once, killed_while_saving, launch, recipe  # noqa: E402
from scenarios import answer  # noqa: E402
from tiny_runs import BACKBONE, VOCABULARY, settings  # noqa: E402

from mmpt.config import merged, parse_config  # noqa: E402
from mmpt.data.feature_rows import PictureRows  # noqa: E402
from mmpt.data.shards.tokens import Medium, TokenDocument  # noqa: E402
from mmpt.data.shards.write import TokenShardWriter  # noqa: E402
from mmpt.data.tiles import Tiles  # noqa: E402
from mmpt.data.token_documents import token_documents  # noqa: E402
from mmpt.document import Document, Text  # noqa: E402
from mmpt.document import Image as Picture  # noqa: E402
from mmpt.media import encode_png  # noqa: E402
from mmpt.model.feature_inputs import FeatureInputs  # noqa: E402
from mmpt.tokenizers.text import encode_text  # noqa: E402
from mmpt.training import trainer  # noqa: E402
from mmpt.training.config import TrainingConfig  # noqa: E402
from mmpt.training.stages import stages  # noqa: E402
from mmpt.vocabulary import Vocabulary  # noqa: E402

WHISPER = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
           "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 20, "num_mel_bins": 80, "max_source_positions": 20,
           "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None,
           "begin_suppress_tokens": None}  # fmt: skip
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "white": (250, 250, 250)}
SLOTS = {"image": 3, "speech": 2}


def picture(colour: str, number: int) -> bytes:
    noise = np.random.default_rng(number).integers(-20, 20, (24, 20, 3))
    data = io.BytesIO()
    Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()


def sound(pitch: float, seconds: float = 0.3) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(16_000 * seconds)) / 16_000), 16_000, format="WAV")
    return data.getvalue()


def document(name: str, kind: str, data: bytes, word: int, slots: int | None = None) -> TokenDocument:
    """A picture or a sound, and the word for it, the only one that is learned."""
    slots = SLOTS[kind] if slots is None else slots
    block = VOCABULARY.encode_features(kind, slots)
    ids = [VOCABULARY.special("<|begin|>"), *block, word, VOCABULARY.special("<|end|>")]
    weights = np.array([0.0] * (len(block) + 1) + [1.0, 0.0], dtype=np.float32)
    suffix = "png" if kind == "image" else "wav"
    return TokenDocument(name, "test", np.array(ids), weights, (Medium(kind, suffix, data, 2, slots),))


def write_pictures(folder: Path, count: int = 64, broken: tuple[int, ...] = (), slots: int | None = None) -> None:
    """Pictures of one colour each, their words 5, 6, 7, 8; those in `broken` cannot be decoded."""
    with TokenShardWriter(folder, vocabulary=VOCABULARY, built={}) as writer:
        for number in range(count):
            colour = number % len(COLOURS)
            data = b"no picture" if number in broken else picture(list(COLOURS)[colour], number)
            writer.write(document(f"picture-{number}", "image", data, 5 + colour, slots))


def write_mixed(folder: Path, slots: int | None = None) -> None:
    """Three documents of text for one with a picture or a sound, so that many a rank has neither."""
    draw = np.random.default_rng(3)
    with TokenShardWriter(folder, vocabulary=VOCABULARY, built={}) as writer:
        for number in range(48):
            if number % 8 == 0:
                writer.write(document(f"picture-{number}", "image", picture("red", number), 5, slots))
            elif number % 8 == 4:
                writer.write(document(f"sound-{number}", "speech", sound(200.0 + number), 6))
            else:
                ids = draw.integers(0, VOCABULARY.text_size, draw.integers(10, 20))
                writer.write(TokenDocument(f"text-{number}", "test", ids))


def features(folder: Path) -> dict:
    whisper = folder / "whisper"
    if not whisper.exists():
        torch.manual_seed(0)
        WhisperModel(WhisperConfig(**WHISPER)).save_pretrained(whisper)
    query = {"kind": "resampler", "depth": 1, "heads": 2, "width": 16}
    tower = {"kind": "timm", "model": "test_vit.r160_in1k", "pretrained": False}
    return {
        "image": {"encoder": {"side": 32, "tower": tower}, "connector": {**query, "rows": SLOTS["image"]}},
        "speech": {"encoder": {"whisper": str(whisper)}, "connector": {**query, "rows": SLOTS["speech"]}},
    }


def mixed(folder: Path, stage: int, parts: dict | None = None) -> dict:
    """Everything learns on two ranks, on text, pictures and sounds: straight, and killed and resumed; packs of one document.
    With `parts` the encoders learn, too."""
    train = recipe()
    runs = []
    kind = "mixed" if parts is None else "learning"
    for name in (f"{kind}-{stage}", f"{kind}-broken-{stage}"):
        content = settings(
            folder, name, stage, data=[{"path": str(folder / "mixed")}], features=features(folder), loader={"pack_tokens": 20}
        )
        content = merged(content, {"optimizer": {"parts": parts or {}}})
        runs.append(parse_config({**content, "backbone": {"config": BACKBONE}}, TrainingConfig, name))
    codes = [launch(2, lambda ranks: train(runs[0], ranks)), launch(2, killed_while_saving(4, train, runs[1]))]
    codes.append(launch(2, lambda ranks: train(runs[1], ranks)))
    last = [run.output / "checkpoints" / "step-00000006" for run in runs]
    names = sorted(str(path.relative_to(last[0])) for path in last[0].rglob("*.safetensors"))
    same = {name: (last[0] / name).read_bytes() == (last[1] / name).read_bytes() for name in names}
    return {"codes": codes, "facts": [facts(run.output) for run in runs], "same": same, "checkpoint": str(last[0])}


def crossed(folder: Path, stage: int) -> dict:
    """Pictures through gated cross-attention and told from each other, on two ranks of which one or both often have none."""
    train = recipe()
    write_mixed(folder / f"crossed-data-{stage}", 1)
    given = features(folder)
    given["image"] |= {"enters": {"kind": "cross", "decoder": [1], "heads": 2}}
    data = [{"path": str(folder / f"crossed-data-{stage}")}]
    content = settings(
        folder, f"crossed-{stage}", stage, data=data, features=given, loader={"pack_tokens": 60, "packs_per_step": 2}
    )
    content["objectives"] = [*content["objectives"], {"kind": "contrastive", "layer": 1, "width": 8}]
    content["backbone"] = {"config": {**BACKBONE, "num_hidden_layers": 2}}
    config = parse_config(content, TrainingConfig, "crossed")
    codes = launch(2, lambda ranks: train(config, ranks))
    return {"codes": codes, "facts": facts(config.output), "checkpoint": str(config.output / "checkpoints" / "step-00000006")}


def named_colours(folder: Path) -> dict:
    """A decoder learns to say the colour of a picture, in two stages; then its connectors alone go on, in a run from there."""
    data, train, tune = [{"path": str(folder / "pictures")}], recipe(), recipe()
    options = {"data": data, "loader": {"pack_tokens": 128}, "schedule": {"warmup_steps": 0}, "run": {"save_every": 100}}
    each = [{"name": "one", "steps": 40}, {"name": "two", "steps": 10, "optimizer": {"learning_rate": 0.003}}]
    content = settings(folder, "colours", 0, **options, features={"image": features(folder)["image"]}, stages=each)
    config = parse_config({**content, "backbone": {"config": BACKBONE}}, TrainingConfig, "colours")
    codes = [launch(1, lambda ranks: max(train(stage, ranks) for stage in stages(config)))]
    base = config.output / "two" / "checkpoints" / "step-00000010"
    content = settings(
        folder, "connectors", 0, **options, steps=5, **{"from": str(base), "adapter": None, "features_from": str(base)}
    )
    more = parse_config(content, TrainingConfig, "connectors")
    codes.append(launch(1, lambda ranks: tune(more, ranks)))
    runs = [config.output / "one", config.output / "two", more.output]
    saved = [str(next((run / "checkpoints").iterdir())) for run in runs]
    return {"codes": codes, "facts": [facts(run) for run in runs], "saved": saved}


def tiled(folder: Path) -> dict:
    """Pictures of one, two and three tiles, from documents to a checkpoint, on two ranks."""
    train, text = recipe(), text_tokenizer()
    vocabulary = Vocabulary(len(text), "letters", image_codes=0, codes_per_image=0, speech_codes=0, speech_rate=25.0)
    rows = PictureRows(rows=4, side=32, tiles=Tiles(max=3, tags="places"))
    tokenizer = SimpleNamespace(
        vocabulary=vocabulary, text=text, image=None, speech=None, chat=None,
        encode=lambda sequences: [[encode_text(text, part.text) for part in one] for one in sequences],
    )  # fmt: skip
    sizes, documents = ((32, 32), (64, 32), (32, 96)), []
    for number in range(24):
        width, height = sizes[number % 3]
        data = encode_png(Image.new("RGB", (width, height), list(COLOURS.values())[number % 4]))
        documents.append(Document(str(number), "test", (Picture(data, "png", width, height), Text("red"))))
    with TokenShardWriter(folder / "tiled", vocabulary=vocabulary, built={}) as writer:
        for one in token_documents(documents, tokenizer, (), {"image": rows}):
            writer.write(one)
    tower = {"kind": "timm", "model": "test_vit.r160_in1k", "pretrained": False, "patches_only": True}
    image = {"encoder": {"side": 32, "tower": tower}, "tiles": {"max": 3, "tags": "places"}}
    content = settings(folder, "tiles", 1, data=[{"path": str(folder / "tiled")}], features={"image": image})
    content = merged(content, {"backbone": {"config": BACKBONE}, "loader": {"pack_tokens": 400}})
    config = parse_config(content, TrainingConfig, "tiles")
    return {"codes": launch(2, lambda ranks: train(config, ranks)), "facts": facts(config.output)}


def more_rows(folder: Path) -> dict:
    """Pictures of one pooled row each in a first stage, of all four in a second, with the same connector."""
    train = recipe()
    for rows in (1, 4):
        write_pictures(folder / f"rows-{rows}", slots=rows)
    tower = {"kind": "timm", "model": "test_vit.r160_in1k", "pretrained": False, "patches_only": True}
    image = {"encoder": {"side": 32, "tower": tower}, "connector": "mlp"}
    each = [
        {"name": "few", "data": [{"path": str(folder / "rows-1")}], "features": {"image": {"reduce": {"rows": 1}}}},
        {"name": "many", "data": [{"path": str(folder / "rows-4")}], "features": {"image": {"reduce": None}}},
    ]
    content = settings(folder, "more-rows", 0, steps=3, features={"image": image}, stages=each)
    config = parse_config({**content, "backbone": {"config": BACKBONE}}, TrainingConfig, "more rows")
    codes = launch(2, lambda ranks: max(train(stage, ranks) for stage in stages(config)))
    saved = [str(config.output / name / "checkpoints" / "step-00000003") for name in ("few", "many")]
    return {"codes": codes, "saved": saved, "facts": [facts(config.output / name) for name in ("few", "many")]}


def spoiled(folder: Path, stage: int, allowed: int) -> dict:
    """Rank 1's pictures have features of NaN in step 2: a run of three steps, in which so many may be skipped."""
    train = recipe()
    content = settings(folder, f"spoiled-{stage}-{allowed}", stage, data=[{"path": str(folder / "pictures")}], steps=3)
    content |= {"features": features(folder), "backbone": {"config": BACKBONE}}
    content = merged(content, {"run": {"max_skipped": allowed}, "schedule": {"warmup_steps": 0}})
    config = parse_config(content, TrainingConfig, "spoiled")
    log = folder / f"spoiled-{stage}-{allowed}.log"

    def work(ranks) -> int:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
        step, encode = trainer.train_step, FeatureInputs.encode

        def spoiling(engine, batches, at, *rest):
            spoil = ranks.rank == 1 and at == 2
            FeatureInputs.encode = (lambda *given: encode(*given) * float("nan")) if spoil else encode
            return step(engine, batches, at, *rest)

        trainer.train_step = spoiling
        return train(config, ranks)

    codes = launch(2, work)
    skipped = config.output / "skipped.jsonl"
    return {
        "codes": codes, "said": log.read_text(), "steps": [line[0] for line in facts(config.output)],
        "skipped": [json.loads(line) for line in skipped.read_text().splitlines()] if skipped.exists() else [],
        "last": (config.output / "checkpoints" / "step-00000003").is_dir(),
    }  # fmt: skip


def undecodable(folder: Path) -> dict:
    """One picture of 64 cannot be decoded."""
    train = recipe()
    write_pictures(folder / "broken", broken=(9,))
    content = settings(folder, "undecodable", 0, data=[{"path": str(folder / "broken")}], features=features(folder))
    content = merged(content, {"backbone": {"config": BACKBONE}, "loader": {"max_lost": 0.05}})
    config = parse_config(content, TrainingConfig, "broken")
    return {"codes": launch(2, lambda ranks: train(config, ranks)), "steps": len(facts(config.output))}


SCENARIOS = {
    **{f"mixed-{stage}": partial(mixed, stage=stage) for stage in (0, 1, 3)},
    **{f"learning-{stage}": partial(mixed, stage=stage, parts={"encoder": 0.1}) for stage in (0, 1, 2, 3)},
    **{f"crossed-{stage}": partial(crossed, stage=stage) for stage in (0, 3)},
    "colours": named_colours,
    "more-rows": more_rows,
    "tiled": tiled,
    **{f"spoiled-{stage}-{allowed}": partial(spoiled, stage=stage, allowed=allowed) for stage in (0, 1, 3) for allowed in (0, 1)},
    "undecodable": undecodable,
}


def prepare(folder: Path) -> None:
    write_mixed(folder / "mixed")
    write_pictures(folder / "pictures")
    features(folder)
    import_once(folder)


if __name__ == "__main__":
    answer(SCENARIOS, prepare)
