"""/openapi.json is true: its examples are taken, and what schemathesis makes of it is answered as it says."""

import json
import subprocess

import pytest

from harness.machine import ROOT
from test_json import API, PORT, edge

SCHEMATHESIS = ROOT / ".venv/bin/schemathesis"
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method"]


@pytest.fixture
def slimtad(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False})
    daemon.settings["edge"].append(edge(daemon))
    daemon.change()
    return daemon.start()


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


def test_schemathesis(slimtad, place):
    """Some thousand requests, right and wrong ones."""
    url = f"http://{slimtad.address}:{PORT}/openapi.json"
    done = subprocess.run(
        [SCHEMATHESIS, "run", url, "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing,stateful", "--max-examples",
         "25", "--seed", "15", "--suppress-health-check", "all", "--no-shrink", "--no-color"],
        cwd=place.folder("schemathesis"), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
