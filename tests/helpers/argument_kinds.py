"""Modules with various constructors; each stores its arguments as `received`. See test_arguments.py."""

# ruff: noqa: B006, B008  such defaults are tested

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional, TypedDict, Union

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn


class Keeps(LightningModule):
    """Keeps its constructor's arguments."""

    def __init__(self, **received: Any) -> None:
        super().__init__()
        object.__setattr__(self, "received", received)  # not as submodules


class Reduction(enum.Enum):
    MEAN = "mean"
    SUM = "sum"


@dataclass
class Schedule:
    warmup: int = 3
    rates: list[float] = field(default_factory=lambda: [0.1])


@dataclass
class Plan:
    schedule: Schedule = field(default_factory=Schedule)
    steps: int = 10


class Size(TypedDict):
    width: int
    height: int


class Point(NamedTuple):
    x: int = 0
    y: int = 0


class Block(nn.Module):
    def __init__(self, inner: nn.Module, depth: int = 1) -> None:
        super().__init__()
        self.inner, self.depth = inner, depth


class Options:
    """A class that is not a module."""

    def __init__(self, path: Path = Path("here"), ratio: float = 0.5, **more: Any) -> None:
        self.path, self.ratio, self.more = path, ratio, more


def make_layer(width: int = 2) -> nn.Linear:
    return nn.Linear(width, width)


class PathDefault(Keeps):
    def __init__(self, root: Path = Path("data")) -> None:
        super().__init__(root=root)


class ClassDefault(Keeps):
    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__(activation=activation)


class UntypedClassDefault(Keeps):
    def __init__(self, activation=nn.ReLU) -> None:  # type: ignore[no-untyped-def]
        super().__init__(activation=activation)


class CallableDefault(Keeps):
    def __init__(self, activation: Callable[..., Any] = torch.relu) -> None:
        super().__init__(activation=activation)


class EnumDefault(Keeps):
    def __init__(self, reduction: Reduction = Reduction.MEAN) -> None:
        super().__init__(reduction=reduction)


class NestedEnum(Keeps):
    class Mode(enum.Enum):
        FAST = 1
        SLOW = 2

    def __init__(self, mode: NestedEnum.Mode = Mode.FAST) -> None:
        super().__init__(mode=mode)


class DataclassDefault(Keeps):
    def __init__(self, schedule: Schedule = Schedule(warmup=5)) -> None:
        super().__init__(schedule=schedule)


class NestedDataclass(Keeps):
    def __init__(self, plan: Plan = Plan()) -> None:
        super().__init__(plan=plan)


class ModuleDefault(Keeps):
    def __init__(self, loss: nn.Module = nn.L1Loss()) -> None:
        super().__init__(loss=loss)


class UntypedModuleDefault(Keeps):
    def __init__(self, loss=nn.L1Loss()) -> None:  # type: ignore[no-untyped-def]
        super().__init__(loss=loss)


class Tuples(Keeps):
    def __init__(
        self,
        shape: tuple[int, int] = (2, 3),
        untyped=(4, 5),  # type: ignore[no-untyped-def]
        many: tuple[float, ...] = (0.5,),
    ) -> None:
        super().__init__(shape=shape, untyped=untyped, many=many)


class Mappings(Keeps):
    def __init__(
        self,
        weights: dict[int, float] = {0: 1.0, 1: 2.0},
        named: Mapping[str, int] | None = None,
        untyped={3: "three"},  # type: ignore[no-untyped-def]
        size: Size = {"width": 1, "height": 2},
    ) -> None:
        super().__init__(weights=weights, named=named, untyped=untyped, size=size)


class Sets(Keeps):
    def __init__(self, names: set[str] = {"a"}, frozen: Any = frozenset({1})) -> None:
        super().__init__(names=names, frozen=frozen)


class Sequences(Keeps):
    def __init__(self, widths: Sequence[int] = (8, 8), items: Iterable[str] = ("a",), lists: list[list[int]] = [[1]]):
        super().__init__(widths=widths, items=items, lists=lists)


class NamedTuples(Keeps):
    def __init__(self, point: Point = Point(1, 2)) -> None:
        super().__init__(point=point)


class DtypeDefault(Keeps):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(dtype=dtype)


class DeviceDefault(Keeps):
    def __init__(self, device_of_sums: torch.device = torch.device("cpu")) -> None:
        super().__init__(device_of_sums=device_of_sums)


class UntypedRequired(Keeps):
    def __init__(self, hidden, rate=0.1) -> None:  # type: ignore[no-untyped-def]
        super().__init__(hidden=hidden, rate=rate)


class TensorDefault(Keeps):
    def __init__(self, weight: torch.Tensor | None = torch.ones(2)) -> None:
        super().__init__(weight=weight)


class Variadic(Keeps):
    def __init__(self, *args: Any, hidden: int = 3, **kwargs: Any) -> None:
        super().__init__(args=args, hidden=hidden, kwargs=kwargs)


class Inherits(EnumDefault):
    """Has its base's parameters and one more."""

    def __init__(self, extra: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.received["extra"] = extra  # type: ignore[index]


class Factories(Keeps):
    def __init__(
        self,
        optimizer: OptimizerCallable = torch.optim.SGD,
        scheduler: LRSchedulerCallable = torch.optim.lr_scheduler.ConstantLR,
        layer: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        parameters = [nn.Parameter(torch.ones(1))]
        made = optimizer(parameters, lr=0.5) if optimizer is torch.optim.SGD else optimizer(parameters)
        super().__init__(optimizer=made, scheduler=scheduler(made), layer=layer)


class Numbers(Keeps):
    def __init__(
        self,
        cap: float = float("inf"),
        floor: float = float("nan"),
        rate: float = 1,
        count: int = 3,
        large: int = 2**70,
        exact: float = 0.1 + 0.2,
        is_on: bool = True,
        bound: complex = 1 + 2j,
    ) -> None:
        super().__init__(
            cap=cap, floor=floor, rate=rate, count=count, large=large, exact=exact, is_on=is_on, bound=bound
        )


class Texts(Keeps):
    def __init__(self, text: str = "plain", untyped="none", maybe: str | None = None) -> None:  # type: ignore[no-untyped-def]
        super().__init__(text=text, untyped=untyped, maybe=maybe)


class Unions(Keeps):
    def __init__(
        self,
        number_or_text: int | str = "auto",
        old: Union[float, list[float]] = 0.5,  # noqa: UP007
        maybe: Optional[int] = 3,  # noqa: UP045
        kind: Literal["a", "b", 3] = "a",
        module_or_name: nn.Module | str = "relu",
    ) -> None:
        super().__init__(number_or_text=number_or_text, old=old, maybe=maybe, kind=kind, module_or_name=module_or_name)


class Modules(Keeps):
    def __init__(
        self,
        net: nn.Module | None = None,
        several: list[nn.Module] | None = None,
        named: dict[str, nn.Module] | None = None,
        options: Options | None = None,
    ) -> None:
        super().__init__(net=net, several=several, named=named, options=options)


class BuiltByHand(Keeps):
    """Its default is an object with its own arguments."""

    def __init__(self, options: Options = Options(Path("there"), 0.25, note="kept")) -> None:
        super().__init__(options=options)


def make_module(width: int = 4) -> Keeps:
    """A function with a return annotation may be used like a class."""
    return Keeps(width=width)
