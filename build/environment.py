"""The environment of the project: ``.venv``, npm packages, and what apt has for tests.

Standard library only, because it runs before anything is installed. Each step is skipped while the
hash of its inputs is the one of its last success.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMPS = ROOT / ".build" / "stamps"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLDEST_NODE = 18
LLVMPIPE = ("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json", "/usr/share/vulkan/icd.d/lvp_icd.json")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def hash_of(paths: Sequence[Path], *words: str) -> str:
    """Return a hash of files (folders: all files below) and words."""
    state = hashlib.sha256("\0".join(words).encode())
    for path in paths:
        below = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in below:
            if file.is_file() and not {"__pycache__", "node_modules"} & set(file.parts):
                state.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return state.hexdigest()


def is_done(step: str, key: str) -> bool:
    """Say whether a step last succeeded with this key."""
    stamp = STAMPS / step
    return stamp.is_file() and stamp.read_text() == key


def mark_done(step: str, key: str) -> None:
    """Remember that a step succeeded."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / step).write_text(key)


def run(command: Sequence[str | Path], **options: object) -> None:
    """Run a command that must succeed; its failure ends the build with one sentence."""
    try:
        subprocess.run([str(word) for word in command], check=True, cwd=ROOT, **options)  # type: ignore[call-overload]
    except subprocess.CalledProcessError as error:
        sys.exit(f"`{' '.join(map(str, command))}` failed with status {error.returncode}.")
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not installed.")


def install_from_apt(packages: Sequence[str], needed_for: str) -> bool:
    """Install Debian packages where that is possible; otherwise say what is missing."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not is_root or shutil.which("apt-get") is None:
        print(f"Missing for {needed_for}: please install {' '.join(packages)}.", file=sys.stderr)
        return False
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    run(["apt-get", "update", "-q"], stdout=subprocess.DEVNULL, **quiet)
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    run(install, stdout=subprocess.DEVNULL, **quiet)
    return True


def set_up(*, browser: bool, gpu: bool) -> None:
    """Bring everything up to date; ``browser`` and ``gpu`` also install what those need."""
    set_up_python()
    set_up_node()
    if browser:
        set_up_browser()
    if gpu:
        set_up_gpu()


def set_up_python() -> None:
    """Make the virtual environment and install the project into it."""
    key = hash_of([ROOT / "pyproject.toml"], sys.version)
    if is_done("python", key) and PYTHON.exists():
        return
    if not PYTHON.exists():
        print("Making .venv …", flush=True)
        try:
            venv.create(VENV, with_pip=True)
        except (subprocess.CalledProcessError, ImportError):
            # Debian keeps ensurepip in a package of its own.
            shutil.rmtree(VENV, ignore_errors=True)
            wanted = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            if not install_from_apt([wanted], "the virtual environment"):
                sys.exit(1)
            run([sys.executable, "-m", "venv", VENV])
    print("Installing Python packages …", flush=True)
    run([PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-e", ".[dev]"])
    mark_done("python", key)


def set_up_node() -> None:
    """Install the npm packages of ``web/``."""
    key = hash_of([ROOT / "web" / "package.json", ROOT / "web" / "package-lock.json"])
    modules = ROOT / "web" / "node_modules"
    if is_done("node", key) and modules.is_dir():
        return
    if modules.is_symlink() and modules.is_dir():
        return  # shared with another checkout, whose business they are: npm would empty them
    if not has_node() and not install_from_apt(["nodejs", "npm"], "the web part"):
        sys.exit(1)
    if not has_node():
        sys.exit(f"Node.js {OLDEST_NODE} or newer is needed: please install it.")
    print("Installing npm packages …", flush=True)
    run(["npm", "ci", "--prefix", "web", "--no-audit", "--no-fund", "--loglevel=error"])
    mark_done("node", key)


def has_node() -> bool:
    """Say whether node and npm are there and new enough."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return False
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    number = told.stdout.strip().removeprefix("v").partition(".")[0]
    return number.isdigit() and int(number) >= OLDEST_NODE


def set_up_browser() -> None:
    """Install a Chromium where there is none."""
    if not any(shutil.which(name) for name in BROWSERS) and "CHROMIUM" not in os.environ:
        print("Installing chromium …", flush=True)
        install_from_apt(["chromium"], "the tests in a browser")


def set_up_gpu() -> None:
    """Install a software Vulkan driver where there is neither that nor a graphics card."""
    if not has_gpu() and software_driver() is None:
        print("Installing a software Vulkan driver …", flush=True)
        install_from_apt(["mesa-vulkan-drivers", "libvulkan1"], "running models natively")


def has_gpu() -> bool:
    """Say whether this machine has a graphics card that Vulkan may use."""
    return Path("/dev/dri").is_dir() or Path("/dev/nvidiactl").exists() or sys.platform != "linux"


def software_driver() -> str | None:
    """Return the description file of Mesa's software Vulkan driver."""
    return next((path for path in LLVMPIPE if Path(path).is_file()), None)


def variables() -> dict[str, str]:
    """Return the environment for commands that compute: software Vulkan where there is no GPU."""
    driver = None if has_gpu() or "VK_ICD_FILENAMES" in os.environ else software_driver()
    found = {**os.environ, "PYTHONPATH": str(ROOT / "py_core")}
    return {**found, **({"VK_ICD_FILENAMES": driver} if driver else {})}
