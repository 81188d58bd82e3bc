"""Backups of a home, bringing one back, and the proof that everything is as it was written."""
