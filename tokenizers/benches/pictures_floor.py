"""What codes of pictures are worth: an image tokenizer against floors that need none, and against others of the same size.

    python tokenizers/benches/pictures_floor.py OUT NAME SPEC.yaml TRAIN HELD_OUT [--seeds 0 1 2] [--at-once 1]

On the pictures of two sets of document shards with alternative texts: trains SPEC.yaml, then vector-quantize-pytorch's codebook
in an autoencoder of the same tower, queries and decoder, and a TiTok-like one, with as many codes of as large a codebook, each
for as many seconds of a processor as SPEC.yaml took, on one thread. R@1 of held-out pictures from codes is by a head that learns
from the training captions (benches/code_head.py), the same for all; where the tokenizer has `branches`, its own counts. Floors:
raw pixels (the text of the nearest training picture, by equal words), that picture itself, the mean picture.

One set after the other, as many seeds at once as asked; what is finished in OUT is not done again, and a training goes on from
its checkpoint. The sets in OUT together become tokenizers/results/pictures_floor.json; OUT/NAME/seed-N/sheet.png shows pictures.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image, ImageDraw

from mmpt.config import load_config
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Image as ImagePart
from mmpt.errors import DataError
from mmpt.media import decode_image
from mmpt.results import Figure, report
from mmpt.storage import read_json, write_bytes, write_json
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.pixels import picture_bytes
from mmpt.training.specs import ImageSpec, TokenizerSpec

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tokenizers" / "results" / "pictures_floor.json"
OURS, RIVALS = "ours", ("vector-quantize-pytorch", "TiTok-like")
RATE, MINUTES, SHOWN, SHOWN_SIDE = 1e-3, 40, 14, 96
R1, ENCODING = "picture to text R@1", "CPU ms to encode a picture"
TOLD = (
    "R@1 from codes", "R@1 from codes, by the same head", "R@mean from codes, by the same head", f"embeddings, {R1}", "PSNR",
    "feature distance", "rFID", "pFID", "codes_used", "entropy", "bits a picture", "parameters, M", "CPU minutes", ENCODING,
)  # fmt: skip
"""Figures of each system."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("out", "name", "spec", "train", "held_out"):
        parser.add_argument(name, type=str if name == "name" else Path)
    parser.add_argument("overrides", nargs="*", help="of the specification, key=value")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--at-once", type=int, default=1, help="seeds, each on one thread")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)  # a seed and a system: what this script starts itself
    arguments = parser.parse_args()
    if arguments.job:
        job(arguments, arguments.out / arguments.name / f"seed-{arguments.job[0]}", *arguments.job)
        return
    with ThreadPoolExecutor(arguments.at_once) as pool:
        list(pool.map(lambda seed: one_seed(arguments, seed), arguments.seeds))
    figures = [figure for folder in sorted(arguments.out.iterdir()) if folder.is_dir() for figure in of_set(folder)]
    sys.exit(0 if report(figures, RESULTS, ["vector-quantize-pytorch", "timm"]) else 1)


def one_seed(arguments: argparse.Namespace, seed: int) -> None:
    """Every system, one after the other: the first says how long the others may take."""
    folder = arguments.out / arguments.name / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    content = specification(arguments, seed)
    write_bytes(folder / "spec.yaml", json.dumps(content, indent=1).encode())  # JSON is YAML
    if not (folder / "ours" / "tokenizer").exists():
        command = [sys.executable, str(ROOT / "tokenizers" / "train.py"), str(folder / "spec.yaml"), str(folder / "ours")]
        run(command, folder / "train.log", folder / "seconds.json")
    for system in (OURS, *RIVALS):
        if not (folder / f"{system}.json").exists():
            own = [str(getattr(arguments, name)) for name in ("out", "name", "spec", "train", "held_out")]
            command = [sys.executable, __file__, *own, *arguments.overrides, "--job", str(seed), system]
            run(command, folder / f"{system}.log")
    sheet(folder)


