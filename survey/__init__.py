"""A Ray-distributed processor of large astronomical surveys."""

import os

__version__ = "0.1.0"

# With the matrix units of Intel's CPUs (AMX), torch computes some convolutions of bfloat16 wrongly, without a
# sign: a third of the shapes with few channels and wide kernels (torch 2.13, oneDNN 3.12). This keeps it to
# their vector units. It is read before the first convolution of a process; float32 is as fast as before.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")
