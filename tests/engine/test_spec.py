"""A bad `steering` object is refused with its field, what was given and what is allowed; a good one means what it says."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiller.engine.errors import SpecError, TillerError
from tiller.engine.spec import MAX_SPEC_CHARS, NO_END, SteeringSpec, parse_spec

ADD = {"id": 5, "value": 1.0}
FEATURE_KEYS = "id, op, value, unit, sae, when"


NAME = "1 to 64 of the characters A-Z a-z 0-9 . _ - and is not dots alone"


def feature(**keys):
    return {"features": [{"id": 5, **keys}]}


def vector(**keys):
    return {"vectors": [{"name": "french", "alpha": 1.0, **keys}]}


REFUSED = {
    # given, field, part of the message
    "unknown key": ({"strength": 4}, "steering.strength", "unknown key; allowed: features, vectors, error_term, norm"),
    "unknown edit key": (
        feature(value=1, valeu=2),
        "steering.features[0].valeu",
        f"unknown key; allowed: {FEATURE_KEYS}",
    ),
    "misspelt value": (
        {"features": [{"id": 63, "valu": 27}]},
        "steering.features[0].valu",
        f"unknown key; allowed: {FEATURE_KEYS}; did you mean 'value'? (given: 27)",
    ),
    "misspelt key of a later edit": (
        {"features": [{"id": 63}, {"id": 5, "value": 1, "uint": "norm"}]},
        "steering.features[1].uint",
        "did you mean 'unit'?",
    ),
    "unknown vector key": (vector(strength=2), "steering.vectors[0].strength", "name, alpha, mode, unit"),
    "unknown when key": (
        feature(value=1, when={"feature": 1, "below": 2}),
        "steering.features[0].when.below",
        "allowed: feature, above",
    ),
    "unknown where key": ({"where": {"start": 1, "stop": 2}}, "steering.where.stop", "allowed: start, end"),
    "where key named like a class": ({"where": {"Span": 2}}, "steering.where.Span", "allowed: start, end"),
    "unknown read key": ({"read": {"tops": 1}}, "steering.read.tops", "features, top, reduce, sae"),
    "unicode key": ({"café": 1}, "steering.café", "unknown key"),
    "id missing": ({"features": [{"value": 1}]}, "steering.features[0].id", "required"),
    "id a bool": (feature(id=True, value=1), "steering.features[0].id", "valid integer (given: True)"),
    "id a float": (feature(id=5.0, value=1), "steering.features[0].id", "valid integer (given: 5.0)"),
    "id a string": (feature(id="5", value=1), "steering.features[0].id", "valid integer (given: '5')"),
    "id negative": (feature(id=-1, value=1), "steering.features[0].id", "greater than or equal to 0 (given: -1)"),
    "second edit": ({"features": [ADD, {"id": -1, "value": 1}]}, "steering.features[1].id", "given: -1"),
    "op unknown": (feature(op="multiply", value=1), "steering.features[0].op", "'add', 'set', 'scale', 'min', 'max'"),
    "value missing": (feature(), "steering.features[0].value", "op 'add' needs a value"),
    "value null": (feature(op="set", value=None), "steering.features[0].value", "op 'set' needs a value"),
    "value a string": (feature(value="4"), "steering.features[0].value", "valid number (given: '4')"),
    "value a bool": (feature(value=True), "steering.features[0].value", "valid number (given: True)"),
    "value NaN": (feature(value=float("nan")), "steering.features[0].value", "finite number (given: nan)"),
    "value inf": (feature(value=float("-inf")), "steering.features[0].value", "finite number (given: -inf)"),
    "value 1e999": ('{"features": [{"id": 5, "value": 1e999}]}', "steering.features[0].value", "finite number"),
    "ablate with value": (feature(op="ablate", value=0), "steering.features[0].value", "'ablate' takes no value"),
    "scale with unit": (feature(op="scale", value=2, unit="norm"), "steering.features[0].unit", "'scale' has no unit"),
    "ablate with unit": (feature(op="ablate", unit="max_act"), "steering.features[0].unit", "'ablate' has no unit"),
    "unit unknown": (feature(value=1, unit="std"), "steering.features[0].unit", "'raw', 'max_act' or 'norm'"),
    "sae not a name": (
        feature(value=1, sae="../../etc"),
        "steering.features[0].sae",
        NAME,
    ),
    "when a number": (feature(value=1, when=3), "steering.features[0].when", "object"),
    "when without feature": (feature(value=1, when={}), "steering.features[0].when.feature", "required"),
    "above inf": (feature(value=1, when={"feature": 1, "above": 1e999}), "steering.features[0].when.above", "finite"),
    "features an object": ({"features": ADD}, "steering.features", "valid array"),
    "feature a number": ({"features": [5]}, "steering.features[0]", "object (given: 5)"),
    "feature twice": ({"features": [ADD, ADD]}, "steering.features", "feature 5 of SAE 'default' is edited twice"),
    "name unicode": (vector(name="français"), "steering.vectors[0].name", "(given: 'français')"),
    "name with newline": (
        vector(name="french\n"),
        "steering.vectors[0].name",
        NAME,
    ),
    "name of dots": (vector(name=".."), "steering.vectors[0].name", NAME),
    "name empty": (vector(name=""), "steering.vectors[0].name", NAME),
    "name too long": (vector(name="x" * 65), "steering.vectors[0].name", NAME),
    "alpha missing": ({"vectors": [{"name": "french"}]}, "steering.vectors[0].alpha", "required"),
    "mode unknown": (vector(mode="project"), "steering.vectors[0].mode", "'add', 'orthogonal' or 'cap'"),
    "orthogonal unit": (vector(mode="orthogonal", unit="norm"), "steering.vectors[0].unit", "leave `unit` out"),
    "error_term a string": ({"error_term": "false"}, "steering.error_term", "valid boolean (given: 'false')"),
    "error_term a number": ({"error_term": 0}, "steering.error_term", "valid boolean"),
    "norm unknown": ({"norm": "keep"}, "steering.norm", "'free' or 'preserve'"),
    "where unknown": ({"where": "output"}, "steering.where", "'all', 'prompt', 'generated' or {start, end}"),
    "where a list": ({"where": [0, 5]}, "steering.where", "'all', 'prompt', 'generated' or {start, end}"),
    "where null": ({"where": None}, "steering.where", "'all', 'prompt', 'generated' or {start, end}"),
    "start above end": ({"where": {"start": 5, "end": 2}}, "steering.where", "start 5 must be below end 2"),
    "start at end": ({"where": {"start": -2, "end": -2}}, "steering.where", "start -2 must be below end -2"),
    "start a float": ({"where": {"start": 0.5}}, "steering.where.start", "valid integer"),
    "start out of reach": ({"where": {"start": 2**40}}, "steering.where.start", "less than or equal"),
    "end out of reach": ({"where": {"end": -(2**40)}}, "steering.where.end", "greater than or equal"),
    "skip_first negative": ({"skip_first": -1}, "steering.skip_first", "given: -1"),
    "skip_first out of reach": ({"skip_first": 10**30}, "steering.skip_first", "less than or equal"),
    "max_norm zero": ({"max_norm": 0}, "steering.max_norm", "greater than 0"),
    "top negative": ({"read": {"top": -1}}, "steering.read.top", "given: -1"),
    "reduce unknown": ({"read": {"reduce": "sum"}}, "steering.read.reduce", "'mean', 'max' or 'none'"),
    "read ids": ({"read": {"features": [1, -1]}}, "steering.read.features[1]", "given: -1"),
    "not an object": ([ADD], "steering", "list given; pass an object"),
    "bytes": (b"{}", "steering", "bytes given; pass an object"),
    "a number": (5, "steering", "int given; pass an object"),
    "JSON of a list": ("[]", "steering", "object (given: [])"),
    "JSON of null": ("null", "steering", "object"),
    "empty text": ("", "steering", "Invalid JSON"),
    "cut JSON": ('{"features": [', "steering", "Invalid JSON"),
    "Python, not JSON": ("{'features': []}", "steering", "Invalid JSON"),
    "lone surrogate": ("\ud800", "steering", "unicode"),
    "deep nesting": ("[" * 100_000, "steering", "recursion limit"),
    "deep nesting inside": ('{"features":' + "[" * 150 + "]" * 150 + "}", "steering.features[0]", "object"),
    "not JSON": ({"features": {5}}, "steering", "not expressible as JSON"),
    "keys of two types": ({1: 2, "norm": "free"}, "steering", "not expressible as JSON"),
    "2 MB of text": (
        json.dumps({"features": [ADD], "x": "y" * 2_000_000}),
        "steering",
        f"at most {MAX_SPEC_CHARS} are allowed",
    ),
    "2 MB of edits": ({"features": [{"id": i, "value": 1} for i in range(100_000)]}, "steering", "are allowed"),
    "key twice": ('{"features": [{"id": 5, "value": 4.0, "value": 9.0}]}', "steering", "key 'value' is given twice"),
    "top key twice": ('{"norm": "free", "norm": "preserve"}', "steering", "key 'norm' is given twice"),
}


@pytest.mark.parametrize(("given_", "field", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_specs_are_refused_with_field_and_reason(given_, field, message):
    with pytest.raises(SpecError) as caught:
        parse_spec(given_)
    assert caught.value.field == field
    assert message in caught.value.message
    assert len(str(caught.value)) < 500
    assert isinstance(caught.value, TillerError) and isinstance(caught.value, ValueError)


def test_the_callers_own_field_name_is_kept():
    with pytest.raises(SpecError) as caught:
        parse_spec({"features": [{"id": -1, "value": 1}]}, "profiles.warm")
    assert caught.value.field == "profiles.warm.features[0].id"
    assert str(caught.value).startswith("profiles.warm.features[0].id: ")


def test_endlessly_nested_dict_is_refused():
    nested = {}
    for _ in range(100_000):
        nested = {"features": [nested]}
    with pytest.raises(SpecError, match="not expressible as JSON"):
        parse_spec(nested)


def test_the_design_example_means_what_it_says():
    body = {
        "features": [{"id": 92506, "op": "add", "value": 4.0, "unit": "raw", "sae": "default", "when": None}],
        "vectors": [{"name": "french", "alpha": 122.0, "unit": "raw", "mode": "add"}],
        "error_term": True,
        "norm": "free",
        "where": "all",
        "read": {"features": [92506], "top": 0, "reduce": "mean"},
    }
    spec = parse_spec(body)
    assert spec == parse_spec(json.dumps(body)) == parse_spec(spec)
    assert spec.features[0].value == 4.0 and spec.vectors[0].alpha == 122.0
    assert spec.read.features == [92506]
    short = parse_spec({"features": [{"id": 92506, "value": 4}], "vectors": [{"name": "french", "alpha": 122}]})
    assert short.features == spec.features and short.vectors == spec.vectors and short.digest == spec.digest


@pytest.mark.parametrize("body", [{}, {"norm": "preserve"}, {"max_norm": 3.0}, {"where": "prompt"}, {"skip_first": 2}])
def test_specs_that_name_no_edit_are_idle(body):
    assert parse_spec(body).idle and parse_spec(body).edits_nothing


def test_what_is_not_idle():
    assert parse_spec({"read": {"features": [1]}}).edits_nothing and not parse_spec({"read": {"features": [1]}}).idle
    for body in [{"error_term": False}, {"features": [ADD]}, {"vectors": [{"name": "v", "alpha": 0.0}]}]:
        assert not parse_spec(body).edits_nothing and not parse_spec(body).idle


BASE = {
    "features": [ADD, {"id": 6, "op": "set", "value": 2.0, "when": {"feature": 1, "above": 0.5}}],
    "vectors": [{"name": "a", "alpha": 1.0}, {"name": "b", "alpha": 2.0, "mode": "cap"}],
}


def changed(path, value):
    body = json.loads(json.dumps(BASE))
    *parents, last = path
    target = body
    for part in parents:
        target = target[part]
    target[last] = value
    return body


@pytest.mark.parametrize(
    "path_and_value",
    [
        (["where"], "generated"),
        (["where"], {"start": 3}),
        (["skip_first"], 4),
        (["read"], {"features": [5], "top": 3}),
        (["features"], BASE["features"][::-1]),
        (["vectors"], BASE["vectors"][::-1]),
        (["error_term"], True),
        (["features", 0, "value"], 1),
        (["features", 0, "when"], None),
    ],
)
def test_digest_ignores_order_scope_and_reads(path_and_value):
    assert parse_spec(changed(*path_and_value)).digest == parse_spec(BASE).digest


@pytest.mark.parametrize(
    "path_and_value",
    [
        (["features", 0, "value"], 1.0000001),
        (["features", 0, "value"], -1.0),
        (["features", 0, "op"], "set"),
        (["features", 0, "unit"], "norm"),
        (["features", 0, "id"], 7),
        (["features", 0, "sae"], "other"),
        (["features", 0, "when"], {"feature": 1}),
        (["features", 1, "when", "above"], 0.6),
        (["features", 1, "when", "feature"], 2),
        (["features"], BASE["features"][:1]),
        (["features"], []),
        (["vectors", 0, "name"], "c"),
        (["vectors", 0, "alpha"], 1.5),
        (["vectors", 0, "mode"], "orthogonal"),
        (["vectors", 0, "unit"], "norm"),
        (["vectors"], [*BASE["vectors"], BASE["vectors"][0]]),
        (["error_term"], False),
        (["norm"], "preserve"),
        (["max_norm"], 50.0),
    ],
)
def test_digest_tells_all_else_apart(path_and_value):
    assert parse_spec(changed(*path_and_value)).digest != parse_spec(BASE).digest


def test_rows_are_shared_only_where_the_reads_agree():
    read = parse_spec({**BASE, "read": {"features": [5]}})
    assert read.digest == parse_spec(BASE).digest and read.program_key != parse_spec(BASE).program_key
    assert read.program_key != parse_spec({**BASE, "read": {"features": [6]}}).program_key
    assert read.program_key == parse_spec({**BASE, "read": {"features": [5]}, "where": "prompt"}).program_key


POSITION = st.integers(-12, 12)
WHERE = st.sampled_from(["all", "prompt", "generated"]) | st.fixed_dictionaries(
    {}, optional={"start": POSITION, "end": POSITION}
)


def covered(where, skip_first, prompt_len, num_tokens):
    """Positions in scope, by Python's own slices: a negative bound counts from the prompt's end."""
    positions = list(range(num_tokens))
    match where:
        case "all":
            found = positions
        case "prompt":
            found = positions[:prompt_len]
        case "generated":
            found = positions[prompt_len:]
        case dict():
            start, end = (
                bound if bound is None or bound >= 0 else max(0, prompt_len + bound)
                for bound in (where.get("start", 0), where.get("end"))
            )
            found = positions[start:end]
    return [p for p in found if p >= skip_first]


@given(
    where=WHERE,
    skip_first=st.integers(0, 10),
    prompt_len=st.integers(1, 10),
    generated=st.integers(0, 10),
    start=POSITION,
)
def test_scope_is_the_positions_it_names(where, skip_first, prompt_len, generated, start):
    try:
        spec = parse_spec({"where": where, "skip_first": skip_first, "features": [ADD]})
    except SpecError:  # an empty span
        assert where["start"] >= where["end"] and (where["start"] < 0) == (where["end"] < 0) or where.get("end") == 0
        return
    num_tokens = prompt_len + generated
    scope = spec.scope(prompt_len)
    expected = covered(where, skip_first, prompt_len, num_tokens)
    assert [p for p in range(num_tokens) if scope.lo <= p < scope.hi] == expected
    assert scope.count(num_tokens) == len(expected)
    assert scope.count(num_tokens, max(0, start)) == sum(p >= start for p in expected)


def test_open_end_lies_above_any_position():
    assert parse_spec({"features": [ADD]}).scope(5) == (0, NO_END)
    assert parse_spec({"where": "generated", "features": [ADD]}).scope(5) == (5, NO_END)


EDITS = st.builds(
    lambda id_, op, value, unit, sae: {
        "id": id_,
        "op": op,
        **({} if op == "ablate" else {"value": value}),
        **({} if op in ("scale", "ablate") else {"unit": unit}),
        "sae": sae,
    },
    st.integers(0, 10**6),
    st.sampled_from(["add", "set", "scale", "min", "max", "ablate"]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["raw", "max_act", "norm"]),
    st.sampled_from(["default", "other"]),
)


@given(edits=st.lists(EDITS, max_size=6, unique_by=lambda e: (e["sae"], e["id"])), where=WHERE, seed=st.integers(0, 99))
def test_specs_round_trip_through_json(edits, where, seed):
    body = {"features": edits, "error_term": seed % 2 == 0, "max_norm": 1.0 + seed}
    spec = parse_spec(body)
    assert parse_spec(spec.model_dump_json(exclude_defaults=True)) == spec
    shuffled = random.Random(seed).sample(edits, len(edits))
    assert parse_spec({**body, "features": shuffled}).digest == spec.digest


@given(st.text(max_size=40) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_garbage_is_never_another_error(garbage):
    for given_ in (garbage, {"features": garbage}, {"where": garbage}, {"read": garbage}, {"skip_first": garbage}):
        try:
            assert isinstance(parse_spec(given_), SteeringSpec)
        except SpecError as error:
            assert error.field.startswith("steering")
