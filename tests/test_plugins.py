"""A file is a plugin, and its name is its name. Only a plugin that is named can stop a job."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from survey import plugins
from survey.settings import Settings, SettingsError

ALL = [(kind, name) for kind in ("sources", "models") for name in plugins.names(kind)]
every_plugin = pytest.mark.parametrize(("kind", "name"), ALL, ids=str)

BROKEN = "def read(hdus, name, settings)  # no colon\n    return None\n"
MISSING_IMPORT = """
import no_such_module
from survey.settings import Settings


class Options(Settings):
    depth: int = 3


def read(hdus, name, settings):
    return None
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources and the models, which a test may change."""
    for kind in plugins.MARKS:
        shutil.copytree(plugins.FOLDER / kind, tmp_path / kind)
    monkeypatch.setattr(plugins, "FOLDER", tmp_path)
    return tmp_path


def test_every_source_with_a_reader_is_a_plugin_and_shared_parts_are_none() -> None:
    names = plugins.names("sources")
    assert {"lamost", "sdss", "arrays"} <= set(names)
    assert list(names) == sorted(names)
    files = {path.stem: path.read_text() for path in (plugins.FOLDER / "sources").glob("*.py")}
    functions = ("read", "read_bytes", "read_rows")
    readers = {stem for stem, text in files.items() if any(f"\ndef {name}(" in text for name in functions)}
    assert set(names) == readers


def test_every_network_is_a_plugin_and_shared_parts_are_none() -> None:
    names = plugins.names("models")
    assert {"echelle", "prism", "ridge", "lightgbm"} <= set(names)
    assert not {"network", "layers", "attention", "baseline", "trees"} & set(names)


@every_plugin
def test_every_plugin_has_settings_with_defaults(kind: str, name: str) -> None:
    options = plugins.options(kind, name)
    assert issubclass(options, Settings)
    assert options() == options.from_dict("x", {})


def test_the_settings_read_from_the_text_are_those_of_the_imported_file() -> None:
    """Read in a process of its own, because an imported plugin is not read from its text again."""
    code = (
        "import json, sys\nfrom survey import plugins\n"
        f"schemas = [plugins.options(*plugin).model_json_schema() for plugin in {ALL!r}]\n"
        "heavy = sorted({'torch', 'sklearn', 'pyarrow', 'astropy', 'scipy'} & set(sys.modules))\n"
        "print(json.dumps([heavy, schemas]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    heavy, schemas = json.loads(done.stdout)
    assert heavy == []
    for plugin, schema in zip(ALL, schemas, strict=True):
        assert plugins.load(*plugin).Options.model_json_schema() == schema, plugin


def test_an_unknown_plugin_is_an_error_that_lists_the_known_ones() -> None:
    message = r"sources: there is no plugin 'lamots'; did you mean lamost\? \(a new one is a file"
    with pytest.raises(SettingsError, match=message):
        plugins.load("sources", "lamots")
    with pytest.raises(SettingsError, match=message):
        plugins.options("sources", "lamots")


def test_the_imported_class_is_used_once_a_plugin_is_imported() -> None:
    module = plugins.load("sources", "lamost")
    assert plugins.options("sources", "lamost") is module.Options


@pytest.mark.parametrize("kind", ["sources", "models"])
def test_a_broken_file_stops_only_those_who_name_it(folder: Path, kind: str) -> None:
    (folder / kind / "broken.py").write_text(BROKEN if kind == "sources" else "class Net(:\n    pass\n")
    assert "broken" in plugins.names(kind)
    assert set(plugins.constants("sources", "NAMING")) == {"lamost", "sdss"}
    for name in plugins.names(kind):
        if name != "broken":
            assert plugins.options(kind, name)()
    with pytest.raises(SettingsError, match=rf"{kind}: broken: .*broken.py is no valid Python .*; correct"):
        plugins.options(kind, "broken")


def test_the_settings_of_a_plugin_need_none_of_its_imports(folder: Path) -> None:
    (folder / "sources" / "needy.py").write_text(MISSING_IMPORT)
    assert plugins.options("sources", "needy")().model_dump() == {"depth": 3}


def test_a_plugin_without_settings_is_an_error_that_says_what_to_add(folder: Path) -> None:
    (folder / "sources" / "bare.py").write_text("def read(hdus, name, settings):\n    return None\n")
    with pytest.raises(SettingsError, match=r"survey/sources/bare\.py has no class Options; add it"):
        plugins.options("sources", "bare")


def test_a_constant_is_read_from_the_plugins_that_define_it(folder: Path) -> None:
    (folder / "sources" / "needy.py").write_text(f"{MISSING_IMPORT}\nSHIFT = 2 * 3\n")
    assert set(plugins.constants("sources", "NAMING")) == {"lamost", "sdss"}
    assert plugins.constants("sources", "SHIFT") == {"needy": 6}
