"""A file is a plugin, and its name is its name."""

from pathlib import Path

import pytest

from survey import plugins
from survey.settings import Settings


def test_every_source_with_a_reader_is_a_plugin_and_nothing_else() -> None:
    found = plugins.names("sources")
    assert {"lamost", "sdss", "arrays"} <= set(found)
    assert list(found) == sorted(found)
    assert not {"fits", "gzipped", "wavelengths", "visits", "mock", "reading"} & set(found)
    folder = Path(plugins.__file__).parent / "sources"
    offering = {
        path.stem
        for path in folder.glob("*.py")
        if "\ndef read(" in path.read_text() or "\ndef read_rows(" in path.read_text()
    }
    assert set(found) == offering


@pytest.mark.parametrize("name", plugins.names("sources"))
def test_every_source_has_settings_with_defaults(name: str) -> None:
    options = plugins.load("sources", name).Options
    assert issubclass(options, Settings)
    assert options() == options.checked("x", {})


def test_an_unknown_plugin_is_named_with_those_there_are() -> None:
    with pytest.raises(
        ValueError,
        match=r"sources: there is no plugin .lamots.; give one of .*lamost.*, or add survey/sources/lamots.py",
    ):
        plugins.load("sources", "lamots")
