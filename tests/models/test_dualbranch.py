"""The dual-branch network: every part may be left out, and each does what it says."""

from typing import Any

import pytest
import torch

from survey.models.dualbranch import Adjuster, Backbone, Fusion, Net, Options, fewer, normed, shares
from survey.models.network import Answers, Task
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


def net(pixels: int = 301, **options: Any) -> Net:
    torch.manual_seed(0)
    return Net(pixels, TWO, Options.checked("dualbranch", SMALL | options))


def answered(made: Net, rows: int = 2) -> Answers:
    flux = 1 + 0.1 * torch.randn(rows, made.pixels)
    answers: Answers = made(flux, torch.ones_like(flux))
    return answers


@pytest.mark.parametrize("head", ["pyramid", "plain"])
@pytest.mark.parametrize("fusion", ["add", "concat", "cross_attention"])
@pytest.mark.parametrize("missing", LEFT_OUT, ids=lambda names: "+".join(names) or "none")
def test_whatever_part_is_left_out_the_rest_answers_and_learns(
    missing: tuple[str, ...], fusion: str, head: str
) -> None:
    left_out: dict[str, Any] = dict.fromkeys(missing)
    made = net(fusion=fusion, head=head, **left_out)
    answers = answered(made)
    assert {name: tuple(answers[name].shape) for name in ("logits", "mu", "log_var")} == {
        "logits": (2, 3),
        "mu": (2, 2),
        "log_var": (2, 2),
    }
    torch.autograd.backward([answers[name].square().sum() for name in ("logits", "mu", "log_var")])
    assert [
        name for name, p in made.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ] == []


def test_without_backbone_and_branches_nothing_remains() -> None:
    with pytest.raises(
        SettingsError,
        match=r"dualbranch: local_branch: None: backbone, global_branch and local_branch are all null; keep one",
    ):
        Options.checked("dualbranch", {"backbone": None, "global_branch": None, "local_branch": None})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"heads": 3}, "heads: 3: does not divide the width 64"),
        (
            {"backbone": {"repeats": [1, 2]}},
            r"backbone\.repeats: \[1, 2\]: holds 2 entries, channels 4; give as many",
        ),
        ({"local_branch": {"kernels": [[3], [3], [4]]}}, r"local_branch\.kernels\.2\.0: 4: is even"),
        ({"backbone": {"wide": 3}}, r"backbone\.wide: unknown setting"),
        ({"fusion": "film"}, "fusion: 'film'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Options.checked("dualbranch", given)


def test_heads_that_do_not_divide_the_channels_of_the_backbone_are_refused() -> None:
    with pytest.raises(ValueError, match="5 heads do not divide 16 channels"):
        net(global_branch={"heads": 5})


def test_too_few_pixels_or_steps_are_an_error_that_says_what_would_do() -> None:
    with pytest.raises(ValueError, match="dualbranch: spectra of 255 pixels; it needs at least 256; take"):
        net(255)
    with pytest.raises(
        ValueError, match="dualbranch: 2 steps come to the pyramid, which needs 4; take smaller strides"
    ):
        net(256, backbone=None, patch=64)
    assert answered(net(256, backbone=None, patch=64, head="plain"))["mu"].shape == (2, 2)


def test_a_part_given_in_part_keeps_the_rest_of_its_defaults() -> None:
    assert Options.checked("dualbranch", {"backbone": {"stem": 8}}).backbone == Backbone(stem=8)


def test_the_default_reduces_4900_pixels_to_77_steps_before_the_head() -> None:
    torch.manual_seed(0)
    made = Net(4900, TWO, Options()).eval()
    with torch.inference_mode():
        answers = answered(made, 1)
    assert answers["attention"].shape == (1, 77, 77)
    torch.testing.assert_close(answers["attention"].sum(2), torch.ones(1, 77))
    assert answers["latent"].shape == (1, 3 * 32)


@pytest.mark.parametrize("steps", [4, 5, 7, 18])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_steps_are_foreseen_as_convolutions_leave_them(steps: int, stride: int, kernel: int) -> None:
    assert normed(1, 1, kernel, stride)(torch.rand(2, 1, steps)).shape[2] == fewer(steps, (stride,))


def test_an_adjuster_gives_means_over_the_new_steps() -> None:
    x = torch.randn(2, 3, 12)
    torch.testing.assert_close(Adjuster(3, 12, 3, 4)(x), torch.nn.functional.adaptive_avg_pool1d(x, 4))
    torch.testing.assert_close(
        shares(5, 2), torch.tensor([[0.4, 0], [0.4, 0], [0.2, 0.2], [0, 0.4], [0, 0.4]])
    )
    torch.testing.assert_close(shares(154, 77).sum(0), torch.ones(77))
    torch.testing.assert_close(shares(307, 77).mean(1), torch.full((307,), 1 / 307))


def test_added_branches_are_summed_and_joined_ones_mixed() -> None:
    torch.manual_seed(0)
    far, near = torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    torch.testing.assert_close(Fusion([(4, 6), (4, 6)], 4, "add", 2)([far, near]), far + near)
    joined = Fusion([(4, 6), (4, 6)], 4, "concat", 2)
    assert joined.join is not None
    wanted = (
        torch.einsum("oc,bct->bot", joined.join.weight[:, :, 0], torch.cat([far, near], 1))
        + joined.join.bias[:, None]
    )  # type: ignore[index]
    torch.testing.assert_close(joined([far, near]), wanted)


def test_in_cross_attention_the_global_branch_asks_and_the_local_one_answers_step_by_step() -> None:
    torch.manual_seed(0)
    fusion = Fusion([(4, 6), (4, 9)], 4, "cross_attention", 2)
    far, near = torch.randn(2, 4, 6), torch.randn(2, 4, 9)
    torch.testing.assert_close(fusion([far, near]), fusion([far, near[:, :, torch.randperm(9)]]))
    moved = fusion([far[:, :, [1, 0, 2, 3, 4, 5]], near])
    torch.testing.assert_close(moved, fusion([far, near])[:, :, [1, 0, 2, 3, 4, 5]])
    assert (fusion([far, near + 1]) - fusion([far, near])).abs().max() > 1e-3


def test_each_answer_has_a_perceptron_of_its_own() -> None:
    made = net()
    torch.autograd.backward(answered(made)["mu"][:, 1].sum())
    reached = [
        any(p.grad is not None and p.grad.any() for p in answer.parameters())
        for answer in made.heads.get_submodule("answers").children()
    ]
    assert reached == [False, False, True]
