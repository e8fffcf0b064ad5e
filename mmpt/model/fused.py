"""Fused norm, activation and rotary embedding inside a transformers model, module by module.

Classes and the names of the weights stay Hugging Face's; what changes is the `forward` of single module objects, so another model
in the same process keeps its own. What a module computes is looked at, not guessed from its name alone: one whose result differs
from the kernel's is left as it is.
"""

import inspect
import sys
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.kernels.attention import why_not
from mmpt.kernels.choose import Kernel, why_not_triton
from mmpt.kernels.rms_norm import rms_norm
from mmpt.kernels.rope import rope
from mmpt.kernels.swiglu import swiglu
from mmpt.model.config import KernelsConfig
from mmpt.model.packed_attention import BACKEND

ROTATION = "apply_rotary_pos_emb"
TOLERANCE = 1e-5


Gather = Callable[[nn.Module], AbstractContextManager[object]]


def as_they_are(_: nn.Module) -> AbstractContextManager[object]:
    """For weights that are whole."""
    return nullcontext()


def use_kernels(
    model: PreTrainedModel,
    config: KernelsConfig,
    device: torch.device,
    compiled: bool = False,
    gather: Gather = as_they_are,
) -> dict[str, int]:
    """Give the modules of `model`, which lies on `device`, the kernels of `config`; how many places were given each.

    The model computes the same function to rounding. `compiled`: its MLPs are compiled, which fuses their activation as well.
    `gather`: while inside, a module's weights are whole, where ranks keep parts of them; every rank comes by the same modules.
    Raises `ConfigError` where a named kernel cannot run there, or the model has no place for it.
    """
    found = {}
    for name, fuse in (("norm", _fuse_norm), ("rope", _fuse_attention), ("swiglu", _fuse_mlp)):
        wanted = getattr(config, name)
        if wanted == "plain" or (wanted == "auto" and (device.type != "cuda" or (compiled and name == "swiglu"))):
            continue
        if wanted == "triton" and (reason := why_not_triton(torch.empty(0, device=device))):
            raise ConfigError(f"kernels.{name}: triton cannot run here: {reason}")
        places = [place for module in model.modules() if (place := fuse(module, wanted, gather)) is not None]
        if wanted != "auto" and not any(places):
            raise ConfigError(f"kernels.{name}: {wanted} fits none of {len(places)} places in {type(model).__name__}")
        found[name] = sum(places)
    if config.attention != "auto":
        found["attention"] = _use_backend(model, config, device)
    return found


def _use_backend(model: PreTrainedModel, config: KernelsConfig, device: torch.device) -> int:
    settings = model.config.get_text_config()
    width = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    # On a GPU training multiplies in bfloat16 (autocast or weights); float32 there has no fused back end, and is told in the run.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if reason := why_not(config.attention, torch.empty(1, 1, 1, width, dtype=dtype, device=device)):
        raise ConfigError(f"kernels.attention: {config.attention} cannot run here: {reason}")
    places = [module for module in model.modules() if type(module).__name__.endswith("Attention")]
    for module in places:
        setattr(module, BACKEND, config.attention)
    return len(places)


def _fuse_norm(module: nn.Module, kernel: Kernel, gather: Gather) -> bool | None:
    """Of this function and its like: whether the kernel was put in, None where the module is nothing that it is meant for."""
    if not type(module).__name__.endswith("RMSNorm"):
        return None
    if [name for name, _ in module.named_parameters()] != ["weight"]:
        return False
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if eps is None:
        return False
    with gather(module):
        weight = cast(nn.Parameter, module.weight)
        draw = torch.Generator().manual_seed(0)
        sample = torch.randn(4, len(weight), generator=draw).to(weight)
        for offset in (0.0, 1.0):  # 1 in Gemma

            def forward(self, hidden_states: torch.Tensor, offset: float = offset) -> torch.Tensor:
                return rms_norm(hidden_states, self.weight, eps, offset, kernel)

            if _same(module, forward, sample):
                module.forward = types.MethodType(forward, module)
                return True
    return False


def _fuse_mlp(module: nn.Module, kernel: Kernel, gather: Gather) -> bool | None:
    if not all(isinstance(getattr(module, name, None), nn.Module) for name in ("gate_proj", "up_proj", "down_proj")):
        return None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x), kernel))

    gate: Any = module.gate_proj
    weight = next(gate.parameters())
    sample = torch.randn(4, gate.in_features, generator=torch.Generator().manual_seed(0)).to(weight)
    with gather(module):
        if not _same(module, forward, sample):  # another activation
            return None
    module.forward = types.MethodType(forward, module)
    return True


def _fuse_attention(module: nn.Module, kernel: Kernel, _: Gather) -> bool | None:
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
    was_training = module.training
    module.eval()  # dropout of adapters inside would tell the two apart
    wanted, found = module(sample).float(), forward(module, sample).float()
    module.train(was_training)
    tolerance = TOLERANCE if sample.dtype == torch.float32 else 0.05
    return bool((wanted - found).abs().max() <= tolerance * wanted.abs().max().clamp_min(1e-6))
