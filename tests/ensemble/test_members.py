"""Runs asked together say what each says alone, with dropout on or off."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from survey import plugins
from survey.ensemble.combine import Weights, combine
from survey.ensemble.members import Members, check_passes, droppers, dropping, open_members, together
from survey.models.network import Answers, Dropout, Heads, Network, Task
from survey.settings import Settings, SettingsError
from survey.store.store import open_store
from survey.training.batches import Spectra, read_places
from survey.training.run import Run
from survey.training.scaling import Scaling
from tests.ensemble import teams
from tests.models import batches

PIXELS = 301
every_net = pytest.mark.parametrize("name", plugins.names("models"))
ARRAYS = ("p_MNC", "mu_MNL", "var_MNL", "within_MNL", "own_MN")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teams.place(tmp_path_factory.mktemp("members"), *teams.KINDS)


@pytest.fixture(scope="module")
def members(made: Path) -> Members:
    return open_members([str(made / kind) for kind in teams.KINDS])


@pytest.fixture(scope="module")
def spectra(made: Path) -> Spectra:
    return read_places(
        open_store(str(made / "store")), np.array([(row % 3, row) for row in range(40)]), False
    )


class Toy(Network):
    """One linear layer behind dropout: what its passes scatter by is known."""

    def __init__(self, pixels: int, p: float) -> None:
        super().__init__(pixels, Task("reg", ("FeH",)), Settings())
        self.drop, self.heads = Dropout(p), Heads(0, pixels, self.task)

    def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
        dropped_BP = self.drop(flux_BP)
        return self.heads(dropped_BP, dropped_BP) | {"latent": flux_BP}


def toy(p: float = 0.25, scale: float = 3.0, kind: type[Toy] = Toy) -> Members:
    torch.manual_seed(5)
    grid = {"start": 4000.0, "stop": 4007.0, "step": 1.0, "scale": "linear", "points": 8}
    scaling = Scaling(("FeH",), ("standard",), np.array([-1.0]), np.array([scale]))
    return Members(
        (Run("toy", {"grid": grid, "classes": []}, kind(8, p).eval(), scaling, torch.device("cpu")),)
    )


def some(rows: int = 3) -> Spectra:
    flux = torch.linspace(0.2, 1.5, rows * 8).reshape(rows, 8)
    return Spectra(flux, torch.ones_like(flux))


def test_together_they_say_what_each_says_alone(members: Members, spectra: Spectra):
    told, latents = members.ask(spectra)
    assert members.labels == ("FeH", "CFe", "Teff")
    for number, run in enumerate(members.runs):
        alone = run.said(spectra, "float32")
        columns = [members.labels.index(name) for name in run.labels]
        wanted = {
            "p_MNC": alone.get("p"),
            "mu_MNL": alone.get("mu"),
            "var_MNL": None if "sigma" not in alone else alone["sigma"] ** 2,
        }
        for name, array in wanted.items():
            found = getattr(told, name)[number]
            assert np.array_equal(
                found if name == "p_MNC" else found[:, columns],
                np.full_like(found, np.nan) if array is None else array,
            ) or (array is None and np.isnan(found).all())
        others = [place for place in range(len(members.labels)) if place not in columns]
        assert np.isnan(told.mu_MNL[number][:, others]).all()
        assert np.array_equal(latents[number], alone["latent"])
    assert np.array_equal(told.within_MNL, np.where(np.isnan(told.mu_MNL), np.nan, 0), equal_nan=True)


def test_what_is_said_does_not_depend_on_the_batches(members: Members, spectra: Spectra):
    whole, _ = members.ask(spectra)
    parts = together([members.ask(spectra[start : start + 11], batch=7)[0] for start in range(0, 40, 11)])
    for name in ARRAYS:
        assert np.allclose(getattr(whole, name), getattr(parts, name), rtol=1e-4, atol=1e-5, equal_nan=True)


def test_spectra_of_a_store_are_asked_about_in_the_order_of_their_places(made: Path, members: Members):
    place_N2 = np.array([(2, 5), (0, 7), (2, 1)])
    told, latents = members.ask_store(str(made / "store"), place_N2, "asking")
    single = [
        members.ask(read_places(open_store(str(made / "store")), place[None], False))[0] for place in place_N2
    ]
    assert np.allclose(told.mu_MNL, together(single).mu_MNL, rtol=1e-4, equal_nan=True)
    assert [len(latent_ND) for latent_ND in latents] == [3] * 5


def test_about_no_spectra_nothing_is_said_in_the_right_widths(members: Members, spectra: Spectra):
    told, latents = members.ask(spectra[:0])
    usual, others = members.ask(spectra[:2])
    assert len(told) == 0
    assert told.p_MNC.shape == (5, 0, 3)
    assert [latent_ND.shape[1] for latent_ND in latents] == [latent_ND.shape[1] for latent_ND in others]
    assert usual.labels == told.labels


def test_sixteen_bits_say_nearly_the_same(members: Members, spectra: Spectra):
    full, low = (members.ask(spectra, precision=precision)[0] for precision in ("float32", "bf16"))
    assert np.nanmax(np.abs(full.p_MNC - low.p_MNC)) < 0.05
    assert low.p_MNC.dtype == np.float64


def test_a_member_whose_answer_is_no_number_says_nothing_of_that_spectrum(made: Path, spectra: Spectra):
    members = open_members([str(made / "both"), str(made / "bands")])
    sick = Spectra(spectra.flux.clone(), spectra.ivar.clone())
    sick.flux[3, 100], sick.ivar[3, 100] = float("inf"), 1.0
    with torch.no_grad():
        members.runs[1].net.heads.last.mu.bias[0] = float("nan")
    told, _ = members.ask(sick)
    assert np.isnan(told.mu_MNL[1]).all()
    assert np.isnan(told.p_MNC[1]).all()
    assert np.isnan(told.mu_MNL[0][3]).all()
    assert np.isfinite(np.delete(told.mu_MNL[0], 3, 0)).all()


def test_passes_scatter_as_theory_says():
    members = toy(p=0.25, scale=3.0)
    told, latents = members.ask(some(), passes=4000, seed=1)
    layer = members.runs[0].net.heads.mu
    weight = layer.weight.detach().double().numpy()[0]
    flux = some().flux.double().numpy()
    wanted = 9 * 0.25 / 0.75 * ((weight * flux) ** 2).sum(1)
    assert np.allclose(told.within_MNL[0, :, 0], wanted, rtol=0.1)
    mean = 3 * (flux @ weight + layer.bias.item()) - 1
    assert np.allclose(told.mu_MNL[0, :, 0], mean, atol=5 * np.sqrt(wanted.max() / 4000))
    assert np.array_equal(latents[0], some().flux.numpy())


def test_passes_are_means_over_all_that_is_said(members: Members, spectra: Spectra):
    passes, seed = 5, 3
    told, _ = members.ask(spectra, batch=64, passes=passes, seed=seed)
    for number in (0, 1, 4):
        run, each = members.runs[number], []
        with dropping(run.net, (seed, number, 0), torch.device("cpu")), torch.inference_mode():
            for _ in range(passes):
                answers = run.net(spectra.flux, spectra.ivar)
                sigma = (
                    run.scaling.errors_unscaled((answers["log_var"].double() / 2).exp())
                    if "log_var" in answers
                    else None
                )
                each.append(
                    (
                        answers["logits"].double().softmax(1).numpy(),
                        run.scaling.unscaled(answers["mu"].double()),
                        sigma,
                    )
                )
        columns = [members.labels.index(name) for name in run.labels]
        assert np.allclose(told.p_MNC[number], np.mean([one[0] for one in each], 0))
        assert np.allclose(told.mu_MNL[number][:, columns], np.mean([one[1] for one in each], 0))
        assert np.allclose(told.within_MNL[number][:, columns], np.var([one[1] for one in each], 0, ddof=1))
        if each[0][2] is not None:
            assert np.allclose(told.var_MNL[number][:, columns], np.mean([one[2] ** 2 for one in each], 0))


def test_passes_that_disagree_about_the_class_are_doubt_of_the_model(members: Members, spectra: Spectra):
    alone = Members(members.runs[2:3])
    weights = Weights(np.ones(1), np.ones((1, 0)))
    plain, dropped = (combine(alone.ask(spectra, passes=passes)[0], weights) for passes in (0, 30))
    assert (plain.doubt_N == 0).all()
    assert (dropped.doubt_N > 0).all()
    assert (dropped.doubt_N < dropped.entropy_N).all()


def test_the_same_batches_scatter_alike_and_others_do_not(members: Members, spectra: Spectra):
    one, again, other = (members.ask(spectra, batch=16, passes=3, seed=seed)[0] for seed in (7, 7, 8))
    assert all(np.array_equal(getattr(one, name), getattr(again, name), equal_nan=True) for name in ARRAYS)
    assert not np.array_equal(one.mu_MNL, other.mu_MNL, equal_nan=True)


def test_passes_leave_the_random_numbers_of_others_alone():
    members = toy()
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    members.ask(some(), passes=2)
    assert torch.equal(torch.rand(3), wanted)


def test_a_member_without_dropout_does_not_scatter(spectra: Spectra):
    members = toy(p=0.0)
    plain, _ = members.ask(some())
    told, _ = members.ask(some(), passes=6)
    assert (told.within_MNL == 0).all()
    assert np.array_equal(told.mu_MNL, plain.mu_MNL)


def test_passes_that_make_no_sense_are_refused(members: Members):
    with pytest.raises(
        SettingsError, match="passes=1: one pass has no scatter; give 0 for none, or at least 2"
    ):
        check_passes([members.runs[0].net], 1, "ensemble")
    with pytest.raises(
        SettingsError,
        match="passes=4: no member has a layer with dropout, so all passes would be alike; give passes=0",
    ):
        check_passes([toy(p=0.0).runs[0].net], 4, "ensemble")
    check_passes([toy(p=0.0).runs[0].net, members.runs[0].net], 4, "ensemble")


def net_of(name: str) -> Network:
    module = plugins.load("models", name)
    torch.manual_seed(7)
    net: Network = module.Net(PIXELS, Task("cls_reg", ("FeH", "CH"), sigma=True), module.Options())
    return net.eval()


@every_net
def test_only_dropout_is_on_in_a_pass_and_nothing_of_it_stays(name: str):
    net, batch = net_of(name), batches.spectra(4, PIXELS)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.inference_mode():
        plain = net(*batch)
        with dropping(net, (0,), torch.device("cpu")):
            assert {module for module in net.modules() if module.training} == set(droppers(net))
            net(*batch)
        after = net(*batch)
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(torch.equal(plain[key], after[key]) for key in plain)


@every_net
def test_no_network_drops_anything_beside_its_layers_of_dropout(name: str):
    net, batch = net_of(name), batches.spectra(4, PIXELS)
    with torch.inference_mode():
        plain = net(*batch)
        net.train()
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) or module in droppers(net):
                module.eval()
        learning = net(*batch)
    for key in ("logits", "mu", "log_var"):
        assert torch.allclose(plain[key], learning[key], atol=1e-6), (
            f"{key} depends on training beside batch norm and dropout"
        )


def test_dropout_inside_of_recurrent_layers_is_found_and_switched():
    class Recurrent(Toy):
        def __init__(self, pixels: int, p: float) -> None:
            super().__init__(pixels, 0.0)
            self.gru = nn.GRU(1, 1, num_layers=2, dropout=p, batch_first=True)

        def answer(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Answers:
            x_BP = self.gru(flux_BP[:, :, None])[0][:, :, 0]
            return self.heads(x_BP, x_BP) | {"latent": x_BP}

    members = toy(0.5, kind=Recurrent)
    told, _ = members.ask(some(), passes=20)
    assert (told.within_MNL > 0).all()
    assert not members.runs[0].net.gru.training


def test_what_would_be_said_is_known_without_asking(members: Members, spectra: Spectra):
    told, _ = members.ask(spectra[:1])
    made_up = members.speaks()
    assert np.array_equal(np.isfinite(made_up.mu_MNL), np.isfinite(told.mu_MNL))
    assert np.array_equal(np.isfinite(made_up.p_MNC), np.isfinite(told.p_MNC))


def changed(made: Path, folder: Path, **about: object) -> str:
    """A copy of a run that says something else of itself."""
    shutil.copytree(made / "both", folder)
    told = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(told | about))
    return str(folder)


def test_a_run_on_another_grid_is_refused_by_name(made: Path, tmp_path: Path):
    named = {"start": 3900.0, "stop": 8799.0, "step": 1.0, "scale": "linear", "points": 4900}
    other = changed(made, tmp_path / "other", grid=named)
    with pytest.raises(
        SettingsError,
        match=r"other: its grid is cemp4900, that of .*both is 300 linear points from 4000 to 4598 in steps of 2",
    ):
        open_members([str(made / "both"), other])


def test_a_run_with_other_classes_is_refused(made: Path, tmp_path: Path):
    other = changed(made, tmp_path / "other", classes=["giant", "dwarf", "other"])
    with pytest.raises(
        SettingsError,
        match=r"its classes are giant, dwarf, other, those of .*both are MP, CEMP, NMP; give runs of one set of classes",
    ):
        open_members([str(made / "both"), str(made / "warm"), other])


def test_no_runs_at_all_are_refused():
    with pytest.raises(SettingsError, match="runs: none is given"):
        open_members([])


def test_members_may_be_asked_without_the_continuum_that_none_needs(members: Members):
    assert not members.needs_continuum
    hungry = replace(members.runs[0], net=type("Hungry", (Toy,), {"inputs": ("continuum",)})(8, 0.1))
    assert Members((*members.runs, hungry)).needs_continuum
