"""A store of toy stars, a slow and a fast run, their ensemble with a test population, and its cascade."""

from pathlib import Path
from typing import Any

from survey.ensemble.build import build
from survey.ensemble.ensemble import open_ensemble
from survey.ensemble.fit_cascade import fitted_cascade
from survey.ensemble.settings import Build
from tests.ensemble import small_runs
from tests.training import lessons

TARGETS = ["Teff", "logg", "FeH", "CFe"]


def make(folder: Path) -> Path:
    """All of them in a folder."""
    lessons.store(folder / "store", 480, with_indices=True)
    how = {"targets": TARGETS, "epochs": 9, "optimiser": {"lr": 5e-3}}
    for name, width in (("slow", 48), ("fast", 16)):
        small_runs.train(folder, name, options={"components": width, "hidden": 2 * width}, **how)
    values: dict[str, Any] = {
        "ensemble": str(folder / "ensemble"),
        "runs": [str(folder / "slow"), str(folder / "fast")],
        "population": {"spectra": 1000, "augment": {"preset": "survey"}},
        "gpu": "never",
        "threads": 1,
    }
    build(Build.from_dict("ensemble", values))
    fitted_cascade(open_ensemble(values["ensemble"]), 1)
    return folder
