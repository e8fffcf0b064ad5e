"""What the benches on pictures share: drawn scenes and garments as shards, and what a picture shows.

Scenes: 5,220 combinations of two shapes, a tenth of them held out: at random, once for choosing (the ablations, and whatever
was tried for the specifications) and once more for the figures that are given. Garments: tiles of Fashion-MNIST, every fifth
held out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import digits
import numpy as np
import yaml
from PIL import Image as Pillow
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mmpt.data.build import BuildConfig, build
from mmpt.data.engine.run import RunConfig
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.data.synthetic import scenes
from mmpt.document import Document, Image, Text
from mmpt.media import decode_image, encode_png
from mmpt.progress import progress_bars
from mmpt.storage import MANIFEST

GARMENTS = digits.ROOT.parent / "shared" / "data" / "garments" / "sprite.png"
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


KINDS = ("scenes", "garments")
Reader = Callable[[Pillow.Image], str]


def shards(kind: str, runs: Path) -> tuple[Path, Path]:
    """Document shards to train on and to test on; made in `runs` where they are not there yet."""
    make = {"scenes": scene_shards, "garments": garment_shards}[kind]
    return make(runs / f"{kind}-train", test=False), make(runs / f"{kind}-test", test=True)


def specification(kind: str, train: Path) -> dict:
    """tokenizers/image_seed_scenes.yaml or image_seed_garments.yaml with these data."""
    text = (digits.ROOT / "tokenizers" / f"image_seed_{kind}.yaml").read_text(encoding="utf-8")
    return {**yaml.safe_load(text), "data": [str(train)]}


def scene_shards(out: Path, *, test: bool, choosing: bool = False) -> Path:
    """Scenes of one split in `out`, two pictures of each to train on, one to test; made where they are not there yet.

    `choosing` takes the combinations that were held out while the specifications were being chosen.
    """
    if not (out / MANIFEST).exists():
        chosen = scenes.split_scenes(0.1, 0 if choosing else 1)[int(test)]
        with ShardWriter(out, built={"by": "tokenizers/benches/pictures.py"}) as writer:
            for number, scene in enumerate(chosen if test else chosen * 2):
                drawn = scenes.draw(scene, 1_000_000 * test + number)
                part = Image(encode_png(drawn), "png", drawn.width, drawn.height, alt=scene.caption())
                writer.write(Document(f"scenes/{number}", "scenes", (Text(scene.caption()), part)))
    return out


def garment_shards(out: Path, *, test: bool, variants: int = 8) -> Path:
    """Garments of one split in `out`, with `variants` of each to train on; made where they are not there yet."""
    if not (out / MANIFEST).exists():
        split = {"split": "test", "variants": 1} if test else {"split": "train", "variants": variants}
        source = {"kind": "sprites", "file": str(GARMENTS), "classes": CLASSES, "tile": 28, "license": "MIT", **split}
        with progress_bars() as progress:
            build(BuildConfig(sources=[source]), out, RunConfig(processes=1), progress, out.name)
    return out


def pictures_of(shards: Path) -> tuple[list[Pillow.Image], list[str]]:
    """All pictures and their captions."""
    parts = [part for document in DocumentShards(shards) for part in document.parts if isinstance(part, Image)]
    return [decode_image(part.data) for part in parts], [part.alt for part in parts]


def attributes(caption: str) -> tuple[str, ...]:
    """Of a scene's caption its eight attributes; of another its whole."""
    scene = scenes.read_caption(caption)
    if scene is None:
        return (caption,)
    items = [value for item in (scene.first, scene.second) for value in (item.size, item.color, item.shape)]
    return (*items, scene.relation, scene.background)


def accuracy(drawn: Sequence[Pillow.Image], captions: Sequence[str], reader: Reader) -> float:
    """Share of the captions' attributes that are read right in the `drawn` pictures."""
    scores = []
    for picture, caption in zip(drawn, captions, strict=True):
        wanted, seen = attributes(caption), attributes(reader(picture))
        scores.append(np.mean([a == b for a, b in zip(wanted, seen, strict=True)]) if len(seen) == len(wanted) else 0.0)
    return float(np.mean(scores))


def probe(train: np.ndarray, train_names: Sequence[str], test: np.ndarray, test_names: Sequence[str]) -> float:
    """Accuracy of linear classifiers on features [n, …], the mean over the attributes of the captions."""
    train, test = train.reshape(len(train), -1), test.reshape(len(test), -1)
    labels = [np.array([attributes(name) for name in names]) for names in (train_names, test_names)]
    scores = []
    for column in range(labels[0].shape[1]):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        scores.append(classifier.fit(train, labels[0][:, column]).score(test, labels[1][:, column]))
    return float(np.mean(scores))


def classifier(pictures: Sequence[Pillow.Image], names: Sequence[str]) -> Reader:
    """Names a picture by its pixels: a support vector machine with a radial kernel, trained on real ones."""
    model = SVC(C=5.0, gamma="scale").fit(np.stack([_grey(picture) for picture in pictures]), list(names))
    return lambda picture: str(model.predict(_grey(picture)[None])[0])


def _grey(picture: Pillow.Image) -> np.ndarray:
    small = picture.convert("L").resize((28, 28), Pillow.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float32).reshape(-1) / 255
