"""The feature views as a server knows them: looked up by any of their names without waiting, and looked for again when files change."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from lakehouse.errors import FeatureError, LakehouseError, TransformError
from lakehouse.features.views import FeatureView, find_view
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings

_LOOK_S = 5.0


class DeclaredViews:
    """What dbt declares, as of the last look at its files. May be shared by threads.

    dbt takes seconds to parse a project that has changed, and what is in the online store can be served without it. So who asks for
    features gets what is known, and who asks about views waits for the newest.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._by_name: Mapping[str, FeatureView] = {}
        self._views: Mapping[str, FeatureView] | None = None
        self._workspace = Workspace(settings)
        self._files: int | None = None
        self._looked = float("-inf")
        self.problem: LakehouseError | None = None

    @property
    def workspace(self) -> Workspace:
        """The home, with the contracts of the last look."""
        return self._workspace

    @property
    def is_due(self) -> bool:
        """Whether nobody has looked for some seconds."""
        return time.monotonic() - self._looked > _LOOK_S

    @property
    def is_new(self) -> bool:
        """Whether nobody has looked yet."""
        return self._looked == float("-inf")

    def known(self, name: str) -> FeatureView | None:
        """The view of that name, if the last look found it. Where none could be made, the online store knows its views by name."""
        if self._views is None:
            return FeatureView(name=name, table="", entity=())
        return self._by_name.get(name)

    def look(self) -> None:
        """Look at the files, and read them if they have changed. What is wrong with them is kept as the `problem`."""
        with self._lock:
            self._looked = time.monotonic()
            try:
                self._read()
            except LakehouseError as error:
                self.problem = error

    def current(self) -> Mapping[str, FeatureView]:
        """The views as they are declared now.

        Raises:
            TransformError: dbt can't parse the project, or a view is declared wrongly.
        """
        with self._lock:
            self._looked = time.monotonic()
            try:
                return self._read()
            except FeatureError as error:
                # Whoever asks about views did nothing wrong.
                raise TransformError("feature views", "are declared wrongly", found=str(error)) from error

    def find(self, name: str) -> FeatureView:
        """The view of that name as it is declared now.

        Raises:
            FeatureViewNotFound: there is none.
            TransformError: as `current`.
        """
        return find_view(self.current(), name)

    def _read(self) -> Mapping[str, FeatureView]:
        from lakehouse.pipeline.features import declared

        files = _fingerprint(self._settings)
        if self._views is not None and files == self._files and self.problem is None:
            return self._views
        workspace = Workspace(self._settings)
        views = declared(workspace)
        by_name: dict[str, FeatureView] = {}
        for view in views.values():
            for name in view.names:
                by_name.setdefault(name, view)
        self._workspace, self._by_name, self._views, self._files, self.problem = workspace, by_name, views, files, None
        return views


def _fingerprint(settings: Settings) -> int:
    """A number that is another one when a file of the project or a contract has changed."""
    roots = (settings.project / "dbt", *settings.contract_dirs)
    return hash(tuple(one for root in roots for one in _stats(root)))


def _stats(root: Path) -> Iterator[tuple[str, int, int]]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in {"target", "logs"} and not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                path = os.path.join(folder, name)
                try:
                    found = os.stat(path)
                except FileNotFoundError:
                    continue
                yield path, found.st_mtime_ns, found.st_size
