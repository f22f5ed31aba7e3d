"""The manifest for GKE, checked against JobSet's own schema."""

import copy
import json

import jsonschema
import pytest
import yaml
from places import FIXTURES, ROOT

from fv_jax.cli.train import settings_of
from fv_jax.training.experiments import load_training

SCHEMA = jsonschema.Draft4Validator(json.loads((FIXTURES / "jobset.schema.json").read_text()))


def manifest(name: str) -> dict:
    return yaml.safe_load((ROOT / "deploy" / name).read_text())


@pytest.fixture
def jobset():
    return manifest("jobset.yaml")


@pytest.fixture
def job(jobset):
    [replicated] = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def errors(jobset: dict) -> str:
    return "\n".join(error.message for error in SCHEMA.iter_errors(jobset))


def test_the_manifest_is_a_jobset(jobset):
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert jobset["kind"] == "JobSet"
    assert errors(jobset) == ""


def test_the_schema_finds_mistakes(jobset):
    def broken(*path, value) -> str:
        wrong = copy.deepcopy(jobset)
        place = wrong["spec"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        return errors(wrong)

    pod = ("replicatedJobs", 0, "template", "spec", "template", "spec")
    assert "'maxRestart' was unexpected" in broken("failurePolicy", "maxRestart", value=3)
    assert "'Restart' is not one of" in broken(
        "failurePolicy", "rules", 0, "action", value="Restart"
    )
    assert "is not of type 'integer'" in broken(*pod[:4], "parallelism", value="four")
    assert "'nodeselector' was unexpected" in broken(*pod, "nodeselector", value={})
    assert "is not of type 'array'" in broken(*pod, "containers", 0, "command", value="fv train")
    assert "'name' is a required property" in broken(*pod, "volumes", value=[{}])


def test_a_pod_for_each_machine_of_the_slice_with_all_its_chips(job):
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    rows, columns = map(int, topology.split("x"))
    assert job["parallelism"] == job["completions"] == rows * columns / chips
    assert job["completionMode"] == "Indexed"
    assert container["resources"]["requests"] == container["resources"]["limits"]


def test_a_run_that_was_stopped_starts_again_and_is_not_taken_for_done(jobset, job):
    [container] = job["template"]["spec"]["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    stopped, gone = job["podFailurePolicy"]["rules"]
    assert stopped["action"] == gone["action"] == "FailJob"
    assert stopped["onExitCodes"]["containerName"] == container["name"]
    assert stopped["onExitCodes"]["values"] == [int(environment["FV_STOPPED_CODE"])]
    assert gone["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy needs it
    [rule] = jobset["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_the_run_lies_in_the_claim_that_all_pods_share(job):
    claim = manifest("claim.yaml")
    pod = job["template"]["spec"]
    [container], [volume] = pod["containers"], pod["volumes"]
    [mount] = container["volumeMounts"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert mount["name"] == volume["name"]
    folders = [word for word in container["args"] if "/" in word]
    assert len(folders) == 3
    assert all(f"={mount['mountPath']}/" in word for word in folders)


def test_fv_takes_its_arguments(job, monkeypatch):
    monkeypatch.chdir(ROOT)
    [container] = job["template"]["spec"]["containers"]
    fv, train, experiment, *words = [*container["command"], *container["args"]]
    assert (fv, train) == (".venv/bin/fv", "train")
    _, config = settings_of(load_training(experiment), words)
    assert config.run.folder == "/data/out/ucf101_key_frames"
    assert (config.run.mesh.data, config.run.mesh.fsdp) == (1, -1)
