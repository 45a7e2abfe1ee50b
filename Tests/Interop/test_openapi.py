"""/openapi.json is true: its examples are taken, and what schemathesis makes of it is answered as it says."""

import json
import os
import pathlib
import re
import subprocess
import tempfile

import pytest

from harness.http import PORT, with_edge
from harness.json_api import API
from harness.machine import ROOT

SCHEMATHESIS = ROOT / ".venv/bin/schemathesis"
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method"]


@pytest.fixture
def slimtad(make_slimtad):
    # Most of what schemathesis sends is refused: nobody is to wait for that.
    daemon = make_slimtad(queue={"deliver": False}, limits={"errors": 1000})
    return with_edge(daemon, json=True).start()


def test_examples(slimtad):
    """Every request that the description shows can be made, and every name in its schema is known."""
    api = API(slimtad)
    description = api.get("/openapi.json").json()
    post = description["paths"]["/v1/messages"]["post"]
    content = post["requestBody"]["content"]["application/json"]
    for name, example in content["examples"].items():
        answer = api.post(example["value"])
        assert answer.status_code == 202, (name, answer.text)
        assert api.state(answer.json()["id"]).status_code == 200
    fields = set(description["components"]["schemas"]["Message"]["properties"])
    unknown = api.post({"nothing of the kind": 1}).json()["errors"][0]["detail"]
    assert fields == set(unknown.partition("known are ")[2].split(", "))


# What is no header of HTTP at all is refused before there is a path that could describe the answer.
HOOKS = """
import re
import schemathesis

@schemathesis.hook
def map_headers(context, headers):
    kept = {name: value for name, value in (headers or {}).items() if re.fullmatch("[A-Za-z0-9_-]+", name)}
    return {name: value if re.fullmatch("[ -~]*", str(value)) else "no key" for name, value in kept.items()}
"""


def schemathesis(place, location, phases, *options):
    """What it found, after a number of requests that is bounded: its generator takes most of a second for each."""
    folder = place.folder("schemathesis")
    (folder / "hooks.py").write_text(HOOKS)
    # Hypothesis makes tables of all characters for some seconds: they are kept.
    tables = pathlib.Path(tempfile.gettempdir()) / "slimtad-hypothesis"
    environment = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(folder), "HYPOTHESIS_STORAGE_DIRECTORY": str(tables)}
    return subprocess.run(
        [SCHEMATHESIS, "run", location, "--checks", ",".join(CHECKS), "--phases", phases, "--max-examples", "10",
         "--seed", "15", "--generation-database", "none", "--suppress-health-check", "all", "--no-shrink", "--no-color",
         *options],
        cwd=folder, capture_output=True, text=True, timeout=280,
        env={**os.environ, **environment})


@pytest.mark.timeout(300)
def test_schemathesis(slimtad, place):
    """Requests, right and wrong ones. Not the phases coverage and stateful: for this description they do not end."""
    done = schemathesis(place, f"http://{slimtad.address}:{PORT}/openapi.json", "examples,fuzzing")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    made = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert made and made[1] == made[2] and int(made[1]) >= 15, done.stdout[-2000:]
    assert re.search(r"Tested: +3\b", done.stdout), done.stdout[-2000:]


def test_schemathesis_finds_what_is_not_described(slimtad, place):
    """The same with an answer that the description does not have: it is found."""
    description = API(slimtad).get("/openapi.json").json()
    del description["paths"]["/v1/messages/{id}"]["get"]["responses"]["404"]
    path = place.path / "openapi.json"
    path.write_text(json.dumps(description))
    done = schemathesis(place, str(path), "examples", "--url", f"http://{slimtad.address}:{PORT}")
    assert done.returncode == 1, done.stdout[-4000:] + done.stderr[-2000:]
    assert "Undocumented HTTP status code" in done.stdout, done.stdout[-4000:]
