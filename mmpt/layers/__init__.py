"""Layers that tokenizers and connectors are made of; they know nothing of either."""
