"""A kernel that shakes hands like any other and is killed by SIGKILL when a job comes."""

import json
import os
import signal
import sys


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if request["method"] == "initialize":
            result = {
                "level": 1,
                "compatible": 1,
                "kernel": {"name": "dying", "version": "0", "instance_id": "x", "pid": os.getpid()},
                "methods": {},
                "capabilities": {},
                "limits": {},
            }
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n")
            sys.stdout.flush()
        elif request["method"] == "tag":
            os.kill(os.getpid(), signal.SIGKILL)


main()
