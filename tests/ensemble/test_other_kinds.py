"""Stars of other kinds are known by the last features of the networks, and leave the metal-poor classes."""

import numpy as np
import pyarrow as pa
import pytest

from survey.answers import Answers
from survey.ensemble.other_kinds import (
    KEPT,
    LEAST,
    KindSpectra,
    OtherKinds,
    fit_other_kinds,
    kinds_by_temperature,
)
from survey.labelling.samples import Samples
from survey.labels import CLASSES

MP, NMP = CLASSES.index("MP"), CLASSES.index("NMP")
COUNT = 400


def spectra(seed: int, others: int = COUNT // 4) -> KindSpectra:
    """Latents of two members: others are far away along one direction, metal-poor stars along another."""
    rng = np.random.default_rng(seed)
    is_other_N = np.arange(COUNT) < others
    class_N = np.where((np.arange(COUNT) % 2 == 0) & ~is_other_N, MP, NMP).astype(np.int8)
    latents = []
    for width in (4, 6):
        latent_ND = rng.standard_normal((COUNT, width))
        latent_ND[:, 0] += 8 * is_other_N
        latent_ND[:, 1] += 4 * (class_N == MP)
        latents.append(latent_ND.astype(np.float32))
    return KindSpectra(latents, ~is_other_N, is_other_N, class_N)


def answers(count: int) -> Answers:
    """All are metal-poor, says the network."""
    p_NC = np.tile([0.9, 0.05, 0.05], (count, 1))
    half_N = np.full(count, 0.5)
    return Answers((), CLASSES, p_NC=p_NC, class_entropy_N=half_N, class_entropy_model_N=half_N)


def test_other_kinds_are_found_and_no_metal_poor_star_is_lost() -> None:
    validation = spectra(2)
    model, record = fit_other_kinds(spectra(1), validation)
    assert model is not None
    assert record.found is not None
    assert record.lost is not None
    assert record.found > 0.98
    assert record.lost < 0.02
    assert (model.logit(validation.latents)[validation.is_metal_poor_N] > 0).mean() <= 1 - KEPT


def test_the_probability_of_another_kind_goes_from_metal_poor_to_not_metal_poor() -> None:
    validation = spectra(2)
    model, _ = fit_other_kinds(spectra(1), validation)
    assert model is not None
    after = model.apply(answers(COUNT), validation.latents)
    assert after.p_NC is not None
    assert after.other_kind_N is not None
    assert np.allclose(after.p_NC.sum(1), 1)
    assert np.allclose(after.p_NC[:, MP], 0.9 * (1 - after.other_kind_N))
    called_N = after.predicted_class_N
    assert called_N is not None
    assert (called_N[validation.is_other_N] == NMP).mean() > 0.98
    assert (called_N[validation.is_metal_poor_N] == MP).mean() > 0.98


def test_a_spectrum_without_an_answer_keeps_its_classes() -> None:
    model, _ = fit_other_kinds(spectra(1), spectra(2))
    assert model is not None
    latents = [np.full((1, width), np.nan) for width in (4, 6)]
    after = model.apply(answers(1), latents)
    assert after.other_kind_N is not None
    assert np.isnan(after.other_kind_N[0])
    assert np.array_equal(np.asarray(after.p_NC), np.asarray(answers(1).p_NC))


def test_one_member_without_an_answer_is_left_out() -> None:
    validation = spectra(2)
    model, _ = fit_other_kinds(spectra(1), validation)
    assert model is not None
    first, second = validation.latents
    only_second = model.logit([first * np.nan, second])
    alone = OtherKinds(model.centre[1:], model.scale[1:], model.weight[1:], model.constant[1:])
    assert np.allclose(only_second, alone.logit([second]))


def test_it_is_the_same_after_it_was_written_and_read() -> None:
    model, _ = fit_other_kinds(spectra(1), spectra(2))
    assert model is not None
    again = OtherKinds.from_tensors(model.to_tensors())
    latents = spectra(3).latents
    assert np.array_equal(model.logit(latents), again.logit(latents))
    with pytest.raises(ValueError, match=r"other_kinds.safetensors: the tensor '1.scale' is missing"):
        OtherKinds.from_tensors({n: array for n, array in model.to_tensors().items() if n != "1.scale"})


def test_with_few_stars_of_other_kinds_there_is_none_and_a_reason() -> None:
    model, record = fit_other_kinds(spectra(1, LEAST - 1), spectra(2))
    assert model is None
    assert record.missing == (
        "351 training spectra are of ordinary stars, 49 of other kinds; 50 of each are needed"
    )


def test_temperatures_tell_ordinary_stars_from_others_and_leave_the_border_out() -> None:
    teff_N = np.array([3800.0, 3950.0, 5000.0, 7200.0, 9000.0, np.nan])
    nothing_N = np.zeros(len(teff_N), np.int8)
    samples = Samples(
        ("Teff",),
        np.zeros((len(teff_N), 2), np.int64),
        nothing_N,
        nothing_N,
        teff_N[:, None],
        np.full((len(teff_N), 1), np.nan),
        pa.table({"star": [str(number) for number in range(len(teff_N))]}),
    )
    ordinary_N, other_N = kinds_by_temperature(samples)
    assert ordinary_N.tolist() == [False, False, True, False, False, False]
    assert other_N.tolist() == [True, False, False, False, True, False]
