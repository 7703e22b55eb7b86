"""What is wrong with a folder of a federation and the machine it lies on: pure functions of what was looked up."""

from apps.deploy.checks.folder import findings_of

__all__ = ["findings_of"]
