"""Engines that draw completions: transformers in this process, vLLM in its own processes, servers."""
