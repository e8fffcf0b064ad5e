"""Errors that a person can act on. The command line prints them without a traceback and exits with code 2."""


class MmptError(Exception):
    """Base of every error that names a mistake of a person or of their data, never of the code."""


class ConfigError(MmptError):
    """A configuration file that cannot be used; the message lists every mistake in it."""


class DataError(MmptError):
    """Data that does not hold what its format promises: the message names the file and the sample."""


class VocabularyError(MmptError):
    """Two sides disagree on what a token id means; the message names both."""


class CheckpointError(MmptError):
    """A checkpoint that is missing a file, or whose files do not match its manifest."""


class DiskFullError(MmptError):
    """A file that could not be written because the disk, or the user's share of it, is full; the message names it."""
