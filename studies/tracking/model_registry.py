"""MLflow's model registry: model versions and the champion alias."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")


import mlflow
from mlflow.exceptions import MlflowException

from studies.common.suggestions import did_you_mean


class ModelRegistry:
    """Registered models.

    Args:
        client: an MlflowClient.
        uri: its tracking URI.
    """

    def __init__(self, client: Any, uri: str) -> None:
        self._client, self.uri = client, uri

    def publish_model(
        self,
        run_id: str,
        module: Any,
        example: Any,
        variable: Collection[int],
        name: str,
        requirements: list[str],
        tags: Mapping[str, str],
    ) -> int:
        """Logs a module to a run, registers it as the next version of a model and returns that version.

        The model is stored as an exported program (pt2), not as a pickle, with its signature and an input example.
        Needs torch, so it is called in a trial process, never in the driver.

        Args:
            example: inputs of two rows.
            variable: input dimensions of variable size.
        """
        import mlflow.pytorch
        from mlflow.models import infer_signature
        from mlflow.types import Schema, TensorSpec

        output = module(example).numpy(force=True)
        inputs = example.numpy(force=True)
        # MLflow exports -1 as a variable size and accepts any size there in serving.
        shape = tuple(-1 if dim in variable else size for dim, size in enumerate(inputs.shape))
        signature = infer_signature(inputs, output)
        signature.inputs = Schema([TensorSpec(inputs.dtype, shape)])
        with _global_uri(self.uri), mlflow.start_run(run_id=run_id):
            info = mlflow.pytorch.log_model(
                module,
                name="model",
                registered_model_name=name,
                signature=signature,
                input_example=inputs,
                pip_requirements=requirements,
                await_registration_for=None,
            )
        version = int(info.registered_model_version)
        for key, value in tags.items():
            self._client.set_model_version_tag(name, str(version), key, value)
        return version

    def champion(self, name: str) -> dict[str, str] | None:
        """Tags of the model version that is `name`@champion, or None."""
        try:
            return dict(self._client.get_model_version_by_alias(name, "champion").tags)
        except MlflowException:
            return None

    def champions(self) -> dict[str, str]:
        """Run id -> name of the registered model whose champion was trained in it."""
        found = {}
        for item in self._client.search_registered_models():
            run_id = (self.champion(item.name) or {}).get("harness.run_id")
            if run_id is not None:
                found[run_id] = str(item.name)
        return found

    def run_of_model(self, name: str, alias: str | None, version: str | None) -> str:
        """The run whose checkpoint became a registered model.

        Raises:
            ValueError: there is no such model, or it was not registered by this harness.
        """
        try:
            if alias is not None:
                found = self._client.get_model_version_by_alias(name, alias)
            else:
                found = self._client.get_model_version(name, version)
        except MlflowException as error:
            names = [item.name for item in self._client.search_registered_models()]
            what = f"{name}@{alias}" if alias is not None else f"{name}/{version}"
            raise ValueError(f"there is no registered model models:/{what}{did_you_mean(name, names)}") from error
        if "harness.run_id" not in found.tags:
            raise ValueError(f"model {name} version {found.version} was not registered by harness")
        return str(found.tags["harness.run_id"])

    def version_of(self, name: str, tags: Mapping[str, str]) -> int | None:
        """The newest version of a model with all these tags, or None."""
        versions = self._client.search_model_versions(f"name = '{name}'")
        found = [int(item.version) for item in versions if tags.items() <= dict(item.tags).items()]
        return max(found, default=None)

    def describe(self, name: str, version: int, text: str) -> None:
        """Sets the description of a model version, in Markdown."""
        self._client.update_model_version(name, str(version), text)

    def set_champion(self, name: str, version: int) -> None:
        """Makes a version the champion of its model."""
        self._client.set_registered_model_alias(name, "champion", str(version))


@contextlib.contextmanager
def _global_uri(uri: str) -> Iterator[None]:
    """Sets MLflow's global tracking URI, which its flavors use, within the block, and also in the environment."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before or "")
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
