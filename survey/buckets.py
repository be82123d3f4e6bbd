"""The client for ``s3://`` buckets: s3fs, but it waits for a server that does not answer, and its errors say
what to do.

The retries of botocore and s3fs multiply: a dead server would block a job for a quarter of an hour. And
botocore allows 100 retries in all, which 32 threads use up in seconds. So both try about once, and one loop
around every request waits for the server for a fixed time.
"""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import aiohttp
from botocore import exceptions as boto
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

T = TypeVar("T")

PATIENCE = 75.0
"""Seconds after which a request to a server that does not answer fails."""

NO_ANSWER = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    aiohttp.ClientError,
    ConnectionError,
    TimeoutError,
)
BUSY = (errno.EBUSY, errno.EREMOTEIO)
"""The error numbers into which s3fs turns the HTTP codes 503 and 500."""


class NoBucketError(FileNotFoundError):
    """There is no such bucket."""


class DeniedError(PermissionError):
    """These credentials may not use this object; they may be valid for others."""


class Buckets(S3FileSystem):  # type: ignore[misc]
    """s3fs with one kind of retry, and one request for a complete object."""

    retries = 2

    async def _call_s3(self, method: str, *settings: Any, **request: Any) -> Any:
        path = f"s3://{request.get('Bucket', '')}/{request.get('Key') or request.get('Prefix') or ''}"
        return await self._with_retries(path, partial(super()._call_s3, method, *settings, **request))

    async def _fetch(self, path: str, largest: int) -> bytes | int:
        bucket, key, _ = self.split_path(path)
        get = partial(super()._call_s3, "get_object", Bucket=bucket, Key=key)

        async def get_all() -> bytes | int:
            response = await get()
            async with response["Body"] as body:
                size: int = response["ContentLength"]
                return size if size > largest else await body.read()

        return await self._with_retries(path, get_all)

    async def _with_retries(self, path: str, attempt: Callable[[], Awaitable[T]]) -> T:
        started, pause = time.monotonic(), 0.2
        while True:
            try:
                return await attempt()
            except (OSError, boto.BotoCoreError, aiohttp.ClientError) as error:
                waited = time.monotonic() - started
                if not (isinstance(error, NO_ANSWER) or getattr(error, "errno", None) in BUSY):
                    raise self._explain(path, error) from error
                if waited > PATIENCE:
                    raise ConnectionError(
                        f"{path}: {self._server()} has not answered for {waited:.0f} s ({error}); "
                        "check the network and AWS_ENDPOINT_URL, then run the same command again to continue"
                    ) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _server(self) -> str:
        return str(self._s3.meta.endpoint_url) if self._s3 else "the server"

    def _explain(self, path: str, error: Exception) -> OSError:
        """The error with its object and what to do, still of the type that s3fs expects."""
        code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "")
        if code == "NoSuchBucket":
            bucket = "/".join(path.split("/")[:3])
            return NoBucketError(
                f"{bucket}: there is no such bucket at {self._server()}; create it, "
                "or correct its name or AWS_ENDPOINT_URL"
            )
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(f"{path}: no such object")
        if isinstance(error, (PermissionError, boto.NoCredentialsError, boto.PartialCredentialsError)):
            kind = DeniedError if code == "AccessDenied" else PermissionError
            return kind(
                f"{path}: {str(error).rstrip('.')}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                "(or the profile in ~/.aws) and their rights in this bucket"
            )
        explained = OSError(f"{path}: {error}; check the path and the AWS_ settings")
        explained.errno = getattr(error, "errno", None)
        return explained

    call_s3 = sync_wrapper(_call_s3)
    fetch = sync_wrapper(_fetch)
