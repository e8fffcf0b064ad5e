"""What tells drawn pictures from real ones, and the game that it shares with the discriminators of sound."""

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.tokenizers.adversaries import Judges, adaptive_weight
from mmpt.tokenizers.image.adversary import Adversary, PatchDiscriminator
from mmpt.tokenizers.image.stage_config import AdversaryConfig, DrawConfig
from mmpt.tokenizers.image.stages import DrawStage

from .tiny_stages import batch, tokenizer


class _Sum(nn.Module):
    """Judges by w · the mean."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.w * x.mean(dim=1, keepdim=True), [x]


def test_the_hinge_is_its_definition_and_teaches_each_side_its_own():
    judges = Judges([_Sum()], "hinge")
    made = torch.tensor([[0.2, 0.4], [-3.0, -1.0]], requires_grad=True)
    real = torch.tensor([[1.0, 1.0], [0.0, 0.2]])
    found = judges.judged(made, real)
    # Judgements: real 2 and 0.2, made 0.6 and −4. Real below 1: 0 and 0.8; made above −1: 1.6 and 0.
    torch.testing.assert_close(found.told, torch.tensor((0.4 + 0.8) / 2))
    torch.testing.assert_close(found.fooled, torch.tensor(1.7))
    assert torch.autograd.grad(found.told, made, retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(found.fooled, judges.each[0].w, retain_graph=True, allow_unused=True) == (None,)
    torch.testing.assert_close(torch.autograd.grad(found.fooled, made)[0], torch.full((2, 2), -0.5))  # −w ÷ 4


def test_the_adaptive_weight_is_the_ratio_of_gradients():
    last = torch.tensor([3.0, 4.0], requires_grad=True)
    weight = adaptive_weight((last**2).sum(), 5 * last[0], last)  # gradients (6, 8) and (5, 0)
    torch.testing.assert_close(weight, torch.tensor(2.0))
    assert not weight.requires_grad


def test_the_discriminator_sees_patches_of_34_pixels():
    """Two layers that halve, one that does not and the last: 1 → 4 → 7 → 16 → 34 (Isola et al. 2016)."""
    torch.manual_seed(0)
    model = PatchDiscriminator(8, 2)
    model.norms = nn.ModuleList(nn.Identity() for _ in model.norms)  # which know of the whole picture
    pixels = torch.randn(1, 3, 64, 64, requires_grad=True)
    side = round(model(pixels)[0].shape[1] ** 0.5)
    middle = model(pixels)[0].view(side, side)[side // 2, side // 2]
    (seen,) = torch.autograd.grad(middle, pixels)
    rows = seen[0].abs().sum(dim=(0, 2)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 34


def test_it_sets_in_late_and_is_no_part_of_the_tokenizer():
    model = tokenizer(side=32, decoder={"patch": 4, "width": 16, "depth": 0, "heads": 2})
    model.quantizer.train()
    shown = batch()
    shown = shown._replace(pixels=F.interpolate(shown.pixels, 32))
    model.quantize(model.states(shown.pixels)[1])
    names = set(model.state_dict())
    stage = DrawStage(model, DrawConfig(adversary=AdversaryConfig(channels=8, layers=1, start=0.5, features=1.0))).train()
    assert set(stage.loss(shown, 0.4)) == {"pixels"}
    terms = stage.loss(shown, 0.6)
    assert set(terms) == {"pixels", "adversary", "fooling", "fooling_weight", "features"}
    assert set(model.state_dict()) == names
    # As long as asked for: half of the gradient of the pixels at the last layer.
    last = model.decoder.coarse.last
    lengths = {}
    for name in ("pixels", "fooling"):
        term = terms[name]
        (gradient,) = torch.autograd.grad(term.weight * term.total / term.count, last, retain_graph=True)
        lengths[name] = gradient.norm()
    torch.testing.assert_close(lengths["fooling"], lengths["pixels"] / 2, rtol=1e-3, atol=0)


def test_it_learns_to_tell_noise_from_pictures():
    torch.manual_seed(0)
    adversary = Adversary(AdversaryConfig(channels=8, layers=1))
    optimizer = torch.optim.AdamW(adversary.parameters(), 3e-3)
    real, last = batch().pixels, nn.Parameter(torch.ones(()))
    for _ in range(30):
        made = last * torch.randn_like(real)
        told = adversary.terms(made, real, made.square().mean(), last)["adversary"]
        optimizer.zero_grad()
        (told.total / told.count).backward()
        optimizer.step()
    assert float((told.total / told.count).detach()) < 0.5
