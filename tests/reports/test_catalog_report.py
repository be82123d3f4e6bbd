"""The report of a catalog: which pictures there are, and that they are drawn once."""

import dataclasses
import json
from pathlib import Path

from matplotlib.figure import Figure

from survey.catalog.catalog import CatalogResult
from survey.reports import catalog as report


def test_plots_are_drawn_once_for_each_catalog(result: CatalogResult, figures: list[Figure]) -> None:
    paths = report.pictures(result)
    drawn = len(figures)
    assert [Path(path).stem for path in paths] == [
        "asked",
        "cemp_candidates",
        "cemp_truth",
        "checks",
        "mp_candidates",
        "mp_truth",
        "purity_completeness",
        "selection",
    ]
    assert drawn == len(paths)
    unchanged = dataclasses.replace(result, created=False)
    assert report.pictures(unchanged) == paths
    assert len(figures) == drawn
    # a process that made the catalog anew may have ended before it drew them
    document = result.document.model_copy(update={"id": "another"})
    assert report.pictures(dataclasses.replace(unchanged, document=document)) == paths
    assert len(figures) == 2 * drawn
    Path(paths[0]).unlink()
    assert report.pictures(dataclasses.replace(unchanged, document=document)) == paths
    assert Path(paths[0]).exists(), "a plot that was removed is drawn again"


def test_pictures_of_an_older_version_are_replaced_and_those_that_cannot_be_drawn_are_named(
    result: CatalogResult, figures: list[Figure]
) -> None:
    """An older version wrote a plain list of names."""
    folder = Path(result.folder)
    (folder / "pictures.json").write_text(json.dumps(["old.png"]))
    (folder / "old.png").write_bytes(b"old")
    unchanged = dataclasses.replace(result, created=False)
    text = report.summary(result, report.pictures(unchanged))
    assert figures
    assert not (folder / "old.png").exists()
    # the predictions of this sky name a store that does not exist
    for name in ("mp", "cemp"):
        assert f"no plot    {name}_spectra: the store is not at store any more" in text
