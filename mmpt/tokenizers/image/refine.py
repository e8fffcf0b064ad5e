"""Codes by what the decoder makes of them: analysis by synthesis."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

Draw = Callable[[torch.Tensor], torch.Tensor]
"""Vectors [B, queries, dim] → canvas [B, channels, side, side]."""

START, BETTER, WORSE = 2.0, 0.7, 1.6
"""What the curvature is multiplied by in the first round, and by how much more after one that helped and one that did not."""
LEG, SHAKEN = 10, 1 / 16
"""Rounds after which the search begins anew, and the share of the best codes so far that are then replaced by any."""


class Refiner(nn.Module):
    """Looks beside the encoder's codes for those of which the decoder draws the image more exactly; the codes of the first
    codebook, which captions are compared with, stay.

    What learned to encode a few thousand images is further from the best codes of others than its codebooks are coarse (the
    amortisation gap: Cremer et al. 2018, arXiv:1801.03558; of compression: Yang et al. 2020, arXiv:2006.04240), while the
    decoder can be asked: speech coders have long chosen codes by what is made of them (CELP, Schroeder and Atal 1985).

    The squared error is taken as quadratic around the codes so far: its gradient there and the mean of JᵀJ, J the decoder's
    Jacobian, over images (Gauss–Newton). That is lowered by one code after the other, each the best while all others stay
    (iterated conditional modes, as for additive quantisation: Babenko and Lempitsky 2014), and what is found is taken where it
    draws the image more exactly; else the curvature is taken as larger, and the changes become smaller (Levenberg–Marquardt).
    Every ten rounds it begins anew from the best codes so far, a few of them replaced (iterated local search, as in LSQ:
    Martinez et al. 2016).
    """

    curvature: torch.Tensor
    measured: torch.Tensor

    def __init__(self, queries: int, dim: int, rounds: int):
        super().__init__()
        self.dim, self.rounds = dim, rounds
        self.register_buffer("curvature", torch.zeros(queries * dim, queries * dim))
        self.register_buffer("measured", torch.zeros((), dtype=torch.bool))

    def measure(self, draw: Draw, vectors: Iterable[torch.Tensor]) -> None:
        """Take the curvature of `draw` at the `vectors` [B, queries, dim] of images' codes: of u of unit variance, (Jᵀu)(Jᵀu)ᵀ
        has the mean JᵀJ."""
        random, seen = torch.Generator().manual_seed(0), 0
        self.curvature.zero_()
        for some in vectors:
            with _gradients(some.device):
                at = some.detach().clone().requires_grad_()
                drawn = draw(at).float()
                along = torch.randn(drawn.shape, generator=random).to(drawn.device)
                rows = torch.autograd.grad(drawn, at, along)[0].flatten(1)
            self.curvature += rows.T @ rows
            seen += len(rows)
        self.curvature /= max(1, seen)
        self.measured.fill_(seen > 0)

    def forward(self, codes: torch.Tensor, entries: torch.Tensor, draw: Draw, canvas: torch.Tensor) -> torch.Tensor:
        """Codes [B, queries, books], each a row of its book's `entries` [books, size, dim], by which `draw` comes no less close
        to `canvas` [B, channels, side, side] than by `codes`. As they are before the curvature was measured."""
        if not self.measured:
            return codes
        random = torch.Generator().manual_seed(0)
        with _gradients(canvas.device):
            entries, canvas, best = entries.clone(), canvas.clone().float(), codes.clone()
            best, error = self._descend(best, entries, draw, canvas, min(LEG, self.rounds))
            for done in range(LEG, self.rounds, LEG):
                begin = _shaken(best, entries.shape[1], random)
                found, its_error = self._descend(begin, entries, draw, canvas, min(LEG, self.rounds - done))
                closer = its_error < error
                best, error = torch.where(closer[:, None, None], found, best), torch.where(closer, its_error, error)
        return best

    def _descend(
        self, codes: torch.Tensor, entries: torch.Tensor, draw: Draw, canvas: torch.Tensor, rounds: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The best codes of so many rounds from `codes`, and half their squared error [B]."""
        error, slope = _error(codes, entries, draw, canvas)
        scale = torch.full_like(error, START)
        for _ in range(rounds):
            found = self._sweep(codes, entries, slope / scale[:, None])
            its_error, its_slope = _error(found, entries, draw, canvas)
            closer = its_error < error
            codes = torch.where(closer[:, None, None], found, codes)
            error, slope = torch.where(closer, its_error, error), torch.where(closer[:, None], its_slope, slope)
            scale = scale * torch.where(closer, BETTER, WORSE)
        return codes, error

    @torch.no_grad()
    def _sweep(self, codes: torch.Tensor, entries: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        """Every code after those of the first book changed once, to what lowers the quadratic of `slope` [B, queries · dim]."""
        codes, slope = codes.clone(), slope.clone()
        for number, book in enumerate(entries[1:], 1):
            for query in range(codes.shape[1]):
                place = slice(query * self.dim, (query + 1) * self.dim)
                own, before = self.curvature[place, place], book[codes[:, query, number]]
                # slope·(e − b) + (e − b)ᵀC(e − b) / 2 of each entry e in place of b, but for what is the same for all.
                cost = torch.addmm(((book @ own) * book).sum(dim=1) / 2, slope[:, place] - before @ own, book.T)
                codes[:, query, number] = cost.argmin(dim=1)
                slope += (book[codes[:, query, number]] - before) @ self.curvature[place]
        return codes


def _error(codes: torch.Tensor, entries: torch.Tensor, draw: Draw, canvas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the squared difference of what is drawn of `codes` [B], and its slope in the vectors [B, queries · dim]."""
    vectors = sum_of(codes, entries).requires_grad_()
    error = (draw(vectors).float() - canvas).square().flatten(1).sum(dim=1) / 2
    return error.detach(), torch.autograd.grad(error.sum(), vectors)[0].flatten(1)


def _shaken(codes: torch.Tensor, size: int, random: torch.Generator) -> torch.Tensor:
    """`codes` [B, queries, books], some after the first book replaced: the same places of every image, whoever it is beside."""
    shape = codes.shape[1:]
    hit, other = torch.rand(shape, generator=random) < SHAKEN, torch.randint(0, size, shape, generator=random)
    hit[:, 0] = False
    return torch.where(hit.to(codes.device), other.to(codes.device), codes)


def sum_of(codes: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """The vectors [B, queries, dim] of codes [B, queries, books]: the sum of what they stand for."""
    books = torch.arange(len(entries), device=codes.device)
    return entries[books, codes].sum(dim=-2)


@contextmanager
def _gradients(device: torch.device) -> Iterator[None]:
    """Gradients in float32 also where one encodes, which is without gradients and perhaps in bfloat16."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield
