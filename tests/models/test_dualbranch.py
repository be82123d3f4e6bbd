"""The dual-branch network: every part may be left out, and each does what it is described to do."""

from typing import Any

import pytest
import torch

from survey.models.dualbranch import Backbone, Net, Options
from survey.models.dualbranch_layers import Adjuster, Fusion, convolution, mean_shares, steps_after
from survey.models.network import Outputs
from survey.models.settings import Task
from survey.settings import SettingsError

TWO = Task("cls_reg", ("FeH", "CFe"), sigma=True)
SMALL: dict[str, Any] = {
    "backbone": {"channels": [8, 16], "repeats": [1, 1], "strides": [1, 2]},
    "global_branch": {"channels": 8},
    "local_branch": {"channels": [4, 8], "kernels": [[3, 5], [3]], "strides": [1, 2], "reduction": 4},
    "width": 8,
    "hidden": [16, 8],
}
LEFT_OUT = [
    (),
    ("backbone",),
    ("global_branch",),
    ("local_branch",),
    ("backbone", "global_branch"),
    ("global_branch", "local_branch"),
]


def build(pixels: int = 301, **options: Any) -> Net:
    torch.manual_seed(0)
    return Net(pixels, TWO, Options.from_dict("dualbranch", SMALL | options))


def predict(net: Net, rows: int = 2) -> Outputs:
    flux = 1 + 0.1 * torch.randn(rows, net.pixels)
    outputs: Outputs = net(flux, torch.ones_like(flux))
    return outputs


@pytest.mark.parametrize("head", ["pyramid", "plain"])
@pytest.mark.parametrize("fusion", ["add", "concat", "cross_attention"])
@pytest.mark.parametrize("missing", LEFT_OUT, ids=lambda names: "+".join(names) or "none")
def test_without_any_part_the_others_predict_and_learn(
    missing: tuple[str, ...], fusion: str, head: str
) -> None:
    left_out: dict[str, Any] = dict.fromkeys(missing)
    net = build(fusion=fusion, head=head, **left_out)
    outputs = predict(net)
    shapes = {name: tuple(outputs[name].shape) for name in ("logits", "mu", "log_var")}
    assert shapes == {"logits": (2, 3), "mu": (2, 2), "log_var": (2, 2)}
    torch.autograd.backward([outputs[name].square().sum() for name in shapes])
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_without_backbone_and_branches_nothing_is_left() -> None:
    message = r"local_branch: backbone, global_branch and local_branch are all null; keep one"
    with pytest.raises(SettingsError, match=message):
        Options.from_dict("dualbranch", {"backbone": None, "global_branch": None, "local_branch": None})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 3}, "heads: 3: does not divide the width 64"),
        (
            {"backbone": {"repeats": [1, 2]}},
            r"backbone\.repeats: \[1, 2\]: has 2 entries, channels has 4",
        ),
        ({"local_branch": {"kernels": [[3], [3], [4]]}}, r"local_branch\.kernels\.2\.0: 4: is even"),
        ({"backbone": {"wide": 3}}, r"backbone\.wide: unknown setting"),
        ({"fusion": "film"}, "fusion: 'film'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Options.from_dict("dualbranch", values)


def test_heads_that_do_not_divide_the_channels_of_the_backbone_are_refused() -> None:
    with pytest.raises(ValueError, match="5 heads do not divide 16 channels"):
        build(global_branch={"heads": 5})


def test_too_few_pixels_or_steps_are_an_error_that_gives_the_least() -> None:
    with pytest.raises(ValueError, match="dualbranch: spectra have 255 pixels, it needs at least 256; take"):
        build(255)
    message = "dualbranch: the pyramid gets 2 steps, it needs at least 4; take smaller strides"
    with pytest.raises(ValueError, match=message):
        build(256, backbone=None, patch=64)
    assert predict(build(256, backbone=None, patch=64, head="plain"))["mu"].shape == (2, 2)


def test_a_backbone_with_one_given_setting_keeps_the_other_defaults() -> None:
    assert Options.from_dict("dualbranch", {"backbone": {"stem": 8}}).backbone == Backbone(stem=8)


def test_the_default_reduces_4900_pixels_to_77_steps_before_the_head() -> None:
    torch.manual_seed(0)
    net = Net(4900, TWO, Options()).eval()
    with torch.inference_mode():
        outputs = predict(net, 1)
    assert outputs["attention"].shape == (1, 77, 77)
    torch.testing.assert_close(outputs["attention"].sum(2), torch.ones(1, 77))
    assert outputs["latent"].shape == (1, 3 * 32)


@pytest.mark.parametrize("steps", [4, 5, 7, 18])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_computed_number_of_steps_is_that_of_a_convolution(steps: int, stride: int, kernel: int) -> None:
    output = convolution(1, 1, kernel, stride)(torch.rand(2, 1, steps))
    assert output.shape[2] == steps_after(steps, (stride,))


def test_an_adjuster_gives_means_over_the_new_steps() -> None:
    x = torch.randn(2, 3, 12)
    torch.testing.assert_close(Adjuster(3, 12, 3, 4)(x), torch.nn.functional.adaptive_avg_pool1d(x, 4))
    expected = torch.tensor([[0.4, 0], [0.4, 0], [0.2, 0.2], [0, 0.4], [0, 0.4]])
    torch.testing.assert_close(mean_shares(5, 2), expected)
    torch.testing.assert_close(mean_shares(154, 77).sum(0), torch.ones(77))
    torch.testing.assert_close(mean_shares(307, 77).mean(1), torch.full((307,), 1 / 307))


def test_branches_are_added_or_joined_by_a_convolution() -> None:
    torch.manual_seed(0)
    far, near = torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    torch.testing.assert_close(Fusion([(4, 6), (4, 6)], 4, "add", 2)([far, near]), far + near)
    joined = Fusion([(4, 6), (4, 6)], 4, "concat", 2)
    assert joined.join is not None
    assert joined.join.bias is not None
    weight, bias = joined.join.weight[:, :, 0], joined.join.bias
    expected = torch.einsum("oc,bct->bot", weight, torch.cat([far, near], 1)) + bias[:, None]
    torch.testing.assert_close(joined([far, near]), expected)


def test_in_cross_attention_each_step_of_the_global_branch_attends_to_the_local_branch() -> None:
    torch.manual_seed(0)
    fusion = Fusion([(4, 6), (4, 9)], 4, "cross_attention", 2)
    far, near = torch.randn(2, 4, 6), torch.randn(2, 4, 9)
    torch.testing.assert_close(fusion([far, near]), fusion([far, near[:, :, torch.randperm(9)]]))
    swapped = [1, 0, 2, 3, 4, 5]
    torch.testing.assert_close(fusion([far[:, :, swapped], near]), fusion([far, near])[:, :, swapped])
    assert (fusion([far, near + 1]) - fusion([far, near])).abs().max() > 1e-3


def test_the_classes_and_each_label_have_their_own_perceptron() -> None:
    net = build()
    torch.autograd.backward(predict(net)["mu"][:, 1].sum())
    with_gradient = [
        any(p.grad is not None and bool(p.grad.any()) for p in heads.parameters())
        for heads in net.heads.get_submodule("outputs").children()
    ]
    assert with_gradient == [False, False, True]
