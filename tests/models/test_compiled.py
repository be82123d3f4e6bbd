"""Networks under torch.compile. What is tested is that their code can be traced; machine code is left to torch, as making it takes minutes."""

from collections.abc import Iterator

import pytest
import torch

from survey import plugins
from survey.models.network import Task
from tests.models.batches import TRAINED


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """All networks share one `forward`, of which torch keeps eight compiled forms before it gives up."""
    yield
    torch.compiler.reset()


@pytest.mark.long
@pytest.mark.parametrize("name", TRAINED)
def test_a_compiled_network_answers_as_it_did(name: str) -> None:
    module = plugins.load("models", name)
    net = module.Net(256, Task("cls_reg", ("FeH", "CFe"), sigma=True), module.Options()).eval()
    flux = 1 + 0.1 * torch.randn(2, 256)
    batch = flux, torch.ones_like(flux), flux if net.inputs else None
    recurrent = any(
        isinstance(layer, torch.nn.RNNBase) for layer in net.modules()
    )  # these are run as they are, between two traced parts
    with torch.no_grad():
        compiled = torch.compile(net, backend="eager", fullgraph=not recurrent)(*batch)  # type: ignore[no-untyped-call]
        wanted = net(*batch)
    assert list(compiled) == list(wanted)
    for answer, value in wanted.items():
        torch.testing.assert_close(compiled[answer], value)
