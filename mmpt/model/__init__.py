"""The decoder LLM: backbone, vocabulary growth, adapters, packed attention, connectors."""

from mmpt.model.leak import leak_check

__all__ = ["leak_check"]
