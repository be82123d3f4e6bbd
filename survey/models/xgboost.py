"""XGBoost: gradient-boosted trees, grown on histograms, as a baseline or in earnest."""

from typing import Any

import torch
from pydantic import Field

from survey.models.baseline import Aim, FitError
from survey.models.network import Task
from survey.models.trees import Array, Boosted, Forest, Trees


class Options(Trees):
    """What trees look at and how they grow."""

    min_child_weight: float = Field(1.0, ge=0, description="least weight of the spectra in a leaf")
    gamma: float = Field(0.0, ge=0, description="least gain for which a leaf is divided")


class Net(Boosted):
    """Forests of XGBoost."""

    NAME = shared = "xgboost"

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.least, self.gamma = options.min_child_weight, options.gamma

    def table(self, classes: bool, arrays: tuple[Array, Array, Array], train: Any, aim: Aim) -> Any:
        """A matrix of quantiles."""
        del classes, aim
        feature_NF, truth_N, weight_N = arrays
        return self.library.QuantileDMatrix(
            feature_NF, truth_N, weight=weight_N, ref=train, nthread=torch.get_num_threads()
        )

    def grow(
        self, classes: bool, content: bytes, tables: tuple[Any, Any], rounds: int, seed: int, aim: Aim
    ) -> tuple[bytes, list[float]]:
        """So many rounds more."""
        absolute = aim.errors == "absolute"
        metric = "mlogloss" if classes else "mae" if absolute else "rmse"
        objective = "multi:softprob" if classes else "reg:absoluteerror" if absolute else "reg:squarederror"
        asked = {
            "objective": objective,
            "eval_metric": metric,
            "seed": seed,
            "nthread": torch.get_num_threads(),
            "verbosity": 0,
        }
        asked |= {"num_class": self.task.classes} if classes else {}
        train, check = tables
        found: dict[str, dict[str, list[float]]] = {}
        try:
            booster = self.library.train(
                asked | self._growing(),
                train,
                rounds,
                evals=[(check, "validation")] if check is not None else [],
                evals_result=found,
                verbose_eval=False,
                xgb_model=bytearray(content) or None,
            )
        except self.library.core.XGBoostError as error:
            raise FitError(f"xgboost: the library failed: {error}") from error
        return bytes(booster.save_raw("ubj")), found["validation"][metric] if found else []

    def _growing(self) -> dict[str, Any]:
        own = self.trees
        return {
            "tree_method": "hist",
            "eta": own.lr,
            "max_depth": own.depth,
            "subsample": own.subsample,
            "colsample_bytree": own.colsample,
            "reg_lambda": own.l2,
            "min_child_weight": self.least,
            "gamma": self.gamma,
        }

    def open(self, content: bytes) -> Any:
        """A booster."""
        booster = self.library.Booster()
        booster.load_model(bytearray(content))
        return booster

    def ask(self, opened: Any, looked_BF: Array, rounds: int) -> Array:
        """Sums of its leaves' answers."""
        opened.set_param({"nthread": torch.get_num_threads()})
        found: Array = opened.inplace_predict(looked_BF, iteration_range=(0, rounds), predict_type="margin")
        return found

    def leaves(self, forest: Forest) -> int:
        """Leaves as a dump has them."""
        return (
            sum(tree.count("leaf=") for tree in self.open(forest.content()).get_dump())
            if int(forest.grown)
            else 0
        )
