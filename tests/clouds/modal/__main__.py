"""`python -m clouds.modal FOLDER`: see `provider.begin`."""

from clouds.modal.provider import begin

begin()
