"""How fast pictures become codes, beside a plain pipeline of the same tower with vector-quantize-pytorch.

    python tokenizers/benches/image_encoding.py

256 pictures of 320 × 240, timm's vit_small_patch16_224 with random weights, 32 queries, 8,192 codes of 32 values; both pipelines
take PIL pictures and give codes, in batches of 64, in turn on the same threads. The plain one resizes and normalises by
torchvision, one picture at a time. Also: whether codes depend on the batch. Writes tokenizers/results/image_encoding.json.

On a GPU instead: the tower (ViT-g/14) and Q-Former of tokenizers/image_seed.yaml in bfloat16, with random weights, from pixels on
the device to codes, and their share of the peak of an H100. Writes tokenizers/results/image_encoding_gpu.json.
"""

import statistics
import sys
import time
from collections.abc import Callable

import digits
import numpy as np
import torch
import yaml
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from vector_quantize_pytorch import VectorQuantize

from mmpt.results import Figure, report
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

COUNT, BATCH, ROUNDS = 256, 64, 5
CONFIG = {
    "side": 224,
    "tower": {"kind": "timm", "model": "vit_small_patch16_224", "pretrained": False},
    "qformer": {"queries": 32, "width": 384, "depth": 4, "heads": 6},
    "quantizer": {"kind": "ema", "codes": 8192, "dim": 32, "normalize": True},
    "decoder": {"patch": 16, "width": 64, "depth": 0, "heads": 4},
}


H100_BF16 = 989e12
"""Dense bfloat16 FLOP/s of an H100 SXM (NVIDIA's data sheet)."""


def main() -> None:
    torch.manual_seed(0)
    if torch.cuda.is_available():
        figures = on_gpu()
        sys.exit(0 if report(figures, digits.RESULTS / "image_encoding_gpu.json", ["open-clip-torch"]) else 1)
    tokenizer = ImageTokenizer(ImageTokenizerConfig(**CONFIG)).eval()
    tokenizer.quantizer.codebook.normal_()
    random = np.random.default_rng(0)
    shown = [Image.fromarray(random.integers(0, 255, (15, 20, 3), dtype=np.uint8)).resize((320, 240)) for _ in range(COUNT)]
    ways = {"ours": lambda: tokenizer.encode(shown), "plain": plain(tokenizer, shown)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    ratios = [other / mine for mine, other in zip(times["ours"], times["plain"], strict=True)]
    together, alone = tokenizer.encode(shown), np.concatenate([tokenizer.encode([one]) for one in shown])
    figures = [
        Figure("images/s", COUNT / statistics.median(times["ours"])),
        Figure("images/s, plain pipeline", COUNT / statistics.median(times["plain"])),
        Figure("images/s ours / plain", statistics.median(ratios), 1.0),
        Figure("codes that differ: batch of 1, batch of 64", float((together != alone).sum()), 0.0, at_most=True),
        Figure("codes compared", float(together.size)),
    ]
    packages = ["torchvision", "timm", "vector-quantize-pytorch"]
    sys.exit(0 if report(figures, digits.RESULTS / "image_encoding.json", packages) else 1)


def on_gpu(device: str = "cuda", batch: int = 256, rounds: int = 20) -> list[Figure]:
    spec = yaml.safe_load((digits.ROOT / "tokenizers" / "image_seed.yaml").read_text(encoding="utf-8"))["tokenizer"]
    tower = {**spec["tower"], "pretrained": None}
    config = ImageTokenizerConfig(**{**spec, "tower": tower, "branches": None})
    tokenizer = ImageTokenizer(config).to(device).eval().requires_grad_(False)
    pixels = torch.rand(batch, 3, config.side, config.side, device=device) * 2 - 1

    def encode() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            return tokenizer.quantize(tokenizer.states(pixels)[1]).codes.cpu()  # waits for the device

    with FlopCounterMode(display=False) as counter:
        encode()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        encode()
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times)
    return [
        Figure("images/s", batch / seconds),
        Figure("GFLOP for a picture", counter.get_total_flops() / batch / 1e9),
        Figure("share of the bf16 peak of an H100", counter.get_total_flops() / seconds / H100_BF16),
    ]


def plain(tokenizer: ImageTokenizer, shown: list[Image.Image]) -> Callable:
    """The same tower, queries and width of code, as one would write it with the libraries at hand."""
    tower = tokenizer.tower
    mean, std = tower.mean.flatten().tolist(), tower.std.flatten().tolist()
    prepare = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize(mean, std)])
    quantizer = VectorQuantize(dim=32, codebook_size=8192).eval()

    @torch.inference_mode()
    def encode() -> None:
        for start in range(0, len(shown), BATCH):
            pixels = torch.stack([prepare(picture) for picture in shown[start : start + BATCH]])
            hidden = tokenizer.qformer(tower.model.forward_features(pixels))
            quantizer(tokenizer.down(hidden))

    return encode


if __name__ == "__main__":
    main()
