"""Where rows come from when they don't arrive as files: sources write files into a landing folder, atomically."""

from lakehouse.ingest.sources.git import git_history
from lakehouse.ingest.sources.github import github_commits
from lakehouse.ingest.sources.pages import SourceReport

__all__ = ["SourceReport", "git_history", "github_commits"]
