"""What the processor is called."""

import os
import platform
import re
from functools import lru_cache
from pathlib import Path

import torch


@lru_cache
def device_name(device: torch.device) -> str:
    """The GPU's name; a CPU's with its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def file_name(name: str) -> str:
    """A device's name as that of a JSON file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".json"


@lru_cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 products; without them, a CPU emulates them many times slower.

    A CPU is asked through Linux's list of its features, since torch tells them in another way with each version; elsewhere: no.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        features = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return not features.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})  # the last: ARM's name
