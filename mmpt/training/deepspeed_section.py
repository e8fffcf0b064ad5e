"""What may stand in the `deepspeed:` section of a training: it goes to DeepSpeed as it is, but for the keys that mmpt sets."""

from typing import Any

RESERVED = {
    "train_batch_size": "loader.packs_per_step",
    "train_micro_batch_size_per_gpu": "loader.packs_per_step",
    "gradient_accumulation_steps": "loader.packs_per_step",
    "gradient_clipping": "optimizer.gradient_clip",
    "optimizer": "optimizer",
    "scheduler": "schedule",
}
STAGES = (0, 1, 2, 3)
OVERLAP = {"overlap_comm": True, "reduce_bucket_size": 100_000_000}
"""Gradients are summed over the ranks while the backward pass goes on, 0.4 GB of float32 at a time (DeepSpeed's 2 GB would leave
of a model below a billion parameters one piece, sent at its end)."""
ADDED_IN_FLOAT32 = {"data_types": {"grad_accum_dtype": "fp32"}}
"""Gradients of bfloat16 weights: of many packs, sums in bfloat16 would lose all that is below a 256th of them."""
SECTIONS = {"zero_optimization": "{stage: 2}", "bf16": "{enabled: true}", "fp16": "{enabled: false}"}


def with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """`options` with what lets communication go on beside computation under ZeRO 1 to 3, and what adds up gradients of bfloat16
    weights in float32, where they do not say otherwise."""
    zero = options.get("zero_optimization", {})
    if zero.get("stage", 0):
        options = {**options, "zero_optimization": {**OVERLAP, **zero}}
    return {**ADDED_IN_FLOAT32, **options} if options.get("bf16", {}).get("enabled") else options


def offloads(options: dict[str, Any]) -> bool:
    """Whether the optimizer's state lies in main memory, and its updates are computed there (ZeRO-Offload, Ren et al. 2021,
    arXiv:2101.06840)."""
    section = options.get("zero_optimization", {}).get("offload_optimizer")
    return isinstance(section, dict) and section.get("device") == "cpu"


def mistakes(options: dict[str, Any]) -> list[str]:
    """Everything that is wrong in the section, in words."""
    found = [f"{key} is set by mmpt from {source}" for key, source in RESERVED.items() if key in options]
    found += [
        f"{name}: expected a section such as {example}, found {options[name]!r}"
        for name, example in SECTIONS.items()
        if name in options and not isinstance(options[name], dict)
    ]
    if found:  # what follows reads these sections
        return found
    zero, half, fp16 = (options.get(name, {}) for name in SECTIONS)
    stage = zero.get("stage", 0)
    if stage not in STAGES or not isinstance(stage, int) or isinstance(stage, bool):
        found.append(f"ZeRO stage {stage} is not supported, expected one of {', '.join(map(str, STAGES))}")
    found += ["zero_optimization.offload_param is not supported"] if "offload_param" in zero else []
    if "offload_optimizer" in zero and (stage == 0 or not offloads(options)):
        found.append("zero_optimization.offload_optimizer: expected {device: cpu}, with stage 1, 2 or 3")
    found += [
        f"{name}.enabled: expected true or false, found {section['enabled']!r}"
        for name, section in (("bf16", half), ("fp16", fp16))
        if not isinstance(section.get("enabled", False), bool)
    ]
    if fp16.get("enabled"):
        found.append("fp16 is not supported, use bf16 or float32")
    if half.get("enabled") and stage in (0, 1):
        found.append("bf16 needs ZeRO stage 2 or 3, which keep float32 master weights and add up gradients in float32")
    return found
