"""What to do where a sandbox is refused: bubblewrap needs a kernel, and often a container, that lets it make namespaces."""

from __future__ import annotations

from pathlib import Path

_SECCOMP_FILTER = "Seccomp:\t2"  # in /proc/self/status: somebody filters our system calls


def mend(complaint: str, *, proc: Path = Path("/proc")) -> str:
    """What to do about what bwrap complains of, by what the kernel says of itself."""

    def says(name: str, value: str) -> bool:
        file = proc / name
        return file.is_file() and file.read_text().strip() == value

    status = proc / "self" / "status"
    if says("sys/kernel/unprivileged_userns_clone", "0"):
        return "sysctl -w kernel.unprivileged_userns_clone=1, and in /etc/sysctl.d to keep it"
    if says("sys/user/max_user_namespaces", "0"):
        return "sysctl -w user.max_user_namespaces=10000, and in /etc/sysctl.d to keep it"
    if says("sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
        return (
            "AppArmor refuses user namespaces: give /usr/bin/bwrap a profile with `userns` (see gradients/sandbox/README.md), "
            "or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if status.is_file() and _SECCOMP_FILTER in status.read_text():
        return (
            "A container refuses namespaces or mounts: start it with docker/seccomp.json and the other security_opt lines of "
            "docker/compose.yml"
        )
    if "proc" in complaint:
        return "A container hides parts of /proc: start it with --security-opt systempaths=unconfined"
    return "bubblewrap needs user namespaces: see gradients/sandbox/README.md"
