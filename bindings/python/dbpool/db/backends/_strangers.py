"""Other distributions that own a folder `dbpool/`: installed beside this one, the later has overwritten the earlier."""

from __future__ import annotations

from importlib import metadata

from django.core.exceptions import ImproperlyConfigured

STRANGERS = ("django-db-pool", "dbpool")


def refuse_strangers() -> None:
    """Raises ImproperlyConfigured when one is installed."""
    found = " ".join(name for name in STRANGERS if _is_installed(name))
    if found:
        raise ImproperlyConfigured(
            f"{found} is installed beside libdbpool; both own a folder dbpool/, so that neither is whole. "
            f"Run: pip uninstall {found} libdbpool, then install libdbpool again"
        )


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
