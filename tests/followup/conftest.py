"""A catalog of made-up stars with a CEMP list, their magnitudes, and what they truly are."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from survey.followup import followup
from tests.catalog.test_catalog import SKY, list_of, run, write_survey
from tests.commands import survey
from tests.followup.nights import darkness


@dataclass(frozen=True)
class VettedCatalog:
    """A catalog on disk: its folder, its CEMP list, and the files about its stars."""

    folder: str
    table: pa.Table
    magnitudes: str
    truth: str


@pytest.fixture(scope="session")
def vetted(tmp_path_factory: pytest.TempPathFactory) -> VettedCatalog:
    """A catalog that was made by the job itself; `truth` has the true labels of all stars."""
    folder = tmp_path_factory.mktemp("followup")
    write_survey(folder, sky=SKY)
    result = run(folder)
    table = list_of(result, "CEMP")
    random = np.random.default_rng(5)
    lines = [f"{star},{random.uniform(13, 17):.3f}" for star in table["star"].to_pylist()]
    (folder / "magnitudes.csv").write_text("\n".join(["star,gmag", *lines]) + "\n")
    return VettedCatalog(result.folder, table, str(folder / "magnitudes.csv"), str(folder / "truth.csv"))


@pytest.fixture(autouse=True)
def _a_day_in_autumn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are drawn on the same day, whenever the tests are run, and each night is looked at once."""
    monkeypatch.setattr(followup, "darkness", darkness)
    monkeypatch.setattr(followup, "now", lambda: datetime(2026, 12, 1, 12, tzinfo=UTC))


@dataclass(frozen=True)
class Command:
    """The command that draws a sample of the catalog."""

    vetted: VettedCatalog

    def __call__(self, folder: Path | str, *more: str, magnitudes: bool = True) -> str:
        """What the command prints; an error is its message."""
        given = {
            "of": self.vetted.folder,
            "followup": str(folder),
            "site": "Xinglong",
            "dates": "[2027-01-10,2027-01-12]",
            "hours": "6",
        }
        if magnitudes:
            given |= {"magnitudes": self.vetted.magnitudes, "magnitude": "gmag"}
        given |= dict(item.split("=", 1) for item in more)
        done = survey("followup", *(f"{key}={value}" for key, value in given.items()))
        if done.returncode:
            assert "Traceback" not in done.stderr
            return done.stderr.strip()
        return done.stdout


@pytest.fixture
def draw(vetted: VettedCatalog) -> Command:
    """Draw a sample, with the given settings in place of the usual ones."""
    return Command(vetted)


@dataclass(frozen=True)
class Drawn:
    """A sample with its results, and what both commands printed."""

    folder: Path
    text: str
    results: str


_kept: list[Drawn] = []


@pytest.fixture
def drawn(draw: Command, vetted: VettedCatalog, _a_day_in_autumn: None) -> Drawn:
    """A sample with the usual settings, drawn once; tests do not change it."""
    if not _kept:
        folder = Path(vetted.folder).parent / "drawn"
        text = draw(folder)
        done = survey("followup", f"followup={folder}", f"results={vetted.truth}")
        assert done.returncode == 0, done.stderr
        _kept.append(Drawn(folder, text, done.stdout))
    return _kept[0]
