"""Every server the tests know. A new one is a class in a module of its own, a line here, and a fixture in fixtures.py."""

from tests.servers.ceph import CephServer
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.server import Server

SERVERS: dict[str, type[Server]] = {server.name: server for server in (CephServer, PostgresServer, RedisServer, KafkaServer)}
