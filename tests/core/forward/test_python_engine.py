"""The python engine against the contract of all engines."""

from __future__ import annotations

import os

from tulle.contracts.encapsulation import Encapsulation, Paths
from tulle.contracts.engine import Engine, MakeEncapsulation
from tulle.forward.python_engine import PythonEngine
from tulle.testing.engine_contract import EngineContract
from tulle_udp.encapsulation import PlainUdp


class TestPythonEngine(EngineContract):
    def make_engine(self, make_encapsulation: MakeEncapsulation) -> Engine:
        return PythonEngine(make_encapsulation)

    def make_encapsulation(self, paths: Paths) -> Encapsulation:
        return PlainUdp(paths, os.urandom)


class TestPythonEngineWithoutSegments(TestPythonEngine):
    """The fall-back of kernels that corrupt or refuse UDP_SEGMENT."""

    def make_engine(self, make_encapsulation: MakeEncapsulation) -> Engine:
        engine = PythonEngine(make_encapsulation)
        engine._sender.segments = False
        return engine
