"""The errors a person is meant to read: one sentence, no path above a file's name, no traceback."""


class BrainclError(Exception):
    """What was seen, what was expected and what to do, in one sentence that may leave a hospital."""


class ConfigError(BrainclError):
    """An experiment's configuration was refused."""


class DataError(BrainclError):
    """Scans are missing, damaged or not what the task asks for."""


class MissingScansError(DataError):
    """A set's scans are not there (as opposed to: they are there and cannot be used)."""


class VaultError(BrainclError):
    """A vault or one of its files cannot be read, written or trusted."""


class SealedError(VaultError):
    """It is sealed, and the key that would open it was not given."""


class LockedError(VaultError):
    """Another process is writing there."""


class PrivacyError(BrainclError):
    """A release would tell more of a hospital's scans than it allows."""


class FederationError(BrainclError):
    """Hospitals were missing, failed, or sent an update that cannot be used."""


class RecordsError(BrainclError):
    """The run store has no such experiment, or cannot be read."""


class MissingStoreError(RecordsError):
    """There is no run store (as opposed to: there is one and it cannot be read)."""
