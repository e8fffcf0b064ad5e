"""How much a kernel takes at a time: its own default, or what kernels/tune.py measured to be faster on the device."""

import json
from functools import lru_cache
from pathlib import Path

import torch

from mmpt.kernels.device import device_name, file_name

TUNED = Path(__file__).parent / "tuned"


def blocks(kernel: str, device: torch.device, **defaults: int) -> dict[str, int]:
    """`defaults` by name, those that the device's table has for `kernel` in their place."""
    tuned = table(device).get(kernel, {})
    return {name: tuned.get(name, value) for name, value in defaults.items()}


@lru_cache
def table(device: torch.device) -> dict[str, dict[str, int]]:
    """Block sizes by kernel and name, of tuned/DEVICE.json; nothing for a device that nobody has tuned for."""
    path = TUNED / file_name(device_name(device))
    return json.loads(path.read_text(encoding="utf-8"))["blocks"] if path.is_file() else {}
