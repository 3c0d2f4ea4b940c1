"""A folder in gs://, through gcsfs and a server of its protocol."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from common.storage import Storage
from tests.servers.gcs import gcs_bucket


def test_a_folder_in_gs():
    with gcs_bucket() as objects:
        storage = Storage("gs://b/run")
        storage.write_bytes("x/one.bin", b"0123456789")
        storage.write_json("x/two.json", {"a": 1})
        assert objects.keys() == {"run/x/one.bin", "run/x/two.json"}
        assert storage.read_bytes("x/one.bin", 3, 4) == b"3456"
        assert storage.glob("x/*.bin") == ["x/one.bin"]
        assert storage.exists("x/two.json") and not storage.exists("x/three.json")


def test_of_several_writers_one_is_first():
    with gcs_bucket() as objects, ThreadPoolExecutor(8) as pool:
        storage = Storage("gs://b/run")
        won = list(pool.map(lambda number: storage.write_new("epoch", b"%d" % number), range(8)))
        assert won.count(True) == 1 and objects["run/epoch"] == b"%d" % won.index(True)
        assert storage.write_new("epoch", objects["run/epoch"]), "sent again after it had succeeded"
