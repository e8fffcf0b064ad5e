"""Published vision towers at their own side and at another, against timm's and open_clip's own features.

    python tokenizers/benches/towers.py [NAME ...]

For each of a list (random weights, since none is downloaded): the largest difference of features from what the library computes
of the same pixels, normalised by what the library says of the model. The library's model at the other side is made by the
library alone: by `img_size` and its own reading of a file of the native weights, or `force_image_size`. Then one small model of
each module of timm, and one of each kind of image side of open_clip, in turn for `LIMIT` seconds of CPU in all and `EACH` for a
model: how many build at both sides, and what is said of the others. Kinds that were not reached are a figure too. Writes
tokenizers/results/towers.json; with NAMEs of the list prints those alone.
"""

import logging
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import digits
import open_clip
import timm
import torch
from safetensors.torch import save_file

from mmpt.errors import ConfigError
from mmpt.results import Figure, report
from mmpt.tokenizers.image.towers.open_clip import OpenClip
from mmpt.tokenizers.image.towers.timm import Timm

TIMM = {
    "vit_small_patch14_dinov2": 224,
    "vit_small_patch14_reg4_dinov2": 224,
    "vit_small_patch16_dinov3": 224,
    "convnext_tiny": 192,
    "eva02_small_patch14_336": 224,
    "vit_base_patch16_siglip_224": 256,
    "vit_base_patch16_siglip_512": 256,
    "fastvit_mci1": 128,
}
"""Name and the other side: DINOv2 with and without registers, DINOv3, ConvNeXt, EVA-02, SigLIP, SigLIP 2, MobileCLIP."""
OPEN_CLIP = {
    "ViT-B-32": 256,
    "ViT-B-16-SigLIP2": 256,
    "EVA02-B-16": 256,
    "convnext_base": 256,
    "MobileCLIP-S1": 224,
    "MobileCLIP2-S3": 224,
    "RN50": 256,
    "coca_ViT-B-32": 256,
}
LARGE = 200_000_000
"""Weights beyond which a model of timm is not built here."""
LIMIT, EACH = 480, 20
"""Seconds of CPU that all kinds, and both sides of one, may take."""
SMALL = ("test", "atto", "femto", "pico", "nano", "xxs", "xs", "s0", "b0", "mini", "tiny", "18", "small", "_s")
"""What small models of timm are called: of a module those with the first of these words are tried first."""


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)  # of weights that are random
    torch.set_num_threads(1)
    asked = set(sys.argv[1:])
    figures = []
    for library, names, compare in (("timm", TIMM, of_timm), ("open_clip", OPEN_CLIP, of_open_clip)):
        for name, other in names.items():
            if not asked or name in asked:
                for side, apart in compare(name, other):
                    figures.append(Figure(f"{library}: {name} at {side}, largest difference", apart, 1e-5, at_most=True))
                    print(figures[-1].name, apart, flush=True)
    if asked:
        return
    for library, kinds, kind in (("timm", small_of_timm(), Timm), ("open_clip", kinds_of_open_clip(), OpenClip)):
        built, refused, late = 0, [], 0
        end = time.process_time() + LIMIT / 2
        for name, side in kinds:
            if time.process_time() > end:
                late += 1
                continue
            try:
                with at_most(EACH):
                    for one in (side, max(64, side // 2 // 32 * 32)):
                        kind(model=name, pretrained=None if kind is OpenClip else False).build(one, False)
                built += 1
            except (ConfigError, TimeoutError) as problem:
                refused.append(name)
                print(problem, flush=True)
        tried = built + len(refused)
        figures.append(Figure(f"{library}: of {tried} kinds of models, built at both sides", built))
        figures.append(Figure(f"{library}: kinds not reached in {LIMIT // 2} s", late))
        print(f"refused: {', '.join(refused)}", flush=True)
    sys.exit(0 if report(figures, digits.RESULTS / "towers.json", ["timm", "open_clip_torch"]) else 1)


def noise(side: int) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def of_timm(name: str, other: int) -> Iterator[tuple[int, float]]:
    torch.manual_seed(0)
    native = timm.create_model(name, num_classes=0).eval()
    own = native.pretrained_cfg["input_size"][-1]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file({key: value.contiguous() for key, value in native.state_dict().items()}, file)
        for side in (own, other):
            torch.manual_seed(0)
            tower = Timm(model=name, pretrained=False).build(side)
            options = {"img_size": side} if hasattr(native, "set_input_size") else {}
            read = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, num_classes=0, **options)
            data = timm.data.resolve_model_data_config(read)
            mean, std = (torch.tensor(data[key])[:, None, None] for key in ("mean", "std"))
            wanted = read.eval().forward_features(((noise(side) + 1) / 2 - mean) / std)
            wanted = wanted.flatten(2).transpose(1, 2) if wanted.ndim == 4 else wanted
            yield side, float((tower(noise(side)) - wanted).abs().max())


@torch.no_grad()
def of_open_clip(name: str, other: int) -> Iterator[tuple[int, float]]:
    """Of image embeddings, which are made of all features, and of the features themselves, as they pass through the model."""
    torch.manual_seed(0)
    native = open_clip.create_model(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file({key: value.contiguous() for key, value in native.state_dict().items()}, file)
        for side in (open_clip.get_model_config(name)["vision_cfg"]["image_size"], other):
            tower = OpenClip(model=name, pretrained=str(file)).build(side)
            # Of a residual network open_clip reads no weights at another side; its convolutions take any.
            forced = {} if name == "RN50" else {"force_image_size": side}
            whole = open_clip.create_model(name, pretrained=str(file), **forced).eval()
            trunk, seen = getattr(whole.visual, "trunk", None), []
            last = whole.visual.layer4 if name == "RN50" else whole.visual.transformer if trunk is None else trunk
            if trunk is None:
                last.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output))
            published = open_clip.get_pretrained_cfg(name, open_clip.list_pretrained_tags_by_model(name)[0])
            mean, std = (
                published.get("mean") or open_clip.OPENAI_DATASET_MEAN,
                published.get("std") or open_clip.OPENAI_DATASET_STD,
            )
            mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
            pixels = ((noise(side) + 1) / 2 - mean) / std
            embedding = None if name == "RN50" and side == other else whole.encode_image(pixels, normalize=False)
            if embedding is None:
                own = whole.visual
                own.layer4(own.layer3(own.layer2(own.layer1(own.stem(pixels)))))
            features = seen[0] if trunk is None else trunk.forward_features(pixels)
            features = features.flatten(2).transpose(1, 2) if features.ndim == 4 else features
            if trunk is None and name != "RN50" and whole.visual.attn_pool is None:
                features = whole.visual.ln_post(features)
            found = tower(noise(side))
            apart = [(found - features[:, -found.shape[1] :]).abs().max()]
            if embedding is not None:
                apart.append((tower.embed(noise(side)) - embedding).abs().max())
            yield side, float(max(apart))


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` in what takes more CPU than that."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not built in {seconds:g} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def small_of_timm() -> Iterator[tuple[str, int]]:
    """Name and side of one small model of each module."""
    for module in timm.list_modules():
        # By their names alone: to make all 1,500 only to count their weights takes longer than all else here.
        names = timm.list_models(module=module)
        names.sort(key=lambda name: (next((i for i, word in enumerate(SMALL) if word in name), len(SMALL)), len(name)))
        for name in names[:3]:
            try:
                with torch.device("meta"):
                    model = timm.create_model(name)
            except Exception:  # some compute with values as they are made
                continue
            if sum(weight.numel() for weight in model.parameters()) < LARGE:
                yield name, model.pretrained_cfg["input_size"][-1]
                break


def kinds_of_open_clip() -> list[tuple[str, int]]:
    """The narrowest of each kind of image side: family of the tower (the first word of timm's name), kind of layers, pooling."""
    kinds: dict[tuple, tuple[int, int, str]] = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        vision = config["vision_cfg"]
        family = re.split("[_0-9]", vision.get("timm_model_name") or "own")[0]
        kind = (family, isinstance(vision.get("layers"), list), vision.get("timm_pool"), vision.get("attentional_pool"))
        small = (config["embed_dim"], vision["image_size"], name)
        kinds[kind] = min(small, kinds.get(kind, small))
    return [(name, side) for _, side, name in kinds.values()]


if __name__ == "__main__":
    main()
