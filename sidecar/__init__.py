"""bkmonitor-sidecar: a durable local agent in front of BlueKing Monitor's cloud-area proxy."""

from importlib.metadata import version

__version__ = version("bkmonitor-sidecar")
