"""Networks under torch.compile.

The tests check that their code can be traced. They make no machine code, which takes minutes.
"""

from collections.abc import Iterator

import pytest
import torch

from survey import plugins
from survey.models.settings import Task
from tests.models.batches import TRAINED, images


@pytest.fixture(autouse=True)
def reset_compiler() -> Iterator[None]:
    """All networks share one `forward`, of which torch keeps only eight compiled forms."""
    yield
    torch.compiler.reset()


@pytest.mark.long
@pytest.mark.parametrize("name", TRAINED)
def test_a_compiled_network_gives_the_same_outputs(name: str) -> None:
    module = plugins.load("models", name)
    shape = (3, 32, 32)
    image = (shape,) if "image" in module.Net.extra_inputs else ()
    net = module.Net(256, Task("cls_reg", ("FeH", "CFe"), sigma=True), module.Options(), *image).eval()
    flux = 1 + 0.1 * torch.randn(2, 256)
    batch = flux, torch.ones_like(flux), flux, images(2, shape)
    # Recurrent layers are not traced; they run as they are, between two traced parts.
    recurrent = any(isinstance(layer, torch.nn.RNNBase) for layer in net.modules())
    with torch.no_grad():
        compiled = torch.compile(net, backend="eager", fullgraph=not recurrent)(*batch)
        expected = net(*batch)
    assert list(compiled) == list(expected)
    for output, value in expected.items():
        torch.testing.assert_close(compiled[output], value)
