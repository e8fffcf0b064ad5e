"""Weights and the optimizer's state by parameter name, so that they fit any number of ranks and any ZeRO stage."""

import torch
from torch import Tensor

from mmpt.errors import CheckpointError
from mmpt.model.feature_inputs import named_weights

MOMENTS = ("exp_avg", "exp_avg_sq")


def optimizer_tensors(engine) -> dict[str, Tensor]:
    """`exp_avg/NAME`, `exp_avg_sq/NAME` (not of what learns by Muon) and, under bf16, `master/NAME` (float32 weights) for each
    trained parameter, and `step`.

    Collective under ZeRO: every rank calls it; rank 0 gets all tensors, in memory of their own on the CPU, the others nothing.
    At least one step has been taken.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    _link(engine)
    inner = _adam(engine)
    keep = engine.global_rank == 0
    tensors = {"step": next(iter(inner.state.values()))["step"].detach().float().reshape(1)}
    for name, parameter in trained(engine):
        for key in _moments(engine, parameter):
            whole = safe_get_full_optimizer_state(parameter, key) if engine.zero_optimization() else inner.state[parameter][key]
            if keep:
                tensors[f"{key}/{name}"] = _own(whole).view(_shape(parameter))
        if parameter.dtype != torch.float32:
            whole = safe_get_full_fp32_param(parameter)
            if keep:
                tensors[f"master/{name}"] = _own(whole).view(_shape(parameter))
    return {name: _own(tensor) if name == "step" else tensor for name, tensor in tensors.items()} if keep else {}


def weights(engine, everything: bool = False) -> dict[str, Tensor]:
    """The trained parameters by name, and those of connectors; `everything`: all of them, and the model's persistent buffers.

    Collective under ZeRO 3: every rank calls it; rank 0 gets them, in memory of their own on the CPU, the others nothing.
    """
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters

    model, keep, found = engine.module.model, engine.global_rank == 0, {}
    for name, parameter in named_weights(model, getattr(engine.module, "inputs", None)):
        if everything or name.startswith("connectors.") or parameter.requires_grad:
            with GatheredParameters([parameter], enabled=engine.zero_optimization_stage() == 3):
                if keep:
                    found[name] = _own(parameter)
    if everything and keep:
        found |= {name: _own(buffer) for name, buffer in model.named_buffers() if name in model.state_dict()}
    return found


def restore_optimizer(engine, tensors: dict[str, Tensor], source: str) -> None:
    """Put what `optimizer_tensors` returned into a new engine; `source` stands for it in messages.

    Raises `CheckpointError` naming the parameters that are missing, surplus or of another shape.
    """
    _check(engine, tensors, source)
    inner = _adam(engine)
    for parameter in _held(engine, inner):
        keys = _moments(engine, parameter)
        moments = {key: torch.zeros_like(parameter, memory_format=torch.preserve_format) for key in keys}
        inner.state[parameter] = {"step": tensors["step"].clone().squeeze().to(_step_device(inner, parameter)), **moments}
    _link(engine)
    put = {0: _put_plain, 3: _put_partition}.get(engine.zero_optimization_stage(), _put_fragment)
    for name, parameter in trained(engine):
        for key in _moments(engine, parameter):
            put(engine, parameter, key, tensors[f"{key}/{name}"])
        if parameter.dtype != torch.float32:
            put(engine, parameter, None, tensors[f"master/{name}"])


def _put_plain(engine, parameter: torch.nn.Parameter, key: str, value: Tensor) -> None:
    engine.optimizer.state[parameter][key].copy_(value)


def _put_fragment(engine, parameter: torch.nn.Parameter, key: str | None, value: Tensor) -> None:
    """ZeRO 1 and 2."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    value = value.to(parameter.device)
    if key is None:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, key)


def _put_partition(engine, parameter: torch.nn.Parameter, key: str | None, value: Tensor) -> None:
    """ZeRO 3. DeepSpeed's own setter fails where the size is no multiple of the ranks: the last part is padded."""
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    size = parameter.ds_tensor.numel()
    part = torch.zeros(size, dtype=torch.float32, device=parameter.device)
    rank = torch.distributed.get_rank(parameter.ds_process_group)
    own = value.flatten()[rank * size : (rank + 1) * size]
    part[: len(own)] = own
    if key is None:
        safe_set_local_fp32_param(parameter, part)
    else:
        safe_set_local_optimizer_state(parameter, part, key)


def _own(tensor: Tensor) -> Tensor:
    """A copy on the CPU that shares no memory with anything that training goes on to change."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _shape(parameter: Tensor) -> torch.Size:
    return getattr(parameter, "ds_shape", parameter.shape)


def _moments(engine, parameter: Tensor) -> tuple[str, ...]:
    """What the optimizer keeps for a parameter: Muon the first moment alone."""
    by_muon = any(parameter is one for group in _adam(engine).param_groups if group.get("muon") for one in group["params"])
    return MOMENTS[:1] if by_muon else MOMENTS


def _adam(engine) -> torch.optim.AdamW:
    return engine.optimizer.optimizer if engine.zero_optimization() else engine.optimizer


def _held(engine, inner: torch.optim.AdamW) -> list[Tensor]:
    """The tensors that the optimizer itself knows; under ZeRO flat ones."""
    if engine.zero_optimization_stage() == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [parameter for group in inner.param_groups for parameter in group["params"]]


def _link(engine) -> None:
    """Tie each parameter to its part of ZeRO's flat optimizer state.

    DeepSpeed does so once, after the first group has taken its first step, when the state of the other groups is still empty.
    """
    from deepspeed.utils.mixed_precision_linkage import lazy_init_hp_params_optimizer_state

    if engine.zero_optimization_stage() in (1, 2):
        zero = engine.optimizer
        for parameters, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(parameters, flat, zero.optimizer.state)


def trained(engine) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters that ask for a gradient, by name."""
    named = named_weights(engine.module.model, getattr(engine.module, "inputs", None))
    return [(name, parameter) for name, parameter in named if parameter.requires_grad]


def _step_device(inner: torch.optim.AdamW, parameter: Tensor) -> torch.device:
    # torch keeps the counter on the parameter's device only for the fused and capturable updates
    return parameter.device if inner.defaults["fused"] else torch.device("cpu")


def _check(engine, tensors: dict[str, Tensor], source: str) -> None:
    expected = {"step": (1,)}
    for name, parameter in trained(engine):
        keys = _moments(engine, parameter) + (() if parameter.dtype == torch.float32 else ("master",))
        expected |= {f"{key}/{name}": tuple(_shape(parameter)) for key in keys}
    problems = [f"{name}: missing" for name in expected if name not in tensors]
    problems += [f"{name}: not a trained parameter of this model" for name in tensors if name not in expected]
    problems += [
        f"{name}: shape {tuple(tensors[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        raise CheckpointError(f"{source}: it does not fit this model\n  " + "\n  ".join(problems[:10]))
