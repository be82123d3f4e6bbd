"""The private method of s3fs that our client overrides is still there."""

import inspect

from s3fs import S3FileSystem

from survey.buckets import Buckets


def test_s3fs_sends_every_request_through_the_method_that_we_override() -> None:
    """`_call_s3` is private; s3fs offers no public place for retries. Here a change of it is noticed."""
    assert inspect.iscoroutinefunction(S3FileSystem._call_s3)
    parameters = inspect.signature(S3FileSystem._call_s3).parameters
    assert [(name, parameter.kind.name) for name, parameter in parameters.items()] == [
        ("self", "POSITIONAL_OR_KEYWORD"),
        ("method", "POSITIONAL_OR_KEYWORD"),
        ("akwarglist", "VAR_POSITIONAL"),
        ("kwargs", "VAR_KEYWORD"),
    ]
    assert Buckets._call_s3 is not S3FileSystem._call_s3
    assert "self._call_s3(" in inspect.getsource(S3FileSystem)
