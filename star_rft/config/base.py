"""Value types that config sections share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]
AboveZero = Annotated[float, Field(gt=0.0)]
TopP = Annotated[float, Field(gt=0.0, le=1.0)]


class Section(BaseModel):
    """A section of a config: unknown keys are refused, and values are checked without conversion and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


def one_or_many(kind: Any) -> PlainValidator:
    """Validate a value of a kind, or a list of them: a union would say what is wrong once for each."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def one(value: object) -> object:
        try:
            return adapter.validate_python(value, strict=True)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise ValueError(f"{value!r} is not valid: {message[0].lower()}{message[1:]}") from None

    def validated(value: object) -> object:
        if value == []:
            raise ValueError("[] is not valid: give at least one")
        return [one(entry) for entry in value] if isinstance(value, list) else one(value)

    return PlainValidator(validated)
