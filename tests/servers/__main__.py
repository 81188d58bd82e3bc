"""`python -m tests.servers`: install what the servers need, where this user may, and say what is there and what is not."""

import os
import shutil
import subprocess
import sys

from tests.servers.catalogue import SERVERS
from tests.servers.server import Server, ServerUnavailable

_INSTALL_S = 900


def main() -> None:
    """Install, then report; what is missing is no failure: its tests are skipped and say so."""
    packages = sorted({need.package for server in SERVERS.values() for need in server.missing()})
    problem = _install(packages) if packages else ""
    for name, server in SERVERS.items():
        missing = server.missing()
        if missing:
            needed = " ".join(sorted({need.package for need in missing}))
            _say(f"server {name}: can't be started: {', '.join(need.program for need in missing)} not installed; {problem or needed}")
        else:
            _say(f"server {name}: {_fetched(server)}")


def _fetched(server: type[Server]) -> str:
    try:
        server.fetch()
    except ServerUnavailable as error:
        return f"can't be started: {error}"
    return "installed"


def _install(packages: list[str]) -> str:
    """Returns what kept them from being installed."""
    wanted = f"install the Debian packages {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        return f"this is no Debian: {wanted} by other means"
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and (shutil.which("sudo") is None or subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode):
        return f"neither root nor sudo without a password: {wanted}"
    environment = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]):
        try:
            done = subprocess.run([*environment, *command], check=False, capture_output=True, text=True, timeout=_INSTALL_S)
        except subprocess.TimeoutExpired:
            return f"{' '.join(command[:2])} took longer than {_INSTALL_S} s"
        # An index that can't be renewed is no reason not to try the one that is there.
        if done.returncode and "install" in command:
            return f"apt-get install ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:] or ''}"
    return ""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
