"""The vLLM engine, in processes of its own.

`worker.py` is started as a script, by whichever interpreter has vLLM. It needs vLLM and the standard library only, so
that vLLM may live in an environment without star-rft. No file of this folder may be named vllm.py: the script would
import it instead.
"""
