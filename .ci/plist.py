#!/usr/bin/env python3
"""plist.py FILE...: is a launchd agent well-formed, and does launchd understand it? There is no launchd here to ask."""

import os
import plistlib
import sys

# launchd.plist(5), as far as Kith uses it.
TYPES = {
    "Label": str,
    "ProgramArguments": list,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ProcessType": str,
    "StandardErrorPath": str,
}


def problems(path):
    try:
        with open(path, "rb") as file:
            job = plistlib.load(file)
    except Exception as error:
        yield f"not a property list: {error}"
        return
    for key in sorted(TYPES.keys() | job.keys()):
        if key not in TYPES:
            yield f"{key}: not known here; look it up in launchd.plist(5) and add it"
        elif key not in job:
            yield f"{key}: missing"
        elif type(job[key]) is not TYPES[key]:
            yield f"{key}: {type(job[key]).__name__} instead of {TYPES[key].__name__}"
    if os.path.basename(path) != f"{job.get('Label')}.plist":
        yield "the file is not called by its Label"
    program = (job.get("ProgramArguments") or [None])[0]
    for place in (program, job.get("StandardErrorPath")):
        # launchd expands neither ~ nor variables.
        if not isinstance(place, str) or not place.startswith("/"):
            yield f"{place}: not an absolute path"
    if job.get("KeepAlive") != {"SuccessfulExit": False}:
        yield "KeepAlive: start again after failures, and only then"
    if job.get("ProcessType") not in ("Background", "Standard", "Adaptive", "Interactive"):
        yield "ProcessType: unknown"


found = [f"{path}: {problem}" for path in sys.argv[1:] for problem in problems(path)]
print("\n".join(found) or f"{len(sys.argv) - 1} checked")
sys.exit(bool(found) or len(sys.argv) < 2)
