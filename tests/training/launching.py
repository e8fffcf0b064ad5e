"""Ranks as processes forked from this one, and one that is killed as it saves."""

import importlib.util
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from mmpt.errors import MmptError
from mmpt.evaluation.pages import training as training_page
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.training import checkpoint as checkpoints
from mmpt.training.distributed import world
from mmpt.training.watch import Watch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_runs import BACKBONE, VOCABULARY  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def recipe() -> Callable:
    specification = importlib.util.spec_from_file_location("train", ROOT / "recipes" / "train.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    training_page.write_training_page = lambda run: ""  # six plots, which take longer than the steps
    return module.train


def free_port() -> int:
    """Below the ports that the system hands out to clients: one that tries to reach such a port before its server listens may be
    given that very port, and then holds it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def launch(size: int, work: Callable) -> list[int]:
    """Run `work(ranks)` on `size` forked ranks; returns their exit codes, −N after signal N."""
    port = free_port()
    children = []
    for rank in range(size):
        child = os.fork()
        if child:
            children.append(child)
            continue
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        code = 1
        try:
            with world() as ranks:
                code = work(ranks) or 0
        except MmptError as problem:
            print(f"error: {problem}", file=sys.stderr)
            code = 2
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def killed_while_saving(step: int, train: Callable, config, ready: Callable[[], bool] = lambda: True) -> Callable:
    """Train, and kill each rank with SIGKILL: rank 0 as it writes the checkpoint of `step` (half of its files are there), the
    others as they would go on to the next, once rank 0 is at it: on a busy disk it may still write the one before."""

    def work(ranks) -> int:
        write = checkpoints._write_model

        def dying(model, tensors, folder, *rest) -> list[str]:
            names = write(model, tensors, folder, *rest)
            if not ranks.rank and folder.name.startswith(this := f".step-{step:08d}"):
                while not ready() or [path for path in folder.parent.glob(".step-*") if not path.name.startswith(this)]:
                    time.sleep(0.02)  # the one before is still on its way to a slow disk
                os.kill(os.getpid(), signal.SIGKILL)
            return names

        checkpoints._write_model = dying
        save = checkpoints.save_checkpoint

        def dying_save(engine, at: int, *arguments, **options) -> Path:
            try:
                return save(engine, at, *arguments, **options)
            finally:  # also where rank 0 is gone already
                if ranks.rank and at == step:
                    begun = time.monotonic()
                    while not [*config.output.glob(f"checkpoints/.step-{step:08d}*")] and time.monotonic() < begun + 60:
                        time.sleep(0.02)
                    os.kill(os.getpid(), signal.SIGKILL)

        checkpoints.save_checkpoint = dying_save
        # On a busy machine the guard may see one rank dead before another has come to its end: then that one dies of it, alike.
        Watch._end = lambda self, reason: os.kill(os.getpid(), signal.SIGKILL)
        return train(config, ranks)

    return work


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def facts(run: Path) -> list:
    """What must not depend on an interruption: numbers of every step that do not measure time."""
    return [[line[key] for key in ("step", "loss", "nll", "learning_rate", "gradient_norm", "fill")] for line in lines(run)]


def same_bits(one: Path, other: Path, *patterns: str) -> list[bool]:
    """Of each file of `one` that fits a pattern (there is one for each), whether it is that of `other`."""
    found = [sorted(path.relative_to(one) for path in one.glob(pattern)) for pattern in patterns]
    assert all(found)
    return [(one / name).read_bytes() == (other / name).read_bytes() for names in found for name in names]


def import_once(folder: Path) -> None:
    """Import and find out here what a rank would when it first needs it."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed.runtime.zero.muon.muon_optimizer
    import deepspeed.runtime.zero.stage3
    import deepspeed.runtime.zero.stage_1_and_2
    import deepspeed.utils.mixed_precision_linkage
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401

    assert deepspeed.ops.__compatible_ops__  # found by a compiler, at the first look
    build_backbone(BackboneConfig(config=BACKBONE), VOCABULARY.size, seed=0).save_pretrained(folder / "first")
