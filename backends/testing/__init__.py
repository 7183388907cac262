"""The contract of `backends.protocol`, as tests: every backend is held to it, ours and strangers'.

In your own test module:

    from backends.testing import BackendContract, Rig, Trait

    class TestMyBackend(BackendContract):
        @pytest.fixture(scope="class")
        @classmethod
        def rig(cls, tmp_path_factory):
            options = Options(state_dir=tmp_path_factory.mktemp("state"), environ=dict(os.environ))
            return Rig(factory="my_package:factory", options=options)

Each test's docstring begins with the verb and the line of the contract it holds. What a rig cannot
do (look at processes, cut the power, count uploads) it leaves out of `supports`; the cases that
need it are then skipped, and say so. Needs pytest, and nothing else of the test's surroundings.
"""

import pytest

for _module in ("launching", "inputs", "observing", "signalling", "looking", "files", "releasing"):
    pytest.register_assert_rewrite(f"backends.testing.{_module}")

from backends.testing.contract import BackendContract  # noqa: E402
from backends.testing.rig import Rig, Trait  # noqa: E402

__all__ = ["BackendContract", "Rig", "Trait"]
