"""Which samples the training loaders draw in an epoch, as a hash.

A loader is not changed, nor is anything drawn: while a DataLoader is iterated, the indices that its sampler yields are
noted as they pass.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset


class SampleOrder:
    """Hashes of the indices that DataLoaders drew since `clear`."""

    def __init__(self) -> None:
        self._drawn: dict[int, Any] = {}  # id of a sampler -> the hash of its indices
        self._missed = False

    def watch(self, loader: DataLoader[Any]) -> None:
        """Notes what a loader draws in the iteration that is about to begin."""
        sampler = _index_sampler(loader)
        if sampler is not None and _note(sampler, self):
            self._drawn.setdefault(id(sampler), hashlib.sha256())

    def clear(self) -> None:
        """An epoch begins, before its loaders are iterated; keeps no loader of the last one alive."""
        self._missed = False
        self._drawn.clear()
        _forget(self)

    def miss(self) -> None:
        """The epoch is taken up at a position that a loader restored, so what it drew before is unknown."""
        self._missed = True

    def drawn(self, sampler: Any, indices: Any) -> None:
        """A sampler has yielded the indices of a batch, or one index."""
        found = self._drawn.get(id(sampler))
        if found is not None:
            found.update(_as_bytes(indices))

    def digest(self, loaders: list[Any]) -> str:
        """16 hexadecimal digits of what the loaders drew in this epoch, "" if one of them does not tell.

        A loader that owns its randomness (datamodules/in_memory_loader.py) is asked for the epoch's order.
        """
        if self._missed and not all(map(_order_is_known, loaders)):
            return ""
        whole = hashlib.sha256()
        for loader in loaders:
            if _order_is_known(loader):
                whole.update(hashlib.sha256(loader.sampler.indices().numpy().tobytes()).digest())
            elif (drawn := self._drawn.get(id(_index_sampler(loader)))) is not None:
                whole.update(drawn.digest())
            else:
                return ""
        return whole.hexdigest()[:16] if loaders else ""


def _order_is_known(loader: Any) -> bool:
    return bool(getattr(loader, "owns_randomness", False)) and hasattr(getattr(loader, "sampler", None), "indices")


def _index_sampler(loader: Any) -> Any:
    """What yields the indices that a DataLoader fetches; None for a stream."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    return loader.sampler if loader.batch_sampler is None else loader.batch_sampler


def _as_bytes(indices: Any) -> bytes:
    try:
        return array("q", indices if isinstance(indices, list | tuple) else [indices]).tobytes()
    except (TypeError, OverflowError):  # keys of other kinds
        return repr(indices).encode("utf-8", "surrogatepass")


_WATCHED: dict[type, Any] = {}  # class of samplers -> its own __iter__, None if it is inherited
_BY: dict[int, list[tuple[Any, SampleOrder]]] = {}  # id of a sampler -> it, and who notes what it yields


def _note(sampler: Any, order: SampleOrder) -> bool:
    """Has what a sampler yields noted; returns whether that is possible: Python looks up __iter__ in its class."""
    cls = type(sampler)
    if cls not in _WATCHED:
        own, usual = vars(cls).get("__iter__"), getattr(cls, "__iter__", None)
        if usual is None:
            return False

        def iterate(self: Any) -> Iterator[Any]:
            indices = usual(self)  # now, not at the first index: it may draw random numbers
            orders = [item for known, item in _BY.get(id(self), []) if known is self]
            return _noting(self, indices, orders) if orders else indices  # type: ignore[no-any-return]

        try:
            cls.__iter__ = iterate
        except TypeError:  # a class written in C, such as list
            return False
        _WATCHED[cls] = own
    found = _BY.setdefault(id(sampler), [])
    if not any(known is sampler and item is order for known, item in found):
        found.append((sampler, order))
    return True


def _noting(sampler: Any, indices: Any, orders: list[SampleOrder]) -> Iterator[Any]:
    for item in indices:
        for order in orders:
            order.drawn(sampler, item)
        yield item


def _forget(order: SampleOrder) -> None:
    for sampler in list(_BY):
        _BY[sampler] = [(known, item) for known, item in _BY[sampler] if item is not order]
        if not _BY[sampler]:
            del _BY[sampler]
    if not _BY:
        for cls, own in _WATCHED.items():
            if own is None:
                del cls.__iter__  # type: ignore[attr-defined]
            else:
                cls.__iter__ = own  # type: ignore[attr-defined]
        _WATCHED.clear()
