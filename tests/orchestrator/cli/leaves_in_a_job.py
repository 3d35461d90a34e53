"""A kernel that shakes hands like any other, and whose job is canceled by somebody else without a result."""

import json
import os
import sys


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"jsonrpc": "2.0", "id": request.get("id")}
        if request["method"] == "initialize":
            answer["result"] = {
                "level": 1,
                "compatible": 1,
                "kernel": {"name": "leaving", "version": "0", "instance_id": "x", "pid": os.getpid()},
                "methods": {},
                "capabilities": {},
                "limits": {},
            }
        elif request["method"] == "tag":
            data = {"kind": "canceled", "job_id": request["params"]["job_id"]}
            answer["error"] = {"code": -32800, "message": "The kernel is leaving.", "data": data}
        else:
            continue
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
