"""XGBoost: gradient-boosted trees, grown on histograms."""

from typing import Any

import torch
from pydantic import Field

from survey.models.baseline import FitError, FitSettings
from survey.models.options import TreeOptions
from survey.models.settings import Task
from survey.models.trees import Array, BoostedTrees, Forest


class Options(TreeOptions):
    """The features that trees use, and how they grow."""

    min_child_weight: float = Field(1.0, ge=0, description="smallest weight of the spectra in a leaf")
    gamma: float = Field(0.0, ge=0, description="smallest gain for which a leaf is split")


class Net(BoostedTrees):
    """Forests of XGBoost."""

    NAME = distributed_library = "xgboost"

    def __init__(self, pixels: int, task: Task, options: Options) -> None:
        super().__init__(pixels, task, options)
        self.min_child_weight, self.gamma = options.min_child_weight, options.gamma

    def dataset(
        self, classes: bool, arrays: tuple[Array, Array, Array], train: Any, settings: FitSettings
    ) -> Any:
        """A matrix of quantiles."""
        del classes, settings
        feature_NF, target_N, weight_N = arrays
        return self.library.QuantileDMatrix(
            feature_NF, target_N, weight=weight_N, ref=train, nthread=torch.get_num_threads()
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
        parameters = self._library_parameters(classes, settings.errors == "absolute") | {"seed": seed}
        train, check = datasets
        metrics: dict[str, dict[str, list[float]]] = {}
        try:
            booster = self.library.train(
                parameters,
                train,
                rounds,
                evals=[(check, "validation")] if check is not None else [],
                evals_result=metrics,
                verbose_eval=False,
                xgb_model=bytearray(content) or None,
            )
        except self.library.core.XGBoostError as error:
            raise FitError(f"xgboost: the library failed: {error}") from error
        losses = metrics["validation"][parameters["eval_metric"]] if metrics else []
        return bytes(booster.save_raw("ubj")), losses

    def _library_parameters(self, classes: bool, absolute: bool) -> dict[str, Any]:
        objective = "multi:softprob" if classes else "reg:absoluteerror" if absolute else "reg:squarederror"
        parameters: dict[str, Any] = {
            "objective": objective,
            "eval_metric": "mlogloss" if classes else "mae" if absolute else "rmse",
            "nthread": torch.get_num_threads(),
            "verbosity": 0,
            "tree_method": "hist",
            "eta": self.trees.lr,
            "max_depth": self.trees.depth,
            "subsample": self.trees.subsample,
            "colsample_bytree": self.trees.colsample,
            "reg_lambda": self.trees.l2,
            "min_child_weight": self.min_child_weight,
            "gamma": self.gamma,
        }
        if classes:
            parameters["num_class"] = self.task.classes
        return parameters

    def load_model(self, content: bytes) -> Any:
        """A booster."""
        booster = self.library.Booster()
        booster.load_model(bytearray(content))
        return booster

    def raw_predict(self, model: Any, used_BF: Array, rounds: int) -> Array:
        """Sums of the outputs of its leaves."""
        model.set_param({"nthread": torch.get_num_threads()})
        output: Array = model.inplace_predict(used_BF, iteration_range=(0, rounds), predict_type="margin")
        return output

    def count_leaves(self, forest: Forest) -> int:
        """The number of leaves, from a dump of the trees."""
        if not int(forest.grown):
            return 0
        return sum(tree.count("leaf=") for tree in self.load_model(forest.content()).get_dump())
