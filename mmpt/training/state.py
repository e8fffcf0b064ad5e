"""Weights and the optimizer's state by parameter name, so that they fit any number of ranks and any ZeRO stage."""

from typing import Any

import torch
from torch import Tensor

from mmpt.errors import CheckpointError
from mmpt.model.feature_inputs import PREFIXES
from mmpt.tokenizers.terms import Trainable
from mmpt.training.optimizers import Optimizer
from mmpt.training.shares import TensorFiles, owners
from mmpt.training.trainer import Engine


def optimizer_tensors(engine: Engine, ranks: int = 1) -> dict[str, Tensor]:
    """`KEY/NAME` of each tensor that the optimizer keeps of a trained parameter (AdamW: `exp_avg/NAME`, `exp_avg_sq/NAME`) and,
    under bf16, `master/NAME` (float32 weights), and `step`.

    Collective under ZeRO: every rank calls it. Each of the first `ranks` gets its share of the parameters (see
    `mmpt.training.shares.owners`), in memory of their own on the CPU, the others nothing; `step` is with rank 0. At least one
    step has been taken.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    _link(engine)
    inner, expected = _inner(engine), _kept(engine)
    owner = owners(((name, shape_of(parameter).numel()) for name, parameter in trained(engine)), ranks)
    # All parameters have taken the same number of steps: one counter stands for them all.
    step = next(iter(inner.state.values()))["step"].detach().float().reshape(1)
    tensors = {"step": _own(step)} if engine.global_rank == 0 else {}
    for name, parameter in trained(engine):
        keep = owner[name] == engine.global_rank
        for key, shape in expected[name].items():
            whole = safe_get_full_optimizer_state(parameter, key) if engine.zero_optimization() else inner.state[parameter][key]
            if keep:
                tensors[f"{key}/{name}"] = _own(whole).view(shape)
        if parameter.dtype != torch.float32:
            whole = safe_get_full_fp32_param(parameter)
            if keep:
                tensors[f"master/{name}"] = _own(whole).view(shape_of(parameter))
    return tensors


def weights(engine: Engine, everything: bool = False, ranks: int = 1) -> dict[str, Tensor]:
    """The trained parameters by name, and those of connectors; `everything`: all of them, and the model's persistent buffers.

    Collective under ZeRO 3: every rank calls it. Each of the first `ranks` gets its share, in memory of their own on the CPU, the
    others nothing; connectors, encoders and buffers are with rank 0.
    """
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters

    trainable: Trainable = engine.module.trainable
    sizes = ((name, shape_of(parameter).numel()) for name, parameter in trainable.weights() if not name.startswith(PREFIXES))
    owner, found = owners(sizes, ranks), {}
    for name, parameter in trainable.weights():
        keep = owner.get(name, 0) == engine.global_rank
        if everything or name.startswith(PREFIXES) or parameter.requires_grad:
            # One at a time: all of them together are what ZeRO 3 was chosen to avoid.
            with GatheredParameters([parameter], enabled=engine.zero_optimization_stage() == 3):
                if keep:
                    found[name] = _own(parameter)
    if everything and engine.global_rank == 0:
        model = trainable.saved()
        persistent = model.state_dict()
        found |= {name: _own(buffer) for name, buffer in model.named_buffers() if name in persistent}
    return found


def restore_optimizer(engine: Engine, tensors: TensorFiles, source: str) -> None:
    """Put what `optimizer_tensors` gave to all ranks into a new engine, one tensor after the other; `source` stands for it in
    messages.

    Raises `CheckpointError` naming the parameters that are missing, surplus or of another shape.
    """
    _check(engine, tensors, source)
    inner, settings = _inner(engine), _settings(engine)
    apart = _apart(inner)
    # An optimizer makes its state in its first step; what is copied into must be there before.
    for parameter in _held(engine, inner):
        kept = settings.state(parameter.shape, id(parameter) in apart)
        dtypes = {key: torch.uint8 if key in settings.eight_bits else torch.float32 for key in kept}
        empty = {key: torch.zeros(shape, dtype=dtypes[key], device=parameter.device) for key, shape in kept.items()}
        inner.state[parameter] = {"step": tensors["step"].clone().squeeze().to(_step_device(inner, parameter)), **empty}
    _link(engine)
    expected = _kept(engine)
    # Each ZeRO stage keeps the state elsewhere: in torch's optimizer, in slices of flat tensors, in a rank's own partition.
    put = {0: _put_plain, 3: _put_partition}.get(engine.zero_optimization_stage(), _put_fragment)
    for name, parameter in trained(engine):
        for key in expected[name]:
            put(engine, parameter, key, tensors[f"{key}/{name}"])
        if parameter.dtype != torch.float32:
            put(engine, parameter, None, tensors[f"master/{name}"])


def _put_plain(engine: Engine, parameter: torch.nn.Parameter, key: str, value: Tensor) -> None:
    engine.optimizer.state[parameter][key].copy_(value)


def _put_fragment(engine: Engine, parameter: torch.nn.Parameter, key: str | None, value: Tensor) -> None:
    """ZeRO 1 and 2."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    value = value.to(parameter.device)
    if key is None:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, key)


