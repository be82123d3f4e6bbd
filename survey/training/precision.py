"""In which precision a network works."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["auto", "float32", "bf16"]


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The precision of a network's layers on a device; `auto` = bf16 on GPUs that have it. Weights and losses are float32 always."""
    low = precision == "bf16" or (precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.autocast(device.type, torch.bfloat16) if low else nullcontext()
