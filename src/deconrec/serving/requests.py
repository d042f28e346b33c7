"""What a client sends and gets. Unknown fields are refused: a misspelt `exclude_seen` must not mean its default.

How long lists may be stands in `limits`, and is checked by the service.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from deconrec.serving.limits import MAX_ID

Explore = Literal["none", "epsilon-greedy", "plackett-luce", "posterior"]


def _id(value: int | str) -> int | str:
    text = str(value)
    if not 0 < len(text) <= MAX_ID:
        raise ValueError(f"an id must have 1 to {MAX_ID} characters; got {len(text)}")
    if not text.isprintable() and any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise ValueError("an id must be text that UTF-8 can write; got half a surrogate pair")
    return value


RawId = Annotated[StrictInt | StrictStr, AfterValidator(_id)]
TextId = Annotated[str, AfterValidator(_id)]
FeatureText = Annotated[StrictStr, Field(max_length=MAX_ID)]
Number = Annotated[float, Field(allow_inf_nan=False)]
StrictNumber = Annotated[float, Field(allow_inf_nan=False, strict=True)]


class Request(BaseModel):
    """Anything that a client sends."""

    model_config = ConfigDict(extra="forbid")


class HowToList(Request):
    """What a list may be asked for by, in a URL and in a body."""

    k: int = Field(20, ge=1, description="most items of the list")
    exclude_seen: bool = Field(True, description="leave out pairs of the training data and of `history`")
    explore: Explore | None = Field(None, description="draw the list so; default: the server's policy")
    epsilon: Number | None = Field(None, gt=0, le=1, description="of epsilon-greedy")
    temperature: Number | None = Field(None, gt=0, description="of plackett-luce, in the outcome's unit")


class RecommendQuery(HowToList):
    """GET /recommend."""

    user: TextId = Field(description="id of the user")
    allow: list[TextId] | None = Field(None, description="items that may be listed (repeat it); default: all")
    deny: list[TextId] = Field([], description="items that must not be listed (repeat it)")


class Row(Request):
    """A row of a history."""

    item_id: RawId
    rating: Number


class RecommendBody(HowToList):
    """POST /recommend: long lists of ids, and what a new user is folded in by."""

    user: RawId
    allow: list[RawId] | None = None
    deny: list[RawId] = []
    history: list[Row] = Field(
        [], description="rows of the user, who is then folded in; the last of an item counts"
    )
    features: dict[str, StrictBool | StrictNumber | FeatureText | None] | None = Field(
        None, description="features of the user, by the column names of training's table; null is a gap"
    )


class ScoreBody(Request):
    """POST /score."""

    pairs: list[tuple[RawId, RawId]] = Field(description="[user, item] each")


class ReloadBody(Request):
    """POST /reload: nothing to say."""


# ---------------------------------------------------------------------- answers, for OpenAPI
class ListedItem(BaseModel):
    """A place of a list."""

    item_id: int | str
    score: float = Field(description="expected outcome, on the outcome's own scale")
    propensity: float = Field(
        description="P(the item is in the list) under the policy; 1 where nothing is explored"
    )


class Recommended(BaseModel):
    """A list, best place first."""

    user_id: int | str
    source: Literal["model", "fold-in", "fallback"]
    list_id: str = Field(description="names the list in the log")
    model: str
    explore: Explore
    unknown_items: int = Field(
        description="ids of allow, deny and history that the model does not know: left out"
    )
    items: list[ListedItem]


class ScoredPair(BaseModel):
    """A pair of /score."""

    score: float
    source: Literal["model", "fallback"]


class Scored(BaseModel):
    """Scores in the order of the pairs."""

    model: str
    scores: list[ScoredPair]


class Wrong(BaseModel):
    """A field that was refused."""

    field: str
    message: str


class Error(BaseModel):
    """Why a request was refused."""

    code: str
    message: str
    fields: list[Wrong] = []


class Refused(BaseModel):
    """Any answer that is no success."""

    error: Error
