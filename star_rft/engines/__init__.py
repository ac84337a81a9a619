"""What draws completions: transformers in this process, vLLM in processes of its own, or a server."""
