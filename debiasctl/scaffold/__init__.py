"""Writes a package with a plugin to begin with: its files, for a kind and a name, from debiasctl/templates."""

from debiasctl.scaffold.names import Package, package_for
from debiasctl.scaffold.package import files_of, uses_of, write_package

__all__ = ["Package", "files_of", "package_for", "uses_of", "write_package"]
