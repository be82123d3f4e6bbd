"""Recipes that are damaged, hostile, or something else."""

from itertools import pairwise
from pathlib import Path

import pytest

from survey.recipes import LARGEST, MOST_VALUES, parse, read_recipe
from survey.settings import SettingsError


def error_of(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(text, "recipe")
    return str(caught.value)


def test_aliases_that_multiply_are_an_error_of_one_line() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in pairwise("abcdefghi")]
    message = error_of("\n".join(lines))
    assert message.startswith(f"recipe: holds more than {MOST_VALUES:,} values")
    assert len(message) < 200


def test_an_alias_may_repeat_a_value() -> None:
    assert parse("a: &a [1, 2]\nb: *a", "recipe") == {"a": [1, 2], "b": [1, 2]}


def test_a_value_that_contains_itself_is_an_error() -> None:
    assert error_of("a: &a [*a]") == "recipe: line 1: a value contains itself; remove the alias"


def test_brackets_inside_each_other_are_an_error() -> None:
    assert error_of("[" * 2000).startswith("recipe: too many brackets inside each other")


def test_a_number_of_many_digits_is_an_error() -> None:
    assert error_of("a: " + "9" * 5000).startswith("recipe: line 1: a number of 5,000 digits; give at most")


def test_many_keys_are_compared_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    class Key(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    from survey import recipes

    loader = recipes._Loader("")
    monkeypatch.setattr(loader, "construct_object", lambda node, deep=False: Key(node.value))
    node = loader.__class__("\n".join(f"k{number}: 1" for number in range(500))).get_single_node()
    assert node is not None
    loader.construct_mapping(node)  # type: ignore[arg-type]
    assert compared < 5_000


def test_a_file_that_is_no_text_or_too_large_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"train: {store: \xff}\n")
    with pytest.raises(SettingsError, match=r"a.yaml: byte 15 is no text in UTF-8 .*; give a YAML file"):
        read_recipe(str(path), "train")
    path.write_bytes(b"x" * (LARGEST + 1))
    with pytest.raises(SettingsError, match=r"a.yaml: 1,048,577 bytes, a recipe has at most"):
        read_recipe(str(path), "train")
