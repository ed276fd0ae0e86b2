"""Our step on one process of all cores, or on a process a core: the rate of the whole."""

from pathlib import Path

from launching import launch
from serving import serve

MEMBER = Path(__file__).with_name("member.py")

if __name__ == "__main__":
    serve(lambda request: launch(MEMBER, request))
