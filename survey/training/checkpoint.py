"""Tensors in one file: as safetensors, with a document as JSON in the header of the file.

A file is written whole or not at all. So a checkpoint never holds half of one epoch and half of another.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import torch
from isal import isal_zlib
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from survey import files
from survey.checked import CHECKSUM
from survey.models.network import Network

SHOWN = 3
"""Parameters of each kind that an error names."""


def last(folder: str) -> str:
    """The path of the checkpoint of the last epoch."""
    return files.join(folder, "last.safetensors")


def best(folder: str) -> str:
    """The path of the weights that the run keeps."""
    return files.join(folder, "best.safetensors")


def write_tensors(path: str, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write named tensors and a document."""
    on_cpu = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    text = json.dumps({**document, CHECKSUM: _checksum(on_cpu)})  # one entry: several have no fixed order
    files.write(path, save(on_cpu, {"document": text}), durable=True)


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """The CRC-32 of all values, in the order of the names."""
    crc = 0
    for name in sorted(tensors):
        data = tensors[name].reshape(-1).view(torch.uint8).numpy() if tensors[name].numel() else b""
        crc = isal_zlib.crc32(data, isal_zlib.crc32(name.encode(), crc))
    return crc


def read_tensors(path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the document of a file."""
    return parse_tensors(files.read(path), path)


def parse_tensors(raw: bytes, path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the document in the bytes of a file."""
    try:
        tensors = load(raw)
        (size,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + size])
        document = json.loads(header.get("__metadata__", {}).get("document", "{}"))
        is_sound = document.pop(CHECKSUM, None) == _checksum(tensors)
    except (SafetensorError, ValueError, struct.error) as error:
        raise ValueError(
            f"{path}: is damaged, or no safetensors file ({error}); "
            "remove it and run the job again, or put back a copy"
        ) from error
    if not is_sound:
        raise ValueError(
            f"{path}: is damaged (its checksum differs); remove it and run the job again, or put back a copy"
        )
    return tensors, document


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser, by number of the parameter and name."""
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{number}.{name}": torch.as_tensor(value)
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the state of `optimiser_tensors` into an optimiser of the same parameters in the same order."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimiser."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_weights(net: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """An error that names what does not fit a network."""
    if problems := _problems(net, tensors):
        count, shown = sum(map(len, problems)), [text for kind in problems for text in kind[:SHOWN]]
        raise ValueError(
            f"{where}: the weights do not fit the network: {', '.join(shown)} ({count} in all); "
            "give the run that they belong to, or train it again if the network has changed since"
        )


def load_weights(net: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load all weights of a network; an error names what does not fit."""
    check_weights(net, tensors, where)
    net.load_state_dict(dict(tensors), strict=True)
    for name, tensor in net.state_dict().items():  # in the types of the network: 1e300 is infinite there
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{where}: {name} holds values that are not finite; train the run again")


def _problems(net: torch.nn.Module, tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """What is missing, what is unknown, what has another shape, and what holds other than real numbers."""
    expected = net.state_dict()
    resizable = net.resizable_buffers() if isinstance(net, Network) else frozenset()
    compared = expected.keys() & tensors.keys() - resizable
    problems = [
        [f"{name} is missing" for name in sorted(expected.keys() - tensors.keys())],
        [f"{name} is unknown" for name in sorted(tensors.keys() - expected.keys())],
        [
            f"{name} has shape {list(tensors[name].shape)}, not {list(expected[name].shape)}"
            for name in sorted(compared)
            if expected[name].shape != tensors[name].shape
        ],
        [
            f"{name} holds {tensors[name].dtype}, not {expected[name].dtype}"
            for name in sorted(compared)
            if expected[name].is_floating_point() != tensors[name].is_floating_point()
        ],
    ]
    return problems if any(problems) else []
