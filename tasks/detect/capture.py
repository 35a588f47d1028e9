"""A look at a host as a case file: what was read, what was answered, what was seen. Pure.

    {"note": …, "files": {path below the root: text, or null for "it is there"},
     "nvml": what NVML's child printed, "engine": what the engine said, "disks": [mounts of store and state],
     "proxies": [names], "want": facts}

`nvml` is null where NVML was not asked, `engine` where no engine answered. Where NVML's child printed nothing
that can be read, `nvml` holds why: {"unknown": reason}.
Only what the probes read is in it, cut to the lines that they use. Serial numbers are never read; UUIDs,
container ids, hardware and network addresses, user and host names are masked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tasks.contracts import HostFacts
from tasks.detect.host import FLAGS
from tasks.detect.root import Root

KEPT = {
    "proc/meminfo": re.compile(r"^(MemTotal|MemFree|MemAvailable|SwapTotal|SwapFree):"),
    "etc/os-release": re.compile(r"^PRETTY_NAME="),
    "usr/lib/os-release": re.compile(r"^PRETTY_NAME="),
    "proc/cpuinfo": re.compile(
        r"^(processor|vendor_id|model name|physical id|core id|flags|Features|CPU implementer)\s*:|^$"
    ),
    "memory.stat": re.compile(r"^(total_)?inactive_file "),
    "properties": re.compile(r"^(gfx_target_version|location_id|domain|simd_count) "),
    "uevent": re.compile(r"^(DRIVER|PCI_SLOT_NAME)="),
}
"""Of these files (by path, or by name) only the lines that a probe uses are kept."""

UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
LONG_ID = re.compile(r"\b[0-9a-fA-F]{24,}\b")
HARDWARE_ADDRESS = re.compile(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b")
HOME = re.compile(r"/home/[^/\s\"]+")


@dataclass(frozen=True)
class Mask:
    """Takes out what names this host, the same way everywhere, so that a capture stays consistent."""

    names: tuple[str, ...]
    uuids: dict[str, str] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """Return the text without anything that names this host."""
        text = HARDWARE_ADDRESS.sub("00:00:00:00:00:00", HOME.sub("/home/user", text))
        text = LONG_ID.sub(lambda found: "0" * len(found[0]), UUID.sub(self._uuid, text))
        for name in self.names:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "host", text)
        return text

    def _uuid(self, found: re.Match[str]) -> str:
        return self.uuids.setdefault(found[0].lower(), f"00000000-0000-0000-0000-{len(self.uuids) + 1:012d}")


def case(facts: HostFacts, root: Root) -> dict[str, Any]:
    """Return a look at a host as a case file."""
    mask = Mask(tuple({name for name in (facts.system.hostname, facts.host) if name}))
    files = {
        "proc/sys/kernel/osrelease": facts.system.kernel,
        **_kept(root),
        "proc/sys/kernel/arch": facts.system.architecture,
    }
    files["proc/self/mountinfo"] = _mountinfo(files.get("proc/self/mountinfo") or "", facts)
    files = {path: text for path, text in files.items() if text is not None or not _has_content(path, files)}
    masked = {mask.text(path): None if text is None else mask.text(text) for path, text in files.items()}
    want = json.loads(mask.text(json.dumps(seen(facts))))
    want["system"]["layers"] = list(facts.system.layers)
    engine = _parsed(mask.text(root.answers.get("engine", "")))
    if engine is not None:
        want["engine_gpu"] = json.loads(mask.text(json.dumps(msgspec.to_builtins(facts.engine_gpu))))
    return {
        "note": "captured by `pmoves doctor --capture`",
        "disks": [mask.text(disk.mount) for disk in facts.disks],
        "files": dict(sorted(masked.items())),
        "nvml": _nvml(mask.text(root.answers["nvml"]), want) if "nvml" in root.answers else None,
        "engine": engine,
        "proxies": [one.variable for one in facts.proxies],
        "want": want,
    }


def seen(facts: HostFacts) -> dict[str, Any]:
    """Return the part of the facts that a capture replays to: all but names, times and what answers."""
    whole = msgspec.to_builtins(facts)
    system = {key: whole["system"][key] for key in ("os", "kernel", "architecture", "layers")}
    disks = [{key: disk[key] for key in ("mount", "filesystem", "speed")} for disk in whole["disks"]]
    same = {key: whole[key] for key in ("cpu", "memory", "accelerators", "board", "jetson")}
    plain = json.loads(json.dumps({"system": system, "disks": disks, **same}))
    for number, process in enumerate(_processes(plain["accelerators"]), 1):
        process["pid"] = number
    return dict(plain)


def _processes(devices: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # a list, or why it is not known
    return [one for device in devices for one in device["processes"]] if isinstance(devices, list) else []


def _kept(root: Root) -> dict[str, str | None]:
    kept = {}
    for path, text in root.files.items():
        lines = KEPT.get(path) or KEPT.get(path.rpartition("/")[2])
        if text is not None and lines is not None:
            text = "\n".join(line for line in text.splitlines() if lines.search(line)) + "\n"  # noqa: PLW2901
        kept[path] = _flags(text) if text and path == "proc/cpuinfo" else text
    return kept


def _flags(cpuinfo: str) -> str:
    """Keep of the flags those that a fact is made of."""
    wanted = {*FLAGS, "hypervisor"}
    lines = []
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            value = " " + " ".join(flag for flag in value.split() if flag in wanted)
        lines.append(key + colon + value)
    return "\n".join(lines) + "\n"


def _mountinfo(text: str, facts: HostFacts) -> str:
    """Keep the mounts of the disks in use, and of a network share not even the server's name."""
    mounts = {disk.mount for disk in facts.disks}
    lines = []
    for line in text.splitlines():
        fields = line.split()
        if "-" not in fields or fields[4].replace("\\040", " ") not in mounts:
            continue
        filesystem, source = fields[fields.index("-") + 1 :][:2]
        shown = source if source.startswith("/dev/") else "masked"
        lines.append(f"1 1 0:0 / {fields[4]} rw - {filesystem} {shown} rw\n")
    return "".join(lines)


def _has_content(path: str, files: dict[str, str | None]) -> bool:
    return any(other.startswith(f"{path}/") for other in files)


def _nvml(printed: str, want: dict[str, Any]) -> Any:  # noqa: ANN401  # as the child printed it
    answer = _parsed(printed)
    if answer is None:
        return want["accelerators"]
    pid = 0
    for card in answer.get("devices", ()):
        for one in (card, *card.get("slices", ())):
            for process in one["processes"] if isinstance(one.get("processes"), list) else ():
                pid += 1
                process[0] = pid
    return answer


def _parsed(text: str) -> Any:  # noqa: ANN401  # the same
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
