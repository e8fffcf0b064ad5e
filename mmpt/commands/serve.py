"""`mmpt serve`: a model over HTTP."""

import argparse
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from mmpt.errors import ConfigError
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.prompts import chosen_prompts
from mmpt.scripts import HelpFormatter, quantization_argument, run_argument
from mmpt.tokenizers.image.renderers import RENDERER_HELP, chosen_renderer
from mmpt.vocabulary import FILE

DTYPES = ("float32", "bfloat16", "float16")


def add_serve(commands) -> None:
    """Add the command to those of `mmpt`."""
    parser = commands.add_parser(
        "serve",
        formatter_class=HelpFormatter,
        help="a server with chat completions and a page to try them",
        description="Serve a model at /v1/chat/completions, and a page at /. With the environment variable MMPT_TOKEN set, "
        "clients must send it as a bearer token. Ctrl-C or SIGTERM: no more requests are taken, and answers that are being "
        "written may come to their end (--grace).",
    )
    run_argument(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.add_argument("--running", type=int, default=16, help="sequences written at once")
    parser.add_argument(
        "--prompts",
        metavar="YAML",
        type=Path,
        help="how the model is asked to speak, to write down and to draw (default: as it was trained to)",
    )
    parser.add_argument("--grace", type=float, default=30.0, help="seconds in which answers may end once it is stopped")
    parser.add_argument(
        "--kv-tokens",
        type=int,
        metavar="N",
        help="tokens of keys and values kept at most, all sequences together, each counted as long as the longest may become; "
        "requests wait until there is room (default: no bound but --running)",
    )
    parser.add_argument(
        "--kept-tokens",
        type=int,
        metavar="N",
        help="tokens of answered requests whose keys and values are kept at most, within --kv-tokens, so that of the next turn "
        "of a client's conversation only what is new is read; 0: none (default: 8192)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: a GPU where there is one)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the decoder's weights")
    quantization_argument(parser)
    parser.add_argument("--engine", metavar="URL", help="a vLLM that writes the ids: of what mmpt export --to vllm has written")
    parser.add_argument("--renderer", metavar="YAML", help=RENDERER_HELP)
    parser.set_defaults(action=_serve)


def _serve(arguments: argparse.Namespace) -> None:
    renderer = chosen_renderer(arguments.renderer)
    if arguments.engine:
        told = ("kv_tokens", "kept_tokens", "quantization")
        if arguments.dtype != "float32" or any(getattr(arguments, name) is not None for name in told):
            options = "--kv-tokens, --kept-tokens, --dtype and --quantization"
            raise ConfigError(f"--engine: it goes without {options}, which are vLLM's to be told")
        from mmpt.inference.vllm.model import tokenizers_folder

        checkpoint = tokenizers_folder(arguments.run)
    else:
        checkpoint = find_checkpoint(arguments.run)
    prompts = chosen_prompts(arguments.prompts, checkpoint)
    try:
        from mmpt.inference.server.api import build_app
        from mmpt.inference.server.closing import serve
    except ImportError as problem:
        raise ConfigError(f"mmpt serve needs {problem.name} (pip install mmpt[serve])") from None
    import torch

    from mmpt.inference.beside import settled
    from mmpt.inference.decoding import DecodingProcess
    from mmpt.inference.load import load
    from mmpt.inference.server.connections import options as connection_options
    from mmpt.inference.server.hosts import LOCAL, PRIVATE
    from mmpt.inference.server.limits import Limits
    from mmpt.inference.server.writers import EngineProcess

    token, local = os.environ.get("MMPT_TOKEN"), arguments.host in LOCAL
    if not local and not token:
        print(f"warning: anyone who reaches {arguments.host} may use this server; set MMPT_TOKEN", file=sys.stderr)
    name = arguments.run.resolve().name if arguments.engine else f"{arguments.run.resolve().name}/{checkpoint.name}"
    hosts = LOCAL if local else ("*",) if token else (PRIVATE,)
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    limits = Limits(running=arguments.running, kv_tokens=arguments.kv_tokens)
    if arguments.engine or arguments.kept_tokens is not None:
        limits = replace(limits, kept_tokens=arguments.kept_tokens or 0)
    # Three processes: this one speaks HTTP, one writes, one makes sound and pictures of codes.
    with ExitStack() as stack:
        if arguments.engine:
            from mmpt.inference.vllm.model import connect

            model, writer = connect(checkpoint, arguments.engine, os.environ.get("MMPT_ENGINE_KEY")), None
        else:
            options = {"device": device, "dtype": getattr(torch, arguments.dtype), **limits.engine}
            writer = stack.enter_context(EngineProcess(str(checkpoint), quantization=arguments.quantization, **options))
            model = load(checkpoint, device, hollow=True)
        decode = stack.enter_context(DecodingProcess(checkpoint, renderer, device))
        print(f"http://{f'[{arguments.host}]' if ':' in arguments.host else arguments.host}:{arguments.port}/", flush=True)
        created = int((checkpoint / FILE).stat().st_mtime)
        app = build_app(model, name, limits, token, hosts, decode, created, prompts, writer)
        settled()
        serve(app, arguments.host, arguments.port, app.state.closing, connection_options(limits), arguments.grace)
