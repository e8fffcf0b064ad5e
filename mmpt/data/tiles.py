"""A picture of any aspect as tiles of one size: which grid fits it, what each tile is called, and the cutting."""

from typing import Literal, NamedTuple

import pydantic
from PIL import Image

from mmpt.config import Schema

THUMBNAIL_TAG = "<tile_global_thumbnail>"


class Grid(NamedTuple):
    """So many tiles from left to right, and from top to bottom."""

    columns: int
    rows: int


class Tiles(Schema):
    """A picture as the grid of square tiles that fits its aspect best, each of which the encoder sees on its own (InternVL 1.5,
    Chen et al. 2024, arXiv:2404.16821; NVLM, Dai et al. 2024, arXiv:2409.11402)."""

    max: int = pydantic.Field(default=6, ge=1, le=64)
    """Tiles of a picture at most."""
    thumbnail: bool = True
    """Behind the tiles the whole picture as one more, where there is more than one."""
    tags: Literal["numbers", "places"] | None = None
    """Text in front of each tile's rows. numbers: `<tile_1>`, …; places: `<tile_x0_y0>`, …; both `<tile_global_thumbnail>` in
    front of the whole picture (NVLM, section 4.2); null: none."""

    def grid(self, width: int, height: int, side: int) -> Grid:
        """The grid for a picture of `width` × `height` pixels and tiles of `side`: of all with at most `max` tiles the one whose
        aspect is nearest, and among those of one aspect the largest that the picture would fill by more than half with its own
        pixels."""
        aspect = width / height
        grids = [Grid(c, r) for c in range(1, self.max + 1) for r in range(1, self.max // c + 1)]
        best = grids[0]
        for one in sorted(grids, key=lambda grid: (grid.columns * grid.rows, grid.columns)):
            nearer = abs(aspect - one.columns / one.rows) - abs(aspect - best.columns / best.rows)
            larger = width * height > 0.5 * side**2 * one.columns * one.rows
            if nearer < 0 or (nearer == 0 and larger):
                best = one
        return best

    def names(self, grid: Grid) -> list[str]:
        """The tag of each tile, row by row, and of the thumbnail; "" where there are no tags."""
        whole = self.thumbnail and grid != (1, 1)
        if self.tags is None:
            return [""] * (grid.columns * grid.rows + whole)
        if grid == (1, 1):
            return [THUMBNAIL_TAG]
        places = [(x, y) for y in range(grid.rows) for x in range(grid.columns)]
        if self.tags == "numbers":
            found = [f"<tile_{number + 1}>" for number in range(len(places))]
        else:
            found = [f"<tile_x{x}_y{y}>" for x, y in places]
        return found + [THUMBNAIL_TAG] * whole

    def cut(self, picture: Image.Image, side: int) -> list[Image.Image]:
        """The tiles row by row, `side` × `side` each, and the whole picture for the thumbnail; where there is one tile, the
        picture itself."""
        grid = self.grid(*picture.size, side)
        if grid == (1, 1):
            return [picture]
        large = picture.resize((grid.columns * side, grid.rows * side), Image.Resampling.BICUBIC)
        corners = [(x * side, y * side) for y in range(grid.rows) for x in range(grid.columns)]
        return [large.crop((x, y, x + side, y + side)) for x, y in corners] + [picture] * self.thumbnail
