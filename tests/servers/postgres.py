"""PostgreSQL: one cluster of a fresh folder, with passwords as in earnest and the log that logical replication reads."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

from tests.servers.server import Need, Server, free_ports, run

USER, PASSWORD = "lake", "lake-secret"
# It refuses to run as root.
_OTHER_USER = "postgres"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "60",
    "shared_buffers": "64MB",
    # Its data ends with the tests.
    "fsync": "off",
    "full_page_writes": "off",
    "log_min_messages": "fatal",
}


class PostgresServer(Server):
    """One postmaster; as root, it runs as the user that Debian's package makes."""

    name = "postgres"
    needs = (Need("initdb", "postgresql"), Need("postgres", "postgresql"))
    stop_signal = signal.SIGQUIT

    def __init__(self) -> None:
        super().__init__()
        self._data: Path | None = None

    def start(self, folder: Path) -> dict[str, str]:
        """Make a cluster and serve it."""
        user = _OTHER_USER if os.geteuid() == 0 else None
        # A test run's folder is closed to other users.
        self._data = Path(tempfile.mkdtemp(prefix="lakehouse-postgres-"))
        password = self._data / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        if user:
            for path in (password, self._data):
                shutil.chown(path, user, user)
        cluster = str(self._data / "cluster")
        rules = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        run(["initdb", "-D", cluster, "-U", USER, *rules], user=user)
        (port,) = free_ports(1)
        options = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        log = folder / "postgres.log"
        self.run_in_background(["postgres", "-D", cluster, "-p", str(port), *options], log, user=user)
        self.wait_until(lambda: _is_ready(Path(cluster)), "PostgreSQL", log)
        return {"host": "127.0.0.1", "port": str(port), "user": USER, "password": PASSWORD}

    def stop(self) -> None:
        """Stop it, and remove the folder outside the test run's."""
        super().stop()
        if self._data:
            shutil.rmtree(self._data, ignore_errors=True)


def _is_ready(cluster: Path) -> bool:
    """Its port is open before it takes connections; the last line of this file says when it does."""
    try:
        return (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()[-1].strip() == "ready"
    except (OSError, IndexError):
        return False