def _put_partition(engine: Engine, parameter: torch.nn.Parameter, key: str | None, value: Tensor) -> None:
    """ZeRO 3. DeepSpeed's own setter fails where the size is no multiple of the ranks: the last part is padded."""
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    partition: Any = parameter  # ZeRO 3 gives it attributes that torch does not know
    size = partition.ds_tensor.numel()
    part = torch.zeros(size, dtype=torch.float32, device=parameter.device)
    rank = torch.distributed.get_rank(partition.ds_process_group)
    own = value.flatten()[rank * size : (rank + 1) * size]
    part[: len(own)] = own
    if key is None:
        safe_set_local_fp32_param(parameter, part)
    else:
        safe_set_local_optimizer_state(parameter, part, key)


def _own(tensor: Tensor | None) -> Tensor:
    """A copy on the CPU that shares no memory with anything that training goes on to change."""
    assert tensor is not None  # DeepSpeed gives None for what it does not hold
    return tensor.detach().to("cpu", copy=True).contiguous()


def shape_of(parameter: Tensor) -> torch.Size:
    """The shape of a whole parameter, also where ZeRO 3 has cut it up."""
    return getattr(parameter, "ds_shape", parameter.shape)


def _kept(engine: Engine) -> dict[str, dict[str, tuple[int, ...]]]:
    """Of each trained parameter, by its name, the tensors that the optimizer keeps, with their shapes."""
    settings, apart = _settings(engine), _apart(_inner(engine))
    return {name: settings.state(shape_of(parameter), id(parameter) in apart) for name, parameter in trained(engine)}


def _settings(engine: Engine) -> Optimizer:
    return engine.module.optimizer


def _apart(inner: torch.optim.Optimizer) -> set[int]:
    return {id(parameter) for group in inner.param_groups if group["apart"] for parameter in group["params"]}


def _inner(engine: Engine) -> torch.optim.Optimizer:
    return engine.optimizer.optimizer if engine.zero_optimization() else engine.optimizer


def _held(engine: Engine, inner: torch.optim.Optimizer) -> list[Tensor]:
    """The tensors that the optimizer itself knows; under ZeRO flat ones."""
    if engine.zero_optimization_stage() == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [parameter for group in inner.param_groups for parameter in group["params"]]


def _link(engine: Engine) -> None:
    """Tie each parameter to its part of ZeRO's flat optimizer state.

    DeepSpeed does so once, after the first group has taken its first step, when the state of the other groups is still empty.
    """
    from deepspeed.utils.mixed_precision_linkage import lazy_init_hp_params_optimizer_state

    if engine.zero_optimization_stage() in (1, 2):
        zero = engine.optimizer
        for parameters, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(parameters, flat, zero.optimizer.state)


def trained(engine: Engine) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters that ask for a gradient, by name."""
    return [(name, parameter) for name, parameter in engine.module.trainable.weights() if parameter.requires_grad]


def _step_device(inner: torch.optim.Optimizer, parameter: Tensor) -> torch.device:
    # torch keeps the counter on the parameter's device only for the fused and capturable updates
    return parameter.device if inner.defaults.get("fused") else torch.device("cpu")


def _check(engine: Engine, tensors: TensorFiles, source: str) -> None:
    expected: dict[str, tuple[int, ...]] = {"step": (1,)}
    kept = _kept(engine)
    for name, parameter in trained(engine):
        expected |= {f"{key}/{name}": shape for key, shape in kept[name].items()}
        if parameter.dtype != torch.float32:
            expected[f"master/{name}"] = tuple(shape_of(parameter))
    problems = [f"{name}: missing" for name in expected if name not in tensors]
    problems += [f"{name}: not a trained parameter of this model" for name in tensors if name not in expected]
    problems += [
        f"{name}: shape {tensors.shapes[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in tensors and tensors.shapes[name] != shape
    ]
    if problems:
        raise CheckpointError(f"{source}: it does not fit this model\n  " + "\n  ".join(problems[:10]))
