"""`mmpt doctor`: what is installed, what fits together, and what runs here, with the reason for each that does not."""

import importlib.metadata
import os
import platform
import shutil

import torch

from mmpt.kernels.attention import BACKENDS
from mmpt.kernels.attention import why_not as why_not_attention
from mmpt.kernels.choose import why_not_triton
from mmpt.kernels.device import device_name, multiplies_bfloat16

PACKAGES = {
    "torch": "", "torchvision": "", "torchaudio": "", "transformers": "", "deepspeed": "", "peft": "", "xformers": "",
    "triton": "", "open_clip_torch": "", "timm": "", "webdataset": "", "soundfile": "", "fastapi": "serve", "uvicorn": "serve",
    "ray": "data", "diffusers": "unclip", "tensorboard": "tensorboard", "wandb": "trackers",
    "mlflow": "trackers", "espeakng-loader": "quickstart",
}  # fmt: skip
"""Each with the extra of mmpt that it belongs to; "": always needed."""
PAIRS = {"2.10": {"torchvision": "0.25", "torchaudio": "2.10"}, "2.11": {"torchvision": "0.26", "torchaudio": "2.11"}}
"""torch → what was built for its binary interface."""


def examine() -> tuple[list[str], int]:
    """(lines for a person, how many things are wrong)."""
    lines, wrong = [f"Python {platform.python_version()} on {platform.platform()}"], 0
    versions = {name: _version(name) for name in PACKAGES}
    for name, extra in PACKAGES.items():
        if versions[name]:
            lines.append(_line(name, versions[name]))
        elif extra:
            lines.append(_line(name, f"not installed: pip install mmpt[{extra}]"))
        else:
            wrong += 1
            lines.append(_line(name, "MISSING: pip install mmpt"))
    for problem in _mismatches(versions):
        wrong += 1
        lines.append(_line("binary interface", f"WRONG: {problem}"))
    lines += ["", *_devices(), "", *_kernels()]
    free = shutil.disk_usage(os.getcwd()).free / 2**30
    return [*lines, "", _line("disk", f"{free:.1f} GiB free in {os.getcwd()}")], wrong


def _mismatches(versions: dict[str, str]) -> list[str]:
    torch_version = ".".join(torch.__version__.split(".")[:2])
    found = []
    for name, wanted in PAIRS.get(torch_version, {}).items():
        if versions[name] and not versions[name].startswith(wanted):
            found.append(f"torch {torch_version} goes with {name} {wanted}, found {versions[name]}")
    for name in ("torchvision", "torchaudio"):
        try:
            __import__(name)
        except Exception as problem:  # a wrong binary interface fails in many ways
            found.append(f"{name} cannot be imported: {type(problem).__name__}: {str(problem).splitlines()[0]}")
    return found


def _devices() -> list[str]:
    lines = [_line("CPU", f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads")]
    lines.append(_line("CPU bfloat16", "yes" if multiplies_bfloat16(torch.device("cpu")) else "emulated: train in float32 here"))
    if not torch.cuda.is_available():
        built = torch.version.cuda
        return [*lines, _line("GPU", f"none: {'no driver or no device' if built else 'this torch was built without CUDA'}")]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        lines.append(_line(f"GPU {number}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"))
    return lines


def _kernels() -> list[str]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    query = torch.zeros(1, 1, 1, 64, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
    lines = [_line("fused kernels", _answer(why_not_triton(query), "triton", "PyTorch operations run instead"))]
    return lines + [_line(f"attention {name}", _answer(why_not_attention(name, query), "runs")) for name in BACKENDS]


def _answer(reason: str, good: str, instead: str = "") -> str:
    return good if not reason else f"no: {reason}" + (f"; {instead}" if instead else "")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _line(name: str, value: str) -> str:
    return f"{name:20} {value}"
