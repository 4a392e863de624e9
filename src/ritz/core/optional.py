"""Optional libraries: imported where they are used, missed with one clear sentence."""

import importlib
from types import ModuleType


class MissingExtra(ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


def optional_import(module: str, *, extra: str) -> ModuleType:
    """Import `module`, or say which extra of ritz to install.

    Parameters
    ----------
    module : str
        Dotted name of the library, e.g. ``"torch_geometric.utils"``.
    extra : str
        The extra of ritz that installs it, e.g. ``"graphs"``.

    Raises
    ------
    MissingExtra
        If the library is not installed. An error inside an installed library is passed on unchanged.

    Examples
    --------
    >>> optional_import("json", extra="graphs").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise MissingExtra(f"this needs the library '{library}', which is not installed: pip install 'ritz[{extra}]'") from error
