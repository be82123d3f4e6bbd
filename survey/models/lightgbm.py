"""LightGBM: gradient-boosted trees that grow at the leaf with the largest gain."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pydantic import Field

from survey.models.baseline import FitError, FitSettings
from survey.models.options import Size, TreeOptions
from survey.models.settings import Task
from survey.models.trees import Array, BoostedTrees, Forest


class Options(TreeOptions):
    """The features that trees use, and how they grow."""

    leaves: int | None = Field(
        None, ge=2, le=65536, description="maximum number of leaves of a tree; null = 2**depth"
    )
    min_leaf: Size = Field(20, description="smallest number of spectra in a leaf")


class Net(BoostedTrees):
    """Forests of LightGBM."""

    NAME = distributed_library = "lightgbm"

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.max_leaves, self.min_leaf = options.leaves or 2**options.depth, options.min_leaf

    def dataset(
        self, classes: bool, arrays: tuple[Array, Array, Array], train: Any, settings: FitSettings
    ) -> Any:
        """A data set that keeps its features: each portion of rounds starts with predictions for them."""
        feature_NF, target_N, weight_N = arrays
        return self.library.Dataset(
            feature_NF,
            target_N,
            weight=weight_N,
            reference=train,
            params=self._library_parameters(classes, settings),
            free_raw_data=False,
        )

    def grow(
        self,
        classes: bool,
        content: bytes,
        datasets: tuple[Any, Any],
        rounds: int,
        seed: int,
        settings: FitSettings,
    ) -> tuple[bytes, list[float]]:
        """So many rounds more."""
        train, check = datasets
        metrics: dict[str, dict[str, list[float]]] = {}
        try:
            booster = self.library.train(
                self._library_parameters(classes, settings) | {"seed": seed},
                train,
                rounds,
                valid_sets=[check] if check is not None else [],
                valid_names=["validation"] if check is not None else [],
                init_model=self.load_model(content) if content else None,
                callbacks=[self.library.record_evaluation(metrics)],
            )
        except self.library.basic.LightGBMError as error:
            raise FitError(f"lightgbm: the library failed: {error}") from error
        losses = next(iter(metrics["validation"].values())) if metrics else []
        return booster.model_to_string(num_iteration=-1).encode(), losses

    def _library_parameters(self, classes: bool, settings: FitSettings) -> dict[str, Any]:
        trees, absolute = self.trees, settings.errors == "absolute"
        parameters: dict[str, Any] = {
            "objective": "multiclass" if classes else "regression_l1" if absolute else "regression",
            "metric": "multi_logloss" if classes else "l1" if absolute else "l2",
            "learning_rate": trees.lr,
            "max_depth": trees.depth,
            "num_leaves": self.max_leaves,
            "bagging_fraction": trees.subsample,
            "bagging_freq": 1,
            "feature_fraction": trees.colsample,
            "lambda_l2": trees.l2,
            "min_data_in_leaf": self.min_leaf,
            "num_threads": torch.get_num_threads(),
            "verbosity": -1,
            "deterministic": True,
            "force_row_wise": True,
        }
        if classes:
            parameters["num_class"] = self.task.classes
        if settings.connection:
            machines = dict(settings.connection)["num_machines"]
            parameters |= {"tree_learner": "data", "num_machines": machines}
        return parameters

    @contextmanager
    def connected(self, settings: FitSettings) -> Iterator[None]:
        """One connection for all portions of rounds.

        A connection for each portion would open the port again before the last one has closed it.
        """
        if not settings.connection:
            yield
            return
        network = dict(settings.connection)
        empty = self.library.Dataset(np.zeros((2, 1)), [0, 1], params={"verbosity": -1})
        holder = self.library.Booster({"verbosity": -1}, empty)
        try:
            holder.set_network(
                network["machines"], network["local_listen_port"], num_machines=network["num_machines"]
            )
        except self.library.basic.LightGBMError as error:
            raise FitError(f"lightgbm: the workers cannot connect: {error}") from error
        try:
            yield
        finally:
            holder.free_network()

    def load_model(self, content: bytes) -> Any:
        """A booster."""
        return self.library.Booster(model_str=content.decode())

    def raw_predict(self, model: Any, used_BF: Array, rounds: int) -> Array:
        """Sums of the outputs of its leaves."""
        output: Array = model.predict(
            used_BF, num_iteration=rounds, raw_score=True, num_threads=torch.get_num_threads()
        )
        return output

    def count_leaves(self, forest: Forest) -> int:
        """The number of leaves, from the model's text."""
        return sum(map(int, re.findall(r"^num_leaves=(\d+)", forest.content().decode(), re.MULTILINE)))
