"""An exported model in vLLM (vllm-project/vllm): the token grammar inside it, and its ids as text, pictures and sound outside.

`grammar_v1` and `grammar_v2` are loaded by vLLM itself, where mmpt is installed without what it needs elsewhere; so they and what
they import know nothing but torch, numpy, pydantic and PyYAML.
"""
