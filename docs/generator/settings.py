"""The page of the service's settings, from `app.settings`."""

from app.settings import Settings
from docs.generator.markdown import code, default_of, table, type_of

INTRODUCTION = """# Settings

The service and its workers read these environment variables once, when they start. All have defaults for one machine;
[production.md](production.md) says which ones a larger one needs. A value that makes no sense ends the command with one
line that names it. The credentials of an S3 store come from the usual `AWS_*` variables.

"""
OWN = """
Others are no settings of the service. A run of several machines (`run.nnodes`) meets at `TALKMILL_RENDEZVOUS`,
`host:port` of the first, and `TALKMILL_NODE_RANK` numbers the machine, from 0. `TALKMILL_LAUNCHER_PID` goes from a
training launcher to its ranks, and `TALKMILL_TEST_MODE` with `TALKMILL_CRASH_AT` lets the tests kill a process
at a named point (`app/crash.py`).
"""


def page() -> str:
    """All settings in the order of the class."""
    schema = Settings.model_json_schema()
    rows = [
        (
            code(f"TALKMILL_{name.upper()}"),
            type_of(one, schema.get("$defs", {})),
            default_of(name, one, schema.get("required", ())),
            one.get("description", ""),
        )
        for name, one in schema["properties"].items()
    ]
    return INTRODUCTION + table(("variable", "type", "default", "meaning"), rows) + OWN
