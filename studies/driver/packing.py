"""Decides, before a study starts with --pack, whether its trials are packed."""

from __future__ import annotations

from typing import Any

from studies.console.progress import Display

# Minimum speed-up of packed steps at which whole packed trials are faster, since everything but the steps stays
# sequential. With steps 1.7 times as fast, 16 whole trials were 1.4 times as fast.
PACKING_PAYS = 1.2


def let_pack(
    executor: Any, measure: str | None, display: Display, payload: dict[str, Any], searched: list[str]
) -> None:
    """Lets an executor pack trials if timing a few packed steps shows that it pays off.

    Args:
        measure: the function to call in a warm process, or None.
        payload: its argument; `pack` is the number of trials.
        searched: names of the parameters that the study varies.
    """
    count = payload["pack"]
    if measure is None:
        found: dict[str, Any] = {"why_not": "studies/acceleration/ was removed"}
    else:
        display.phase("timing packed steps")
        found = executor.call(measure, payload, display.refresh)
    if "why_not" in found:
        display.say(f"trials are not packed: {found['why_not']}")
        return
    gain, over = found["gain"], found["over"]
    if gain < PACKING_PAYS:
        display.say(
            f"trials are not packed: steps of {count} at once would be {gain:.1f} times as fast as one by one, "
            f"but whole trials are faster only from {PACKING_PAYS} times"
        )
        return
    executor.pack, executor.packable_hyperparameters = count, over
    apart = [name for name in searched if name.removeprefix("model.") not in over]
    equal = f" of equal {', '.join(apart)}" if apart else ""
    display.inform(f"up to {count} trials{equal} are packed: steps {gain:.1f} times as fast as one by one")
