"""`python -m clouds.jarvis FOLDER`: the cloud that lies in a folder, until standard input ends."""

from clouds.jarvis.provider import begin

begin()
