"""The one family of exceptions: each names the thing, what was expected, what was found and what to do next."""

from collections.abc import Sequence
from typing import Any

DATA_DID_NOT_PASS = 1
WRONG_USE = 2
_MOST_SHOWN = 600


class LakehouseError(Exception):
    """Base of every error this library raises on purpose.

    Args:
        subject: the thing that is wrong: a file, row, column, table or setting.
        problem: what is wrong with it, in one clause.
        expected: what would have been right.
        found: what was there instead.
        fix: what the reader does next.
    """

    exit_code = WRONG_USE

    def __init__(
        self,
        subject: str,
        problem: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.subject = subject
        self.problem = problem
        self.expected = expected
        self.found = found
        self.fix = fix
        super().__init__(self._message())

    def _message(self) -> str:
        text = f"{self.subject}: {self.problem}"
        details = [f"{label} {_shortened(value)}" for label, value in (("expected", self.expected), ("found", self.found)) if value]
        if details:
            text += f" ({'; '.join(details)})"
        if self.fix:
            text += f". {self.fix}"
        # Names and values come from files: what they hold must not steer a terminal or a log.
        return text if text.isprintable() else "".join(map(_harmless, text))

    def as_dict(self) -> dict[str, Any]:
        """The error as the CLI prints it under --json."""
        return {
            "error": type(self).__name__,
            "subject": self.subject,
            "problem": self.problem,
            "expected": self.expected,
            "found": self.found,
            "fix": self.fix,
            "message": str(self),
        }


def _shortened(value: str) -> str:
    """What a file holds may be megabytes; the beginning says what it is, and as_dict has all of it."""
    return value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "..."


def _harmless(sign: str) -> str:
    return sign if sign.isprintable() or sign in "\n\t" else sign.encode("unicode_escape").decode()


class SettingsError(LakehouseError):
    """A setting is missing, malformed or contradicts another."""


class MachineError(LakehouseError):
    """The operating system refused a file or folder: no space, no permission, no such place."""


class MissingExtra(LakehouseError):
    """A feature needs an optional dependency that is not installed."""


class ContractError(LakehouseError):
    """A data or model contract is not valid."""


class ContractNotFound(LakehouseError):
    """No contract has this name."""


class FileRefused(LakehouseError):
    """A file can't be read as rows of its dataset; nothing of it was ingested."""

    exit_code = DATA_DID_NOT_PASS


class SourceError(LakehouseError):
    """A source (folder, repository, service, topic) can't be read."""


class PrivacyError(LakehouseError):
    """A key, a protected value or an encrypted file can't be used."""


class StorageError(LakehouseError):
    """A folder or bucket can't be reached, or refuses what is asked of it."""


class TableError(LakehouseError):
    """Base of what can go wrong with one table."""


class TableNotFound(TableError):
    """No such table, or no such version of it."""


class VersionGone(TableNotFound):
    """A version whose data files vacuum has removed."""


class TableDamaged(TableError):
    """A file of the table is missing or is not what was written."""


class RetentionTooShort(TableError):
    """Maintenance was asked to remove what is still in use."""


class SchemaMismatch(TableError):
    """Rows don't fit the table's columns or types."""


class ConstraintViolated(TableError):
    """Rows break a NOT NULL or CHECK constraint of the table."""

    exit_code = DATA_DID_NOT_PASS


class ConcurrentWrite(TableError):
    """Another writer changed the table; nothing was written."""


class ErasedMeanwhile(TableError):
    """A write held rows that were read before an erasure; nothing was written."""


class TransformError(LakehouseError):
    """dbt could not parse, build or test the project."""

    exit_code = DATA_DID_NOT_PASS


class FeatureError(LakehouseError):
    """A feature view is declared or used wrongly."""


class FeatureViewNotFound(FeatureError):
    """No feature view has this name."""


class ViewNotOnline(FeatureError):
    """A feature view is not in the online store."""


class ServingBlocked(FeatureError):
    """A feature view is not served: what the online store has is not what training sees."""

    exit_code = DATA_DID_NOT_PASS


class ViewRefused(FeatureError):
    """A feature view can't be registered.

    Args:
        subject: the view.
        reasons: all of them.
    """

    def __init__(self, subject: str, reasons: Sequence[str], *, fix: str | None = None) -> None:
        self.reasons = tuple(reasons)
        super().__init__(subject, "is not registered", found="; ".join(reasons), fix=fix)

    def as_dict(self) -> dict[str, Any]:
        """As of every error, with the reasons one by one."""
        return {**super().as_dict(), "reasons": list(self.reasons)}


class ModelError(LakehouseError):
    """A model can't be trained, loaded or used."""


class TrainingDataError(ModelError):
    """The rows can't teach a model what its contract asks: they are too few, all alike, or no numbers."""

    exit_code = DATA_DID_NOT_PASS


class ModelNotFound(ModelError):
    """No model or model version has this name."""


class QueryError(LakehouseError):
    """A query given by the user can't be run."""


class RecoveryError(LakehouseError):
    """A backup can't be made, or nothing can be restored."""


class BackupNotFound(RecoveryError):
    """There is no backup of this name or instant."""


class BackupBusy(RecoveryError):
    """Somebody else is at work on the backup."""


class BackupDamaged(RecoveryError):
    """What is stored in a backup is not what was backed up."""

    exit_code = DATA_DID_NOT_PASS
