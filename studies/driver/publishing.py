"""Lets a warm process test a trained model and register it; meanwhile the driver writes nothing."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from studies.driver.session import Session
from studies.protocol.metric_names import registered_name


def publish(
    session: Session, function: str, parent: str, study: str, value: float | None, spec: dict[str, Any], what: str
) -> dict[str, Any] | None:
    """The answer of a function such as studies.inference.register_worker:publish; None if it failed, which is said.

    Args:
        parent: the run above the trained one; it gets the error as a tag.
        value: of the model, by the first metric of the experiment's search.
        spec: which runs, as the function wants it.
        what: for the user: "champion" or "winner".
    """
    plan = session.experiment.search
    assert plan is not None
    payload = {
        **spec,
        "tracking_uri": session.state_folder.tracking_uri,
        "parent": parent,
        "model_name": registered_name(session.experiment.name),
        "study": study,
        "value": value,
        "metric": plan.metric,
        "direction": plan.direction,
        "requirements": [f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "numpy")],
        "search_path": session.experiment.search_path,
    }
    session.tracking.now.flush()  # from here until it returns, that process is the only writer
    try:
        result: dict[str, Any] = session.executor.call(function, payload, session.display.refresh)
    except RuntimeError as error:
        result = {"error": str(error)}
    if "error" not in result:
        return result
    session.display.say(f"the {what} could not be published: {result['error']}")
    session.tracking.soon.set_tags(parent, {"harness.error": result["error"]})
    return None
