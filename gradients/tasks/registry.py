"""All task types by name, and the one place where a customer's spec is checked. A new type is one line here.

Other packages bring types of their own as entry points of the group `gradients.task_types`, name = "module:DECLARATION": these are found
when the package is installed where a daemon runs. None can take the place of a type that ships.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from gradients.bases.continued import base_after
from gradients.datasets.sources import parse_source, with_parts
from gradients.domain.json import Json, JsonObject, check_storable
from gradients.domain.task import TaskRequest
from gradients.errors import SetupError, TaskInvalid
from gradients.tasks.base import TaskType

TYPES: Mapping[str, str] = {
    **{point.name: point.value for point in entry_points(group="gradients.task_types")},
    "instruct": "gradients.tasks.instruct.spec:INSTRUCT",
    "chat": "gradients.tasks.chat.spec:CHAT",
    "dpo": "gradients.tasks.dpo.spec:DPO",
    "grpo": "gradients.tasks.grpo.spec:GRPO",
    "rag": "gradients.tasks.rag.spec:RAG",
    "diffusion": "gradients.tasks.diffusion.spec:DIFFUSION",
}
# What workers import, by the family of the base; found without importing it. The extras `train` and `image` bring it.
_ALL_TYPES_NEED = ("torch", "transformers", "peft", "safetensors")
PACKAGES = {"language": _ALL_TYPES_NEED, "image": (*_ALL_TYPES_NEED, "diffusers", "PIL")}
LONGEST_REQUEST_HOURS = 48.0
_KEPT = "kept-by-the-validator"

Model = TypeVar("Model", bound=BaseModel)


class TaskSpec(BaseModel):
    """A task as customers ask for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(description="a task type's name")
    base: str = Field(default="", max_length=256, description="a shipped base, a folder, or a Hub id")
    continues: str | None = Field(
        default=None,
        pattern=r"^[a-z]{2,12}-[0-9a-f]{12}$",
        description="in place of a base: a scored task of yours, whose best model is trained further",
    )
    dataset: JsonValue = Field(
        description="a file, an upload, hub:org/name@revision#split, a URL or s3://bucket/key; or a list of such, which are merged, "
        "each also as an object with its `dataset`, `columns`, a `limit` of rows and a `weight`"
    )
    hours: float = Field(gt=0, le=LONGEST_REQUEST_HOURS, description="training budget of each miner")
    parameters: dict[str, JsonValue] = Field(default_factory=dict, description="the task type's own part")
    private: bool = Field(
        default=True, description="keep rows, salt and models out of the public record; others can check less then"
    )

    @model_validator(mode="after")
    def _one_base(self) -> Self:
        if bool(self.base) == bool(self.continues):
            raise ValueError("name a `base`, or a task that it `continues`, and not both")
        return self

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, given: object) -> object:
        check_storable(given)
        return given


def task_type(name: str) -> TaskType:
    """The task type called `name`. Raises TaskInvalid that lists what there is, and SetupError for one that cannot be loaded."""
    if name not in TYPES:
        raise TaskInvalid(f"There is no task type '{name}'", fix=f"Choose from {', '.join(TYPES)}")
    module, _, attribute = TYPES[name].partition(":")
    try:
        found: TaskType = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SetupError(
            f"The task type '{name}' cannot be loaded: {error}", fix="Mend or uninstall the package that brings it"
        ) from error
    return found


def all_types() -> list[TaskType]:
    """Every declaration."""
    return [task_type(name) for name in TYPES]


def missing_packages(name: str) -> tuple[str, ...]:
    """What a machine lacks to train or measure tasks of a type; nothing for an unknown type."""
    needed = PACKAGES[task_type(name).base_family] if name in TYPES else ()
    return tuple(package for package in needed if importlib.util.find_spec(package) is None)


def validate_request(spec: Mapping[str, Json]) -> TaskRequest:
    """The spec in its normal form. Raises TaskInvalid that names the field."""
    checked = _validated(TaskSpec, spec, where="")
    parameters = validate_parameters(task_type(checked.type), checked.parameters)
    return TaskRequest(
        type=checked.type,
        base=base_after(checked.continues) if checked.continues else checked.base,
        dataset=cast(JsonObject, parse_source(checked.dataset).model_dump(mode="json")),
        parameters=parameters,
        hours=checked.hours,
        private=checked.private,
    )


def validate_parameters(kind: TaskType, given: Mapping[str, Json]) -> JsonObject:
    """A type's parameters in their normal form. Raises TaskInvalid that names the field."""
    return cast(JsonObject, _validated(kind.schema, given, where="parameters.").model_dump(mode="json"))


def check_family(kind: TaskType, base: str, family: str) -> None:
    """Raises TaskInvalid when tasks of this type fine-tune other models than the base."""
    if family != kind.base_family:
        a_model = {"language": "a language", "image": "an image"}[kind.base_family]
        raise TaskInvalid(f"{base} is not {a_model} model", fix=f"Tasks of type {kind.name} fine-tune one")


def with_sources(spec: Mapping[str, Json], change: Callable[[Json], Json]) -> dict[str, Json]:
    """The spec with everything in it that says where data is put through `change`: the data set, and parameters of its type that do so."""
    kind, parameters = spec.get("type"), spec.get("parameters")
    names = task_type(kind).sources if isinstance(kind, str) and kind in TYPES else ()
    changed = dict(spec)
    if spec.get("dataset") is not None:
        changed["dataset"] = with_parts(spec["dataset"], change)
    if isinstance(parameters, Mapping):
        changed["parameters"] = {name: change(value) if name in names else value for name, value in parameters.items()}
    return changed


def declared_shares() -> dict[str, float]:
    """Type -> its part of what is scheduled and paid, as its declaration says."""
    return {kind.name: kind.schedule_share for kind in all_types()}


def needs_sandbox(request: TaskRequest) -> bool:
    """Whether a machine without a sandbox can neither train nor measure the task."""
    kind = task_type(request.type)
    return kind.needs_sandbox(kind.schema.model_validate(request.parameters))


def public_parameters(request: TaskRequest) -> dict[str, Json]:
    """The parameters as miners are told them: not where data is that only preparation reads, a folder of ours or a URL with a key in it."""
    spec: dict[str, Json] = {"type": request.type, "parameters": request.parameters}
    told = with_sources(spec, lambda _: {"kind": "file", "path": _KEPT})
    return dict(cast(JsonObject, told["parameters"]))


def _validated(schema: type[Model], given: object, *, where: str) -> Model:
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        told = error.errors()
        # a list that lost a member to its mistake is "too short" only because of that
        own = [e for e in told if not any(o["loc"][: len(e["loc"])] == e["loc"] != o["loc"] for o in told)]
        problems = "; ".join(f"{where}{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in own[:3])
        raise TaskInvalid(
            problems, fix="`gradients task submit --help` and the type's README show what is asked for"
        ) from error
