"""The CNN with a GRU of system 1: the parameters of the original, and how far each part sees."""

import pytest
import torch

from survey.models.cnngru import Net, Options
from survey.models.settings import Task
from survey.settings import SettingsError
from tests.models.batches import count_parameters

ONE = Task("reg", ("MgFe",))


@pytest.mark.parametrize(("recurrent", "parameters"), [(True, 171_073), (False, 112_961)])
def test_it_has_the_parameters_of_the_original(recurrent: bool, parameters: int) -> None:
    assert count_parameters(Net(3921, ONE, Options(recurrent=recurrent))) == parameters


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize(("changed", "seen"), [(0, -1), (-1, 0)])
def test_only_the_gru_connects_both_ends_of_a_spectrum(recurrent: bool, changed: int, seen: int) -> None:
    torch.manual_seed(0)
    net = Net(256, ONE, Options(recurrent=recurrent)).double().eval()
    merged = []
    net.merge.register_forward_hook(lambda _module, _inputs, output: merged.append(output))
    flux = torch.ones(2, 256, dtype=torch.float64)
    flux[1, changed] = 1e3  # much more than in a spectrum, because the memory fades over 128 steps
    net(flux, flux)
    assert torch.equal(merged[0][0, :, seen], merged[0][1, :, seen]) != recurrent


def test_batch_norms_follow_new_batches_quickly() -> None:
    norms = [layer for layer in Net(256, ONE, Options()).modules() if isinstance(layer, torch.nn.BatchNorm1d)]
    assert {norm.momentum for norm in norms} == {0.5}


def test_a_dropout_of_everything_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"dropout\.1: 1.0"):
        Options.from_dict("cnngru", {"dropout": [0.2, 1.0]})
    assert Options.from_dict("cnngru", {"dropout": [0.2, 0]}).dropout == (0.2, 0)
