"""Fused norm, activation and rotary embedding inside a transformers model, module by module.

Classes and the names of the weights stay Hugging Face's; what changes is the `forward` of single module objects, so another model
in the same process keeps its own. What a module computes is looked at, not guessed from its name alone: one whose result differs
from the kernel's is left as it is.
"""

import inspect
import sys
import types
from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel

from mmpt.kernels.choose import Kernel
from mmpt.kernels.rms_norm import rms_norm
from mmpt.kernels.rope import rope
from mmpt.kernels.swiglu import swiglu

ROTATION = "apply_rotary_pos_emb"
TOLERANCE = 1e-5


def use_fused(model: PreTrainedModel, kernel: Kernel = "auto") -> dict[str, int]:
    """Give every RMSNorm, gated SiLU MLP and rotary attention of `model` the fused kernel; how many of each were given it.

    The model computes the same function to rounding. Raises `ValueError` where a named kernel cannot run on the model's weights,
    or finds none of the places that the model has for it.
    """
    found = {"rms_norm": [], "swiglu": [], "rope": []}
    for module in model.modules():
        for name, fuse in (("rms_norm", _fuse_norm), ("swiglu", _fuse_mlp), ("rope", _fuse_attention)):
            fused = fuse(module, kernel)
            found[name] += [] if fused is None else [fused]
    lost = [f"{name}: none of {len(places)} places" for name, places in found.items() if places and not any(places)]
    if kernel != "auto" and lost:
        raise ValueError(f"fused kernels cannot be put into {type(model).__name__}: {', '.join(lost)}")
    return {name: sum(places) for name, places in found.items()}


def _fuse_norm(module: nn.Module, kernel: Kernel) -> bool | None:
    """Of this function and its like: whether the kernel was put in, None where the module is nothing that it is meant for."""
    if not type(module).__name__.endswith("RMSNorm"):
        return None
    if [name for name, _ in module.named_parameters()] != ["weight"]:
        return False
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if eps is None:
        return False
    draw = torch.Generator().manual_seed(0)
    sample = torch.randn(4, len(module.weight), generator=draw).to(module.weight)
    for offset in (0.0, 1.0):  # 1 in Gemma

        def forward(self, hidden_states: torch.Tensor, offset: float = offset) -> torch.Tensor:
            return rms_norm(hidden_states, self.weight, eps, offset, kernel)

        if _same(module, forward, sample):
            module.forward = types.MethodType(forward, module)
            return True
    return False


def _fuse_mlp(module: nn.Module, kernel: Kernel) -> bool | None:
    if not all(isinstance(getattr(module, name, None), nn.Module) for name in ("gate_proj", "up_proj", "down_proj")):
        return None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x), kernel))

    weight = next(module.gate_proj.parameters())
    sample = torch.randn(4, module.gate_proj.in_features, generator=torch.Generator().manual_seed(0)).to(weight)
    if not _same(module, forward, sample):  # another activation
        return None
    module.forward = types.MethodType(forward, module)
    return True


def _fuse_attention(module: nn.Module, kernel: Kernel) -> bool | None:
    """transformers' attention calls a function of its file to rotate: this module's `forward` gets globals of its own, in which
    that name is the kernel."""
    if not type(module).__name__.endswith("Attention") or not hasattr(sys.modules[type(module).__module__], ROTATION):
        return None
    # Newer versions of transformers wrap it in decorators, which only rename arguments that are on their way out.
    function = inspect.unwrap(type(module).forward)
    code = getattr(function, "__code__", None)
    if code is None or ROTATION not in code.co_names or ROTATION not in function.__globals__:
        return False
    plain = function.__globals__[ROTATION]

    def rotate(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *rest, **options):
        usual = not rest and options.get("unsqueeze_dim", 1) == 1 and cos.shape[-1] == q.shape[-1] and q.shape[2] == k.shape[2]
        return rope(q, k, cos, sin, kernel) if usual else plain(q, k, cos, sin, *rest, **options)

    if not _rotates_alike(plain, rotate):
        return False
    own = types.FunctionType(
        code, {**function.__globals__, ROTATION: rotate}, function.__name__, function.__defaults__, function.__closure__
    )
    own.__kwdefaults__ = function.__kwdefaults__
    module.forward = types.MethodType(own, module)
    return True


def _rotates_alike(plain: Callable, fused: Callable) -> bool:
    draw = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, heads, 3, 8, generator=draw) for heads in (4, 2))
    cos, sin = torch.rand(2, 1, 3, 8, generator=draw)
    try:
        wanted, found = plain(query, key, cos, sin), fused(query, key, cos, sin)
    except (TypeError, ValueError, RuntimeError):
        return False
    return all(torch.allclose(one, other, atol=TOLERANCE) for one, other in zip(wanted, found, strict=True))


@torch.no_grad()
def _same(module: nn.Module, forward: Callable, sample: torch.Tensor) -> bool:
    wanted, found = module(sample).float(), forward(module, sample).float()
    tolerance = TOLERANCE if sample.dtype == torch.float32 else 0.05
    return bool((wanted - found).abs().max() <= tolerance * wanted.abs().max().clamp_min(1e-6))
