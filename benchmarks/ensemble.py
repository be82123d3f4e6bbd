"""The gain of an ensemble on computed spectra with exactly known labels, and whether its errors and
intervals hold.

python -m benchmarks.ensemble [nets=echelle,prism,bganet] [work=benchmarks/work/science]

It uses the runs that `science.py` trained, five folds of each network. The runs of each fold become an
ensemble, with weights and calibration from the validation stars of that fold only, and predict its test
stars; all folds together test every star once. It is compared with each member, equal weights, votes, and
the rule of the original ensemble, which added raw outputs of some members to probabilities of others.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.science import FOLDS, ROOT, TARGETS, WANTED, head, joined, maes, number, stores, with_interval
from survey.answers import Answers
from survey.ensemble.build import build
from survey.ensemble.combine import combine
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.ensemble.settings import Build
from survey.ensemble.weights import equal_weights
from survey.labelling import samples
from survey.labelling.samples import Samples
from survey.metrics.score import LabelledAnswers, metrics_table
from survey.store.store import open_store
from survey.training.batches import read_spectra
from survey.training.validation import network_outputs

PROBABILITIES = ("bganet",)
"""The networks whose probabilities the original ensemble added to the raw outputs of the others."""
SNR_BINS = ((0, np.inf), (0, 10), (10, 20), (20, 50), (50, np.inf))


def build_fold(work: Path, nets: list[str], fold: int) -> Ensemble:
    """The ensemble of a fold."""
    folder = work / "ensembles" / f"{'-'.join(nets)}-{fold}"
    runs = [str(work / f"{net}-{fold}") for net in nets]
    build(Build.from_dict("benchmark", {"ensemble": str(folder), "runs": runs, "threads": 1}))
    return open_ensemble(str(folder))


def label_answers(
    answers: Answers, stars: Samples, sigma_NL: NDArray[np.float64] | None = None
) -> LabelledAnswers:
    """Answers about test stars with the truth."""
    extra: dict[str, NDArray[Any]] = {
        "snr_g": np.asarray(stars.extra["snr_g"].to_numpy(zero_copy_only=False), float)
    }
    return LabelledAnswers(answers, stars.class_N, stars.label_NL, sigma_NL, extra)


def predict_fold(work: Path, nets: list[str], fold: int) -> dict[str, LabelledAnswers]:
    """The answers of every rule about the test stars of a fold."""
    ensemble = build_fold(work, nets, fold)
    stars = samples.read(str(work / f"{nets[0]}-{fold}")).part("test")
    store = open_store(str(work / "reference"))
    spectra = read_spectra(store, stars.shard_row_N2, ensemble.members.extra_inputs)
    snr_N = np.asarray(stars.extra["snr"].to_numpy(zero_copy_only=False), float)
    result = ensemble.predict(spectra, snr_N)
    members, labels, classes = result.member_answers, ensemble.labels, ensemble.classes
    rules = {}
    for member, net in enumerate(nets):
        alone = Answers(labels, classes, p_NC=members.p_MNC[member], value_NL=members.value_MNL[member])
        rules[net] = label_answers(alone, stars)
    equal = combine(members, equal_weights(members))
    vote = combine(members, replace(equal_weights(members), combine="vote"))
    for name, answers in (
        ("equal weights", equal),
        ("vote", vote),
        ("weights from validation", result.uncalibrated),
    ):
        rules[name] = label_answers(answers, stars, answers.err_model_NL)
    mixed = np.zeros((len(stars), len(classes)))
    for net, run in zip(nets, ensemble.members.runs, strict=True):
        logits = network_outputs(run.net, [spectra], run.device, "float32")["logits"].double()
        mixed += (logits.softmax(1) if net in PROBABILITIES else logits).numpy()
    exponential = np.exp(mixed - mixed.max(1, keepdims=True))
    p_NC = exponential / exponential.sum(1, keepdims=True)
    original = Answers(labels, classes, p_NC=p_NC, value_NL=equal.value_NL)
    rules["raw outputs mixed"] = label_answers(original, stars)
    rules["calibrated"] = label_answers(result.answers, stars, result.answers.err_NL)
    return rules


def main() -> None:
    """Build, predict, print."""
    warnings.simplefilter("ignore")
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    work = Path(arguments.get("work", ROOT / "benchmarks" / "work" / "science"))
    nets = arguments.get("nets", "echelle,prism,bganet").split(",")
    stores(work)
    folds = [predict_fold(work, nets, fold) for fold in range(FOLDS)]
    rules = {name: joined([fold[name] for fold in folds]) for name in folds[0]}
    head("rule, accuracy, MP search F1, CEMP precision, CEMP recall, CEMP F1, ECE, Teff, logg, FeH, CH, CFe")
    for name, answers in rules.items():
        table = metrics_table(answers)
        cells = [with_interval(number(table, "all", "", *metric)) for metric in WANTED]
        ece = number(table, "all", "", "all", "ece")[0]
        print(f"| {name} | {' | '.join(cells)} | {ece:.4f} | {maes(table)} |")
    print_coverage(rules["weights from validation"], rules["calibrated"])


def print_coverage(before: LabelledAnswers, after: LabelledAnswers) -> None:
    """The share of true labels within one error and within the 95 % interval, by signal to noise."""
    columns = ", ".join(f"{name}: 1 sigma before; after; 95 % interval" for name in TARGETS)
    head(f"S/N in g, spectra, {columns}")
    low_NL, high_NL = after.answers.low_NL, after.answers.high_NL
    snr_N = after.snr()
    assert low_NL is not None
    assert high_NL is not None
    assert snr_N is not None
    inside_NL = (low_NL <= after.label_NL) & (after.label_NL <= high_NL)
    for low, high in SNR_BINS:
        mask_N = (snr_N >= low) & (snr_N < high)
        cells = []
        for label in range(len(TARGETS)):
            shares = [within_error(answers)[mask_N, label].mean() for answers in (before, after)]
            shares.append(inside_NL[mask_N, label].mean())
            cells.append("; ".join(f"{100 * share:.1f}" for share in shares))
        name = "all" if low == 0 and high == np.inf else f"{low} to {high:g}"
        print(f"| {name} | {mask_N.sum():,} | {' | '.join(cells)} |")


def within_error(answers: LabelledAnswers) -> NDArray[np.bool_]:
    """Which true labels lie within one error."""
    assert answers.value_NL is not None
    return np.asarray(np.abs(answers.value_NL - answers.label_NL) <= answers.sigma_NL)


if __name__ == "__main__":
    main()
