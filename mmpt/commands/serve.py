"""`mmpt serve`: a model over HTTP."""

import argparse
import os
import sys
from contextlib import ExitStack

from mmpt.errors import ConfigError
from mmpt.model.checkpoints import find_checkpoint
from mmpt.scripts import HelpFormatter, run_argument
from mmpt.tokenizers.image.renderers import RENDERER_HELP, chosen_renderer
from mmpt.vocabulary import FILE


def add_serve(commands) -> None:
    """Add the command to those of `mmpt`."""
    parser = commands.add_parser(
        "serve",
        formatter_class=HelpFormatter,
        help="a server with chat completions and a page to try them",
        description="Serve a model at /v1/chat/completions, and a page at /. With the environment variable MMPT_TOKEN set, "
        "clients must send it as a bearer token.",
    )
    run_argument(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.add_argument("--running", type=int, default=16, help="sequences written at once")
    parser.add_argument("--engine", metavar="URL", help="a vLLM that writes the ids: of what mmpt export --to vllm has written")
    parser.add_argument("--renderer", metavar="YAML", help=RENDERER_HELP)
    parser.set_defaults(action=_serve)


def _serve(arguments: argparse.Namespace) -> None:
    renderer = chosen_renderer(arguments.renderer)
    if arguments.engine:
        from mmpt.inference.vllm.model import tokenizers_folder

        checkpoint = tokenizers_folder(arguments.run)
    else:
        checkpoint = find_checkpoint(arguments.run)
    try:
        import uvicorn

        from mmpt.inference.server.api import build_app
    except ImportError as problem:
        raise ConfigError(f"mmpt serve needs {problem.name} (pip install mmpt[serve])") from None
    from mmpt.inference.decoding import DecodingProcess
    from mmpt.inference.load import load
    from mmpt.inference.server.connections import guarded
    from mmpt.inference.server.hosts import LOCAL, PRIVATE
    from mmpt.inference.server.limits import Limits

    token, local = os.environ.get("MMPT_TOKEN"), arguments.host in LOCAL
    if not local and not token:
        print(f"warning: anyone who reaches {arguments.host} may use this server; set MMPT_TOKEN", file=sys.stderr)
    name = arguments.run.resolve().name if arguments.engine else f"{arguments.run.resolve().name}/{checkpoint.name}"
    if arguments.engine:
        from mmpt.inference.vllm.model import connect

        model = connect(checkpoint, arguments.engine, os.environ.get("MMPT_ENGINE_KEY"))
    else:
        model = load(checkpoint)
    limits = Limits(running=arguments.running)
    hosts = LOCAL if local else ("*",) if token else (PRIVATE,)
    with ExitStack() as stack:
        beside = bool(arguments.engine) or model.model.device.type == "cpu"
        decode = stack.enter_context(DecodingProcess(checkpoint, renderer)) if beside else None
        if not beside:  # else only the process that draws needs it
            model.tokenizer.render_by(renderer)
        print(f"http://{f'[{arguments.host}]' if ':' in arguments.host else arguments.host}:{arguments.port}/", flush=True)
        app = build_app(model, name, limits, token, hosts, decode, int((checkpoint / FILE).stat().st_mtime))
        http = guarded(limits)
        uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning", timeout_keep_alive=20, http=http)
