"""The client for ``s3://`` buckets: s3fs, but it waits for a server that does not answer, and its errors say
what to do.

The retries of botocore and s3fs multiply: a dead server would block a job for a quarter of an hour. And
botocore allows 100 retries in all, which 32 threads use up in seconds. So both try about once, and one loop
around every request waits for the server for a fixed time.
"""

import asyncio
import errno
import math
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

from survey.messages import without_secrets

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
    ResponseParserError,
)
BUSY = (429, 500, 502, 503, 504)
"""The HTTP codes of a server, or of a gateway before it, that may answer later. 429 = too many requests."""
COLLISIONS = ("ConditionalRequestConflict", "OperationAborted")
"""The answers (409) to one of two requests for the same object that met: S3 asks to repeat it."""
BUSY_NUMBERS = (errno.EBUSY, errno.EREMOTEIO)
"""The error numbers into which s3fs turns the answers SlowDown and InternalError."""


class NoListingError(ConnectionError):
    """The answer to the request of a listing is none: the page of a gateway, for example."""


class NoBucketError(FileNotFoundError):
    """There is no such bucket."""


class DeniedError(PermissionError):
    """These credentials may not use this object; they may be valid for others."""


class ConditionError(OSError):
    """The condition of a request does not hold: another process has written the object."""


class Buckets(S3FileSystem):  # type: ignore[misc]
    """s3fs with one kind of retry, and one request for a complete object."""

    retries = 2

    async def _call_s3(self, method: str, *settings: Any, **request: Any) -> Any:
        path = f"s3://{request.get('Bucket', '')}/{request.get('Key') or request.get('Prefix') or ''}"
        call = partial(super()._call_s3, method, *settings, **request)

        async def get_page() -> Any:
            page = await call()
            if "IsTruncated" not in page or (page["IsTruncated"] and not page.get("NextContinuationToken")):
                raise NoListingError("the answer is no listing; a gateway or another server may have sent it")
            return page

        return await self._with_retries(path, get_page if method == "list_objects_v2" else call)

    async def _fetch(self, path: str, largest: int) -> bytes | int:
        bucket, key, _ = self.split_path(path)
        get = partial(super()._call_s3, "get_object", Bucket=bucket, Key=key)

        async def get_all() -> bytes | int:
            response = await get()
            async with response["Body"] as body:
                size: int = response["ContentLength"]
                return size if size > largest else await body.read()

        return await self._with_retries(path, get_all)

    async def _put_if(self, path: str, data: bytes, **condition: str) -> bool:
        """One PUT under a condition of S3; whether the condition held."""
        bucket, key, _ = self.split_path(path)
        try:
            await self._call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
        except ConditionError:
            return False
        return True

    async def _put_if_new(self, path: str, data: bytes) -> bool:
        """Write an object that must not exist; whether it did not."""
        return await self._put_if(path, data, IfNoneMatch="*")

    async def _replace_if(self, path: str, old: bytes, new: bytes | None) -> bool:
        """Replace an object, or remove it (None), if it still holds the `old` bytes; whether it did."""
        bucket, key, _ = self.split_path(path)
        try:
            response = await self._call_s3("get_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        async with response["Body"] as body:
            if await body.read() != old:
                return False
        if new is not None:
            return await self._put_if(path, new, IfMatch=response["ETag"])
        await self._call_s3("delete_object", Bucket=bucket, Key=key)
        return True

    async def _age(self, path: str) -> float:
        """Seconds since the last change of an object, by the clock of the server; infinite without it."""
        bucket, key, _ = self.split_path(path)
        try:
            response = await self._call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return math.inf
        now = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        return float((now - response["LastModified"]).total_seconds())

    async def _with_retries(self, path: str, attempt: Callable[[], Awaitable[T]]) -> T:
        started, pause = time.monotonic(), 0.2
        while True:
            try:
                return await attempt()
            except (OSError, boto.BotoCoreError, ResponseParserError, aiohttp.ClientError) as error:
                waited = time.monotonic() - started
                if not (isinstance(error, NO_ANSWER) or _is_busy(error)):
                    raise self._explain(path, error) from error
                if waited > PATIENCE:
                    raise ConnectionError(
                        f"{path}: {self._server()} has not answered for {waited:.0f} s "
                        f"({without_secrets(str(error))}); "
                        "check the network and AWS_ENDPOINT_URL, then run the same command again to continue"
                    ) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _server(self) -> str:
        return without_secrets(str(self._s3.meta.endpoint_url)) if self._s3 else "the server"

    def _explain(self, path: str, error: Exception) -> OSError:
        """The error with its object and what to do, still of the type that s3fs expects."""
        code = _answer(error).get("Error", {}).get("Code", "")
        if code == "NoSuchBucket":
            bucket = "/".join(path.split("/")[:3])
            return NoBucketError(
                f"{bucket}: there is no such bucket at {self._server()}; create it, "
                "or correct its name or AWS_ENDPOINT_URL"
            )
        if isinstance(error, FileNotFoundError | boto.ParamValidationError):
            return FileNotFoundError(f"{path}: no such object")
        if code == "PreconditionFailed":
            return ConditionError(f"{path}: another process has written it meanwhile")
        if isinstance(error, (PermissionError, boto.NoCredentialsError, boto.PartialCredentialsError)):
            kind = DeniedError if code == "AccessDenied" else PermissionError
            return kind(
                f"{path}: {without_secrets(str(error)).rstrip('.')}; check AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (or the profile in ~/.aws) and their rights in this bucket"
            )
        text = without_secrets(str(error))
        explained = OSError(f"{path}: {text}; check the path and the AWS_ settings")
        explained.errno = getattr(error, "errno", None)
        return explained

    call_s3 = sync_wrapper(_call_s3)
    fetch = sync_wrapper(_fetch)
    put_if_new = sync_wrapper(_put_if_new)
    replace_if = sync_wrapper(_replace_if)
    age = sync_wrapper(_age)


def _answer(error: Exception) -> dict[str, Any]:
    """The server's answer that s3fs has turned into an error; empty if there was none."""
    response = getattr(error.__cause__, "response", None)
    return response if isinstance(response, dict) else {}


def _is_busy(error: Exception) -> bool:
    """Whether a server has answered that it cannot do the request now."""
    answer = _answer(error)
    status, code = (
        answer.get("ResponseMetadata", {}).get("HTTPStatusCode"),
        answer.get("Error", {}).get("Code"),
    )
    return status in BUSY or code in COLLISIONS or getattr(error, "errno", None) in BUSY_NUMBERS
