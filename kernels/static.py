"""What can be proven of a GPU without one, against bars; writes kernels/results/static.json and exits 1 where one is missed.

    OMP_NUM_THREADS=1 python kernels/static.py

Triton kernels: compiled by the pinned Triton for sm_80, sm_90 and sm_100 in bf16, fp16 and fp32, at the block sizes that mmpt
takes on an A100, an H100 and a B200. `stack`: bytes of a thread in which what finds no register is kept. `access`: bits of the
widest read or write, whichever is narrower; a name with a reason behind it has no bar there. Worst of all targets and dtypes.

A layer: launches, and bytes moved beside matrix products and attention, of one layer of Qwen3-0.6B, forward and backward of a
pack of 8,192 tokens that is not the first of its step, under autocast, with the kernels that are the default on a GPU.

MFU, estimated and not measured: operations of the pack (6 for each weight and token, attention causal within documents) over its
seconds and the peak of 989 TFLOP/s. Its seconds are the larger of two: all launches at 5 µs; and the sum of matrix products (all
operations at 700 TFLOP/s or all bytes at 3.0 TB/s, the larger), of all other bytes at 3.0 TB/s, and of attention as measured on
an H100 (kernels/results/nvidia-h100-80gb-hbm3.json). All layers, lookup, loss, and a 32nd of clipping and AdamW are in it.

Recipes: memory of each recipe for H100 (see kernels/memory.py, also for what does not run), against 80 GB.
"""

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mmpt.scripts import script_parser

if __name__ == "__main__":
    script_parser(__doc__).parse_args()  # before what takes seconds to import
    os.environ.pop("TRITON_INTERPRET", None)  # read where triton is imported first

import torch
from compiled import WIDE, Row, compiled
from counted import ATTENTION, PRODUCTS, Borders, counting, decoder, places
from memory import RANKS, halve, memory_of, recipe_stages
from pretended import H100
from training import QWEN3_600M

from mmpt.kernels.cross_entropy import weighted_linear_cross_entropy
from mmpt.model.config import KernelsConfig
from mmpt.model.forward import hidden_states
from mmpt.results import Figure, report
from mmpt.training.flops import step_cost

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "kernels" / "results" / "static.json"
RENEW = "make static"
SOURCES = (
    "mmpt/kernels/*.py", "mmpt/kernels/tuned/*.json", "mmpt/model/fused.py", "mmpt/model/packed_attention.py", "kernels/*.py",
)  # fmt: skip
BENCHES = {"bench.py", "check.py", "roofline.py", "training.py", "tune.py"}  # of kernels/, which do not enter into the result
GEMM, MEMORY, LAUNCH, PEAK = 700e12, 3.0e12, 5e-6, 989e12  # FLOP/s, bytes/s, seconds, FLOP/s
PACK = (700, 1400, 49, 49, 300, 2048, 49, 1200, 49, 2348)  # lengths of documents, those of kernels/bench.py
ROWS, PACKS = 176_252, 32  # of recipes/h100.yaml: ids of text, special tokens and codes; packs of a step
ATTENTION_MS = f"attention by varlen, {len(PACK)} documents in {sum(PACK)} tokens: ms"


def main() -> None:
    torch.set_num_threads(1)
    figures: list[Figure] = []
    beside: dict[str, Any] = {"kernels": fingerprint(), "method": " ".join(__doc__.split("\n\n", 2)[2].split()), "compiled": []}
    passed = True
    for part in (layer_figures, compiled_figures, recipe_figures):
        figures += part(beside)
        passed = report(figures, RESULT, ["triton"], beside)
    sys.exit(0 if passed else 1)


def fingerprint() -> str:
    """SHA-256 of all that the result depends on here."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            if path.parent.name != "kernels" or path.name not in BENCHES:
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def compiled_figures(beside: dict[str, Any]) -> Iterator[Figure]:
    found: dict[str, list[Row]] = {}
    for row in compiled():
        found.setdefault(row.name, []).append(row)
        beside["compiled"].append(row.told())
    for name, rows in found.items():
        where = f"{name}{f' ({rows[0].narrow})' if rows[0].narrow else ''}"
        yield Figure(f"{where}: registers", max(row.found.registers for row in rows))
        yield Figure(f"{where}: stack, bytes", max(row.found.stack for row in rows), 0, at_most=True)
        yield Figure(f"{where}: shared memory / limit", max(row.found.shared / row.gpu.shared for row in rows), 1, at_most=True)
        yield Figure(f"{where}: access, bits", min(row.bits for row in rows), None if rows[0].narrow else WIDE)


def layer_figures(beside: dict[str, Any]) -> Iterator[Figure]:
    layers = QWEN3_600M["num_hidden_layers"]
    for half, weights in ((False, ""), (True, ", bfloat16 weights under ZeRO 2")):
        fewer, more = (later_pack(layers, half) for layers in (2, 3))
        layer = more.plus(fewer, -1)
        counts = {"launches": layer.launches, "bytes": layer.moved}
        beside[f"layer{weights}"] = {
            what: {name: count for name, count in one.most_common() if count} for what, one in counts.items()
        }
        yield Figure(
            f"launches of a layer, a later pack of a step{weights}", layer.launches.total(), None if half else 80, at_most=True
        )
        if not half:
            yield Figure("launches of a layer, the first pack of a step", layer.launches.total() - layer.accumulated)
        yield Figure(f"GB of a layer beside products and attention{weights}", layer.bytes() / 1e9, 3.3, at_most=True)
        whole = fewer.plus(layer, layers - 2)
        for what, attention in (("as measured", measured_attention()), (f"at {GEMM / 1e12:.0f} TFLOP/s", None)):
            seconds = whole.seconds(attention, layers)
            told = {name: 1e3 * value for name, value in seconds.items()}
            beside.setdefault("milliseconds of a pack", {})[f"attention {what}{weights}"] = told
            taken = max(sum(seconds.values()) - seconds["launches"], seconds["launches"])
            bar = 0.45 if attention and not half else None
            yield Figure(f"MFU of a pack, estimated, attention {what}{weights}", whole.useful / taken / PEAK, bar)


def measured_attention() -> float:
    """Seconds of a layer's attention on an H100, forward and backward."""
    rows = json.loads((ROOT / "kernels" / "results" / "nvidia-h100-80gb-hbm3.json").read_text(encoding="utf-8"))["figures"]
    return next(row["value"] for row in rows if row["name"] == ATTENTION_MS) / 1e3


