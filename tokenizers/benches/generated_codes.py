"""What hardening an image decoder on a language model's own codes is worth (the post-training of RobusTok).

    python tokenizers/benches/generated_codes.py [RUNS]

The tokenizer of tokenizers/benches/seed.py on drawn scenes (in RUNS, default runs/seed; trained where it is not there yet) turns
its training pictures into tokens; a small decoder LLM learns to draw captions (recipes/train.py, two ranks), and gives codes
for captions it was trained on (tokenizers/generate.py); the tokenizer's decoder goes on with those (tokenizers/train.py, `start`
and `generated_codes`). Measured on held-out captions: what is read in the pictures drawn of the model's codes, sampled and
greedy, by the decoder before any hardening, hardened on perturbed codes, and adapted to the model's. Writes
tokenizers/results/generated_codes.json.
"""

import json
import subprocess
import sys
from pathlib import Path

import digits
import numpy as np
import pictures
import torch
import yaml
from seed import before_hardening

from mmpt.evaluation.readers.scenes import read_scene
from mmpt.inference.load import load
from mmpt.inference.picture_codes import generated_picture_codes
from mmpt.results import Figure, report
from mmpt.storage import write_bytes
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.text import train_text_tokenizer

PROMPT = "draw"
STEPS = 500
BACKBONE = {
    "model_type": "qwen3",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "tie_word_embeddings": False,
}


def main() -> None:
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/seed")
    torch.set_num_threads(1)
    train, test = pictures.shards("scenes", runs)
    digits.train({runs / "scenes": pictures.specification("scenes", train)})
    hardened = runs / "scenes" / "tokenizer"
    model = runs / "model"
    if not list((model / "checkpoints").glob(f"step-{STEPS:08d}")):
        language_model(train, hardened, model)
    if not (runs / "generated" / "codes.jsonl").exists():
        run("tokenizers/generate.py", model, train, runs / "generated", "--prompt", f"{PROMPT} {{}}")
    spec = {
        "kind": "image",
        "data": [str(train)],
        "start": str(hardened),
        "stages": {
            "harden": {
                "generated_codes": str(runs / "generated" / "codes.jsonl"),
                "generated": 0.5,
                "fit": {"steps": 1000, "batch_size": 32, "optimizer": {"learning_rate": 0.001}, "schedule": {"warmup_steps": 50}},
            }
        },
    }
    digits.train({runs / "adapted": spec})
    decoders = {
        "not hardened": before_hardening(runs / "scenes"),
        "hardened on perturbed codes": ImageTokenizer.load(hardened),
        "adapted to the model's codes": ImageTokenizer.load(runs / "adapted" / "tokenizer"),
    }
    sys.exit(0 if report(measured(model, test, decoders), digits.RESULTS / "generated_codes.json") else 1)


def language_model(train: Path, tokenizer: Path, out: Path) -> None:
    """Trained to give the codes of a picture after its caption."""
    out.mkdir(parents=True, exist_ok=True)
    captions = pictures.pictures_of(train)[1]
    # The prompt is rare beside captions: repeated, so that its word becomes a token too.
    train_text_tokenizer([*captions, *[PROMPT] * 100], 400).save_pretrained(out / "text_tokenizer")
    arrangement = {"prompt": PROMPT, "order": ["text", "image"], "weights": [0, 1]}
    tokens = {"text": str(out / "text_tokenizer"), "image": str(tokenizer), "arrangements": [arrangement]}
    if not (out / "tokens").exists():
        run("datasets/to_tokens.py", written(out / "tokens.yaml", tokens), train, out / "tokens", "--processes", "2")
    recipe = {
        "backbone": {"config": BACKBONE},
        "data": [{"path": str(out / "tokens")}],
        "text_tokenizer": str(out / "text_tokenizer"),
        "image_tokenizer": str(tokenizer),
        "output": str(out),
        "loader": {"pack_tokens": 1024, "packs_per_step": 4},
        "steps": STEPS,
        "optimizer": {"learning_rate": 0.002},
        "schedule": {"warmup_steps": 50},
        "run": {"save_every": STEPS},
    }
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run(*launch, digits.ROOT / "recipes" / "train.py", written(out / "pretrain.yaml", recipe))


def measured(model: Path, test: Path, decoders: dict[str, ImageTokenizer]) -> list[Figure]:
    shown, captions = pictures.pictures_of(test)
    loaded = load(model)
    prompts = [f"{PROMPT} {caption}" for caption in captions]
    codes = {"of the pictures": next(iter(decoders.values())).encode(shown)}
    for name, temperature in (("sampled", 1.0), ("greedy", 0.0)):
        codes[f"by the model, {name}"] = np.stack(list(generated_picture_codes(loaded, prompts, temperature)))
    figures = [Figure("held-out captions", float(len(captions)))]
    for kind, rows in codes.items():
        for name, decoder in decoders.items():
            drawn = decoder.decode(rows)
            right = [read_scene(picture) == caption for picture, caption in zip(drawn, captions, strict=True)]
            figures.append(Figure(f"codes {kind}, {name}: all attributes", float(np.mean(right))))
            figures.append(Figure(f"codes {kind}, {name}: attributes", pictures.accuracy(drawn, captions, read_scene)))
    return figures


def written(path: Path, content: dict) -> Path:
    write_bytes(path, yaml.safe_dump(content, sort_keys=False).encode())
    return path


def run(*command: object) -> None:
    """A Python script of this repository, or `-m module`, as a user would start it."""
    script, *rest = map(str, command)
    start = [script] if script == "-m" else [str(digits.ROOT / script)]
    print(json.dumps([script, *rest]), file=sys.stderr, flush=True)
    subprocess.run([sys.executable, *start, *rest], check=True)


if __name__ == "__main__":
    main()
