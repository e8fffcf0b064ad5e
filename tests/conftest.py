"""Triton's kernels run in its interpreter where there is no GPU; it reads that where triton is imported first."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
