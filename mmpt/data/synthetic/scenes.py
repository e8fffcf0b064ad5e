"""Drawn scenes: two coloured shapes in a spatial relation on a background, with a caption; and the way back from pixels.

Every caption determines its picture up to a pixel of jitter, and every picture its caption (the left or upper shape is named
first), so that reading and drawing can be scored exactly and without any trained judge.
"""

import itertools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

COLORS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (240, 210, 40), "purple": (150, 60, 180)}
BACKGROUNDS = {"white": (250, 250, 250), "gray": (150, 150, 150), "black": (15, 15, 15)}
SHAPES = ("circle", "square", "triangle")
SIZES = {"small": 9, "large": 13}
RELATIONS = {"left of": (1, 0), "above": (0, 1)}  # the step from the first shape to the second
_ITEM = f"a ({'|'.join(SIZES)}) ({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"
_CAPTION = re.compile(f"{_ITEM} ({'|'.join(RELATIONS)}) {_ITEM} on ({'|'.join(BACKGROUNDS)})")
SIDE = 64
_GAP = 16


@dataclass(frozen=True)
class Item:
    """One shape of a scene."""

    size: str
    color: str
    shape: str


@dataclass(frozen=True)
class Scene:
    """`first` stands in `relation` to `second`: "left of" or "above"."""

    first: Item
    relation: str
    second: Item
    background: str

    def caption(self) -> str:
        """The scene in words, such as "a small red circle above a large blue square on gray"."""
        one, two = (f"a {item.size} {item.color} {item.shape}" for item in (self.first, self.second))
        return f"{one} {self.relation} {two} on {self.background}"


def all_scenes() -> list[Scene]:
    """Every scene whose two shapes differ, in a fixed order."""
    items = [Item(*values) for values in itertools.product(SIZES, COLORS, SHAPES)]
    pairs = [(one, two) for one, two in itertools.product(items, items) if one != two]
    rest = itertools.product(pairs, RELATIONS, BACKGROUNDS)
    return [Scene(one, relation, two, background) for (one, two), relation, background in rest]


def split_scenes(held_out: float, seed: int) -> tuple[list[Scene], list[Scene]]:
    """All scenes, shuffled, as (training, held out)."""
    scenes = all_scenes()
    order = np.random.default_rng(seed).permutation(len(scenes))
    test = round(held_out * len(scenes))
    return [scenes[i] for i in order[test:]], [scenes[i] for i in order[:test]]


def draw(scene: Scene, seed: int) -> Image.Image:
    """The scene as an RGB picture of `SIDE` × `SIDE` pixels; `seed` moves each shape by up to 1 pixel."""
    scale = 4
    picture = Image.new("RGB", (SIDE * scale, SIDE * scale), BACKGROUNDS[scene.background])
    brush = ImageDraw.Draw(picture)
    for item, center in _centers(scene, seed):
        x, y = center * scale
        r = SIZES[item.size] * scale
        color = COLORS[item.color]
        if item.shape == "circle":
            brush.ellipse((x - r, y - r, x + r, y + r), fill=color)
        elif item.shape == "square":
            brush.rectangle((x - r, y - r, x + r, y + r), fill=color)
        else:
            brush.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=color)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def boxes(scene: Scene, seed: int) -> list[tuple[str, tuple[float, float, float, float]]]:
    """(what it is, (left, top, right, bottom) in pixels) of each shape as `draw` draws it."""
    found = []
    for item, (x, y) in _centers(scene, seed):
        r = SIZES[item.size]
        corners = (float(x) - r, float(y) - r, float(x) + r, float(y) + r)
        found.append((f"a {item.size} {item.color} {item.shape}", corners))
    return found


