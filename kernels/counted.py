"""What one pack makes a GPU do: launches, bytes moved and bytes kept, counted over tensors without contents."""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from pretended import Gpu, Launch, pretended_gpu
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from mmpt.kernels import attention
from mmpt.model import fused
from mmpt.model.backbone import build_backbone
from mmpt.model.config import BackboneConfig, KernelsConfig
from mmpt.model.packed_attention import NAME as PACKED_ATTENTION

VIEWS = {
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze", "detach", "alias",
    "as_strided", "split", "split_with_sizes", "unbind", "lift_fresh", "empty", "empty_like", "new_empty", "empty_strided",
    "_reshape_alias", "unsafe_split", "diagonal", "chunk", "narrow", "set_data", "new_empty_strided", "resize_",
}  # fmt: skip
"""Operations without a launch: another look at memory, or memory without contents."""
PRODUCTS = {"mm", "addmm", "bmm", "addmm_", "baddbmm_"}
FILLS = {
    "fill_",
    "zero_",
    "zeros",
    "ones",
    "full",
    "zeros_like",
    "ones_like",
    "new_zeros",
    "full_like",
    "arange",
    "scalar_tensor",
}
"""Operations that read none of what they are given."""
SPARSE = {"embedding", "index", "index_select", "gather", "index_add_", "index_copy_", "scatter_add_", "index_put_", "copy_"}
"""Operations that touch of their first tensor only what they give or are given."""
ATTENTION = {"_flash_attention_forward": (1, 1), "_flash_attention_backward": (3, 5)}
"""Launches of torch's FlashAttention 2, of as many heads of keys as of queries and of fewer: backward also the products of output
and gradient, the conversion of the queries' gradient from float32, and two sums over the heads that share keys and values
(aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp)."""
READS = {"cross_entropy losses": 3}
"""Of Triton kernels that pass over their first tensor more than once (two reads and a write): how often."""
LIST = 32  # tensors that one launch of an operation on lists takes, about
ALLOCATED = 512  # torch's allocator gives multiples of so many bytes


class Ledger(TorchDispatchMode):
    """Counts operations as they come: by name `launches`, bytes `moved` and `flops` of products; bytes that live `now`, and their
    `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def started(self, launch: Launch) -> None:
        """Count a Triton kernel: each of its tensors is read or written once."""
        tensors = launch.tensors()
        self.launches[launch.name] += 1
        self.moved[launch.name] += sum(map(_bytes, tensors)) + (READS.get(launch.name, 1) - 1) * _bytes(tensors[0])

    def clear(self) -> None:
        """Count launches, bytes and operations from nothing."""
        for counter in (self.launches, self.moved, self.flops):
            counter.clear()

    def keep(self, tensors: Any) -> None:
        """Count the memory of `tensors` until nothing holds it."""
        for tensor in _tensors(tensors):
            storage = tensor.untyped_storage()
            if storage._cdata in self._known:
                continue
            self._known.add(storage._cdata)
            size = -(-storage.nbytes() // ALLOCATED) * ALLOCATED
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._released, storage._cdata, size)

    def _released(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.now -= size

    def since(self, before: int = 0) -> int:
        """The peak above `before`; from here on a new one."""
        found, self.peak = self.peak - before, self.now
        return found

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name, options = function._schema.name.removeprefix("aten::"), options or {}
        # Of results whose size depends on contents, the largest there can be.
        if name == "index" and any(part is not None and part.dtype == torch.bool for part in arguments[1]):
            result = torch.empty_like(arguments[0])
        elif name == "bincount":
            result = arguments[0].new_empty(options.get("minlength", arguments[-1]))
        else:
            result = function(*arguments, **options)
        self.keep(result)
        given = list({id(tensor): tensor for tensor in _tensors((arguments, options))}.values())
        lists = name.startswith(("_foreach", "_fused"))
        if name.startswith("prim::") or name in VIEWS or not (lists or _tensors(result)):
            return result
        launches = 1
        if name in ATTENTION:
            query, key = (given[0], given[1]) if name.endswith("forward") else (given[1], given[2])
            launches = ATTENTION[name][query.shape[-2] != key.shape[-2]]
        elif lists:
            launches = -(-len(_tensors(arguments[0])) // LIST)
        elif name == "select_backward":
            launches = 2  # zeros, and a copy into them
        elif name in PRODUCTS:
            left, right = arguments[1:3] if "add" in name else arguments[:2]
            self.flops[name] += 2 * left.numel() * right.shape[-1]
        self.launches[name] += launches
        self.moved[name] += _moved(name, arguments[:1], given, _tensors(result))
        return result


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _bytes(tensor: torch.Tensor) -> int:
    """Of what `tensor` shows, not more than lies behind it (expanded tensors show the same twice)."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _moved(name: str, changed: Any, given: list[torch.Tensor], found: list[torch.Tensor]) -> int:
    if name in FILLS:
        return sum(map(_bytes, found))
    if name == "copy_":
        return _bytes(given[0]) + _bytes(given[1])
    if name in SPARSE:
        return 2 * min(_bytes(given[0]), max(map(_bytes, [*given[1:], *found]), default=0)) + sum(map(_bytes, given[1:]))
    if name == "embedding_dense_backward":
        return 2 * _bytes(given[0]) + _bytes(found[0])
    if name.startswith("_fused_adam"):  # weight, gradient and two means are read, and all but the gradient written
        return sum(map(_bytes, given)) * 7 // 4
    written = sum(map(_bytes, found))
    if name.startswith("_foreach") and name.endswith("_"):
        written = sum(map(_bytes, _tensors(changed)))
    return sum(map(_bytes, given)) + written


@contextmanager
def counting(gpu: Gpu) -> Iterator[tuple[Ledger, FakeTensorMode]]:
    """Tensors made inside lie on a pretended `gpu`, and the ledger counts what is done with them."""
    ledger = Ledger()
    attention._edges.cache_clear()
    with pretended_gpu(gpu, ledger.started) as fake, ledger:
        yield ledger, fake
    attention._edges.cache_clear()


def places(content: dict[str, Any], kernels: KernelsConfig) -> dict[str, int]:
    """How many places of a decoder `mmpt.model.fused` finds for each kernel on a GPU: asked of one with real weights, as many
    layers and a small width, whose modules' results are compared there."""
    small = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    model = build_backbone(BackboneConfig(config={**content, **small}), 64, seed=0)
    return fused.use_kernels(model, kernels, torch.device("cuda"))


def decoder(content: dict[str, Any], rows: int, kernels: KernelsConfig, wanted: dict[str, int]) -> PreTrainedModel:
    """Inside `counting`: the decoder of a transformers configuration with kernels at the `wanted` places. Raises `RuntimeError`
    where it has others: results cannot be compared without contents."""
    options = dict(content)
    settings = AutoConfig.for_model(options.pop("model_type"), **options, vocab_size=rows)
    model = AutoModelForCausalLM.from_config(settings, attn_implementation=PACKED_ATTENTION, dtype=torch.float32).train()
    with patch.object(fused, "_same", lambda *given: True), patch.object(fused, "_rotates_alike", lambda *given: True):
        found = fused.use_kernels(model, kernels, torch.device("cuda"))
    if found != wanted:
        raise RuntimeError(f"kernels at {found}, expected {wanted}")
    return model


class Borders:
    """`cu_seqlens` of documents of these `lengths`, of which only the host asks."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def diff(self) -> "Borders":
        return self

    def tolist(self) -> list[int]:
        return self.lengths
