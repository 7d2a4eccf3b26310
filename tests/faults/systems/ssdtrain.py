"""Broken variants of the tensor cache, of the identity of what is saved, and of the store below it."""

from tests.faults.systems import Broken

_ROOM = "shakeout.targets.offload"
_SAVED, _STORE, _CACHE = f"{_ROOM}.saved", f"{_ROOM}.store", f"{_ROOM}.tensor_cache"


def _identity(mistake: str, right: str, wrong: str, published: str = "") -> Broken:
    return Broken("ssdtrain", mistake, right, wrong, _SAVED, published, through=(_STORE, _CACHE))


def _store(mistake: str, right: str, wrong: str) -> Broken:
    return Broken("ssdtrain", mistake, right, wrong, _STORE, through=(_CACHE,))


def _cache(mistake: str, right: str, wrong: str, published: str = "") -> Broken:
    return Broken("ssdtrain", mistake, right, wrong, _CACHE, published)


BROKEN = (
    _identity(
        "the key leaves out the offset, so that the chunks of one tensor are one",
        "        int(tensor.storage_offset()),\n        tuple(tensor.shape),",
        "        tuple(tensor.shape),",
        published="the key of FlashTrain's cache; read, and reproduced on a case of three chunks",
    ),
    _identity(
        "the key leaves out the strides",
        "        tensor.stride(),\n        tensor.dtype,",
        "        tensor.dtype,",
    ),
    _identity(
        "the key leaves out the version, so that what is saved behind a write is what was saved before it",
        "        tensor._version,\n        tensor.is_conj()",
        "        tensor.is_conj()",
    ),
    _identity(
        "the conjugate bit is lost",
        "        made = made.conj() if self.conjugate else made\n",
        "",
    ),
    _identity(
        "a view comes back from where its window begins",
        "// self.dtype.itemsize + self.offset\n",
        "// self.dtype.itemsize\n",
    ),
    _cache(
        "two keys with one hash are one key",
        "        return identity(tensor)\n",
        "        return (hash(identity(tensor)) % 8,)\n",
    ),
    _cache(
        "an address is taken for a storage, also of one that was freed",
        "owner = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]",
        "owner = None",
        published="keys by address of published caches",
    ),
    _cache(
        "nobody looks whether what was not copied was written to",
        "            saved.witness.check()\n",
        "            pass\n",
        published="saved_tensors_hooks take a tensor out of eager's own check",
    ),
    _cache(
        "what is to be copied at once is copied when its turn comes",
        "        memory = memory.clone() if self._snapshot else memory\n",
        "",
    ),
    _cache(
        "a tensor is freed when it is first asked for, and not with its last user",
        "        return held.form.on(self.fetch(held))\n",
        "        memory = self.fetch(held)\n        self.store.forget(held.block)\n        return held.form.on(memory)\n",
    ),
    _cache(
        "what stays in memory holds the graph that holds it",
        "        saved.tensor = tensor.detach()\n",
        "        saved.tensor = tensor\n",
    ),
    _store(
        "a tensor is used before it is read",
        "memory = self._workers.wait(job)\n",
        'memory = job.result if job.state == "done" else self._transfers.empty(block.size, block._device)\n',
    ),
    _store(
        "a file is read before it is written",
        "        block._checksum = zlib.crc32(data)\n",
        "        block._checksum = zlib.crc32(data)\n        block.path, block.memory = path, None\n",
    ),
    _store(
        "no checksum is compared",
        "            elif zlib.crc32(data) != block._checksum:\n",
        "            elif False:\n",
    ),
    _store(
        "the piece that a dying worker left counts as written",
        "                problem = error\n            else:\n",
        "                problem = error\n            except BaseException:\n                break\n            else:\n",
    ),
    _store(
        "what a full disk did not take is forgotten",
        "            self._kept(block, problem)\n            return\n",
        "            self._kept(block, problem)\n",
    ),
    _store(
        "files stay behind",
        "            self._path(block).unlink(missing_ok=True)  # a piece of it may be there before all of it is\n",
        "",
    ),
)
