"""Keeps user and password out of the tracking server's URI: MLflow reads them from variables of their own."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit, urlunsplit

from studies.common.redaction import remember

URI, USER, PASSWORD = "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"


def tracking_uri() -> str | None:
    """MLFLOW_TRACKING_URI without user and password, or None if it is not set.

    http://user:password@host is split in the environment, too: MLflow sends what MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD hold, here and in processes that this one starts.
    """
    uri = os.environ.get(URI)
    if not uri or not uri.startswith(("http://", "https://")):
        return uri or None
    parts = urlsplit(uri)
    before, at, address = parts.netloc.rpartition("@")
    if not at:
        return uri
    user, _, password = before.partition(":")
    remember(password)
    remember(unquote(password))
    os.environ[USER], os.environ[PASSWORD] = unquote(user), unquote(password)
    os.environ[URI] = urlunsplit((parts.scheme, address, *parts[2:]))
    return os.environ[URI]
