"""The state of a training in one file: tensors as safetensors, everything else as JSON in the file's header.

One file is written whole or not at all, so a checkpoint is there or it is not; none is ever half of one epoch and half of another.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from survey import files
from survey.models.network import Network


def last(folder: str) -> str:
    """The path of the newest checkpoint."""
    return files.join(folder, "last.safetensors")


def best(folder: str) -> str:
    """The path of the weights that the run keeps."""
    return files.join(folder, "best.safetensors")


def write_tensors(path: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Named tensors and what is to be known of them, whole or not at all."""
    flat = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    files.write(path, save(flat, {"about": json.dumps(about)}))


def read_tensors(path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of such a file."""
    raw = files.read(path)
    try:
        tensors = load(raw)
        (size,) = struct.unpack("<Q", raw[:8])
        about = json.loads(json.loads(raw[8 : 8 + size]).get("__metadata__", {}).get("about", "{}"))
    except (SafetensorError, ValueError, struct.error) as error:
        raise ValueError(
            f"{path}: no sound safetensors file ({error}); remove it and run the job again, or put a copy back"
        ) from error
    return tensors, about


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers, by parameter and name."""
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{number}.{name}": torch.as_tensor(value)
        for number, memory in state.items()
        for name, value in memory.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave; the optimiser has the same parameters in the same order."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimiser."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_strictly(net: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Weights into a network, every one of them, or an error that names what does not fit."""
    own = net.state_dict()
    missing, strange = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    both = own.keys() & tensors.keys() - (net.elastic() if isinstance(net, Network) else frozenset())
    other = [name for name in both if own[name].shape != tensors[name].shape]
    if missing or strange or other:
        found = [
            *(f"{name} is missing" for name in missing[:3]),
            *(f"{name} is unknown" for name in strange[:3]),
            *(
                f"{name} has shape {list(tensors[name].shape)}, not {list(own[name].shape)}"
                for name in sorted(other)[:3]
            ),
        ]
        count = len(missing) + len(strange) + len(other)
        advice = "give the run that they belong to, or train it anew if the network has changed since"
        raise ValueError(
            f"{where}: the weights do not fit the network: {', '.join(found)} ({count} in all); {advice}"
        )
    broken = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if broken:
        raise ValueError(f"{where}: {broken[0]} holds values that are not finite; train the run anew")
    net.load_state_dict(dict(tensors), strict=True)
