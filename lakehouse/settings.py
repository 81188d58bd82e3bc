"""Every setting, from LAKEHOUSE_* variables or `.env`, with embedded defaults that need nothing but Python."""

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.demands import demanded
from lakehouse.errors import SettingsError

ENVIRONMENT_PATTERN = "^[a-z][a-z0-9_-]*$"
"""What environments are called."""
_PROJECT_MARKS = ("workspace.yaml", "dbt/dbt_project.yml")


def find_project(start: Path | None = None) -> Path:
    """The project a command works on: LAKEHOUSE_PROJECT, the nearest enclosing folder, or the installed checkout.

    Raises:
        SettingsError: none of them holds a workspace.yaml beside a dbt project.
    """
    pinned = os.environ.get("LAKEHOUSE_PROJECT")
    origin = Path(pinned) if pinned else (start or Path.cwd())
    checkout = Path(__file__).resolve().parent.parent
    for folder in (origin.resolve(), *origin.resolve().parents, checkout):
        if all((folder / mark).is_file() for mark in _PROJECT_MARKS):
            return folder
    raise SettingsError(
        f"project folder {origin}",
        "is not inside a lakehouse project",
        expected=" and ".join(_PROJECT_MARKS),
        fix="Change into the project, or set LAKEHOUSE_PROJECT to it",
    )


