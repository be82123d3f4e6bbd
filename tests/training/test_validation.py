"""A validation compares as many spectra with one another as a step of the training does."""

import numpy as np
import pytest
import torch
from torch import Tensor

from survey.models import fusion, views
from survey.models.network import Network
from survey.models.settings import Task
from survey.training.batches import Spectra
from survey.training.validation import network_outputs, portions

CPU = torch.device("cpu")


class Counting(Network):
    """A network whose own loss is the number of rows that it saw together."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, flux_BP: Tensor, *_: object) -> dict[str, Tensor]:
        rows = torch.full((len(flux_BP), 1), float(len(flux_BP)))
        return {"own_loss": rows, "mu": flux_BP}


def spectra(count: int) -> Spectra:
    return Spectra(torch.arange(count)[:, None].float(), torch.ones(count, 1))


@pytest.mark.parametrize("count", [32, 33, 63, 300])
def test_all_rows_are_compared_with_as_many_and_come_once_and_in_order(count: int) -> None:
    outputs = network_outputs(Counting(), [spectra(count)], CPU, "float32", piece=32)
    assert set(outputs["own_loss"].flatten().tolist()) == {32}
    assert outputs["mu"].flatten().tolist() == list(range(count))


def test_fewer_rows_than_a_piece_are_compared_as_they_are() -> None:
    assert len(network_outputs(Counting(), [spectra(5)], CPU, "float32", piece=32)["mu"]) == 5


@pytest.mark.parametrize("count", [0, 1, 100, 4096, 4100, 9000, 4095 * 2 + 31])
def test_portions_hold_whole_pieces_so_that_streaming_compares_what_loaded_spectra_do(count: int) -> None:
    rows = np.arange(2 * count).reshape(-1, 2)
    parts = list(portions(rows, 4096, 63))
    assert all(len(part) % 63 == 0 for part in parts[:-1])
    assert not len(parts) > 1 or len(parts[-1]) >= 63
    assert np.array_equal(np.concatenate([rows[:0], *parts]), rows)


def test_the_losses_of_a_validation_are_those_of_batches_of_the_training() -> None:
    torch.manual_seed(0)
    image = torch.randint(1, 255, (70, 3, 32, 32), dtype=torch.uint8)
    both = Spectra(1 + 0.1 * torch.randn(70, 500), torch.ones(70, 500), None, image)
    alone = Spectra(torch.zeros(70, 0), torch.zeros(70, 0), None, image)
    shape, options = (3, 32, 32), fusion.Options(width=32, layers=1)
    cases: tuple[tuple[Network, Spectra], ...] = (
        (fusion.Net(500, Task("cls", (), 5), options, shape), both),
        (views.Net(0, Task("none"), views.Options(channels=(8, 16)), shape), alone),
    )
    for net, seen in cases:
        found = network_outputs(net, [seen], CPU, "float32", piece=16)["terms"]
        for first, last in ((0, 16), (48, 64), (54, 70)):
            expected = network_outputs(net, [seen[first:last]], CPU, "float32")["terms"]
            skipped = 10 if first == 54 else 0  # rows that an earlier piece has
            assert torch.allclose(found[first + skipped : last], expected[skipped:], atol=1e-4)
