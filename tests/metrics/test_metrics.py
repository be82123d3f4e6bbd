"""Metrics compared with scikit-learn, scipy and plain formulas; intervals compared with their coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from survey import labels as rows
from survey.metrics import classes, curves, intervals, labels
from survey.metrics.epoch import epoch_metrics
from survey.metrics.intervals import Measure
from survey.metrics.settings import epoch_metric_names

NAMES = ("FeH", "CH", "Teff", "logg", "CFe")


def predictions(seed: int, size: int = 400, known: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """True classes, some unknown, and probabilities that are related to them; CEMP is rare."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size, p=[0.5, 0.06, 0.44])
    p = rng.dirichlet([0.6, 0.3, 0.6], size) + np.eye(3)[truth] * 0.4
    return np.where(rng.random(size) < known, truth, rows.MISSING), p / p.sum(1, keepdims=True)


def by_name(found: list[Measure]) -> dict[tuple[str, str], Measure]:
    named = {(measure.subject, measure.metric): measure for measure in found}
    assert len(named) == len(found), "a metric appears twice"
    return named


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 300))
def test_rates_of_classes_equal_those_of_scikit_learn(seed: int, size: int) -> None:
    truth, p = predictions(seed, size)
    found = by_name(classes.measures(truth, p))
    truth, predicted = truth[truth >= 0], p[truth >= 0].argmax(1)
    if not len(truth):
        assert not found
        return
    assert found["all", "accuracy"].value == pytest.approx(sk.accuracy_score(truth, predicted))
    counts = sk.confusion_matrix(truth, predicted, labels=[0, 1, 2])
    assert np.array_equal(classes.confusion(truth, predicted, 3), counts)
    each = dict(
        zip(
            ("precision", "recall", "f1"),
            sk.precision_recall_fscore_support(truth, predicted, labels=[0, 1, 2], zero_division=np.nan),
            strict=False,
        )
    )
    for metric, values in each.items():
        for name, value in zip(rows.CLASSES, values, strict=True):
            measure = found.get((name, metric))
            assert (measure.value if measure else np.nan) == pytest.approx(value, nan_ok=True), (name, metric)
    weighted = sk.precision_recall_fscore_support(truth, predicted, average="weighted", zero_division=0)
    for metric, value in zip(("precision", "recall", "f1"), weighted, strict=False):
        assert found["all", f"{metric}_weighted"].value == pytest.approx(value)
    assert found["all", "f1_macro"].value == pytest.approx(
        sk.f1_score(truth, predicted, average="macro", zero_division=0)
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.sampled_from([3, 20, 10**9]))
def test_curves_and_areas_equal_those_of_scikit_learn_even_for_equal_scores(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    positive = np.append(rng.random(80) < 0.2, [True, False])
    score = (
        np.round(rng.random(82) * 0.8 + 0.2 * positive, 9)
        if steps > 100
        else np.round(rng.random(82) * steps) / steps
    )
    roc, curve = curves.roc(positive, score), curves.precision_recall(positive, score)
    x, y, threshold = sk.roc_curve(positive, score, drop_intermediate=False)
    assert np.allclose(roc.x, x)
    assert np.allclose(roc.y, y)
    assert np.allclose(roc.threshold, threshold)
    assert roc.area == pytest.approx(sk.roc_auc_score(positive, score))
    precision, recall, _ = sk.precision_recall_curve(positive, score)
    assert np.allclose(curve.x[1:], recall[:-1][::-1])
    assert np.allclose(curve.y[1:], precision[:-1][::-1])
    assert curve.area == pytest.approx(sk.average_precision_score(positive, score))


def test_without_positives_or_without_negatives_a_curve_is_undefined() -> None:
    for positive in ([False, False], []):
        assert np.isnan(curves.roc(positive, [0.1, 0.2][: len(positive)]).area)
        assert np.isnan(curves.precision_recall(positive, [0.1, 0.2][: len(positive)]).area)
    assert np.isnan(curves.roc([True, True], [0.1, 0.2]).area)
    assert curves.precision_recall([True, True], [0.1, 0.2]).area == 1


def test_losses_of_probabilities_equal_those_of_scikit_learn() -> None:
    truth, p = predictions(3)
    found = by_name(classes.measures(truth, p))
    known = truth >= 0
    assert found["all", "log_loss"].value == pytest.approx(sk.log_loss(truth[known], p[known]))
    assert found["all", "brier"].value == pytest.approx(
        ((p[known] - np.eye(3)[truth[known]]) ** 2).sum() / known.sum()
    )
    assert found["all", "brier"].n == known.sum()
    assert found["MP_search", "auc"].value == pytest.approx(
        sk.roc_auc_score(truth[known] < 2, 1 - p[known, 2])
    )
    assert found["CEMP_search", "average_precision"].value == pytest.approx(
        sk.average_precision_score(truth[known] == 1, p[known, 1])
    )


def test_a_search_merges_its_classes() -> None:
    truth, p = predictions(4)
    found, known = by_name(classes.measures(truth, p)), truth >= 0
    wanted = sk.precision_recall_fscore_support(truth[known] < 2, p[known].argmax(1) < 2, average="binary")
    assert [found["MP_search", metric].value for metric in ("precision", "recall", "f1")] == pytest.approx(
        wanted[:3]
    )
    assert found["CEMP_search", "recall"] == found["CEMP", "recall"]._replace(subject="CEMP_search")


def test_other_classes_have_no_searches() -> None:
    found = by_name(classes.measures([0, 1, 2, 3, 4], np.eye(5), ("M0", "M1", "M2", "M3", "M4")))
    assert {subject for subject, _ in found} == {"all", "M0", "M1", "M2", "M3", "M4"}


def test_the_calibration_error_follows_from_the_bins() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(500)
    event = rng.random(500) < p**2
    found = classes.reliability(event, p)
    error = 0.0
    for number in range(10):
        in_bin = (p >= number / 10) & (p < (number + 1) / 10)
        assert found.predicted[number] == pytest.approx(p[in_bin].mean())
        assert found.observed[number] == pytest.approx(event[in_bin].mean())
        error += abs(p[in_bin].mean() - event[in_bin].mean()) * in_bin.mean()
    assert found.ece == pytest.approx(error)
    assert classes.reliability([1, 0], [1.0, 1.0]).n.tolist() == [2]
    assert np.isnan(classes.reliability([], []).ece)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 10**6), share=st.floats(0, 1))
