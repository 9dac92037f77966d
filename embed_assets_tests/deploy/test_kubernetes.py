"""The pods that deploy/kubernetes/values.yaml and deploy/dagster_cloud.yaml ask for."""

from typing import Any

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config_schema
from kubernetes.client import ApiClient

from embed_assets_tests.deploy.recipes import unit
from embed_assets_tests.deploy.servers import ROOT

#: All that the chart's values.yaml has at its first level, in 1.13.
CHART = {
    *("global", "imagePullSecrets", "dagsterWebserver", "computeLogManager", "scheduler"),
    *("runLauncher", "dagster-user-deployments", "dagsterDaemon", "postgresql", "rabbitmq"),
    *("generatePostgresqlPasswordSecret", "generateCeleryConfigSecret", "redis", "flower"),
    *("ingress", "busybox", "migrate", "telemetry", "serviceAccount", "retention", "concurrency"),
    *("pythonLogs", "additionalInstanceConfig", "defsStateStorage"),
}
#: The chart's names -> Dagster's.
SECTIONS = {
    "containerConfig": "container_config",
    "podSpecConfig": "pod_spec_config",
    "jobSpecConfig": "job_spec_config",
}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "deploy/kubernetes/values.yaml").read_text()))


def rendered(run_k8s_config: dict[str, Any], env_secrets: list[str]) -> dict[str, Any]:
    """The Kubernetes job of a run, as K8sRunLauncher makes it. Raises on a key that is unknown."""
    from dagster_k8s.job import (
        DagsterK8sJobConfig,
        UserDefinedDagsterK8sConfig,
        construct_dagster_k8s_job,
    )

    launcher: dict[str, Any] = {
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": "dagster-postgresql-secret",
        "dagster_home": "/opt/dagster/dagster_home",
        "job_image": "registry.example.com/embed-assets:0.1.0",
        "env_secrets": env_secrets,
    }
    config_type = DagsterK8sJobConfig.config_type_run_launcher()  # type: ignore[no-untyped-call]
    schema = resolve_to_config_type(config_type)
    checked = process_config(schema, {**launcher, "run_k8s_config": run_k8s_config})
    assert checked.success, checked.errors
    ours = UserDefinedDagsterK8sConfig.from_dict(run_k8s_config)  # type: ignore[no-untyped-call]
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(**launcher),
        args=["dagster", "api", "execute_run", "..."],
        job_name="dagster-run-1",
        user_defined_k8s_config=ours,
    )
    return dict(ApiClient().sanitize_for_serialization(job))


def assert_one_gpu(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == {"cpu": "4", "memory": "8Gi"}
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    secrets = [source["secretRef"]["name"] for source in container["envFrom"]]
    assert "embed-assets-tables" in secrets


def test_each_run_on_kubernetes_is_a_pod_with_one_gpu(values: dict[str, Any]) -> None:
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    # Dagster puts what comes from there over what the launcher asks for: a code server's resources.
    assert not deployment["includeConfigInLaunchedRuns"]["enabled"]
    assert launcher["envSecrets"] == deployment["envSecrets"]
    config = {SECTIONS[name]: section for name, section in launcher["runK8sConfig"].items()}
    job = rendered(config, [secret["name"] for secret in launcher["envSecrets"]])
    assert_one_gpu(job)
    assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 60
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400


def test_a_key_that_kubernetes_does_not_know_is_found() -> None:
    with pytest.raises(Exception, match="tolerationz"):
        rendered({"pod_spec_config": {"tolerationz": []}}, [])


def test_each_run_of_a_hybrid_agent_is_a_pod_with_one_gpu() -> None:
    cloud = yaml.safe_load((ROOT / "deploy/dagster_cloud.yaml").read_text())
    (location,) = cloud["locations"]
    context = location["container_context"]["k8s"]
    assert_one_gpu(rendered(context["run_k8s_config"], context["env_secrets"]))


def test_the_chart_is_given_what_dagster_yaml_says(values: dict[str, Any]) -> None:
    ours = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert values.keys() <= CHART
    assert values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    retries, retention = values["dagsterDaemon"]["runRetries"], values["retention"]
    assert retries["maxRetries"] == ours["run_retries"]["max_retries"]
    days = ours["retention"]["sensor"]["purge_after_days"]
    ticks = ("skipped", "failure", "success", "started")
    assert retention["sensor"]["purgeAfterDays"] == dict.fromkeys(ticks, days)
    days = ours["retention"]["schedule"]["purge_after_days"]
    assert retention["schedule"]["purgeAfterDays"] == days
    pools, runs = values["concurrency"]["pools"], values["concurrency"]["runs"]
    assert pools["defaultLimit"] == runs["maxConcurrentRuns"]
    instance = {
        "concurrency": {
            "pools": {"default_limit": pools["defaultLimit"], "granularity": pools["granularity"]},
            "runs": {"max_concurrent_runs": runs["maxConcurrentRuns"]},
        }
    }
    checked = process_config(resolve_to_config_type(dagster_instance_config_schema()), instance)
    assert checked.success, checked.errors


def test_the_code_server_is_the_one_of_the_other_recipes(values: dict[str, Any]) -> None:
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    (command,) = unit("dagster-code.service")["ExecStart"]
    assert " ".join(deployment["dagsterApiGrpcArgs"]) in command
    assert f"--port {deployment['port']}" in command
