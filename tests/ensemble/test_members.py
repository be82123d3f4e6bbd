"""Members answer together as each run does alone, with dropout on or off."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from survey import plugins
from survey.ensemble.combine import Weights, concatenate
from survey.ensemble.members import (
    Members,
    check_passes,
    dropout_layers,
    dropout_on,
    open_members,
)
from survey.models.network import FeatureDropout, Heads, Network, Outputs
from survey.models.settings import Task
from survey.settings import Settings, SettingsError
from survey.spectrum import Grid
from survey.store.store import open_store
from survey.training.batches import Spectra, read_spectra
from survey.training.run import Run, RunDocument
from survey.training.scaling import Scaling
from tests.ensemble import small_runs
from tests.ensemble.random_members import combined
from tests.finished import change_document
from tests.models import batches

PIXELS = 301
every_net = pytest.mark.parametrize(
    "name", [name for name in plugins.names("models") if name not in batches.OF_IMAGES]
)
ARRAYS = ("p_MNC", "value_MNL", "var_data_MNL", "var_passes_MNL", "pass_entropy_MN")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.place(tmp_path_factory.mktemp("members"), *small_runs.KINDS)


@pytest.fixture(scope="module")
def members(folder: Path) -> Members:
    return open_members([str(folder / kind) for kind in small_runs.KINDS])


@pytest.fixture(scope="module")
def spectra(folder: Path) -> Spectra:
    return read_spectra(open_store(str(folder / "store")), np.array([(row % 3, row) for row in range(40)]))


class Toy(Network):
    """One linear layer after dropout: the scatter of its passes is known."""

    def __init__(self, pixels: int, p: float) -> None:
        super().__init__(pixels, Task("reg", ("FeH",)), Settings())
        self.drop, self.heads = FeatureDropout(p), Heads(0, pixels, self.task)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        dropped_BP = self.drop(flux_BP)
        outputs: Outputs = self.heads(dropped_BP, dropped_BP) | {"latent": flux_BP}
        return outputs


def toy(p: float = 0.25, scale: float = 3.0, kind: type[Toy] = Toy) -> Members:
    torch.manual_seed(5)
    net = kind(8, p).eval()
    fields: dict[str, Any] = {
        "grid": Grid(4000.0, 4007.0, 1.0),
        "classes": (),
        "task": net.task,
        "scaling": Scaling(("FeH",), ("standard",), np.array([-1.0]), np.array([scale])),
    }
    document = RunDocument.model_construct(**fields)
    return Members((Run("toy", document, net, torch.device("cpu")),))


def flat_spectra(rows: int = 3) -> Spectra:
    flux = torch.linspace(0.2, 1.5, rows * 8).reshape(rows, 8)
    return Spectra(flux, torch.ones_like(flux))


def test_members_answer_together_as_each_run_does_alone(members: Members, spectra: Spectra) -> None:
    answers, latents = members.predict(spectra)
    assert members.labels == ("FeH", "CFe", "Teff")
    for number, run in enumerate(members.runs):
        alone = run.predict(spectra, "float32")
        columns = [members.labels.index(name) for name in run.labels]
        wanted = {
            "p_MNC": alone.get("p"),
            "value_MNL": alone.get("mu"),
            "var_data_MNL": None if "sigma" not in alone else alone["sigma"] ** 2,
        }
        for name, array in wanted.items():
            found = getattr(answers, name)[number]
            if array is None:
                assert np.isnan(found).all()
            else:
                assert np.array_equal(found if name == "p_MNC" else found[:, columns], array)
        others = [column for column in range(len(members.labels)) if column not in columns]
        assert np.isnan(answers.value_MNL[number][:, others]).all()
        assert np.array_equal(latents[number], alone["latent"])
    assert np.array_equal(
        answers.var_passes_MNL, np.where(np.isnan(answers.value_MNL), np.nan, 0), equal_nan=True
    )


def test_answers_do_not_depend_on_the_batches(members: Members, spectra: Spectra) -> None:
    at_once, _ = members.predict(spectra)
    parts = concatenate(
        [members.predict(spectra[start : start + 11], batch=7)[0] for start in range(0, 40, 11)]
    )
    for name in ARRAYS:
        assert np.allclose(getattr(at_once, name), getattr(parts, name), rtol=1e-4, atol=1e-5, equal_nan=True)


def test_answers_about_a_store_have_the_order_of_the_rows(folder: Path, members: Members) -> None:
    shard_row_N2 = np.array([(2, 5), (0, 7), (2, 1)])
    answers, latents = members.predict_store(str(folder / "store"), shard_row_N2, "predict")
    single = [
        members.predict(read_spectra(open_store(str(folder / "store")), row[None]))[0] for row in shard_row_N2
    ]
    assert np.allclose(answers.value_MNL, concatenate(single).value_MNL, rtol=1e-4, equal_nan=True)
    assert [len(latent_ND) for latent_ND in latents] == [3] * 5


def test_answers_about_no_spectra_have_the_right_widths(members: Members, spectra: Spectra) -> None:
    answers, latents = members.predict(spectra[:0])
    usual, others = members.predict(spectra[:2])
    assert len(answers) == 0
    assert answers.p_MNC.shape == (5, 0, 3)
    assert [latent_ND.shape[1] for latent_ND in latents] == [latent_ND.shape[1] for latent_ND in others]
    assert usual.labels == answers.labels


def test_sixteen_bits_give_nearly_the_same_answers(members: Members, spectra: Spectra) -> None:
    full, low = (members.predict(spectra, precision=precision)[0] for precision in ("float32", "bf16"))
    assert np.nanmax(np.abs(full.p_MNC - low.p_MNC)) < 0.05
    assert low.p_MNC.dtype == np.float64


def test_an_output_that_is_not_finite_is_no_answer(folder: Path, spectra: Spectra) -> None:
    members = open_members([str(folder / "both"), str(folder / "bands")])
    broken = Spectra(spectra.flux.clone(), spectra.ivar.clone())
    broken.flux[3, 100], broken.ivar[3, 100] = float("inf"), 1.0
    net: Any = members.runs[1].net
    with torch.no_grad():
        net.heads.last.mu.bias[0] = float("nan")
    answers, _ = members.predict(broken)
    assert np.isnan(answers.value_MNL[1]).all()
    assert np.isnan(answers.p_MNC[1]).all()
    assert np.isnan(answers.value_MNL[0][3]).all()
    assert np.isfinite(np.delete(answers.value_MNL[0], 3, 0)).all()


def test_the_scatter_of_passes_is_that_of_theory() -> None:
    members = toy(p=0.25, scale=3.0)
    answers, latents = members.predict(flat_spectra(), passes=4000, seed=1)
    net: Any = members.runs[0].net
    layer = net.heads.mu
    weight = layer.weight.detach().double().numpy()[0]
    flux = flat_spectra().flux.double().numpy()
    wanted = 9 * 0.25 / 0.75 * ((weight * flux) ** 2).sum(1)
    assert np.allclose(answers.var_passes_MNL[0, :, 0], wanted, rtol=0.1)
    mean = 3 * (flux @ weight + layer.bias.item()) - 1
    assert np.allclose(answers.value_MNL[0, :, 0], mean, atol=5 * np.sqrt(wanted.max() / 4000))
    assert np.array_equal(latents[0], flat_spectra().flux.numpy())


def test_answers_with_passes_are_means_over_the_passes(members: Members, spectra: Spectra) -> None:
    passes, seed = 5, 3
    answers, _ = members.predict(spectra, batch=64, passes=passes, seed=seed)
    for number in (0, 1, 4):
        run = members.runs[number]
        p, value, var_data = [], [], []
        with dropout_on(run.net, (seed, number, 0), torch.device("cpu")), torch.inference_mode():
            for _ in range(passes):
                output = run.net(spectra.flux, spectra.ivar)
                p.append(output["logits"].double().softmax(1).numpy())
                value.append(run.scaling.unscale(output["mu"].double().numpy()))
                if "log_var" in output:
                    sigma = (output["log_var"].double() / 2).exp().numpy()
                    var_data.append(run.scaling.unscale_errors(sigma) ** 2)
        columns = [members.labels.index(name) for name in run.labels]
        assert np.allclose(answers.p_MNC[number], np.mean(p, 0))
        assert np.allclose(answers.value_MNL[number][:, columns], np.mean(value, 0))
        assert np.allclose(answers.var_passes_MNL[number][:, columns], np.var(value, 0, ddof=1))
        if var_data:
            assert np.allclose(answers.var_data_MNL[number][:, columns], np.mean(var_data, 0))


def test_passes_that_disagree_about_the_class_give_model_entropy(members: Members, spectra: Spectra) -> None:
    alone = Members(members.runs[2:3])
    weights = Weights(np.ones(1), np.ones((1, 0)))
    plain, dropped = (combined(alone.predict(spectra, passes=passes)[0], weights) for passes in (0, 30))
    assert (plain.class_entropy_model_N == 0).all()
    assert (dropped.class_entropy_model_N > 0).all()
    assert (dropped.class_entropy_model_N < dropped.class_entropy_N).all()


def test_the_scatter_of_passes_follows_from_the_seed(members: Members, spectra: Spectra) -> None:
    one, again, other = (members.predict(spectra, batch=16, passes=3, seed=seed)[0] for seed in (7, 7, 8))
    assert all(np.array_equal(getattr(one, name), getattr(again, name), equal_nan=True) for name in ARRAYS)
    assert not np.array_equal(one.value_MNL, other.value_MNL, equal_nan=True)


def test_passes_leave_the_global_random_numbers_alone() -> None:
    members = toy()
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    members.predict(flat_spectra(), passes=2)
    assert torch.equal(torch.rand(3), wanted)


def test_a_member_without_dropout_does_not_scatter(spectra: Spectra) -> None:
    members = toy(p=0.0)
    plain, _ = members.predict(flat_spectra())
    answers, _ = members.predict(flat_spectra(), passes=6)
    assert (answers.var_passes_MNL == 0).all()
    assert np.array_equal(answers.value_MNL, plain.value_MNL)


def test_passes_without_effect_are_an_error(members: Members) -> None:
    with pytest.raises(
        SettingsError, match="passes=1: one pass has no scatter; give 0 for no passes, or at least 2"
    ):
        check_passes([members.runs[0].net], 1, "ensemble")
    with pytest.raises(
        SettingsError,
        match="passes=4: no member has a layer with dropout, so all passes would be equal; give passes=0",
    ):
        check_passes([toy(p=0.0).runs[0].net], 4, "ensemble")
    check_passes([toy(p=0.0).runs[0].net, members.runs[0].net], 4, "ensemble")


def net_of(name: str) -> Network:
    module = plugins.load("models", name)
    torch.manual_seed(7)
    net: Network = module.Net(PIXELS, Task("cls_reg", ("FeH", "CH"), sigma=True), module.Options())
    return net.eval()


@every_net
def test_only_dropout_is_on_during_a_pass(name: str) -> None:
    net, batch = net_of(name), batches.spectra(4, PIXELS)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.inference_mode():
        plain = net(*batch)
        with dropout_on(net, (0,), torch.device("cpu")):
            assert {module for module in net.modules() if module.training} == set(dropout_layers(net))
            net(*batch)
        after = net(*batch)
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(torch.equal(plain[key], after[key]) for key in plain)


@every_net
def test_no_network_drops_values_outside_its_dropout_layers(name: str) -> None:
    net, batch = net_of(name), batches.spectra(4, PIXELS)
    with torch.inference_mode():
        plain = net(*batch)
        net.train()
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) or module in dropout_layers(net):
                module.eval()
        learning = net(*batch)
    for key in ("logits", "mu", "log_var") if name != "specvae" else ():  # it draws its latent in training
        assert torch.allclose(plain[key], learning[key], atol=1e-6), (
            f"{key} depends on training beside batch norm and dropout"
        )


def test_dropout_inside_recurrent_layers_is_switched_too() -> None:
    class Recurrent(Toy):
        def __init__(self, pixels: int, p: float) -> None:
            super().__init__(pixels, 0.0)
            self.gru = nn.GRU(1, 1, num_layers=2, dropout=p, batch_first=True)

        def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
            x_BP = self.gru(flux_BP[:, :, None])[0][:, :, 0]
            outputs: Outputs = self.heads(x_BP, x_BP) | {"latent": x_BP}
            return outputs

    members = toy(0.5, kind=Recurrent)
    answers, _ = members.predict(flat_spectra(), passes=20)
    assert (answers.var_passes_MNL > 0).all()
    net: Any = members.runs[0].net
    assert not net.gru.training


def test_placeholder_answers_show_what_members_predict(members: Members, spectra: Spectra) -> None:
    answers, _ = members.predict(spectra[:1])
    made_up = members.placeholder_answers()
    assert np.array_equal(np.isfinite(made_up.value_MNL), np.isfinite(answers.value_MNL))
    assert np.array_equal(np.isfinite(made_up.p_MNC), np.isfinite(answers.p_MNC))


def changed(folder: Path, copy: Path, **changes: object) -> str:
    """A copy of a run with changes of its document."""
    shutil.copytree(folder / "both", copy)
    change_document(copy / "run.json", changes)
    return str(copy)


def test_a_run_on_another_grid_is_an_error_with_its_name(folder: Path, tmp_path: Path) -> None:
    named = {"start": 3900.0, "stop": 8799.0, "step": 1.0, "scale": "linear"}
    other = changed(folder, tmp_path / "other", grid=named)
    with pytest.raises(
        SettingsError,
        match=r"other: its grid is cemp4900, the grid of .*both is 300 linear points from 4000 to 4598 in "
        r"steps of 2",
    ):
        open_members([str(folder / "both"), other])


def test_a_run_with_other_classes_is_an_error(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path / "other", classes=["giant", "dwarf", "other"])
    with pytest.raises(
        SettingsError,
        match=r"its classes are giant, dwarf, other, those of .*both are MP, CEMP, NMP; give runs with one "
        r"set",
    ):
        open_members([str(folder / "both"), str(folder / "warm"), other])


def test_no_runs_at_all_are_an_error() -> None:
    with pytest.raises(SettingsError, match="runs: none is given"):
        open_members([])


def test_members_need_the_continuum_if_one_member_does(members: Members) -> None:
    assert members.extra_inputs == ()
    with_continuum = replace(
        members.runs[0], net=type("Hungry", (Toy,), {"extra_inputs": ("continuum",)})(8, 0.1)
    )
    assert Members((*members.runs, with_continuum)).extra_inputs == ("continuum",)
