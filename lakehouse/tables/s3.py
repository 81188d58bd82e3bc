"""Where a bucket is and who may open it: from the settings, else as every AWS tool finds it."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakehouse.errors import MissingExtra, StorageError

if TYPE_CHECKING:
    from obstore.store import S3Credential

_KEY, _SECRET, _TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
_FIX = "Set LAKEHOUSE_S3_ACCESS_KEY_ID and LAKEHOUSE_S3_SECRET_ACCESS_KEY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
# Temporary credentials are asked for again this long after they were, and botocore itself renews what is about to end.
_FRESH = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key as it is valid now.

    Attributes:
        source: where it came from, for messages.
    """

    key: str
    secret: str
    token: str | None
    source: str


class S3Access:
    """What DuckDB, delta-rs and the object store need to open buckets, one answer for all three.

    Credentials are those of the options (the settings), else of the environment, else what botocore finds: a profile, SSO, a
    container's or machine's role. Temporary ones are renewed: ask again before each use.

    Args:
        options: AWS_* names as delta-rs takes them; those that are missing come from the environment.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._given = {name.upper(): value for name, value in options.items() if value}
        self._lock = threading.Lock()

    @cached_property
    def _session(self) -> Any:
        """Botocore's, which reads profiles; imported only where nothing simpler says who we are."""
        try:
            import botocore.session
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error
        return botocore.session.get_session()

    @cached_property
    def _is_named(self) -> bool:
        return _KEY in self._given or bool(os.environ.get(_KEY))

    @property
    def endpoint(self) -> str | None:
        """URL of the server, without a trailing slash; None means AWS."""
        found = self._given.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if not found and not self._is_named:
            found = self._from_profile("endpoint_url")
        return found.rstrip("/") if found else None

    @property
    def region(self) -> str:
        """The buckets' region."""
        found = self._given.get("AWS_REGION") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return found or (None if self._is_named else self._from_profile("region")) or "us-east-1"

    def _from_profile(self, name: str) -> str | None:
        from botocore.exceptions import BotoCoreError

        try:
            found = self._session.get_scoped_config().get(name)
        except BotoCoreError as error:
            raise StorageError("credentials of S3", f"can't be looked up: {error}", fix=_FIX) from error
        return str(found) if found else None

    @cached_property
    def _look_up(self) -> Callable[[], Credentials]:
        if _KEY in self._given:
            given = self._given
            fixed = Credentials(given[_KEY], given.get(_SECRET, ""), given.get(_TOKEN), "the settings LAKEHOUSE_S3_*")
            return lambda: fixed
        if os.environ.get(_KEY) and os.environ.get(_SECRET):
            named = Credentials(os.environ[_KEY], os.environ[_SECRET], os.environ.get(_TOKEN), f"the environment ({_KEY})")
            return lambda: named
        session = self._session
        from botocore.exceptions import BotoCoreError

        try:
            found = session.get_credentials()
        except BotoCoreError as error:
            raise StorageError("credentials of S3", f"can't be looked up: {error}", fix=_FIX) from error
        if found is None:
            raise StorageError("credentials of S3", "were not found", found="none in the settings, the environment or a profile", fix=_FIX)
        source = f"{found.method} (profile {session.get_config_variable('profile') or 'default'})"

        def renewed() -> Credentials:
            try:
                now = found.get_frozen_credentials()
            except BotoCoreError as error:
                raise StorageError("credentials of S3", f"can't be renewed: {error}", fix=_FIX) from error
            return Credentials(str(now.access_key), str(now.secret_key), now.token, source)

        return renewed

    def credentials(self) -> Credentials:
        """The key as it is valid now.

        Raises:
            StorageError: there is none, or it can't be renewed.
            MissingExtra: it would have to be looked up by botocore, which is not installed.
        """
        with self._lock:
            return self._look_up()

    def options(self) -> dict[str, str]:
        """All of it, as delta-rs takes it.

        Raises:
            StorageError: there are no credentials.
        """
        found = self.credentials()
        # What the environment says about unsafe ways to commit is not for this root: every commit is a conditional put.
        options = {
            "AWS_REGION": self.region,
            _KEY: found.key,
            _SECRET: found.secret,
            "AWS_CONDITIONAL_PUT": "etag",
            "AWS_S3_ALLOW_UNSAFE_RENAME": "false",
        }
        if found.token:
            options[_TOKEN] = found.token
        if self.endpoint:
            options["AWS_ENDPOINT_URL"] = self.endpoint
            options["AWS_ALLOW_HTTP"] = str(self.endpoint.startswith("http://")).lower()
        return options

    def provider(self) -> "S3Credential":
        """The key, as obstore asks for it."""
        found = self.credentials()
        return {
            "access_key_id": found.key,
            "secret_access_key": found.secret,
            "token": found.token,
            "expires_at": datetime.now(UTC) + _FRESH,
        }


def missing_extra(error: Exception) -> MissingExtra:
    """The error for a root on S3 without what it takes."""
    return MissingExtra(
        "a root on S3", f"needs packages that are not installed: {error}", fix="Install them with: pip install 'lakehouse[s3]'"
    )
