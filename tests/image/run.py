"""Build the CPU image and try it, without a Docker engine: buildah, in a chroot.

Runs as root on a Debian, and installs buildah and debootstrap where they are missing. The base image is
made of Debian packages, once, and kept in .cache/image. The host's pip configuration, the folders and the
certificates it names go into the build, and not into the image.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ask
from build import IMAGE, Buildah, build, call, install_tools

READY_SECONDS = 120
STOP_SECONDS = 15

log = logging.getLogger("image-test")


def check(promise: str, kept: bool, seen: object = "") -> None:
    if not kept:
        raise AssertionError(f"{promise}: {seen}")
    log.info("ok: %s", promise)


def check_config(config: dict[str, Any]) -> None:
    """What the image says of itself."""
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    check("the entry point is in exec form", config["Entrypoint"] == ["regard"], config["Entrypoint"])
    check("it serves by default", config["Cmd"] == ["serve"], config["Cmd"])
    check("a container listens beyond itself", environment["REGARD_HOST"] == "0.0.0.0", environment)
    check("the device is the processor", environment["REGARD_DEVICE"] == "cpu", environment)
    check("the port is exposed", list(config["ExposedPorts"]) == ["8000/tcp"], config["ExposedPorts"])
    user, health = config["User"], config["Healthcheck"]["Test"]
    check("the user is a number, not root", user.isdigit() and user != "0", user)
    check("it has a health check in exec form", health[0] == "CMD", health)
    left = [name for name in environment if name.startswith("PIP_")]
    check("no setting of pip is left", not left, left)
    check("ONNX Runtime sends nothing home", environment["ORT_DISABLE_TELEMETRY"] == "1", environment)


def check_content(buildah: Buildah, container: str) -> None:
    """What is in the image, and what is not."""
    for module in ("torch", "onnx", "models", "export", "pip"):
        done = buildah.run(container, "python", "-c", f"import {module}")
        check(f"no {module}", "ModuleNotFoundError" in done.stderr, done.stderr)
    for tool in ("gcc", "cc", "g++", "make"):
        check(f"no {tool}", buildah.run(container, "sh", "-c", f"command -v {tool}").returncode != 0)
    done = buildah.run(container, "id", "-u")
    check("it does not run as root", done.stdout.strip() not in ("", "0"), done)
    done = buildah.run(container, "sh", "-c", "find /opt/regard -writable ! -type l | head")
    check("the program cannot change itself", done.stdout == "", done.stdout)
    done = buildah.run(container, "sh", "-c", "ls -A /root/.cache /build /etc/pip.conf 2> /dev/null")
    check("nothing of the build is left", done.stdout == "", done.stdout)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found = list(parents.get(pid, []))
    for child in found:
        found.extend(parents.get(child, []))
    return found


def server_process(parent: int) -> int:
    """The server below a buildah process: the program itself, not what buildah puts around it."""
    for pid in descendants(parent):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/opt/regard/bin/"):
                return pid
    raise RuntimeError("no server is running")


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Seconds until something holds; raises TimeoutError."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"{what} after {seconds} s")
        time.sleep(0.2)
    return time.monotonic() - started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_serving(buildah: Buildah, container: str, beside: str, config: dict[str, Any]) -> None:
    """Start the image as a container engine would, ask it, and stop it."""
    port = free_port()
    settings = {"REGARD_HOST": "127.0.0.1", "REGARD_PORT": str(port)}
    environment = [f"--env={name}={value}" for name, value in settings.items()]
    command = [*buildah.prefix, "run", "--isolation", "chroot", *environment]
    health = [*command, beside, "--", *config["Healthcheck"]["Test"][1:]]
    check("the health check fails where nothing runs", call(*health, check=False).returncode != 0)

    # buildah makes a 1 of a process that a signal ended, a shell makes the 143 that engines report.
    shell = ("sh", "-c", '"$@"; exit $?', "sh")
    output = buildah.folder / "server.log"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [*command, container, "--", *shell, *config["Entrypoint"], *config["Cmd"]],
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        server = ask.Server("127.0.0.1", port)

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}")
            return server.ready()

        taken = wait_for(ready, READY_SECONDS, "not ready")
        log.info("ready after %.1f s", taken)
        done = call(*health, check=False)
        check("the health check passes", done.returncode == 0, done.stderr)
        for promise in ask.everything(server):
            check(promise, True)
        pid = server_process(process.pid)
        check("the server is not root", Path(f"/proc/{pid}").stat().st_uid == int(config["User"]))
        os.kill(pid, signal.SIGTERM)
        taken = wait_for(lambda: process.poll() is not None, STOP_SECONDS, "still running")
        log.info("SIGTERM ended it after %.1f s with status %d", taken, process.returncode)
        check("SIGTERM ends it in order", process.returncode in (0, 128 + signal.SIGTERM), process.returncode)
    except BaseException:
        log.info("the server's log:\n%s", output.read_text(errors="replace")[-4000:])
        raise
    finally:
        for pid in (*descendants(process.pid), process.pid) if process.poll() is None else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", default="trixie", help="the Debian release of the base (%(default)s)")
    suite = parser.parse_args(arguments).suite
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)6.0f ms  %(message)s")
    if os.geteuid() != 0:
        log.error("image-test makes a Debian in a folder and runs in it: it has to be root")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    install_tools()
    buildah = Buildah()
    atexit.register(buildah.remove)
    build(buildah, suite)
    config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    check_config(config)
    container, beside = (buildah("from", "--pull-never", IMAGE) for _ in range(2))
    check_content(buildah, container)
    check_serving(buildah, container, beside, config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
