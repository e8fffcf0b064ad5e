"""The Dockerfile and the compose file name what is there. Neither is built here."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_what_is_copied_is_there_and_reaches_the_builder():
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]]
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied and set(copied) == sent
    assert all((ROOT / name).exists() for name in copied)


def test_it_serves_without_rights_and_tells_of_its_health():
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9][0-9]*$", last, re.M) and "HEALTHCHECK" in last and "/health" in last
    assert re.search(r'^ENTRYPOINT \["mmpt", "serve"\]$', last, re.M)
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert {one["build"]["args"]["DEVICE"] for one in services.values()} == {"cpu", "cuda"}
    for one in services.values():
        assert "/health" in str(one["healthcheck"]["test"]) and one["environment"]["MMPT_TOKEN"].startswith("${MMPT_TOKEN:?")


def test_versions_of_torch_are_those_that_are_tested():
    pattern = re.search(r"grep -E '(.+?)'", DOCKERFILE)
    found = re.findall(pattern[1] + ".+", (ROOT / "constraints.txt").read_text(), re.M)
    assert found == ["torch", "torchaudio", "torchvision"] and re.search(r"python:3\.1[1-9]", DOCKERFILE)
