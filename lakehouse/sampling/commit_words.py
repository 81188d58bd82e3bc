"""What the synthetic commits are made of; names and repositories are invented."""

REPOSITORIES = ("openfields/granary", "openfields/orchard", "northwater/harbor")

# (name, login, the type this person writes most)
PEOPLE = (
    ("Ada Quill", "ada-quill", "feat"),
    ("Bruno Costa", "brunoc", "fix"),
    ("Chidi Okafor", "chidi-o", "feat"),
    ("Dana Levi", "danalevi", "docs"),
    ("Emre Aydin", "emre-a", "refactor"),
    ("Fiona Glen", "fglen", "test"),
    ("Goran Ilić", "goran-i", "fix"),
    ("Hana Sato", "hanasato", "feat"),
    ("Ines Moreau", "inesm", "docs"),
    ("Jonas Weber", "jweber", "ci"),
    ("Kavya Rao", "kavya-rao", "fix"),
    ("Liam Byrne", "liamb", "perf"),
    ("shipmate[bot]", "shipmate[bot]", "build"),
    ("lantern[bot]", "lantern[bot]", "chore"),
)

TYPE_SHARES = {
    "feat": 0.22, "fix": 0.28, "docs": 0.13, "chore": 0.10, "refactor": 0.09, "test": 0.07, "build": 0.05, "ci": 0.03, "perf": 0.03,
}  # fmt: skip

WORDS = (
    "parser", "scheduler", "cache", "query planner", "writer", "reader", "schema", "index", "session", "client", "server", "config loader",
    "retry policy", "partition pruning", "decimal cast", "join order", "file listing", "token refresh", "progress bar", "time zone",
    "nested column", "null handling", "manifest", "lock file", "plugin", "command line", "export", "upload", "metrics", "logging",
)  # fmt: skip

# type -> (first words, last words) of a subject
SUBJECTS = {
    "feat": (
        ("add", "support", "allow", "introduce", "implement", "expose"),
        ("option", "for nested types", "to the public interface", "behind a flag", ""),
    ),
    "fix": (
        ("fix", "avoid", "handle", "correct", "prevent", "don't lose"),
        ("crash", "on empty input", "when it is missing", "regression", "overflow", ""),
    ),
    "docs": (("document", "explain", "describe", "clarify", "link", "fix typo in"), ("guide", "in the readme", "page", "example", "")),
    "chore": (
        ("bump version of", "release", "update", "clean up", "rename"),
        ("to the next version", "changelog", "metadata", "headers", ""),
    ),
    "refactor": (
        ("move", "extract", "simplify", "split", "rename", "inline"),
        ("into its own module", "internals", "without changing behaviour", ""),
    ),
    "test": (("test", "cover", "add regression test for", "parametrize", "deflake"), ("suite", "edge cases", "fixture", "")),
    "build": (("bump", "pin", "upgrade", "drop", "update dependency of"), ("from 2.3.1 to 2.4.0", "dependency", "lock", "wheel", "")),
    "ci": (("run", "cache", "speed up", "skip", "pin"), ("workflow", "job", "on pull requests", "runner", "")),
    "perf": (
        ("speed up", "avoid copying in", "reduce memory of", "vectorize", "make faster"),
        ("hot loop", "on large inputs", "by half", ""),
    ),
}

# Subjects that say what was touched and not why, as half of all real ones do.
NEUTRAL = (
    ("update", "improve", "rework", "adjust", "change", "tweak", "revisit", "handle", "use", "remove", "make", "more on", "follow up on"),
    ("", "", "again", "properly", "a bit", "for now", "as discussed", "after review", "handling", "code"),
)

# What one person calls a fix another calls a feature: the type that is written where it is not the usual one.
MISTAKEN = {
    "feat": ("fix", "refactor", "chore"),
    "fix": ("feat", "chore", "refactor"),
    "docs": ("chore", "fix"),
    "chore": ("build", "refactor", "docs"),
    "refactor": ("chore", "perf", "feat"),
    "test": ("fix", "chore", "ci"),
    "build": ("chore", "ci"),
    "ci": ("build", "chore", "test"),
    "perf": ("refactor", "fix", "feat"),
}

# Files that any commit may touch besides its own
SHARED_FILES = (
    "src/*.py", "src/core/*.py", "tests/test_*.py", "docs/*.md", "CHANGELOG.md", "pyproject.toml", "README.md", "src/api/*.py",
)  # fmt: skip

# type -> the files it touches; * is a word
FILES = {
    "feat": ("src/*.py", "src/core/*.py", "tests/test_*.py", "docs/*.md", "src/api/*.py"),
    "fix": ("src/*.py", "src/core/*.py", "tests/test_*.py"),
    "docs": ("docs/*.md", "docs/guide/*.md", "README.md", "src/*.py"),
    "chore": ("CHANGELOG.md", "pyproject.toml", "src/version.py", ".gitignore"),
    "refactor": ("src/core/*.py", "src/*.py", "src/internal/*.py"),
    "test": ("tests/test_*.py", "tests/fixtures/*.json", "tests/conftest.py"),
    "build": ("pyproject.toml", "uv.lock", "Cargo.toml", "Cargo.lock"),
    "ci": (".github/workflows/*.yml", ".github/actions/*.yml", "Makefile"),
    "perf": ("src/core/*.py", "benchmarks/*.py"),
}

# type -> (log of the lines changed, share of them deleted, files beyond the first)
SIZE = {
    "feat": (4.9, 0.15, 3.5),
    "fix": (3.2, 0.35, 1.2),
    "docs": (3.0, 0.30, 1.0),
    "chore": (2.2, 0.45, 0.8),
    "refactor": (4.7, 0.52, 3.0),
    "test": (4.0, 0.20, 1.0),
    "build": (2.3, 0.50, 0.9),
    "ci": (2.5, 0.40, 0.5),
    "perf": (3.8, 0.40, 1.3),
}
