"""The online store in Redis: a hash per lane, one round trip for any number of keys of a view."""

import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from lakehouse.errors import MissingExtra, SettingsError, StorageError
from lakehouse.features.online.store import LaneSize, Read

_TIMEOUT_S = 10.0
_AT_ONCE = 500
_IN_FLIGHT = 8
_SAMPLES = 50
_BACKGROUND_S = 600
_LOOK_EVERY_S = 0.1
# Strings are compared by their bytes: Lua's own comparison goes by the server's locale.
_PUT = """
local function is_greater(new, old)
  local length = math.min(#new, #old)
  for i = 1, length do
    local a, b = string.byte(new, i), string.byte(old, i)
    if a ~= b then return a > b end
  end
  return #new > #old
end
redis.call('SADD', KEYS[2], ARGV[1])
local written = 0
for i = 2, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if not old or is_greater(ARGV[i + 1], old) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    written = written + 1
  end
end
return written
"""
_REMOVE = """
local removed = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    removed = removed + 1
  end
end
return removed
"""
_REPLACE_STATE = """
local found = redis.call('HGET', KEYS[1], ARGV[1])
if (ARGV[2] == '' and found) or (ARGV[2] ~= '' and found ~= ARGV[2]) then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
"""


class RedisStore:
    """Keys of one home, under a prefix of their own.

    Args:
        url: `redis://[user:password@]host:port/database`, `rediss://` or `unix://`.
        home: what tells this home from others on the same server.

    Raises:
        MissingExtra: the client is not installed.
        SettingsError: the address is none.
    """

    def __init__(self, url: str, *, home: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise SettingsError(
                "LAKEHOUSE_ONLINE_URL", "is not Redis' address", expected="redis://host:6379/0", found=f"{parts.scheme}://..."
            )
        self._url = url
        self._address = f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        prefix = f"lakehouse:{hashlib.sha256(home.encode()).hexdigest()[:12]}"
        self._states_key, self._lanes_key, self._lane_prefix = f"{prefix}:views", f"{prefix}:lanes", f"{prefix}:lane:"
        # Asked for here, so that a missing client is told before anything begins.
        self._put, self._remove, self._replace = (self._client.register_script(script) for script in (_PUT, _REMOVE, _REPLACE_STATE))

    @cached_property
    def _client(self) -> Any:
        try:
            import redis
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "online store on Redis", "needs its client", fix="Install it with: pip install 'lakehouse[redis]'"
            ) from error
        return redis.Redis.from_url(self._url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)

    @property
    def address(self) -> str:
        """The server, without credentials."""
        return self._address

    def read(self, view: str, lanes: Sequence[str], keys: Sequence[bytes]) -> Read:
        """As the interface says, in one round trip."""
        with self._telling():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hget(self._states_key, view)
            for lane in lanes if keys else ():
                pipeline.hmget(self._lane_prefix + lane, keys)
            state, *values = pipeline.execute()
        return Read(state.decode() if state is not None else None, tuple(map(tuple, values)) if keys else tuple(() for _ in lanes))

    def put(self, lane: str, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """As the interface says."""
        return self._in_chunks(
            rows, lambda chunk, pipeline: self._put(keys=[self._lane_prefix + lane, self._lanes_key], args=[lane, *chunk], client=pipeline)
        )

    def remove(self, lane: str, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """As the interface says."""
        return self._in_chunks(rows, lambda chunk, pipeline: self._remove(keys=[self._lane_prefix + lane], args=chunk, client=pipeline))

    def _in_chunks(self, rows: Iterable[tuple[bytes, bytes]], send: Callable[[list[bytes], Any], Any]) -> int:
        done, waiting = 0, iter(rows)
        with self._telling():
            while True:
                pipeline = self._client.pipeline(transaction=False)
                for _ in range(_IN_FLIGHT):
                    if chunk := [part for row in islice(waiting, _AT_ONCE) for part in row]:
                        send(chunk, pipeline)
                if not len(pipeline):
                    return done
                done += sum(int(one) for one in pipeline.execute())

    def scan(self, lane: str) -> Iterator[tuple[bytes, bytes]]:
        """As the interface says, each key once."""
        seen: set[bytes] = set()
        with self._telling():
            for key, value in self._client.hscan_iter(self._lane_prefix + lane, count=_AT_ONCE):
                if key not in seen:
                    seen.add(key)
                    yield key, value

    def drop(self, lane: str) -> None:
        """As the interface says; the server frees the memory beside its other work."""
        with self._telling():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.unlink(self._lane_prefix + lane)
            pipeline.srem(self._lanes_key, lane)
            pipeline.execute()

    def lanes(self) -> Mapping[str, LaneSize]:
        """As the interface says; bytes are what the server reckons from samples."""
        with self._telling():
            names = sorted(name.decode() for name in self._client.smembers(self._lanes_key))
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                pipeline.hlen(self._lane_prefix + name)
                pipeline.memory_usage(self._lane_prefix + name, samples=_SAMPLES)
            found = pipeline.execute()
        return {name: LaneSize(int(found[2 * place]), int(found[2 * place + 1] or 0)) for place, name in enumerate(names)}

    def states(self) -> Mapping[str, str]:
        """As the interface says."""
        with self._telling():
            return {name.decode(): text.decode() for name, text in sorted(self._client.hgetall(self._states_key).items())}

    def replace_state(self, view: str, new: str | None, *, expected: str | None) -> bool:
        """As the interface says."""
        with self._telling():
            return bool(self._replace(keys=[self._states_key], args=[view, expected or "", new or ""]))

    def size_bytes(self) -> int:
        """What this home's keys take; others on the server are not counted."""
        return sum(lane.size_bytes for lane in self.lanes().values())

    def capacity_bytes(self) -> int | None:
        """The server's maxmemory."""
        with self._telling():
            return int(self._client.info("memory").get("maxmemory") or 0) or None

    def shrink(self) -> None:
        """The server does so by itself."""

    def purge(self) -> None:
        """As the interface says: files that the server keeps its memory in are written anew. Replicas and copies of them it can't reach."""
        with self._telling():
            if self._client.info("persistence").get("aof_enabled"):
                self._run_in_background("bgrewriteaof", ("aof_rewrite_in_progress", "aof_rewrite_scheduled"), "aof_last_bgrewrite_status")
            if self._takes_snapshots():
                self._run_in_background("bgsave", ("rdb_bgsave_in_progress",), "rdb_last_bgsave_status")

    def _takes_snapshots(self) -> bool:
        import redis

        try:
            return bool(self._client.config_get("save").get("save"))
        except redis.ResponseError:
            # A server of others does not let itself be asked: its files are theirs.
            return False

    def _run_in_background(self, command: str, under_way: Sequence[str], status: str) -> None:
        import redis

        def is_under_way() -> bool:
            found = self._client.info("persistence")
            return any(found.get(name) for name in under_way)

        # One that is under way may have begun before the rows were removed.
        self._wait_until(lambda: not is_under_way(), command)
        getattr(self._client, command)()
        self._wait_until(lambda: not is_under_way(), command)
        if self._client.info("persistence").get(status) != "ok":
            raise redis.RedisError(f"{command} failed: the server's log says why")

    def _wait_until(self, is_so: Callable[[], bool], command: str) -> None:
        import redis

        for _ in range(int(_BACKGROUND_S / _LOOK_EVERY_S)):
            if is_so():
                return
            time.sleep(_LOOK_EVERY_S)
        raise redis.TimeoutError(f"{command} did not end within {_BACKGROUND_S} s")

    def close(self) -> None:
        """Close all connections."""
        if "_client" in self.__dict__:
            self._client.close()

    @contextmanager
    def _telling(self) -> Generator[None]:
        import redis

        try:
            yield
        except redis.RedisError as error:
            fix = "Start the server, or correct LAKEHOUSE_ONLINE_URL"
            raise StorageError(
                f"online store {self._address}", "can't be used", found=f"{type(error).__name__}: {error}", fix=fix
            ) from error