def test_the_interval_of_a_share_is_wilsons(n: int, share: float) -> None:
    hits = round(share * n)
    low, high = intervals.wilson(hits, n)
    wanted = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert low <= hits / n <= high


def test_the_interval_of_the_published_cemp_recall_is_that_of_28_stars() -> None:
    low, high = intervals.wilson(18, 28)
    assert (round(float(low), 2), round(float(high), 2)) == (0.46, 0.79)
    assert all(np.isnan(bound) for bound in intervals.wilson(0, 0))


def test_intervals_of_f1_and_areas_have_the_stated_coverage() -> None:
    """28 positives among 280, as rare as carbon stars; the truth comes from 300,000 stars."""
    rng = np.random.default_rng(6)
    many = rng.random(300_000) < 0.1
    score = rng.normal(size=len(many)) + 2 * many
    truth = {
        "f1": sk.f1_score(many, score > 1.5),
        "auc": curves.roc(many, score).area,
        "average_precision": curves.precision_recall(many, score).area,
    }
    covered = dict.fromkeys(truth, 0)
    positive = np.arange(280) < 28
    for _ in range(150):
        drawn = rng.normal(size=280) + 2 * positive
        found = by_name(
            classes.measure_scores("x", positive, 1 / (1 + np.exp(-drawn)))
            + classes.measure_search("x", positive.astype(int), drawn > 1.5, [1])
        )
        for metric, value in truth.items():
            covered[metric] += found["x", metric].low <= value <= found["x", metric].high
    assert all(0.88 <= count / 150 <= 1 for count in covered.values()), covered


def test_the_stratified_bootstrap_equals_resampling_of_spectra() -> None:
    truth, p = predictions(7, 300, known=1.0)
    predicted = p.argmax(1)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(1000):
        rows_drawn = np.concatenate(
            [rng.choice(np.flatnonzero(truth == c), (truth == c).sum()) for c in range(3)]
        )
        counts = classes.confusion(truth[rows_drawn], predicted[rows_drawn], 3)
        drawn.append(classes.rates(counts)[2])
    f1 = by_name(classes.measure_counts(classes.confusion(truth, predicted, 3), rows.CLASSES))["MP", "f1"]
    assert (f1.low, f1.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975], axis=0)[:, 0], abs=0.01)


