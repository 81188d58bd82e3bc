"""A root in a bucket: S3 itself, or a server that speaks its protocol."""

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import LakehouseError, StorageError
from lakehouse.tables.folder import missing
from lakehouse.tables.s3 import S3Access, missing_extra
from lakehouse.tables.stored import StoredFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3Config

_PAGE = 1000
# What is larger goes up in parts; S3 takes at most 10,000 of them.
_PART_BYTES = 8 * 1024 * 1024
_PARTS = 9_000
_CONNECT_TIMEOUT = timedelta(seconds=5)
# Of one request, not of a transfer: a large file may take as long as it needs while bytes arrive.
_READ_TIMEOUT = timedelta(seconds=30)
_RETRIES = 4
_RETRY_TIMEOUT = timedelta(seconds=30)
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_SETTINGS = "LAKEHOUSE_URI, LAKEHOUSE_S3_ENDPOINT and LAKEHOUSE_S3_REGION"
_REFUSALS = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AllAccessDisabled"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "TemporaryRedirect"}


class Bucket:
    """Files under one prefix of one bucket. A file is there whole or not at all, and for everybody at once.

    The first use asks the server for a listing, so that a wrong address, bucket or key is told before anything else is done.

    Args:
        root: `s3://bucket/prefix`.
        access: where it is and who may open it.
        store: an object store that is there already, in the place of S3.
    """

    def __init__(self, root: str, access: S3Access, *, store: "ObjectStore | None" = None) -> None:
        self._root = root
        self._access = access
        self._given = store

    @cached_property
    def _store(self) -> "ObjectStore":
        if self._given is not None:
            return self._given
        try:
            from obstore.store import S3Store
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error
        bucket, _, prefix = self._root.removeprefix("s3://").partition("/")
        endpoint = self._access.endpoint
        self._access.credentials()
        config: S3Config = {"region": self._access.region, "conditional_put": "etag"}
        if endpoint:
            config["endpoint"] = endpoint
        store = S3Store(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options={
                "allow_http": bool(endpoint and endpoint.startswith("http://")),
                "connect_timeout": _CONNECT_TIMEOUT,
                "read_timeout": _READ_TIMEOUT,
                "timeout": timedelta(hours=6),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
            credential_provider=self._access.provider,
        )
        import obstore

        with self._told(""):
            obstore.list_with_delimiter(store)
        return store

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Turn what the object store raises into an error that says what to do."""
        from obstore.exceptions import BaseError, InvalidPathError

        try:
            yield
        except (FileNotFoundError, LakehouseError):
            raise
        except (InvalidPathError, ValueError) as error:
            raise StorageError(
                self._address(path), f"holds a name that can't be read or written: {_first_line(error)}", fix="Rename it"
            ) from error
        except (BaseError, OSError) as error:
            raise self._explained(path, str(error)) from error

    def _explained(self, path: str, text: str) -> StorageError:
        code = found[1] if (found := _CODE.search(text)) else ""
        status = found[1] if (found := _STATUS.search(text)) else ""
        endpoint = self._access.endpoint or f"AWS, region {self._access.region}"
        bucket = self._root.removeprefix("s3://").partition("/")[0]
        subject = self._address(path)
        if code == "NoSuchBucket":
            return StorageError(f"bucket {bucket}", "does not exist", found=f"endpoint {endpoint}", fix="Make it, or correct LAKEHOUSE_URI")
        if code in _ELSEWHERE:
            return StorageError(
                f"bucket {bucket}", "is in another region", found=f"{self._access.region} ({code})", fix="Correct LAKEHOUSE_S3_REGION"
            )
        if code in _REFUSALS or status in {"401", "403"}:
            return StorageError(
                subject,
                "is refused to these credentials",
                found=f"{code or status} from {endpoint}, with the key of {self._access.credentials().source}",
                fix="Correct LAKEHOUSE_S3_ACCESS_KEY_ID and LAKEHOUSE_S3_SECRET_ACCESS_KEY, or what the bucket allows",
            )
        if not status:
            return StorageError(
                subject,
                "can't be reached",
                found=f"no answer from {endpoint}: {_first_line(text)}",
                fix=f"Check {_SETTINGS}, and the server",
            )
        return StorageError(
            subject, "could not be read or written", found=f"{code or status} from {endpoint}", fix="Try again; see the server's log"
        )

    def _address(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def folders(self, path: str) -> list[str]:
        """Names of the folders directly in `path`."""
        return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in self._listed(path)["common_prefixes"])

    def files(self, path: str) -> list[str]:
        """Names of the files directly in `path`."""
        return sorted(found["path"].rsplit("/", 1)[-1] for found in self._listed(path)["objects"])

    def _listed(self, path: str) -> Any:
        import obstore

        store = self._store
        with self._told(path):
            return obstore.list_with_delimiter(store, path or None)

    def walk(self, prefix: str) -> Iterator[StoredFile]:
        """Every file below `prefix`, in the order of their names."""
        import obstore

        store = self._store
        with self._told(prefix):
            for page in obstore.list(store, prefix or None, chunk_size=_PAGE):
                for found in page:
                    yield StoredFile(found["path"], found["size"], found["last_modified"], found["e_tag"])

    def read(self, path: str) -> bytes | None:
        """The bytes of one file, or None if there is none."""
        import obstore

        store = self._store
        try:
            with self._told(path):
                return bytes(obstore.get(store, path).bytes())
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file."""
        import obstore

        store = self._store
        with self._told(path), self._written(path):
            obstore.put(store, path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Make a file that is not there; False if it is."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        store = self._store
        with self._told(path), self._written(path):
            try:
                obstore.put(store, path, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

    def get(self, path: str, to: Path) -> None:
        """Fetch a file to a local path, which has it whole or is as it was."""
        import obstore

        store = self._store
        draft = to.with_name(f".{to.name[:120]}.{uuid.uuid4().hex[:12]}.tmp")
        try:
            with self._told(path), draft.open("xb") as file:
                for block in obstore.get(store, path).stream(min_chunk_size=_PART_BYTES):
                    file.write(block)
            draft.replace(to)
        except FileNotFoundError as error:
            raise missing(self._address(path)) from error
        finally:
            draft.unlink(missing_ok=True)

    def put(self, source: Path, path: str) -> None:
        """Store a local file under a path, which has it whole or is as it was."""
        import obstore

        store = self._store
        part = max(_PART_BYTES, source.stat().st_size // _PARTS)
        with self._told(path), self._written(path):
            obstore.put(store, path, source, chunk_size=part)

    @contextmanager
    def _written(self, path: str) -> Iterator[None]:
        """A server that does not find where to write has lost the bucket itself."""
        try:
            yield
        except FileNotFoundError as error:
            raise self._explained(path, str(error)) from error

    def look(self, path: str) -> StoredFile | None:
        """What a listing would tell of one file, or None if there is none."""
        import obstore

        store = self._store
        try:
            with self._told(path):
                found = obstore.head(store, path)
                return StoredFile(path, found["size"], found["last_modified"], found["e_tag"])
        except FileNotFoundError:
            return None

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files, many with one request; one that is gone already is no error."""
        import obstore

        wanted: Sequence[str] = list(dict.fromkeys(paths))
        if not wanted:
            return
        store = self._store
        with self._told(""):
            try:
                obstore.delete(store, wanted)
            except FileNotFoundError:
                return


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0][:300]
