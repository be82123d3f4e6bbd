"""A catalog takes its place whole or not at all, on a disk."""

from pathlib import Path

import pytest

from survey.catalog.spill import WORK, publish, scratch

PROOF = "proof.json"


def make(folder: Path, *names: str) -> Path:
    for name in (*names, PROOF):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_was_made_replaces_all_that_was_there(tmp_path: Path) -> None:
    make(tmp_path / "catalog" / "hats", "old/tile")
    with scratch(str(tmp_path / "catalog")) as work:
        publish(make(work / "made", "new/tile", "other"), str(tmp_path / "catalog" / "hats"), PROOF)
    assert everything(tmp_path / "catalog") == {"hats/new/tile", "hats/other", f"hats/{PROOF}"}


def fail(catalog: Path) -> None:
    with scratch(str(catalog)) as work:
        assert everything(work) == set()
        make(work / "half")
        raise KeyError


def test_nothing_is_left_of_a_job_that_failed_or_was_killed(tmp_path: Path) -> None:
    make(tmp_path / "catalog" / WORK, "of a killed one")
    with pytest.raises(KeyError):
        fail(tmp_path / "catalog")
    assert everything(tmp_path) == set()


def test_the_proof_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at the worst moment, a half-removed catalog is without its proof."""
    make(tmp_path / "hats", "tile")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("survey.catalog.spill.shutil.rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        publish(make(tmp_path / "made"), str(tmp_path / "hats"), PROOF)
    assert everything(tmp_path / "hats") == {"tile"}