def test_without_errors_among_few_spectra_intervals_are_still_wide() -> None:
    found = by_name(classes.measure_counts(np.diag([4, 3, 5]), rows.CLASSES))
    assert all(
        measure.value == 1 and measure.low < 0.9 for measure in found.values() if np.isfinite(measure.low)
    )
    assert np.isnan(found["all", "f1_macro"].low)


@pytest.mark.parametrize("size", [2, 50, 5000])
def test_errors_of_labels_equal_those_of_scikit_learn_and_scipy(size: int) -> None:
    rng = np.random.default_rng(size)
    truth = rng.normal(-1, 0.8, size)
    predicted = 0.9 * truth + rng.normal(0, 0.2, size)
    missing = np.append(truth, [np.nan] * 7), np.append(predicted, rng.normal(size=7))
    found = by_name(labels.measures("FeH", *missing))
    residual = predicted - truth
    wanted = {
        "mae": sk.mean_absolute_error(truth, predicted),
        "rmse": sk.root_mean_squared_error(truth, predicted),
        "bias": residual.mean(),
        "median_bias": np.median(residual),
        "scatter": residual.std(),
        "robust_scatter": 1.4826 * stats.median_abs_deviation(residual),
        "max_error": sk.max_error(truth, predicted),
        "r2": sk.r2_score(truth, predicted),
        "pearson": stats.pearsonr(truth, predicted)[0],
        "mape": sk.mean_absolute_percentage_error(truth[abs(truth) > 0.1], predicted[abs(truth) > 0.1]),
    }
    assert {metric: found["FeH", metric].value for metric in wanted} == pytest.approx(wanted)
    assert len(found) == len(wanted)
    assert found["FeH", "mae"].n == size
    assert found["FeH", "mape"].n == (abs(truth) > 0.1).sum()


def test_resampled_means_and_their_normal_limit_give_the_same_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(8).exponential(size=(1500, 2))
    ends = []
    for limit in (10**9, 1):
        monkeypatch.setattr(intervals, "NORMAL_LIMIT", limit)
        ends.append(np.quantile(intervals.resample_means(values), [0.025, 0.975], axis=0))
    assert np.allclose(ends[0], ends[1], atol=0.015)
    wanted = stats.bootstrap(
        (values[:, 0],), np.mean, n_resamples=999, method="percentile", rng=0
    ).confidence_interval
    assert ends[0][:, 0] == pytest.approx([wanted.low, wanted.high], abs=0.015)


@pytest.mark.parametrize("size", [1999, 2000])
def test_the_interval_of_the_scatter_does_not_depend_on_the_bias(size: int) -> None:
    residual = np.random.default_rng(0).normal(size=size)
    small, large = (by_name(labels.measures("FeH", 0 * residual, residual + bias)) for bias in (0, 20))
    for found in (small, large):
        scatter = found["FeH", "scatter"]
        assert scatter.high - scatter.low == pytest.approx(4 * 0.98 / np.sqrt(2 * size), rel=0.15)
    assert large["FeH", "bias"].high - large["FeH", "bias"].low < 0.1


def test_right_errors_have_the_right_coverage_and_halved_errors_do_not() -> None:
    rng = np.random.default_rng(9)
    truth = rng.normal(size=3000)
    sigma = rng.uniform(0.1, 0.5, 3000)
    predicted = truth + sigma * rng.normal(size=3000)
    found = by_name(labels.measures("FeH", truth, predicted, sigma))
    for metric, share in (("coverage_68", 0.6827), ("coverage_95", 0.9545)):
        assert found["FeH", metric].low < share < found["FeH", metric].high
    assert found["FeH", "pull_scatter"].value == pytest.approx(1, abs=0.05)
    assert found["FeH", "nll"].value == pytest.approx(-stats.norm.logpdf(truth, predicted, sigma).mean())
    assert stats.kstest(labels.pit(truth, predicted, sigma), "uniform").pvalue > 0.01
    wrong = by_name(labels.measures("FeH", truth, predicted, sigma / 2))
    assert wrong["FeH", "coverage_68"].high < 0.45
    assert wrong["FeH", "nll"].value > found["FeH", "nll"].value


