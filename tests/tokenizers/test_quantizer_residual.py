"""Several codebooks one behind the other."""

import torch
import vector_quantize_pytorch

from mmpt.tokenizers.quantizers.ema import Ema
from mmpt.tokenizers.quantizers.residual import Residual


def test_residual_stages_come_nearer_and_survive_the_round_trip():
    torch.manual_seed(7)
    x = torch.randn(2000, 4)
    errors = []
    for stages in (1, 2, 4):
        quantizer = Residual(stages=stages, stage=Ema(codes=16, dim=4, decay=0.9)).build().train()
        for _ in range(30):
            quantizer(x)
        found = quantizer.eval()(x)
        errors.append(float((found.states - x).square().mean()))
        assert found.codes.shape == (2000, stages) and quantizer.config.codes == 16 * stages
        assert torch.equal(found.codes // 16, torch.arange(stages).expand(2000, -1))
        torch.testing.assert_close(quantizer.decode(found.codes), found.states)
        one = quantizer.stages[0](x)
        assert torch.equal(found.codes[:, 0], one.codes)
        if stages > 1:
            assert torch.equal(found.codes[:, 1] - 16, quantizer.stages[1](x - one.states).codes)
    assert errors[1] < 0.4 * errors[0] and errors[2] < 0.2 * errors[1]


def test_stages_begin_by_kmeans_of_what_the_stages_before_them_left():
    """And stay so where the entries of a stage do: the quantiser is as settled as its stages."""
    rows = torch.randn(600, 4, generator=torch.Generator().manual_seed(3))
    quantizer = Residual(stages=2, stage=Ema(codes=16, dim=4, decay=1)).build().train()
    assert quantizer.config.settled and not Residual(stages=2, stage=Ema(codes=16, dim=4)).settled
    quantizer.begin(rows)
    books = [stage.codebook.clone() for stage in quantizer.stages]
    left = rows
    for book in books:
        nearest = torch.cdist(left.double(), book.double()).argmin(dim=1)
        means = torch.stack([left[nearest == code].mean(dim=0) for code in range(16)])
        assert (means - book).square().mean() < 0.02 * left.square().mean()  # ten rounds of Lloyd are not all
        left = left - book[nearest]
    assert left.square().mean() < 0.35 * rows.square().mean()
    found = quantizer(2 * rows)
    assert all(torch.allclose(stage.codebook, book, atol=1e-6) for stage, book in zip(quantizer.stages, books, strict=True))
    torch.testing.assert_close(quantizer.decode(found.codes), found.states)


def test_a_residual_quantiser_agrees_with_a_reference():
    reference = vector_quantize_pytorch.ResidualVQ(dim=4, codebook_size=16, num_quantizers=3, decay=0.9, kmeans_init=False).eval()
    quantizer = Residual(stages=3, stage=Ema(codes=16, dim=4)).build().eval()
    for stage, layer in zip(quantizer.stages, reference.layers, strict=True):
        stage.codebook.copy_(layer._codebook.embed[0])
    x = torch.randn(5, 7, 4)
    states, codes, _ = reference(x)
    found = quantizer(x)
    assert torch.equal(found.codes - torch.tensor([0, 16, 32]), codes)
    torch.testing.assert_close(found.states, states)
