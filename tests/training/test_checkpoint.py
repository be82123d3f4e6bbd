from pathlib import Path

import pytest
import torch
from torch import nn

from survey.training import checkpoint


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def test_tensors_and_what_is_known_of_them_come_back(tmp_path: Path):
    path = str(tmp_path / "a.safetensors")
    checkpoint.write_tensors(path, net().state_dict(), {"epoch": 3, "best": None, "history": [{"loss": 0.5}]})
    tensors, about = checkpoint.read_tensors(path)
    assert about == {"epoch": 3, "best": None, "history": [{"loss": 0.5}]}
    assert all(torch.equal(value, tensors[name]) for name, value in net().state_dict().items())


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop"])
def test_an_optimiser_goes_on_as_if_it_had_never_stopped(name: str, tmp_path: Path):
    def go(count: int, own: nn.Module, optimiser: torch.optim.Optimizer, first: int = 0) -> None:
        for number in range(first, first + count):
            torch.manual_seed(number)
            optimiser.zero_grad()
            own(torch.randn(8, 3)).square().mean().backward()
            optimiser.step()

    def make(own: nn.Module) -> torch.optim.Optimizer:
        return getattr(torch.optim, name)(
            own.parameters(), lr=0.01, **({} if name == "AdamW" else {"momentum": 0.9})
        )

    through = net()
    go(6, through, make(through))
    half = net()
    optimiser = make(half)
    go(3, half, optimiser)
    path = str(tmp_path / "a.safetensors")
    checkpoint.write_tensors(
        path,
        {f"net.{name}": value for name, value in half.state_dict().items()}
        | checkpoint.optimiser_tensors(optimiser),
        {},
    )
    tensors, _ = checkpoint.read_tensors(path)
    again = net()
    checkpoint.load_strictly(again, checkpoint.below(tensors, "net."), path)
    later = make(again)
    checkpoint.restore_optimiser(later, tensors)
    go(3, again, later, 3)
    assert all(
        torch.equal(one, two) for one, two in zip(through.parameters(), again.parameters(), strict=True)
    )


def test_a_damaged_file_is_told_of(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    checkpoint.write_tensors(str(path), net().state_dict(), {})
    whole = path.read_bytes()
    for damage in (b"", whole[:5], whole[:-3], b"\xff" * 40, whole[:8] + b"{" * 20 + whole[28:]):
        path.write_bytes(damage)
        with pytest.raises(
            ValueError, match=r"no sound safetensors file .*; remove it and run the job again"
        ):
            checkpoint.read_tensors(str(path))


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path):
    weights = net().state_dict()
    for change, told in (
        ({"0.weight": None}, "0.weight is missing"),
        ({"new": torch.zeros(1)}, "new is unknown"),
        ({"0.weight": torch.zeros(4, 5)}, r"0.weight has shape \[4, 5\], not \[4, 3\]"),
        ({"0.weight": torch.full((4, 3), torch.nan)}, "0.weight holds values that are not finite"),
    ):
        changed = {name: value for name, value in (weights | change).items() if value is not None}
        with pytest.raises(ValueError, match=told):
            checkpoint.load_strictly(net(), changed, "here")