class Pass(NamedTuple):
    """What a later pack of a step takes: by the operation's name `launches`, bytes `moved` and `flops` of products; `accumulated`
    launches that add to gradients that are there; operations that count for the MFU (`useful`), those of `attention` among
    them."""

    launches: Counter[str]
    moved: Counter[str]
    flops: Counter[str]
    accumulated: int
    useful: float
    attention: float

    def plus(self, other: "Pass", times: int) -> "Pass":
        found = []
        for mine, theirs in zip(self, other, strict=True):
            if isinstance(mine, Counter):
                found.append(Counter({name: mine[name] + times * theirs[name] for name in {*mine, *theirs}}))
            else:
                found.append(mine + times * theirs)
        return Pass(*found)

    def bytes(self) -> int:
        """Beside matrix products and attention, and without the share of an update."""
        return sum(size for name, size in self.moved.items() if name not in PRODUCTS | ATTENTION.keys() | {"update"})

    def seconds(self, attention: float | None, layers: int) -> dict[str, float]:
        """By what takes them; `attention`: of a layer, None: as fast as products. Launches lie beside all the others."""
        return {
            "products": max(sum(self.flops.values()) / GEMM, sum(self.moved[name] for name in PRODUCTS) / MEMORY),
            "attention": layers * attention if attention else 3.5 / 3 * self.attention / GEMM,
            "memory": self.bytes() / MEMORY,
            "update": self.moved["update"] / MEMORY,
            "launches": self.launches.total() * LAUNCH,
        }


def later_pack(layers: int, half: bool = False) -> Pass:
    """Of Qwen3-0.6B with so many layers; its share of an update goes into `moved` as one. `half`: of bfloat16 weights under
    ZeRO 2, which copies each gradient into a bucket and out of it, and adds it up in float32."""
    content, tokens = {**QWEN3_600M, "num_hidden_layers": layers}, sum(PACK)
    wanted = places(content, KernelsConfig())
    with counting(H100) as (ledger, _):
        model = decoder(content, ROWS, KernelsConfig(), wanted)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        if half:
            halve(model)
            for weight in model.parameters():
                added = torch.zeros(weight.shape)
                weight.register_post_accumulate_grad_hook(partial(add_up, added))
        ids, weights, kept = torch.zeros(1, tokens, dtype=torch.int64), torch.ones(tokens), torch.arange(tokens)
        before = 0
        for _ in range(2):
            before = ledger.launches.total()
            ledger.clear()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                hidden = hidden_states(model, ids, ids, Borders(list(PACK)))[0].to(torch.bfloat16)
                head = model.get_output_embeddings().weight
                loss = weighted_linear_cross_entropy(hidden, head, ids[0], weights, kept=kept).loss
            loss.backward()
        launches, moved, flops = (Counter(one) for one in (ledger.launches, ledger.moved, ledger.flops))
        optimizer.step()  # the first one fills its means
        ledger.clear()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        moved["update"] = sum(ledger.moved.values()) // PACKS
        cost = step_cost(model)
        pairs = cost.attention * sum(length * (length + 1) / 2 for length in PACK)
        useful = (cost.token + cost.supervised) * tokens + pairs
        return Pass(launches, moved, flops, launches.total() - before, useful, pairs)


def add_up(added: torch.Tensor, weight: torch.nn.Parameter) -> None:
    """What ZeRO 2 does with the gradient of `weight`."""
    assert weight.grad is not None
    added.add_(weight.grad.clone().clone().float())
    weight.grad = None


def recipe_figures(beside: dict[str, Any]) -> Iterator[Figure]:
    for path in sorted((ROOT / "recipes").glob("h100*.yaml")):
        for name, config, content, text in recipe_stages(path):
            ranks = RANKS.get(path.stem, 1)
            found = memory_of(config, content, text, ranks)
            where = f"{name}, {ranks} GPU{'s' if ranks > 1 else ''}"
            for part, size in found._asdict().items():
                yield Figure(f"{where}: {part}, GB", size / 1e9)
            yield Figure(f"{where}: all, GB", found.total / 1e9, H100.memory / 1e9, at_most=True)


if __name__ == "__main__":
    main()
