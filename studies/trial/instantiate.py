"""Builds what a spec describes, in LightningCLI's order: callbacks and loggers, module, datamodule.

The datamodule's class declares what the harness may fill in, as `harness_links`: "seed" sets its parameter `seed` to
the trial's seed, and "sizes" passes the data-derived values (its property `sizes`: number of classes, vocabulary,
image shape) to the module, so the data are prepared and set up first. Everything else is as in LightningCLI.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial, update_wrapper
from types import MethodType
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule

from studies.common.class_paths import import_class, parameters_of
from studies.trial.arguments import parse_section


@dataclass
class Parts:
    """The parts of a trial: module, datamodule (or None), and the Trainer's arguments, instantiated.

    Attributes:
        sizes: the module's data-derived arguments.
    """

    module: LightningModule
    datamodule: LightningDataModule | None
    trainer: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)


def build(sections: dict[str, Any], seed: int, trainer: bool = True) -> Parts:
    """Parses the sections of an experiment and instantiates them, drawing random numbers in LightningCLI's order.

    Args:
        sections: model, data, trainer, optimizer and lr_scheduler, as written.
        seed: the trial's, for datamodules that declare the link.
        trainer: whether to instantiate the Trainer's arguments (callbacks, loggers) too.

    Raises:
        ValueError: one line that names the parameter.
    """
    linked = links_of(sections)
    datamodule = _datamodule(sections, seed, linked) if linked else None
    sizes = _sizes(datamodule) if datamodule is not None and "sizes" in linked else {}
    arguments = parse_section("trainer", sections["trainer"]).instantiated().as_dict() if trainer else {}
    module = _module(sections, sizes)
    if not linked:
        datamodule = _datamodule(sections, seed, linked)
    _configure_optimizers(module, sections)
    return Parts(module, datamodule, arguments, sizes)


def links_of(sections: dict[str, Any]) -> tuple[str, ...]:
    """The values that the harness fills in, as declared by the datamodule's class."""
    if sections.get("data") is None or "." not in sections["data"]["class_path"]:
        return ()
    return tuple(getattr(import_class(sections["data"]["class_path"]), "harness_links", ()))


def _datamodule(sections: dict[str, Any], seed: int, linked: tuple[str, ...]) -> LightningDataModule | None:
    section = sections.get("data")
    if section is None:
        return None
    if "seed" in linked:
        section = {**section, "init_args": {"seed": seed, **(section.get("init_args") or {})}}
    return _made("data", parse_section("data", section))


def _sizes(datamodule: LightningDataModule) -> dict[str, Any]:
    """The model's data-derived arguments, after preparing and setting up the data."""
    datamodule.prepare_data()
    datamodule.setup("fit")
    return dict(datamodule.sizes)  # type: ignore[attr-defined]


def _module(sections: dict[str, Any], sizes: dict[str, Any]) -> LightningModule:
    return _made("model", parse_section("model", with_sizes(sections["model"], sizes)))


def with_sizes(section: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    """The model section, with the data-derived sizes that its constructor accepts added.

    Raises:
        ValueError: the experiment sets such a size to another value.
    """
    if not sizes:
        return section
    given = dict(section.get("init_args") or {})
    for name in sorted(parameters_of(import_class(section["class_path"])) & set(sizes)):
        if given.setdefault(name, sizes[name]) != sizes[name]:
            raise ValueError(
                f"model.{name} comes from the data, where it is {sizes[name]!r}, but got {name}={given[name]!r}"
            )
    return {**section, "init_args": given}


def _made(section: str, parsed: Any) -> Any:
    try:
        return parsed.instantiated()
    except TypeError as error:
        if "required" in str(error):  # an untyped argument, which the parser does not require
            raise ValueError(f"{section}: {error}") from error
        raise


def _configure_optimizers(module: LightningModule, sections: dict[str, Any]) -> None:
    """Gives a module the optimizer and schedule of the sections of that name, as LightningCLI does."""
    from pytorch_lightning.cli import LightningCLI, instantiate_class

    if sections.get("optimizer") is None:
        if sections.get("lr_scheduler") is not None:
            raise ValueError("lr_scheduler needs an optimizer section")
        return
    made: dict[str, Any] = {}
    for name, argument in (("optimizer", module.parameters), ("lr_scheduler", lambda: made["optimizer"])):
        if sections.get(name) is not None:
            parsed = parse_section(name, sections[name])
            made[name] = instantiate_class(argument(), parsed.instantiated().as_dict())
    how = partial(LightningCLI.configure_optimizers, optimizer=made["optimizer"], lr_scheduler=made.get("lr_scheduler"))
    update_wrapper(how, LightningCLI.configure_optimizers)  # Lightning checks whether the method is overridden
    module.configure_optimizers = MethodType(how, module)  # type: ignore[method-assign]
