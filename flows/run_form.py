"""The parameters of the run form, in order, each with what it takes. A bad value is refused in the form."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flows.settings import HOST_PATTERN
from tasks import catalogue
from tasks.plan.request import AUTO

# Help texts stand in the flow's docstring: Prefect takes them from there, over any description here.
Profile = Annotated[
    str,
    Field(
        json_schema_extra={"enum": [AUTO, *catalogue.profile_names(catalogue.DEFAULT)], "position": 0},
    ),
]
Host = Annotated[str, Field(pattern=f"^({HOST_PATTERN})?$", json_schema_extra={"position": 1})]
DryRun = Annotated[bool, Field(json_schema_extra={"position": 2})]
Strict = Annotated[bool, Field(json_schema_extra={"position": 3})]
AcceptRisk = Annotated[bool, Field(json_schema_extra={"position": 4})]
Overrides = Annotated[
    list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*\.[a-z_]+=\S+$")]],
    Field(json_schema_extra={"position": 5}),
]
SIZE = r"^(\d+(\.\d+)? ?([KMGTkmgt]i?)?[Bb]?)?$"
Vram = Annotated[str, Field(pattern=SIZE, json_schema_extra={"position": 6})]
Ram = Annotated[str, Field(pattern=SIZE, json_schema_extra={"position": 7})]
RATE = r"^(\d+(\.\d+)? ?([KMGkmg]i?)?[Bb]?(/s)?)?$"
LimitRate = Annotated[str, Field(pattern=RATE, json_schema_extra={"position": 8})]
WeightsFrom = Annotated[str, Field(json_schema_extra={"position": 9})]
Verify = Annotated[bool, Field(json_schema_extra={"position": 10})]
WaitMinutes = Annotated[int, Field(ge=0, le=1440, json_schema_extra={"position": 11})]

# --- rollback ------------------------------------------------------------------------------------

RollbackHost = Annotated[str, Field(pattern=f"^({HOST_PATTERN})?$", json_schema_extra={"position": 0})]
BackTo = Annotated[str, Field(pattern=r"^[0-9a-z-]*$", json_schema_extra={"position": 1})]
RollbackDryRun = Annotated[bool, Field(json_schema_extra={"position": 2})]
RollbackWait = Annotated[int, Field(ge=0, le=1440, json_schema_extra={"position": 3})]
