"""What an ensemble gains on computed spectra whose labels are known exactly, and whether what it says of its own errors holds.

    python benchmarks/ensemble.py [nets=echelle,prism,bganet] [work=benchmarks/work/science]

Works on the runs that `science.py` trained, five folds of each network: each fold's members become an ensemble, weighted and calibrated on
that fold's validation stars alone, and tell of its test stars; all folds together test every star once. Beside it: each member, equal weights,
the vote, and the rule of the original ensemble, which added raw outputs of some members to probabilities of others.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from science import FOLDS, ROOT, TARGETS, WANTED, head, joined, maes, number, stores, with_interval

from survey.ensemble.build import build
from survey.ensemble.combine import combine
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.ensemble.settings import Build
from survey.ensemble.weights import equal_weights
from survey.labelling import samples
from survey.metrics.score import LabelledAnswers, metrics_table
from survey.store.store import open_store
from survey.training.batches import read_spectra
from survey.training.validation import network_outputs

PROBABILITIES = ("bganet",)
"""The networks whose probabilities the original ensemble added to the others' raw outputs."""


def made(work: Path, nets: list[str], fold: int) -> Ensemble:
    """The ensemble of a fold."""
    folder = work / "ensembles" / f"{'-'.join(nets)}-{fold}"
    runs = [str(work / f"{net}-{fold}") for net in nets]
    build(Build.from_dict("benchmark", {"ensemble": str(folder), "runs": runs, "threads": 1}))
    return open_ensemble(str(folder))


def judged(ensemble: Ensemble, some: samples.Samples, **said: NDArray[Any]) -> LabelledAnswers:
    """Answers beside the truth."""
    about = {"snr_g": np.asarray(some.extra["snr_g"].to_numpy(zero_copy_only=False), float)}
    return LabelledAnswers(some.class_N, some.label_NL, ensemble.labels, extra=about, **said)


def fold_of(work: Path, nets: list[str], fold: int) -> dict[str, LabelledAnswers]:
    """What every rule says of a fold's test stars."""
    ensemble = made(work, nets, fold)
    some = samples.read(str(work / f"{nets[0]}-{fold}")).part("test")
    spectra = read_spectra(
        open_store(str(work / "reference")), some.shard_row_N2, ensemble.members.needs_continuum
    )
    snr_N = np.asarray(some.extra["snr"].to_numpy(zero_copy_only=False), float)
    said = ensemble.predict(spectra, snr_N)
    found = {}
    for member, net in enumerate(nets):
        found[net] = judged(ensemble, some, p_NC=said.member_answers.p_MNC[member], mu_NL=said.member_answers.value_MNL[member])
    raw = combine(said.member_answers, ensemble.weights)
    plain = combine(said.member_answers, equal_weights(said.member_answers))
    voted = combine(said.member_answers, replace(equal_weights(said.member_answers), how="vote"))
    for name, one in (("equal weights", plain), ("vote", voted), ("weights from validation", raw)):
        found[name] = judged(ensemble, some, p_NC=one.p_NC, mu_NL=one.mu_NL, sigma_NL=one.model_NL)
    mixed = np.zeros((len(some), len(ensemble.classes)))
    for net, run in zip(nets, ensemble.members.runs, strict=True):
        logits = network_outputs(run.net, [spectra], run.device, "float32")["logits"].double()
        mixed += (logits.softmax(1) if net in PROBABILITIES else logits).numpy()
    sharp = np.exp(mixed - mixed.max(1, keepdims=True))
    found["raw outputs mixed"] = judged(
        ensemble, some, p_NC=sharp / sharp.sum(1, keepdims=True), mu_NL=plain.mu_NL
    )
    done = said.answers
    found["calibrated"] = judged(ensemble, some, p_NC=done.p_NC, mu_NL=done.mu_NL, sigma_NL=done.total_NL)
    inside_NL = (said.low_NL <= some.label_NL) & (some.label_NL <= said.high_NL)
    found["calibrated"].extra.update(
        {f"inside_{name}": inside_NL[:, label] for label, name in enumerate(ensemble.labels)}
    )
    return found


def main() -> None:
    """Build, ask, print."""
    warnings.simplefilter("ignore")
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    work = Path(given.get("work", ROOT / "benchmarks" / "work" / "science"))
    nets = given.get("nets", "echelle,prism,bganet").split(",")
    stores(work)
    folds = [fold_of(work, nets, fold) for fold in range(FOLDS)]
    rows = {name: joined([fold[name] for fold in folds]) for name in folds[0]}
    head("rule, accuracy, MP search F1, CEMP precision, CEMP recall, CEMP F1, ECE, Teff, logg, FeH, CH, CFe")
    for name, one in rows.items():
        table = metrics_table(one)
        cells = [with_interval(number(table, "all", "", *what)) for what in WANTED]
        print(
            f"| {name} | {' | '.join(cells)} | {number(table, 'all', '', 'all', 'ece')[0]:.4f} | {maes(table)} |"
        )
    coverage(rows["weights from validation"], rows["calibrated"])


def coverage(before: LabelledAnswers, after: LabelledAnswers) -> None:
    """The share of true labels within one error and within the 95 % interval, by signal to noise."""
    head(
        "S/N in g, spectra, " + ", ".join(f"{name}: 1 sigma before; after; 95 % interval" for name in TARGETS)
    )
    snr = after.snr()
    for low, high in ((0, np.inf), (0, 10), (10, 20), (20, 50), (50, np.inf)):
        chosen = (snr >= low) & (snr < high)
        cells = []
        for label, name in enumerate(TARGETS):
            shares = [
                (np.abs(one.value_NL - one.label_NL) <= one.sigma_NL)[chosen, label].mean()
                for one in (before, after)
            ]
            cells.append(
                "; ".join(
                    f"{100 * share:.1f}" for share in (*shares, after.extra[f"inside_{name}"][chosen].mean())
                )
            )
        print(
            f"| {'all' if low == 0 and high == np.inf else f'{low} to {high:g}'} | {chosen.sum():,} | {' | '.join(cells)} |"
        )


if __name__ == "__main__":
    main()
