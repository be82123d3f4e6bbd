"""System 1's CNN with a GRU beside it: the parameters of the original, and how far each part sees."""

import pytest
import torch

from survey.models.cnngru import Net, Options
from survey.models.network import Task
from survey.settings import SettingsError

ONE = Task("reg", ("MgFe",))


@pytest.mark.parametrize(("recurrent", "parameters"), [(True, 171_073), (False, 112_961)])
def test_it_has_the_parameters_of_the_original(recurrent: bool, parameters: int) -> None:
    assert sum(p.numel() for p in Net(3921, ONE, Options(recurrent=recurrent)).parameters()) == parameters


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize(("changed", "seen"), [(0, -1), (-1, 0)])
def test_only_the_gru_carries_one_end_of_a_spectrum_to_the_other(
    recurrent: bool, changed: int, seen: int
) -> None:
    torch.manual_seed(0)
    net = Net(256, ONE, Options(recurrent=recurrent)).double().eval()
    merged = []
    net.merge.register_forward_hook(lambda _module, _given, made: merged.append(made))
    flux = torch.ones(2, 256, dtype=torch.float64)
    flux[1, changed] = 1e3  # far beyond a spectrum: the memory fades over 128 steps
    net(flux, flux)
    assert torch.equal(merged[0][0, :, seen], merged[0][1, :, seen]) != recurrent


def test_batch_norms_follow_new_batches_quickly() -> None:
    momenta = {
        layer.momentum
        for layer in Net(256, ONE, Options()).modules()
        if isinstance(layer, torch.nn.BatchNorm1d)
    }
    assert momenta == {0.5}


def test_a_dropout_of_all_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"dropout\.1: 1.0"):
        Options.checked("cnngru", {"dropout": [0.2, 1.0]})
    assert Options.checked("cnngru", {"dropout": [0.2, 0]}).dropout == (0.2, 0)
