"""Errors that say nothing of a file: the bucket does not answer, or the credentials are no longer valid."""

from survey import files


def is_lost(path: str, error: Exception) -> bool:
    """Whether no file can be read now, and the job must stop: the file may be sound.

    A bucket that forbids this object, and a file on a disk that may not be read, are facts of the file.
    """
    if isinstance(error, ConnectionError):
        return True
    if not isinstance(error, PermissionError) or not files.is_remote(path):
        return False
    from survey.buckets import DeniedError  # 0.4 s to import, only where there is a bucket

    return not isinstance(error, DeniedError)
