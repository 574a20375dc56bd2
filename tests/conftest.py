"""For all tests: how long hypothesis may take."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine that does other things is slow by bursts: that fails nothing. pytest-timeout ends what really hangs.
settings.register_profile("tulle", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tulle")
