"""The decoder LLM: backbone, rows of new tokens, adapters, packed attention, connectors."""
