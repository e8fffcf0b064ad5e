"""The decoder LLM: backbone, vocabulary growth, adapters, packed attention, connectors."""
