"""The process that vLLM runs in. `worker.py` is started as a script, by whichever interpreter has vLLM.

It needs vLLM and the standard library only, so that vLLM may live in an environment without star-rft; and it lies in a
folder of its own, because beside `samplers/vllm.py` the line `import vllm` would find that file.
"""
