"""Run by another environment's Python: a lab with backend udp, and in it one more tulled, whose store asks for another.

`lab_of_udp.py REGISTRY STORE` prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tulle.lab import Lab
from tulle.lab.registry import Registry

registry, store = Path(sys.argv[1]), sys.argv[2]
with Lab(nodes=2, pods=1, registry=Registry(registry)) as lab:
    answers = lab.ping("n1/p1", "n2/p1", 3)
    other = ("--run-dir", "/run/other", "--state-dir", "/run/other-state", "--subnet-file", "/run/other.env")
    tulled = (sys.executable, "-m", "tulle.node.main", "--store", "sqlite", "--sqlite-file", store, *other)
    asked = lab.run("n1", [*tulled, "--iface", "eth0", "--config-file="], check=False)
    print(json.dumps({"answers": answers, "status": asked.returncode, "said": asked.stderr}))