def _centers(scene: Scene, seed: int) -> list[tuple[Item, np.ndarray]]:
    """Each shape with its place (x, y) in pixels, of `SIDE`."""
    random = np.random.default_rng(seed)
    along = np.array(RELATIONS[scene.relation])
    sides = ((scene.first, -1), (scene.second, 1))
    return [(item, SIDE / 2 + side * along * _GAP + random.uniform(-1, 1, 2)) for item, side in sides]


def read_caption(text: str) -> Scene | None:
    """The scene that a caption describes, or None where it follows no caption's form."""
    found = _CAPTION.fullmatch(" ".join(text.lower().split()))
    if not found:
        return None
    groups = found.groups()
    return Scene(Item(*groups[0:3]), groups[3], Item(*groups[4:7]), groups[7])


def read_picture(picture: Image.Image) -> Scene | None:
    """The scene in a picture by plain image analysis (nearest palette colour, connected components), or None.

    Background: the palette colour nearest to the border's median. Shapes: the two largest components of pixels far from the
    background. Colour: nearest to the component's median. Size and shape: the ideal outline, laid on the component's centre of
    mass, that differs least from it.
    """
    from scipy import ndimage  # half a second that drawing does not need

    pixels = np.asarray(picture.convert("RGB").resize((SIDE, SIDE)), dtype=np.float32)
    border = np.ones((SIDE, SIDE), dtype=bool)
    border[2:-2, 2:-2] = False
    background = _nearest(np.median(pixels[border], axis=0), BACKGROUNDS)
    if background is None:
        return None
    back = np.array(BACKGROUNDS[background], dtype=np.float32)
    inside = np.linalg.norm(pixels - back, axis=-1) > 55
    labelled: Any = ndimage.label(inside)  # its stubs leave out that it is a pair without an output given
    labels, count = labelled
    areas: Any = ndimage.sum_labels(inside, labels, np.arange(1, count + 1))
    if count < 2:
        return None
    found = []
    for label in np.argsort(-areas)[:2] + 1:
        mask = labels == label
        core: Any = ndimage.binary_erosion(mask, iterations=2)
        median = np.median(pixels[core if core.any() else mask], axis=0)
        step = median - back
        coverage = ((pixels - back) @ step / (step @ step)).clip(0, 1) * ndimage.binary_dilation(mask, iterations=2)
        if coverage.sum() < 40:
            return None
        color = _nearest(median, COLORS)
        if color is None:
            return None
        center = np.array(ndimage.center_of_mass(coverage)[::-1])
        size, shape = min(itertools.product(SIZES, SHAPES), key=lambda kind: np.square(_coverage(*kind, center) - coverage).sum())
        found.append((Item(size, color, shape), center))
    offset = found[1][1] - found[0][1]
    relation = "left of" if abs(offset[0]) > abs(offset[1]) else "above"
    first, second = (item for item, _ in sorted(found, key=lambda pair: pair[1] @ RELATIONS[relation]))
    return Scene(first, relation, second, background)


def _coverage(size: str, shape: str, center: np.ndarray) -> np.ndarray:
    """How much of each pixel an ideal shape covers, [SIDE, SIDE] in 0 … 1, its centre of mass at `center` (x, y)."""
    r = SIZES[size]
    y, x = np.mgrid[:SIDE, :SIDE] - center[::-1, None, None]
    if shape == "circle":
        distances = [r - np.hypot(x, y)]
    elif shape == "square":
        distances = [r - np.abs(x), r - np.abs(y)]
    else:
        middle = y + r / 3  # a triangle's centre of mass lies a third of r below the middle of its height
        distances = [r - middle, (middle + r - 2 * np.abs(x)) / np.sqrt(5)]
    return np.prod([(distance + 0.5).clip(0, 1) for distance in distances], axis=0)


def _nearest(color: np.ndarray, palette: dict[str, tuple[int, int, int]], limit: float = 90.0) -> str | None:
    name = min(palette, key=lambda candidate: np.linalg.norm(color - palette[candidate]))
    return name if np.linalg.norm(color - palette[name]) < limit else None