class Settings(BaseSettings):
    """What differs between a laptop and a cluster; code never asks which of them it runs on.

    Relative paths are resolved against the project folder, so that every process of a run agrees on them.
    """

    model_config = SettingsConfigDict(env_prefix="LAKEHOUSE_", env_file=".env", extra="ignore", frozen=True)

    project: Path = Field(default_factory=find_project, description="Folder of contracts/, dbt/ and workspace.yaml.")
    home: Path = Field(default=Path("data"), description="Everything that is written: tables, landing, registry.")
    uri: str | None = Field(default=None, description="Root of the tables; default <home>/tables, or s3://bucket/prefix.")
    landing: str | None = Field(default=None, description="Where files arrive: a folder, default <home>/landing, or s3://bucket/prefix.")
    memory_limit: str = Field(default="2GB", description="DuckDB's memory limit; it spills to disk above it.")
    threads: int = Field(default_factory=lambda: os.cpu_count() or 2, ge=1, description="DuckDB's and dbt's threads.")
    s3_endpoint: str | None = Field(default=None, description="S3 endpoint URL; default as AWS' tools find it, else AWS itself.")
    s3_region: str | None = Field(default=None, description="Region of the buckets; default as AWS' tools find it, else us-east-1.")
    s3_access_key_id: str | None = Field(default=None, description="Key for S3; default as AWS' tools find one (AWS_*, profile, role).")
    s3_secret_access_key: SecretStr | None = None
    s3_session_token: SecretStr | None = Field(default=None, description="Of temporary credentials.")
    mlflow_uri: str | None = Field(default=None, description="MLflow tracking URI; default SQLite under home.")
    environment: str = Field(
        default="production", pattern=ENVIRONMENT_PATTERN, description="Each has keys of its own; outside production values are masked."
    )
    secret_key_file: Path | None = Field(default=None, description="Key of pseudonyms and encryption; made on first use.")
    audit: bool = Field(default=True, description="Record who read or changed what, by the command line.")
    github_token: SecretStr | None = None
    github_api: str = "https://api.github.com"
    postgres_user: str | None = Field(default=None, description="Who reads source tables; default the contract's, else as libpq finds it.")
    postgres_password: SecretStr | None = Field(
        default=None, description="Of that user; default as libpq finds it (PGPASSWORD, ~/.pgpass)."
    )
    kafka_options: SecretStr | None = Field(default=None, description="What the brokers ask of a client, as JSON: librdkafka's names.")
    topic_interval_s: float = Field(default=30.0, gt=0, description="How often topics are looked at: a micro-batch each time.")
    openlineage_url: str | None = Field(default=None, description="HTTP endpoint that gets OpenLineage events.")
    openlineage_file: Path | None = Field(default=None, description="File that OpenLineage events are appended to, one a line.")
    openlineage_api_key: SecretStr | None = Field(default=None, description="Sent to the endpoint as a bearer token.")
    openlineage_namespace: str = Field(default="lakehouse", description="OpenLineage's namespace of this home's jobs.")
    settle_s: float = Field(default=1.0, ge=0, description="A landing file must rest unchanged this long to be read.")
    schedule_main: str = Field(default="0 2 * * 0", description="Cron, UTC.")
    schedule_fetch: str = Field(default="*/15 * * * *", description="Cron, UTC.")
    schedule_exports: str = Field(default="0 */4 * * *", description="Cron, UTC, of looks at the `s3://` places that contracts name.")
    schedule_quality: str = Field(default="0 1 * * *", description="Cron, UTC.")
    schedule_performance: str = Field(default="0 3 * * *", description="Cron, UTC.")
    schedule_archive: str = Field(default="0 5 * * 0", description="Cron, UTC.")
    backup_uri: str | None = Field(default=None, description="Where backups go: a folder, or s3://bucket/prefix; none means no backups.")
    backup_keys_uri: str | None = Field(
        default=None, description="Where the keys are backed up, apart from the backups; none means nowhere."
    )
    backup_keep_last: int | None = Field(default=None, ge=1, description="After a scheduled backup, keep this many of the newest.")
    backup_keep_days: int | None = Field(default=None, ge=0, description="After a scheduled backup, keep those of this many days.")
    schedule_backup: str = Field(default="0 4 * * *", description="Cron, UTC.")
    schedule_verify: str = Field(default="0 6 * * 6", description="Cron, UTC.")
    archive_uri: str | None = Field(
        default=None, description="Prefix of the archive's tiers; default <home>/archive, or s3://bucket/prefix."
    )
    compact_target_mb: int = Field(default=256, ge=1, description="Compaction joins data files up to this size.")
    vacuum_retention_h: float = Field(default=168, ge=0, description="A version stays this long after another took its place.")
    orphan_age_h: float = Field(default=24, ge=0, description="Files in no version, older than this, belong to no living writer.")
    schedule_privacy: str = Field(default="30 4 * * *", description="Cron, UTC.")
    schedule_compaction: str = Field(default="30 3 * * *", description="Cron, UTC.")
    online_url: SecretStr | None = Field(
        default=None, description="Online store: redis://host:port/database; default a SQLite file below home."
    )
    online_ttl_h: float = Field(default=24, gt=0, description="The online store serves what nothing has confirmed for this long no more.")
    online_limit_mb: int = Field(
        default=1024, ge=1, description="The online store takes no more than this; from 80 % on an alarm is raised."
    )
    online_cache_rows: int = Field(default=10_000, ge=0, description="Entities that a process keeps of the online store; 0 keeps none.")
    online_cache_ttl_s: float = Field(default=5.0, ge=0, description="For how long it keeps them.")
    serving_host: str = Field(default="127.0.0.1", description="Where the Feature API listens; elsewhere than on this machine needs a key.")
    serving_port: int = Field(default=8000, ge=0, le=65535, description="Its port.")
    serving_workers: int = Field(default=1, ge=1, le=64, description="Processes that answer its requests.")
    serving_keys: SecretStr | None = Field(
        default=None, description="Keys of the Feature API, separated by commas: each request carries one of them."
    )
    serving_registers: bool = Field(default=False, description="Whether feature views can be registered through the Feature API.")
    serving_pushes: bool = Field(default=False, description="Whether rows can be pushed to the online store through it.")
    serving_entities: int = Field(default=1_000, ge=1, description="Entities that one request may ask for.")
    serving_body_kb: int = Field(default=1_024, ge=1, description="Size of a request's body, at most.")
    executor: Literal["in_process", "multiprocess"] = Field(default="in_process", description="How Dagster runs the steps of a run.")
    sensor_interval_s: int = Field(default=30, ge=1, description="How often sensors and automation look.")

    @classmethod
    def load(cls) -> "Settings":
        """The settings of this process.

        Raises:
            SettingsError: a variable has a value that its setting can't take.
        """
        project = find_project()
        try:
            return cls(project=project, _env_file=project / ".env")  # pyright: ignore[reportCallIssue]
        except ValidationError as error:
            first = error.errors()[0]
            name = "LAKEHOUSE_" + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(
                name, "is not valid", expected=demanded(first), found=repr(first["input"]), fix="Correct it in the environment or .env"
            ) from error

    def _under_project(self, path: Path) -> Path:
        return (self.project / path.expanduser()).resolve()

    @cached_property
    def home_dir(self) -> Path:
        """Absolute folder that holds everything written."""
        return self._under_project(self.home)

    @cached_property
    def tables_uri(self) -> str:
        """Root of the tables, without a trailing slash."""
        if self.uri is None:
            return str(self.home_dir / "tables")
        return self.uri.rstrip("/") if "://" in self.uri else str(self._under_project(Path(self.uri)))

    @cached_property
    def openlineage_path(self) -> Path | None:
        """File that gets OpenLineage events."""
        return self._under_project(self.openlineage_file) if self.openlineage_file else None

    @cached_property
    def landing_dir(self) -> Path:
        """Folder with one sub-folder of arriving files per dataset."""
        if self.landing is None or self.landing_bucket is not None:
            return self.home_dir / "landing"
        return self._under_project(Path(self.landing))

    @cached_property
    def landing_bucket(self) -> str | None:
        """`s3://bucket/prefix` with one folder of arriving files per dataset, beside the landing folder; None where there is none."""
        return self.landing.rstrip("/") if self.landing is not None and "://" in self.landing else None

    @cached_property
    def archive_root(self) -> str:
        """Prefix of the tiers that rows are archived to, without a trailing slash."""
        if self.archive_uri is None:
            return str(self.home_dir / "archive")
        return self.archive_uri.rstrip("/") if "://" in self.archive_uri else str(self._under_project(Path(self.archive_uri)))

    @cached_property
    def spill_dir(self) -> Path:
        """Where DuckDB spills what does not fit into memory."""
        return self.home_dir / "tmp"

    @cached_property
    def dagster_home(self) -> Path:
        """Dagster's instance folder."""
        return self.home_dir / "dagster"

    @cached_property
    def contract_dirs(self) -> tuple[Path, ...]:
        """Where contracts are looked up: the project's own, then those added to this home."""
        return (self.project / "contracts", self.home_dir / "contracts")

    @cached_property
    def dbt_home(self) -> Path:
        """What dbt reads and writes for this home alone: generated models, manifest, logs."""
        return self.home_dir / "dbt"

    @cached_property
    def mlflow_tracking_uri(self) -> str:
        """Where runs and registered models are recorded."""
        return self.mlflow_uri or f"sqlite:///{self.home_dir / 'registry' / 'mlflow.db'}"

    @cached_property
    def key_file(self) -> Path:
        """File that holds the secret key of this home."""
        if self.secret_key_file:
            return self._under_project(self.secret_key_file)
        return self.home_dir / "keys" / ("secret.key" if self.environment == "production" else f"{self.environment}.key")

    @cached_property
    def storage_options(self) -> dict[str, str]:
        """What the settings say about S3, as delta-rs takes it; the environment and profiles fill in the rest.

        Raises:
            SettingsError: a key without its secret, or the other way round.
        """
        secret = self.s3_secret_access_key.get_secret_value() if self.s3_secret_access_key else None
        if bool(self.s3_access_key_id) != bool(secret):
            raise SettingsError(
                "LAKEHOUSE_S3_ACCESS_KEY_ID and LAKEHOUSE_S3_SECRET_ACCESS_KEY",
                "are only half set",
                fix="Set both, or neither and let AWS_* variables or a profile say who you are",
            )
        options = {
            "AWS_ENDPOINT_URL": self.s3_endpoint,
            "AWS_REGION": self.s3_region,
            "AWS_ACCESS_KEY_ID": self.s3_access_key_id,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_SESSION_TOKEN": self.s3_session_token.get_secret_value() if self.s3_session_token else None,
        }
        return {name: value for name, value in options.items() if value}

    def child_environment(self) -> dict[str, str]:
        """The environment for a child process (dbt, dagster) that must see the same home."""
        return {
            **os.environ,
            "LAKEHOUSE_PROJECT": str(self.project),
            "LAKEHOUSE_HOME": str(self.home_dir),
            "DAGSTER_HOME": str(self.dagster_home),
        }
