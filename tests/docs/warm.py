"""What the processes of `shell` share: imported once by the process that they are forked from."""

import gc

import duckdb
import peft
import pyarrow.parquet
import torch
import trl.trainer.sft_trainer

import star_rft.build
import star_rft.cli
import star_rft.engines.hf.sampler
import star_rft.report.page
import star_rft.training.trainer

torch.set_num_threads(1)
# Before it is forked from: no collection of garbage looks at what is imported.
gc.collect()
gc.freeze()

__all__ = ["duckdb", "peft", "pyarrow", "star_rft", "torch", "trl"]
