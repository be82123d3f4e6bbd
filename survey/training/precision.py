"""In which precision a network works."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["auto", "float32", "bf16"]


LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions of 16 bits; training knows bf16 only, as fp16 needs its gradients scaled."""


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The precision of a network's layers on a device; `auto` = bf16 on GPUs that have it. Weights and losses are float32 always."""
    if precision == "auto":
        precision = (
            "bf16"
            if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            else "float32"
        )
    return torch.autocast(device.type, LOW[precision]) if precision in LOW else nullcontext()
