"""Where rows come from when they don't arrive as files: sources write files into a landing folder, atomically."""

from lakehouse.ingest.sources.git import git_history
from lakehouse.ingest.sources.github import github_commits
from lakehouse.ingest.sources.kafka import TopicReader, TopicReport
from lakehouse.ingest.sources.pages import SourceReport
from lakehouse.ingest.sources.postgres import postgres_rows
from lakehouse.ingest.sources.table_report import TableReport

__all__ = ["SourceReport", "TableReport", "TopicReader", "TopicReport", "git_history", "github_commits", "postgres_rows"]