def specification(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """SPEC.yaml with these data and this seed. What is held out is measured here."""
    spec = load_config(arguments.spec, TokenizerSpec, arguments.overrides).root
    if not isinstance(spec, ImageSpec) or spec.tokenizer is None:
        sys.exit(f"{arguments.spec}: expected the specification of a new image tokenizer")
    content = spec.model_dump(mode="json", exclude_unset=True)
    content |= {"data": [str(arguments.train)], "held_out": None}
    for stage in content["stages"].values():
        stage["fit"]["run"] = {**stage["fit"].get("run", {}), "seed": seed}
    return content


def run(command: Sequence[str], log: Path, spent: Path | None = None) -> None:
    """A command on one thread; the seconds of a processor that it takes are added to those in `spent` as they pass, so that a
    training that was cut off and goes on counts whole."""
    import psutil

    before = read_json(spent, DataError)["seconds"] if spent and spent.exists() else 0.0
    with open(log, "ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "OMP_NUM_THREADS": "1"})
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            if spent:
                try:
                    times = seen.cpu_times()
                    write_json(spent, {"seconds": before + times.user + times.system})
                except psutil.Error:
                    pass
            time.sleep(2)
    if process.returncode:
        sys.exit(f"{log}: {Path(command[1]).name} ended with exit code {process.returncode}")


def job(arguments: argparse.Namespace, folder: Path, seed: str, system: str) -> None:
    """Train a rival, or take ours; measure it, and write SYSTEM.json and SYSTEM.png."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    spec = cast(ImageSpec, load_config(folder / "spec.yaml", TokenizerSpec).root)
    config = cast(ImageTokenizerConfig, spec.tokenizer)
    seconds = read_json(folder / "seconds.json", DataError)["seconds"]
    data = Data(spec, arguments.held_out, folder.parent)
    measured = ours(data, folder, seconds, int(seed)) if system == OURS else rival(data, folder, system, seconds, int(seed))
    figures, drawn = measured
    figures |= {"bits a picture": config.figures.bits, "CPU minutes": seconds / 60}
    if system == OURS:
        rows(folder / "pictures.png", data.shown, np.broadcast_to(data.floors.mean, data.shown.shape), data.floors.nearest)
    rows(folder / f"{system}.png", drawn)
    write_json(folder / f"{system}.json", figures)


class Data:
    """Held-out pictures `shown` uint8 [n, side, side, 3] with their `names`, training pictures `known` with theirs; floors."""

    def __init__(self, spec: ImageSpec, held_out: Path, folder: Path) -> None:
        from mmpt.evaluation.metrics.picture_floors import floors
        from mmpt.evaluation.metrics.picture_judge import PictureJudge

        self.spec, self.config = spec, cast(ImageTokenizerConfig, spec.tokenizer)
        parts = [part for document in DocumentShards(held_out) for part in document.parts if isinstance(part, ImagePart)]
        self.names = [part.alt for part in parts]
        self.shown = np.stack([picture_bytes(decode_image(part.data), self.config.side, self.config.aspect) for part in parts])
        self.judge = PictureJudge(spec.gates.judge, self.config.side)
        self.known, self.known_names = self._known(folder)
        self.floors = floors(self.shown, zip(self.known, self.known_names, strict=True))

    def _known(self, folder: Path) -> tuple[np.ndarray, list[str]]:
        from mmpt.evaluation.training_pictures import training_pictures

        side, aspect, examples = self.config.side, self.config.aspect, self.spec.examples
        file = folder / f"known-{side}-{aspect}-{examples}.npz"  # decoded once: seven passes read them
        if not file.exists():
            pairs = list(training_pictures(self.spec.data, sys.maxsize, side, aspect, examples))
            buffer = io.BytesIO()
            np.savez(buffer, pictures=np.stack([one for one, _ in pairs]), names=np.array([name for _, name in pairs]))
            write_bytes(file, buffer.getvalue())
        with np.load(file) as found:
            return found["pictures"], found["names"].tolist()


def ours(data: Data, folder: Path, seconds: float, seed: int) -> tuple[dict[str, float], np.ndarray]:
    import torch
    from rivals import parameters

    from mmpt.evaluation.metrics.image_tokenizer import evaluate_image_tokenizer, stacked
    from mmpt.tokenizers.image.tokenizer import ImageTokenizer

    tokenizer = ImageTokenizer.load(folder / "ours" / "tokenizer")
    shown = [Image.fromarray(one) for one in data.shown]
    known = zip(data.known, data.known_names, strict=True)
    found = evaluate_image_tokenizer(tokenizer, shown, data.names, None, data.spec.gates.judge, known)
    begin = time.process_time()
    codes = tokenizer.encode([Image.fromarray(one) for one in data.known])
    each = (time.process_time() - begin) / len(codes)
    with torch.inference_mode():
        book = tokenizer.entries().flatten(0, 1).numpy()
    figures = {**found.figures, **headed(data, book, codes, found.codes, seconds, seed), ENCODING: 1000 * each}
    figures["R@1 from codes"] = figures.get(f"codes, {R1}", figures["R@1 from codes, by the same head"])
    drawing = [tokenizer.tower, tokenizer.qformer, tokenizer.down, tokenizer.quantizer, tokenizer.decoder]
    return {**figures, "parameters, M": parameters(drawing) / 1e6}, stacked(tokenizer.decode(found.codes))


def rival(data: Data, folder: Path, system: str, seconds: float, seed: int) -> tuple[dict[str, float], np.ndarray]:
    import torch
    from rivals import RIVALS as MODELS
    from rivals import learn, parameters

    from mmpt.evaluation.metrics.image_tokenizer import looks
    from mmpt.tokenizers.codebook_health import code_counts, codebook_health
    from mmpt.tokenizers.image.batches import picture_batches
    from mmpt.training.ahead import ahead
    from mmpt.training.distributed import World
    from mmpt.training.examples import pictures

    spec, config, fit = data.spec, data.config, next(iter(data.spec.stages.given.values())).fit
    model = MODELS[system](config)
    examples = pictures(spec.data, config, spec.examples, folder / system, World(0, 1, torch.device("cpu")), spec.cache_mib)
    with ahead(picture_batches(examples, int(examples.sizes.max()), config, fit)) as batches:
        steps = learn(model, batches, seconds, RATE)
    begin = time.process_time()
    codes = model.encode(data.known)
    each = (time.process_time() - begin) / len(codes)
    shown = model.encode(data.shown)
    drawn = model.decode(shown)
    figures = looks(data.judge, data.shown, drawn, data.floors)
    health = codebook_health(code_counts(torch.from_numpy(shown), len(model.vectors())))
    figures |= {"codes_used": health["used"], "entropy": health["entropy"], "steps": float(steps), ENCODING: 1000 * each}
    figures |= headed(data, model.vectors(), codes, shown, seconds, seed)
    figures["R@1 from codes"] = figures["R@1 from codes, by the same head"]
    return {**figures, "parameters, M": parameters([model]) / 1e6}, drawn


def headed(data: Data, book: np.ndarray, codes: np.ndarray, shown: np.ndarray, seconds: float, seed: int) -> dict[str, float]:
    from code_head import recalls_by_head

    found = recalls_by_head(book, codes, data.known_names, shown, data.names, data.config.captions, seconds, seed)
    return {"R@1 from codes, by the same head": found[R1], "R@mean from codes, by the same head": found["R@mean"]}


def of_set(folder: Path) -> list[Figure]:
    """The figures of one set, means over the seeds that are finished, and what ours must beat."""
    from mmpt.evaluation.metrics.image_gates import gate_figures

    seeds = [one for one in sorted(folder.glob("seed-*")) if all((one / f"{system}.json").exists() for system in (OURS, *RIVALS))]
    if not seeds:
        return []
    found = {system: [read_json(one / f"{system}.json", DataError) for one in seeds] for system in (OURS, *RIVALS)}
    means = {system: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} for system, rows in found.items()}
    own, spec = means[OURS], cast(ImageSpec, load_config(seeds[0] / "spec.yaml", TokenizerSpec).root)
    figures = [Figure(f"seeds: {folder.name}, {OURS}", len(seeds)), Figure(f"held out: {folder.name}, {OURS}", own["pictures"])]
    for key in TOLD:
        figures += [Figure(f"{key}: {folder.name}, {system}", row[key]) for system, row in means.items() if key in row]
    floors = {"raw pixels": (f"embeddings, {R1}", f"raw pixels, {R1}")}
    figures += [Figure(f"{key}: {folder.name}, {floor}", own[value]) for floor, (key, value) in floors.items() if value in own]
    for floor in ("the nearest training picture", "the mean picture"):
        figures += [Figure(f"{key}: {folder.name}, {floor}", own[f"{key} of {floor}"]) for key in ("PSNR", "feature distance")]
    for system in RIVALS:
        for key, scale, bar in (("R@1 from codes", 100, 0.01), ("PSNR", 1, 0.0)):
            apart = [scale * (a[key] - b[key]) for a, b in zip(found[OURS], found[system], strict=True)]
            name = f"{key} above {system}{', points' if scale > 1 else ', dB'}"
            figures += [Figure(f"{name}: {folder.name}", float(np.mean(apart)), bar)]
            figures += [Figure(f"{name}, the least of the seeds: {folder.name}", min(apart))]
    judge = "the judge"
    figures += [
        Figure(f"{one.name}: {folder.name}", one.value, one.bar, one.at_most) for one in gate_figures(own, spec.gates, judge)
    ]
    return [*figures, Figure(f"CPU minutes of a training: {folder.name}", own["CPU minutes"], MINUTES, at_most=True)]


def rows(path: Path, *groups: np.ndarray) -> None:
    """A row for each group: as many of its pictures as are shown, evenly over all."""
    chosen = np.linspace(0, len(groups[0]) - 1, SHOWN).round().astype(int)
    image = Image.new("RGB", (SHOWN * SHOWN_SIDE, len(groups) * SHOWN_SIDE))
    for row, group in enumerate(groups):
        for column, number in enumerate(chosen):
            small = Image.fromarray(group[number]).resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
            image.paste(small, (column * SHOWN_SIDE, row * SHOWN_SIDE))
    image.save(path)


def sheet(folder: Path) -> None:
    """Held-out pictures, the mean and the nearest training pictures, and what each system draws, row by row."""
    parts = [Image.open(folder / f"{name}.png") for name in ("pictures", OURS, *RIVALS)]
    names = ["held out", "mean picture", "nearest training picture", OURS, *RIVALS]
    image = Image.new("RGB", (180 + parts[0].width, sum(part.height for part in parts)), "white")
    draw, top = ImageDraw.Draw(image), 0
    for part in parts:
        image.paste(part, (180, top))
        top += part.height
    for row, name in enumerate(names):
        draw.text((6, row * SHOWN_SIDE + SHOWN_SIDE // 2), name, fill="black")
    image.save(folder / "sheet.png")


if __name__ == "__main__":
    main()
