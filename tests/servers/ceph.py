"""S3: the gateway of Ceph over one object store that is kept in memory."""

import urllib.error
import urllib.request
import uuid
from pathlib import Path

from tests.servers.server import Need, Server, ServerUnavailable, free_ports, run

ACCESS_KEY, SECRET_KEY, BUCKET, REGION = "lakekey", "lakesecret", "lakehouse-tests", "us-east-1"
_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{monitor_port}
mon initial members = a
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
keyring = {folder}/keyring
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/log/$name.log
crash dir = {folder}/log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg autoscale mode = off
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
mon tick interval = 1
paxos propose interval = 0.05
paxos min wait = 0.01
rgw rados pool pg num min = 1

[mon]
mon data = {folder}/mon/$id
mon data avail crit = 1

[osd]
osd data = {folder}/osd/$id
osd objectstore = memstore
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
# It is put into the map below. What the store itself asks of a monitor before it knows the cluster's id is refused now and then, and ends it.
osd crush update on start = false
osd class update on start = false

[client.rgw]
# Without tcp_nodelay every small answer waits for the client's acknowledgement.
rgw frontends = beast endpoint=127.0.0.1:{gateway_port} tcp_nodelay=1
rgw data = {folder}/rgw
rgw thread pool size = 32
rgw enable usage log = false
rgw run sync thread = false
"""


class CephServer(Server):
    """A monitor, a store and the S3 gateway, as processes of this user."""

    name = "s3"
    needs = (
        Need("ceph-mon", "ceph-mon"),
        Need("ceph-osd", "ceph-osd"),
        Need("radosgw", "radosgw"),
        Need("radosgw-admin", "radosgw"),
        Need("ceph", "ceph-common"),
        Need("monmaptool", "ceph-common"),
    )

    def start(self, folder: Path) -> dict[str, str]:
        """Start the three and make the tests' bucket."""
        monitor_port, gateway_port = free_ports(2)
        fsid = str(uuid.uuid4())
        for name in ("mon", "osd/0", "rgw", "run", "log"):
            (folder / name).mkdir(parents=True)
        (folder / "keyring").touch()
        text = _CONFIGURATION.format(fsid=fsid, folder=folder, monitor_port=monitor_port, gateway_port=gateway_port)
        configuration = folder / "ceph.conf"
        configuration.write_text(text, encoding="utf-8")
        conf = ["-c", str(configuration)]
        log = folder / "log" / "output.log"

        monitors = str(folder / "monmap")
        run(["monmaptool", "--create", "--clobber", "--addv", "a", f"v1:127.0.0.1:{monitor_port}", "--fsid", fsid, monitors])
        run(["ceph-mon", *conf, "--mkfs", "-i", "a", "--monmap", monitors])
        self.run_in_background(["ceph-mon", *conf, "-f", "-i", "a"], log)
        store = str(uuid.uuid4())
        run(["ceph", *conf, "--connect-timeout", "30", "osd", "new", store])
        run(["ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", store])
        self.run_in_background(["ceph-osd", *conf, "-f", "-i", "0"], log)
        run(["ceph", *conf, "osd", "crush", "add", "0", "1.0", "root=default", "host=h"])
        account = ["--uid=lake", "--display-name=lake", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
        run(["radosgw-admin", *conf, "user", "create", *account])
        self.run_in_background(["radosgw", *conf, "-f", "-n", "client.rgw"], log)

        endpoint = f"http://127.0.0.1:{gateway_port}"
        self.wait_until(lambda: _answers(endpoint), "the S3 gateway", folder / "log" / "client.rgw.log")
        _make_bucket(endpoint)
        return {"endpoint": endpoint, "region": REGION, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket": BUCKET}


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=2):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _make_bucket(endpoint: str) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name=REGION)
    try:
        client.create_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError) as error:
        raise ServerUnavailable(f"the S3 gateway refuses a bucket: {error}") from error
