"""The machine, and the versions of what takes part."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def output(*command: str, cwd: Path | None = None) -> str:
    try:
        return subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    except FileNotFoundError:
        return ""


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def describe(root: Path) -> dict[str, str]:
    dirty = output("git", "status", "--porcelain", "--untracked-files=no", cwd=root).strip()
    commit = output("git", "rev-parse", "--short", "HEAD", cwd=root).strip() or "no repository"
    system = platform.freedesktop_os_release() if hasattr(platform, "freedesktop_os_release") else {}
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "commit": commit + (" with changes" if dirty else ""),
        "processor": f"{os.cpu_count()} × {processor()}",
        "system": f"{system.get('PRETTY_NAME', platform.system())}, Linux {platform.release()}",
        "load before the end": load,
        "PostgreSQL": output("pg_config", "--version").strip(),
        "compiler": output("cc", "--version").partition("\n")[0],
        "Swift": output("swiftc", "--version").partition("\n")[0],
    }
