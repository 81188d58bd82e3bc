"""Redis: one process that keeps everything in memory."""

import signal
import socket
from pathlib import Path

from tests.servers.server import Need, Server, free_ports

DATABASES = 64


class RedisServer(Server):
    """One server without a file."""

    name = "redis"
    needs = (Need("redis-server", "redis-server"),)
    stop_signal = signal.SIGKILL

    def start(self, folder: Path) -> dict[str, str]:
        """Serve empty databases."""
        (port,) = free_ports(1)
        log = folder / "redis.log"
        place = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
        self.run_in_background(["redis-server", *place, "--save", "", "--appendonly", "no", "--databases", str(DATABASES)], log)
        self.wait_until(lambda: _answers(port), "Redis", log)
        return {"host": "127.0.0.1", "port": str(port)}


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False
