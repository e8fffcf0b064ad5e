"""The options that every tool which writes shards has in common."""

import argparse
import os

from mmpt.config import parse_config
from mmpt.data.engine.run import RunConfig


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add --processes, --ray, --max-lost and --max-bytes."""
    group = parser.add_argument_group("running")
    group.add_argument("--processes", type=int, default=os.cpu_count(), help="processes of this machine")
    group.add_argument("--ray", metavar="ADDRESS", help='a Ray cluster instead: "auto", HOST:PORT or ray://HOST:PORT')
    group.add_argument("--max-lost", type=float, default=0.05, help="stop when a larger share of documents or pictures is bad")
    group.add_argument("--max-bytes", type=int, default=RunConfig().max_bytes, help="largest size of a shard")


def run_config(arguments: argparse.Namespace) -> RunConfig:
    """The options as parsed. Raises `ConfigError`."""
    names = ("processes", "ray", "max_lost", "max_bytes")
    return parse_config({name: getattr(arguments, name) for name in names}, RunConfig, "options")
