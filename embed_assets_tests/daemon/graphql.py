"""What a user does in the Dagster UI, as the UI does it: GraphQL over HTTP."""

import json
from collections.abc import Sequence
from http.client import HTTPConnection
from typing import Any

from embed_assets.staleness import STAGES
from embed_assets_tests.daemon.processes import until

_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
_BACKFILL_ENDED = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
_LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "here"}


class GraphQL:
    """A web server's GraphQL, for the one project `notes` at code location `here`."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, query: str, **variables: object) -> Any:  # noqa: ANN401  parsed JSON
        """The answer's data. Raises AssertionError on any error in it."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        body = json.dumps({"query": query, "variables": variables})
        try:
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def is_loaded(self) -> bool:
        """Whether the project's definitions are there."""
        answer = self.ask(
            "{repositoriesOrError{__typename ... on RepositoryConnection{nodes{name}}}}"
        )
        return bool(answer["repositoriesOrError"].get("nodes"))

    def partitions(self, pipeline: str) -> list[str]:
        """The registered shards."""
        return list(self._asset(pipeline, "raw_corpus", "partitionKeys")["partitionKeys"])

    def statuses(self, stage: str, pipeline: str = "notes") -> dict[str, list[str]]:
        """Partitions of an asset by what the UI says of them: materialized, failed, missing..."""
        fields = (
            "assetPartitionStatuses{... on DefaultPartitionStatuses{materializedPartitions "
            "failedPartitions unmaterializedPartitions materializingPartitions}}"
        )
        found = self._asset(pipeline, stage, fields)["assetPartitionStatuses"]
        return {name.removesuffix("Partitions"): sorted(found[name]) for name in found}

    def _asset(self, pipeline: str, stage: str, fields: str) -> dict[str, Any]:
        query = (
            "query($key: AssetKeyInput!){assetNodeOrError(assetKey: $key)"
            "{... on AssetNode{" + fields + "}}}"
        )
        return self.ask(query, key={"path": [pipeline, stage]})["assetNodeOrError"]  # type: ignore[no-any-return]

    def launch_backfill(self, shards: Sequence[str], stages: Sequence[str] = STAGES) -> str:
        """A backfill of these shards through these stages. Returns its id."""
        params = {
            "partitionNames": list(shards),
            "assetSelection": [{"path": ["notes", stage]} for stage in stages],
        }
        answer = self.ask(
            "mutation($params: LaunchBackfillParams!){launchPartitionBackfill(backfillParams: "
            "$params){__typename ... on LaunchBackfillSuccess{backfillId} "
            "... on PythonError{message}}}",
            params=params,
        )["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def backfill_status(self, backfill: str) -> str:
        """REQUESTED, COMPLETED_SUCCESS, ..."""
        answer = self.ask(
            "query($id: String!){partitionBackfillOrError(backfillId: $id)"
            "{... on PartitionBackfill{status}}}",
            id=backfill,
        )
        return str(answer["partitionBackfillOrError"]["status"])

    def wait_for_backfill(self, backfill: str, seconds: float = 600) -> str:
        """The status in which it ended."""

        def ended() -> str:
            status = self.backfill_status(backfill)
            return status if status in _BACKFILL_ENDED else ""

        return until(ended, f"backfill {backfill} ends", seconds)

    def cancel_backfill(self, backfill: str) -> None:
        """What the button does."""
        answer = self.ask(
            "mutation($id: String!){cancelPartitionBackfill(backfillId: $id){__typename}}",
            id=backfill,
        )
        assert answer["cancelPartitionBackfill"]["__typename"] == "CancelBackfillSuccess", answer

    def launch_job(
        self, job: str, tags: dict[str, str] | None = None, stages: Sequence[str] = ()
    ) -> str:
        """A run of a job, over a range of shards if tags say so. Returns its id."""
        selector = {**_LOCATION, "jobName": job}
        if stages:
            selector["assetSelection"] = [{"path": ["notes", stage]} for stage in stages]  # type: ignore[assignment]
        metadata = {"tags": [{"key": k, "value": v} for k, v in (tags or {}).items()]}
        answer = self.ask(
            "mutation($params: ExecutionParams!){launchPipelineExecution(executionParams: "
            "$params){__typename ... on LaunchRunSuccess{run{runId}} "
            "... on PythonError{message}}}",
            params={"selector": selector, "mode": "default", "executionMetadata": metadata},
        )["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def runs(self, **filter_by: object) -> list[dict[str, Any]]:
        """All runs, latest first: id, status, tags by key, start and end time."""
        answer = self.ask(
            "query($filter: RunsFilter){runsOrError(filter: $filter){... on Runs{results{runId "
            "status jobName startTime endTime tags{key value}}}}}",
            filter=filter_by,
        )
        runs = answer["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in runs]

    def wait_for_run(self, run: str, seconds: float = 600) -> str:
        """The status in which it ended."""

        def ended() -> str:
            (found,) = self.runs(runIds=[run])
            return str(found["status"]) if found["status"] in _ENDED else ""

        return until(ended, f"run {run} ends", seconds)

    def terminate(self, *runs: str) -> None:
        """What the button does: ask the processes to end."""
        answer = self.ask(
            "mutation($ids: [String!]!){terminateRuns(runIds: $ids){__typename "
            "... on TerminateRunsResult{terminateRunResults{__typename}} "
            "... on PythonError{message}}}",
            ids=list(runs),
        )["terminateRuns"]
        results = answer.get("terminateRunResults", [])
        assert {r["__typename"] for r in results} == {"TerminateRunSuccess"}, answer

    def claimed_slots(self, pool: str = "gpu") -> list[str]:
        """The runs that hold a slot of a pool, or wait for one."""
        answer = self.ask(
            "query($pool: String!){instance{concurrencyLimit(concurrencyKey: $pool)"
            "{slotCount claimedSlots{runId} pendingSteps{runId}}}}",
            pool=pool,
        )["instance"]["concurrencyLimit"]
        return [slot["runId"] for slot in (*answer["claimedSlots"], *answer["pendingSteps"])]

    def start_sensor(self, sensor: str) -> None:
        """Switch it on."""
        answer = self.ask(
            "mutation($sensor: SensorSelector!){startSensor(sensorSelector: $sensor){__typename}}",
            sensor={**_LOCATION, "sensorName": sensor},
        )
        assert answer["startSensor"]["__typename"] == "Sensor", answer

    def stop_sensor(self, sensor: str) -> None:
        """Switch it off."""
        answer = self.ask(
            "query($sensor: SensorSelector!){sensorOrError(sensorSelector: $sensor)"
            "{... on Sensor{sensorState{id}}}}",
            sensor={**_LOCATION, "sensorName": sensor},
        )
        state = answer["sensorOrError"]["sensorState"]["id"]
        answer = self.ask("mutation($id: String){stopSensor(id: $id){__typename}}", id=state)
        assert answer["stopSensor"]["__typename"] == "StopSensorMutationResult", answer

    def n_ticks(self, sensor: str) -> int:
        """How often it has looked and come to an end."""
        answer = self.ask(
            "query($sensor: SensorSelector!){sensorOrError(sensorSelector: $sensor)"
            "{... on Sensor{sensorState{ticks(statuses: [SUCCESS, SKIPPED, FAILURE])"
            "{status error{message}}}}}}",
            sensor={**_LOCATION, "sensorName": sensor},
        )
        ticks = answer["sensorOrError"]["sensorState"]["ticks"]
        assert not [tick for tick in ticks if tick["status"] == "FAILURE"], ticks
        return len(ticks)
