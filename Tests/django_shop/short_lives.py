"""The settings of the shop with connections that are replaced all the time: the limit must hold then, too."""

from django_shop.settings import *  # noqa: F403
from django_shop.settings import DATABASES

DATABASES["default"]["OPTIONS"]["MAX_LIFETIME"] = 1