def test_undefined_measures_are_left_out() -> None:
    assert labels.measures("FeH", [np.nan, np.nan], [0.0, 1.0]) == []
    assert classes.measures([-1, -1], np.full((2, 3), 1 / 3)) == []
    single = by_name(labels.measures("FeH", [-1.0], [-1.5]))
    assert ("FeH", "r2") not in single
    assert single["FeH", "mae"].value == 0.5
    assert np.isnan(single["FeH", "mae"].low)
    assert ("CEMP", "recall") not in by_name(classes.measures([0, 2], np.eye(3)[[0, 2]]))


def test_an_iron_class_lies_below_its_limit() -> None:
    numbers = labels.iron_classes([-4, -3, -2.5, -2, -1.5, -1, 0.2, np.nan])
    assert [labels.IRON_CLASSES[number] for number in numbers[:-1]] == [
        "EMP",
        "VMP",
        "VMP",
        "MP",
        "MP",
        "normal",
        "normal",
    ]
    assert numbers[-1] == rows.MISSING
    found = by_name(labels.iron_measures([-4, -2.5, np.nan, 0], [-2.9, -2.5, 0, 0]))
    assert found["[Fe/H] classes", "accuracy"].value == pytest.approx(2 / 3)
    assert found["[Fe/H] EMP", "recall"].value == 0
    assert found["[Fe/H] VMP", "precision"].value == 0.5


def test_classes_follow_from_carbon_over_iron_or_from_the_difference() -> None:
    direct = labels.classes_by_labels(("FeH", "CFe"), [[-2, 1.0], [-2, 0.1], [0, 1.0]])
    difference = labels.classes_by_labels(("CH", "FeH"), [[-1.0, -2], [-1.9, -2], [1.0, 0]])
    assert direct is not None
    assert direct.tolist() == [1, 0, 2]
    assert difference is not None
    assert difference.tolist() == [1, 0, 2]
    assert labels.classes_by_labels(("FeH", "Teff"), [[-2, 5000.0]]) is None
    assert labels.classes_by_labels(("FeH", "CFe"), [[-2, 1.0]], "aoki2007") is None
    found = by_name(
        labels.measures_of_label_classes([1, 0, -1], ("FeH", "CFe"), [[-2, 1.0], [-2, 0.9], [0, 1.0]])
    )
    assert found["CEMP by labels", "precision"].value == 0.5
    assert found["MP_search by labels", "recall"].value == 1


def test_a_broken_identity_is_measured() -> None:
    value = np.array([[-1.0, -0.5, 0.5], [-2.0, -1.0, 1.3]])
    (rms,) = labels.identity_violation(("FeH", "CH", "CFe"), value)
    assert (rms.subject, rms.metric) == ("CFe", "identity_rms")
    assert rms.value == pytest.approx(0.3 / np.sqrt(2))
    assert labels.identity_violation(("FeH", "CH"), value[:, :2]) == []


def test_a_prediction_that_is_not_finite_is_an_error() -> None:
    p = np.full((4, 3), 1 / 3)
    p[2, 1] = np.nan
    for call in (
        lambda: classes.measures([0, 1, -1, 2], p),
        lambda: epoch_metrics(class_N=[0, 1, -1, 2], p_NC=p),
    ):
        with pytest.raises(
            ValueError,
            match=r"class probabilities: 1 of 4 predictions are not finite, "
            r"the first in row 2; .*learning rate",
        ):
            call()
    for call in (
        lambda: labels.measures("FeH", [np.nan, 0.0], [np.inf, 0.0]),
        lambda: labels.iron_measures([np.nan, 0.0], [np.inf, 0.0]),
        lambda: epoch_metrics(label_NL=[[np.nan], [0.0]], mu_NL=[[np.inf], [0.0]], labels=("FeH",)),
    ):
        with pytest.raises(ValueError, match="1 of 2 predictions are not finite, the first in row 0"):
            call()


