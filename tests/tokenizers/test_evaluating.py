"""A model is used in eval mode and given back as it was."""

import pytest
import torch
from torch import nn

from mmpt.tokenizers.evaluating import evaluating


def test_each_part_gets_its_own_mode_back():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4)), nn.Linear(4, 4))
    model.train()
    model[1].eval()  # frozen: it stays so while the others learn
    before = [module.training for module in model.modules()]
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not model(torch.ones(2, 4)).requires_grad
        raise KeyError
    assert [module.training for module in model.modules()] == before and True in before and False in before
    assert model[2](torch.ones(2, 4)).requires_grad
