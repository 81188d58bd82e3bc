"""Files that another process sees whole or not at all."""

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write the file, or leave it as it was; of two writers at once the last one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    draft.write_text(text, "utf-8")
    draft.replace(path)
