"""The optimizer's state by parameter name, so that it fits any number of ranks and any ZeRO stage that can hold it."""

import torch
from torch import Tensor

from mmpt.errors import CheckpointError

MOMENTS = ("exp_avg", "exp_avg_sq")


def optimizer_tensors(engine) -> dict[str, Tensor]:
    """`exp_avg/NAME`, `exp_avg_sq/NAME` and, under bf16, `master/NAME` (float32 weights) for each trained parameter, and `step`.

    Collective under ZeRO: every rank calls it, every rank gets all tensors, on the CPU. At least one step has been taken.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    _link(engine)
    inner = _adam(engine)
    tensors = {"step": next(iter(inner.state.values()))["step"].detach().cpu().float().reshape(1)}
    for name, parameter in _trained(engine):
        for key in MOMENTS:
            whole = safe_get_full_optimizer_state(parameter, key) if engine.zero_optimization() else inner.state[parameter][key]
            tensors[f"{key}/{name}"] = whole.cpu()
        if parameter.dtype != torch.float32:
            tensors[f"master/{name}"] = safe_get_full_fp32_param(parameter).cpu()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def restore_optimizer(engine, tensors: dict[str, Tensor], source: str) -> None:
    """Put what `optimizer_tensors` returned into a new engine; `source` stands for it in messages.

    Raises `CheckpointError` naming the parameters that are missing, surplus or of another shape.
    """
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    _check(engine, tensors, source)
    inner = _adam(engine)
    for group in inner.param_groups:
        for parameter in group["params"]:
            moments = {key: torch.zeros_like(parameter, memory_format=torch.preserve_format) for key in MOMENTS}
            inner.state[parameter] = {"step": tensors["step"].clone().squeeze().to(_step_device(inner, parameter)), **moments}
    _link(engine)
    for name, parameter in _trained(engine):
        for key in MOMENTS:
            value = tensors[f"{key}/{name}"].to(parameter.device)
            if engine.zero_optimization():
                safe_set_full_optimizer_state(parameter, value, key)
            else:
                inner.state[parameter][key].copy_(value)
        if parameter.dtype != torch.float32:
            safe_set_full_fp32_param(parameter, tensors[f"master/{name}"].to(parameter.device))


def _adam(engine) -> torch.optim.AdamW:
    return engine.optimizer.optimizer if engine.zero_optimization() else engine.optimizer


def _link(engine) -> None:
    """Tie each parameter to its part of ZeRO's flat optimizer state.

    DeepSpeed does so once, after the first group has taken its first step, when the state of the other groups is still empty.
    """
    from deepspeed.utils.mixed_precision_linkage import lazy_init_hp_params_optimizer_state

    if engine.zero_optimization():
        zero = engine.optimizer
        for parameters, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(parameters, flat, zero.optimizer.state)


def _trained(engine) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in engine.module.model.named_parameters() if parameter.requires_grad]


def _step_device(inner: torch.optim.AdamW, parameter: Tensor) -> torch.device:
    # torch keeps the counter on the parameter's device only for the fused and capturable updates
    return parameter.device if inner.defaults["fused"] else torch.device("cpu")


def _check(engine, tensors: dict[str, Tensor], source: str) -> None:
    expected = {"step": (1,)}
    for name, parameter in _trained(engine):
        keys = (*MOMENTS, "master") if parameter.dtype != torch.float32 else MOMENTS
        expected |= {f"{key}/{name}": tuple(parameter.shape) for key in keys}
    problems = [f"{name}: missing" for name in expected if name not in tensors]
    problems += [f"{name}: not a trained parameter of this model" for name in tensors if name not in expected]
    problems += [
        f"{name}: shape {tuple(tensors[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        raise CheckpointError(f"{source}: it does not fit this model\n  " + "\n  ".join(problems[:10]))