@pytest.mark.parametrize(
    ("truth", "p", "message"),
    [
        ([0], [[3.0, -1.0, 0.5]], "row 0 is .*apply a softmax"),
        (
            [0],
            [[0.5, 0.5]],
            r"the shape \(1, 2\); give one row per spectrum and one column for each of 3 classes",
        ),
        ([3], [[0.2, 0.3, 0.5]], "true classes: one is 3; give 0 to 2, or -1 where the class is unknown"),
        ([0, 1], [[0.2, 0.3, 0.5]], r"true classes: have the shape \(2,\), but there are 1 predictions"),
    ],
)
def test_wrong_classes_and_wrong_probabilities_are_errors(
    truth: list[int], p: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        classes.measures(truth, p)


def test_labels_and_errors_of_wrong_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match=r"FeH: truth has the shape \(3,\), predictions \(2,\)"):
        labels.measures("FeH", [0, 1, 2], [0.0, 1.0])
    with pytest.raises(ValueError, match=r"errors of FeH: one is 0; give standard deviations above 0"):
        labels.measures("FeH", [0, 1], [0.0, 1.0], [0.1, 0.0])
    with pytest.raises(ValueError, match=r"the shape \(2, 1\), but the names are \(none\)"):
        epoch_metrics(label_NL=[[0], [1]], mu_NL=[[0.0], [1.0]])
    with pytest.raises(ValueError, match="predicted classes: one is 7; give a class from 0 to 2"):
        classes.confusion([0, 1], [7, 1], 3)


def test_the_metrics_of_an_epoch_equal_the_full_measures() -> None:
    truth, p = predictions(10)
    rng = np.random.default_rng(10)
    label = np.where(rng.random((400, 5)) < 0.1, np.nan, rng.normal(size=(400, 5)))
    mu = np.nan_to_num(label) + rng.normal(size=(400, 5))
    fast = epoch_metrics(class_N=truth, p_NC=p, label_NL=label, mu_NL=mu, labels=NAMES, loss=0.3)
    slow = {(item.subject, item.metric): item.value for item in classes.measures(truth, p)}
    for number, name in enumerate(NAMES):
        slow |= {
            (item.subject, item.metric): item.value
            for item in labels.measures(name, label[:, number], mu[:, number])
        }
    flat = {
        metric if subject == "all" else f"{metric}_{subject}": value
        for (subject, metric), value in slow.items()
    }
    assert fast["loss"] == 0.3
    assert fast["r2_mean"] == pytest.approx(np.mean([flat[f"r2_{name}"] for name in NAMES]))
    shared = {name: value for name, value in fast.items() if name not in ("loss", "r2_mean")}
    assert shared == pytest.approx({name: flat[name] for name in shared})
    assert {"accuracy", "f1_CEMP", "f1_MP_search", "mae_Teff", "rmse_FeH"} <= set(shared)
    assert all(type(value) is float for value in fast.values())


@pytest.mark.parametrize("labels", [(), ("FeH",), ("Teff", "CFe")])
@pytest.mark.parametrize("has_classes", [True, False])
def test_the_names_of_epoch_metrics_are_known_without_data(
    labels: tuple[str, ...], has_classes: bool
) -> None:
    class_N, p_NC = (np.zeros(1, int), np.eye(1, 3)) if has_classes else (None, None)
    label_NL = np.zeros((1, len(labels))) if labels else None
    computed = epoch_metrics(
        class_N=class_N, p_NC=p_NC, label_NL=label_NL, mu_NL=label_NL, labels=labels, loss=0.0
    )
    assert list(computed) == epoch_metric_names(labels, rows.CLASSES if has_classes else ())


def test_the_names_of_epoch_metrics_do_not_depend_on_the_data() -> None:
    truth, p = predictions(11)
    label = np.zeros((400, 1))
    full = epoch_metrics(class_N=truth, p_NC=p, label_NL=label, mu_NL=label, labels=("FeH",))
    empty = epoch_metrics(
        class_N=np.full(400, -1), p_NC=p, label_NL=label * np.nan, mu_NL=label, labels=("FeH",)
    )
    assert list(full) == list(empty)
    assert all(np.isnan(value) for value in empty.values())
    assert epoch_metrics() == {}


def test_the_order_of_spectra_does_not_matter() -> None:
    truth, p = predictions(12)
    order = np.random.default_rng(0).permutation(len(truth))
    first, second = (by_name(classes.measures(truth[index], p[index])) for index in (slice(None), order))
    assert {key: measure.value for key, measure in first.items()} == pytest.approx(
        {key: measure.value for key, measure in second.items()}
    )
    assert classes.measures(truth, p) == classes.measures(truth, p), (
        "the bootstrap draws the same samples each time"
    )
