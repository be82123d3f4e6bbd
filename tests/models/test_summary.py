"""The cost of a network, against operations counted by hand and values measured on the originals."""

import pytest
import torch
from torch import Tensor, nn

from survey import plugins
from survey.models import summary
from survey.models.inception_layers import MultiHeadAttention
from survey.models.network import Network, Outputs
from survey.models.settings import Task
from survey.models.summary import LayerCost
from survey.settings import Settings
from tests.models.batches import TRAINED, count_parameters

LABELS = Task("reg", ("FeH", "CH", "Teff", "logg", "CFe"))


class Toy(Network):
    """A convolution, a frozen layer in a list, LSTM, attention, GRU, and a product of its own."""

    def __init__(self, pixels: int = 10) -> None:
        super().__init__(pixels, Task("reg", ("FeH",)), Settings())
        self.stem = nn.Conv1d(1, 4, 3, padding=1)
        self.rows = nn.ModuleList([nn.Linear(4, 4).requires_grad_(False)])
        self.lstm = nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)
        self.attention = MultiHeadAttention(6, 2)
        self.gru = nn.GRU(6, 5)
        self.scale = nn.Parameter(torch.ones(5, 5))
        self.heads = nn.Linear(5, 1)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        x_BTC, _ = self.lstm(self.rows[0](self.stem(flux_BP[:, None]).transpose(1, 2)))
        _, last_1BC = self.gru(self.attention(x_BTC, x_BTC).transpose(0, 1))
        return {"mu": self.heads(last_1BC[0] @ self.scale)}


BY_HAND = {
    "stem": (3 * 4 + 4, 2 * 10 * 3 * 4),
    "rows": (4 * 4 + 4, 2 * 10 * 4 * 4),
    "lstm": (2 * (12 * (4 + 3) + 24) + 2 * (12 * (6 + 3) + 24), 2 * 10 * 2 * (12 * (4 + 3) + 12 * (6 + 3))),
    "attention": (4 * 36 + 6 + 12, 2 * 10 * 4 * 36 + 2 * 2 * 10 * 10 * 6),
    "gru": (15 * (6 + 5) + 30, 2 * 10 * 15 * (6 + 5)),
    "heads": (6, 2 * 5),
    summary.BETWEEN: (25, 2 * 25),
}
"""Parameters and operations of each part."""


def test_parts_have_the_parameters_and_operations_counted_by_hand() -> None:
    expected = [
        LayerCost(name, size, 0 if name == "rows" else size, flops) for name, (size, flops) in BY_HAND.items()
    ]
    assert summary.layer_costs(Toy()) == expected
    assert summary.megaflop(Toy()) == sum(flops for _, flops in BY_HAND.values()) / 1e6


def test_the_network_itself_is_not_changed() -> None:
    net = Toy().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flux, random_state = torch.rand(2, 10), torch.get_rng_state()
    expected = net(flux, flux)["mu"]
    summary.layer_costs(net)
    assert net.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    torch.testing.assert_close(net(flux, flux)["mu"], expected)


def test_the_table_is_aligned_and_ends_in_the_total() -> None:
    first, head, *rows, last = summary.cost_table(Toy(2000)).splitlines()
    assert first == "test_summary: reg FeH, 2,000 pixels"
    assert head.split() == ["part", "parameters", "trained", "MFLOP", "share"]
    assert [row.split()[0] for row in rows] == list(BY_HAND)
    assert len({len(line) for line in (head, *rows, last)}) == 1
    parameters = sum(size for size, _ in BY_HAND.values())
    megaflop = f"{summary.megaflop(Toy(2000)):,.2f}"
    assert last.split() == ["total", f"{parameters:,}", f"{parameters - 20:,}", megaflop, "100.0%"]


@pytest.mark.parametrize("name", plugins.names("models"))
def test_the_parts_of_every_network_add_up(name: str) -> None:
    module = plugins.load("models", name)
    image = ((3, 32, 32),) if "image" in module.Net.extra_inputs else ()
    net = module.Net(300, LABELS, module.Options(), *image)
    rows = summary.layer_costs(net)
    assert sum(row.parameters for row in rows) == count_parameters(net)
    assert sum(row.flops for row in rows) == pytest.approx(1e6 * summary.megaflop(net))
    assert all(row.flops >= 0 for row in rows)
    has_between = summary.BETWEEN in [row.name for row in rows]
    assert not has_between or name not in TRAINED or net.terms, "losses of its own are between the layers"


@pytest.mark.parametrize(
    ("name", "measured"), [("mpbdnet", 1268), ("rrnet", 122), ("starnet", 12), ("bganet", 4.6)]
)
def test_the_networks_cost_what_was_measured_on_the_originals(name: str, measured: float) -> None:
    """With 2 operations per multiply-add."""
    module = plugins.load("models", name)
    net = module.Net(4900, LABELS, module.Options())
    assert summary.megaflop(net) == pytest.approx(measured, rel=0.01)
