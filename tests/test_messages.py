"""What messages show of values from outside."""

import re
from typing import Any

import pytest

from survey.messages import find_unusable, without_secrets
from survey.settings import SettingsError
from survey.training.settings import Train


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:hush@host:5000", "http://me:***@host:5000"),
        ("http://me:hu/s@h@host", "http://me:***@host"),
        ("https://hush@host/x", "https://***@host/x"),
        ("s3://AKIA:hush@bucket/x", "s3://AKIA:***@bucket/x"),
        ("postgresql://me@host/db?password=hush&x=1", "postgresql://me@host/db?password=***&x=1"),
        ('no answer from "http://me:hush@host/b?list"', 'no answer from "http://me:***@host/b?list"'),
        ("https://h/x?X-Amz-Credential=hush%2F1&n=2", "https://h/x?X-Amz-Credential=***&n=2"),
        ("https://h/x?n=2&X-Amz-Signature=hush'", "https://h/x?n=2&X-Amz-Signature=***'"),
        ("https://h/x?sig=hush&se=2027", "https://h/x?sig=***&se=2027"),
        ("https://h/x?a=1&key=hush&api_key=hush", "https://h/x?a=1&key=***&api_key=***"),
        ("https://h/x?AWSAccessKeyId=hush&Signature=hush", "https://h/x?AWSAccessKeyId=***&Signature=***"),
        ("http://a:hush@h and http://b:hush@h", "http://a:***@h and http://b:***@h"),
    ],
)
def test_a_password_in_an_address_is_replaced_by_stars(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "text", ["s3://bucket/a@b.fits", "/data/a@b", "http://host:5000/x", "x: y@z", "join.key=star"]
)
def test_a_text_without_a_password_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_a_key_of_a_bucket_is_found_in_nested_settings() -> None:
    assert find_unusable({"a": {"b": ["x", "s3://k:s@c/d"]}}).startswith("a.b.1: the s3:// address holds")
    assert find_unusable({"a": "s3://arn:aws:s3:eu:1:accesspoint/p", "b": 3}) == ""


@pytest.mark.parametrize(("value", "kind"), [({1, 2}, "a set (!!set)"), (b"\xff", "bytes (!!binary)")])
def test_values_that_no_document_can_hold_are_named(value: Any, kind: str) -> None:
    assert find_unusable({"train": {"clip": value}}).startswith(f"train.clip: {kind}; give text, a number")


def test_a_message_about_many_mistakes_stays_short() -> None:
    with pytest.raises(SettingsError) as caught:
        Train.from_dict("train", {"x" * 5000 + str(number): "y" * 5000 for number in range(1000)})
    text = str(caught.value)
    assert len(text) < 25_000
    assert re.search(r"and 9\d\d more mistakes; correct these first$", text)
