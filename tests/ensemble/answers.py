"""Answers of made-up members about made-up stars, of which everything is known."""

from dataclasses import replace
from typing import Any

import numpy as np

from survey.ensemble.combine import Told

CLASSES = ("MP", "CEMP", "NMP")


def told(members: int = 3, rows: int = 40, labels: int = 2, seed: int = 0, holes: float = 0.0) -> Told:
    """Members that say anything at all; `holes` is the share of their answers that is missing."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.7, 0.2, 0.7], (members, rows))
    mu, var, within = (
        rng.normal(0, 2, (members, rows, labels)),
        rng.gamma(2, 1, (members, rows, labels)),
        rng.gamma(1, 1, (members, rows, labels)),
    )
    p[rng.random((members, rows)) < holes] = np.nan
    gone = rng.random(mu.shape) < holes
    mu[gone] = var[gone] = within[gone] = np.nan
    var[rng.random(var.shape) < holes] = np.nan
    return Told(tuple(f"L{number}" for number in range(labels)), CLASSES, p, mu, var, within)


def of(told: Told, members: Any = slice(None), rows: Any = slice(None)) -> Told:
    """Some of the members, some of the spectra."""
    names = ("p_MNC", "mu_MNL", "var_MNL", "within_MNL")
    return replace(told, **{name: getattr(told, name)[members][:, rows] for name in names})


def labelled(mu_MN: Any, sigma_MN: Any = np.nan) -> Told:
    """Members that tell one label and no classes."""
    mu = np.atleast_2d(np.asarray(mu_MN, float))[:, :, None]
    var = (
        np.broadcast_to(
            np.asarray(sigma_MN, float).reshape(-1, 1, 1)
            if np.ndim(sigma_MN) < 2
            else np.asarray(sigma_MN)[:, :, None],
            mu.shape,
        )
        ** 2
    )
    return Told(("FeH",), (), np.empty((*mu.shape[:2], 0)), mu, var, np.zeros_like(mu))


def classified(p_MNC: Any) -> Told:
    """Members that tell classes and no labels."""
    p = np.asarray(p_MNC, float)
    none = np.empty((*p.shape[:2], 0))
    return Told((), CLASSES[: p.shape[2]], p, none, none, none)
