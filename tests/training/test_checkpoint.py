"""Tensors and documents in one file, and how weights are checked."""

from pathlib import Path

import pytest
import torch
from torch import nn

from survey.training import checkpoint


def new_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def new_optimiser(name: str, net: nn.Module) -> torch.optim.Optimizer:
    if name == "AdamW":
        return torch.optim.AdamW(net.parameters(), lr=0.01)
    kind = torch.optim.SGD if name == "SGD" else torch.optim.RMSprop
    return kind(net.parameters(), lr=0.01, momentum=0.9)


def run_steps(steps: range, net: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    for number in steps:
        torch.manual_seed(number)
        optimiser.zero_grad()
        net(torch.randn(8, 3)).square().mean().backward()
        optimiser.step()


def test_tensors_and_their_document_come_back(tmp_path: Path) -> None:
    path, document = str(tmp_path / "a.safetensors"), {"epoch": 3, "best": None, "history": [{"loss": 0.5}]}
    checkpoint.write_tensors(path, new_net().state_dict(), document)
    tensors, read = checkpoint.read_tensors(path)
    assert read == document
    assert all(torch.equal(value, tensors[name]) for name, value in new_net().state_dict().items())


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop"])
def test_an_optimiser_continues_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    undisturbed = new_net()
    run_steps(range(6), undisturbed, new_optimiser(name, undisturbed))
    stopped = new_net()
    optimiser = new_optimiser(name, stopped)
    run_steps(range(3), stopped, optimiser)
    path = str(tmp_path / "a.safetensors")
    net = {f"net.{name}": value for name, value in stopped.state_dict().items()}
    checkpoint.write_tensors(path, net | checkpoint.optimiser_tensors(optimiser), {})

    tensors, _ = checkpoint.read_tensors(path)
    resumed = new_net()
    checkpoint.load_weights(resumed, checkpoint.without_prefix(tensors, "net."), path)
    later = new_optimiser(name, resumed)
    checkpoint.restore_optimiser(later, tensors)
    run_steps(range(3, 6), resumed, later)
    pairs = zip(undisturbed.parameters(), resumed.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_a_damaged_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.write_tensors(str(path), new_net().state_dict(), {})
    raw = path.read_bytes()
    message = r"is damaged, or no safetensors file .*; remove it and run the job again"
    for damaged in (b"", raw[:5], raw[:-3], b"\xff" * 40, raw[:8] + b"{" * 20 + raw[28:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            checkpoint.read_tensors(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": None}, "0.weight is missing"),
        ({"new": torch.zeros(1)}, "new is unknown"),
        ({"0.weight": torch.zeros(4, 5)}, r"0.weight has shape \[4, 5\], not \[4, 3\]"),
        ({"0.weight": torch.full((4, 3), torch.nan)}, "0.weight holds values that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    change: dict[str, torch.Tensor | None], message: str
) -> None:
    weights = new_net().state_dict() | change
    given = {name: value for name, value in weights.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        checkpoint.load_weights(new_net(), given, "here")
