"""LightGBM: gradient-boosted trees that grow where they gain most, as a baseline or in earnest."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pydantic import Field

from survey.models.baseline import Aim, FitError
from survey.models.network import Task
from survey.models.trees import Array, Boosted, Forest, Trees


class Options(Trees):
    """What trees look at and how they grow."""

    leaves: int | None = Field(
        None, ge=2, le=65536, description="leaves of a tree, at most; null = as many as its depth allows"
    )
    min_leaf: int = Field(20, ge=1, description="least number of spectra in a leaf")


class Net(Boosted):
    """Forests of LightGBM."""

    NAME = shared = "lightgbm"

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.most, self.least = options.leaves or 2**options.depth, options.min_leaf

    def table(self, classes: bool, arrays: tuple[Array, Array, Array], train: Any, aim: Aim) -> Any:
        """A data set that keeps its features, for each portion of rounds begins with what the rounds before say of them."""
        feature_NF, truth_N, weight_N = arrays
        asked = self._growing(classes, aim)
        return self.library.Dataset(
            feature_NF, truth_N, weight=weight_N, reference=train, params=asked, free_raw_data=False
        )

    def grow(
        self, classes: bool, content: bytes, tables: tuple[Any, Any], rounds: int, seed: int, aim: Aim
    ) -> tuple[bytes, list[float]]:
        """So many rounds more."""
        train, check = tables
        found: dict[str, dict[str, list[float]]] = {}
        try:
            booster = self.library.train(
                self._growing(classes, aim) | {"seed": seed},
                train,
                rounds,
                valid_sets=[check] if check is not None else [],
                valid_names=["validation"] if check is not None else [],
                init_model=self.open(content) if content else None,
                callbacks=[self.library.record_evaluation(found)],
            )
        except self.library.basic.LightGBMError as error:
            raise FitError(f"lightgbm: the library failed: {error}") from error
        return booster.model_to_string(num_iteration=-1).encode(), next(
            iter(found["validation"].values())
        ) if found else []

    def _growing(self, classes: bool, aim: Aim) -> dict[str, Any]:
        own, absolute = self.trees, aim.errors == "absolute"
        asked: dict[str, Any] = {
            "objective": "multiclass" if classes else "regression_l1" if absolute else "regression",
            "metric": "multi_logloss" if classes else "l1" if absolute else "l2",
            "learning_rate": own.lr,
            "max_depth": own.depth,
            "num_leaves": self.most,
            "bagging_fraction": own.subsample,
            "bagging_freq": 1,
            "feature_fraction": own.colsample,
            "lambda_l2": own.l2,
            "min_data_in_leaf": self.least,
            "num_threads": torch.get_num_threads(),
            "verbosity": -1,
            "deterministic": True,
            "force_row_wise": True,
        }
        asked |= {"num_class": self.task.classes} if classes else {}
        return (
            asked | {"tree_learner": "data", "num_machines": dict(aim.network)["num_machines"]}
            if aim.network
            else asked
        )

    @contextmanager
    def joined(self, aim: Aim) -> Iterator[None]:
        """One network for all portions of rounds: each would open the port anew before the last one has closed it."""
        if not aim.network:
            yield
            return
        told = dict(aim.network)
        nobody = self.library.Dataset(np.zeros((2, 1)), [0, 1], params={"verbosity": -1})
        holder = self.library.Booster({"verbosity": -1}, nobody)
        try:
            holder.set_network(told["machines"], told["local_listen_port"], num_machines=told["num_machines"])
        except self.library.basic.LightGBMError as error:
            raise FitError(f"lightgbm: the workers do not find each other: {error}") from error
        try:
            yield
        finally:
            holder.free_network()

    def open(self, content: bytes) -> Any:
        """A booster."""
        return self.library.Booster(model_str=content.decode())

    def ask(self, opened: Any, looked_BF: Array, rounds: int) -> Array:
        """Sums of its leaves' answers."""
        found: Array = opened.predict(
            looked_BF, num_iteration=rounds, raw_score=True, num_threads=torch.get_num_threads()
        )
        return found

    def leaves(self, forest: Forest) -> int:
        """Leaves as the model's text has them."""
        return sum(map(int, re.findall(r"^num_leaves=(\d+)", forest.content().decode(), re.MULTILINE)))
