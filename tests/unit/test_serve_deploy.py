"""A version ends when no front sends to it; what cannot be taken over changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import serve

from penchant.ensembles.artefacts.artefact import save_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.errors import ConfigError, DataError, RunError, UnreachableError
from penchant.serve.answering.card import version_of
from penchant.serve.answering.places import Layout, Place
from penchant.serve.versions import deploy as verbs
from penchant.serve.versions.app import VersionArgs, live_of
from penchant.serve.versions.follower import Following
from penchant.serve.versions.fronts import FRONT, await_fronts, why_not_yet
from penchant.serve.versions.opening import artefact_of
from penchant.serve.versions.service import Endpoint, Live, Service, Traffic

from .test_serve_law import RANKING, fitted_run


def live(version: str, directory: str = "somewhere", layout: Layout | None = None) -> Live:
    places = [Place(name="members", members=["own"], alone=True)]
    return Live(
        version=version,
        directory=directory,
        source=directory,
        layout=layout or Layout(),
        places=places,
    )


def args_of(directory: Path) -> VersionArgs:
    return VersionArgs(
        directory=str(directory), version=version_of(directory), source=str(directory)
    )


A, B, C = live("a"), live("b"), live("c")


class Cluster:
    """What happens to a service without Ray, in order."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service = service
        self.happened: list[str] = []
        self.started = A
        self.refuses: Callable[[Traffic], str | None] = lambda _: None
        self.running = {FRONT: SimpleNamespace(status="RUNNING")}
        self.sleep: Callable[[float], None] = lambda s: self.happened.append(f"wait {s:.0f} s")
        service.announce(
            Endpoint(url="http://x", ray_address="x", pid=1, cpus_per_replica=0.1, max_replicas=2)
        )
        monkeypatch.setattr(verbs, "start_ray", lambda address: nullcontext())
        monkeypatch.setattr(verbs, "_args", lambda *_: None)
        monkeypatch.setattr(verbs, "start_version", self.start_version)
        monkeypatch.setattr(verbs, "await_fronts", self.await_fronts)
        monkeypatch.setattr("time.sleep", lambda s: self.sleep(s))
        monkeypatch.setattr(serve, "delete", self.delete)
        monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications=self.running))

    def live(self, traffic: Traffic) -> None:
        self.service.switch(traffic, "test")
        self.running |= {one.app: SimpleNamespace(status="RUNNING") for one in traffic.lives()}

    def start_version(self, _: Any) -> Live:
        self.running[self.started.app] = SimpleNamespace(status="RUNNING")
        return self.started

    def delete(self, app: str) -> None:
        self.happened.append(f"delete {app}")
        del self.running[app]

    def await_fronts(
        self, traffic: Traffic, opened: Live, *, within_s: float, runs: Callable[[], bool]
    ) -> str | None:
        assert self.service.traffic() == traffic
        canary = "" if traffic.canary is None else f" and {traffic.canary.version}"
        self.happened.append(f"fronts follow {traffic.primary.version}{canary}")
        return self.refuses(traffic)

    def deploy(self, version: Live, part: Any = "primary") -> Traffic:
        self.started = version
        return verbs.deploy(self.service, Path("somewhere"), part=part, share=0.5)

    def apps(self) -> set[str]:
        return set(self.running) - {FRONT}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(Service(tmp_path), monkeypatch)


def canary(version: Live) -> Traffic:
    return Traffic(primary=A, canary=version, canary_share=0.5)


def test_a_canary_that_is_replaced_ends_after_all_fronts_and_the_last_answer(
    cluster: Cluster,
) -> None:
    cluster.live(canary(B))
    assert cluster.deploy(C, "canary") == canary(C)
    assert cluster.happened == ["fronts follow a and c", "wait 11 s", f"delete {B.app}"]


def test_a_canary_that_is_rolled_back_ends_after_all_fronts_and_the_last_answer(
    cluster: Cluster,
) -> None:
    cluster.live(canary(B))
    assert verbs.rollback(cluster.service) == Traffic(primary=A)
    assert cluster.happened == ["fronts follow a", "wait 11 s", f"delete {B.app}"]


def test_nothing_is_waited_for_where_nothing_ends(cluster: Cluster) -> None:
    cluster.live(Traffic(primary=A))
    cluster.deploy(B)
    assert cluster.happened == ["fronts follow b"]


def test_what_a_front_does_not_take_over_is_switched_back(cluster: Cluster) -> None:
    cluster.live(canary(B))
    cluster.refuses = lambda traffic: "it is gone" if traffic.canary == C else None
    with pytest.raises(RunError, match="it is gone"):
        cluster.deploy(C, "canary")
    assert cluster.service.traffic() == canary(B)
    assert cluster.happened[:2] == ["fronts follow a and c", "fronts follow a and b"]
    assert cluster.happened[2:] == ["wait 11 s", f"delete {C.app}"]
    actions = [step["action"] for step in cluster.service.history()]
    assert actions[1:] == ["deploy canary", "deploy canary, taken back"]


def test_nothing_ends_while_a_front_cannot_be_asked_and_the_next_verb_ends_it(
    cluster: Cluster,
) -> None:
    cluster.live(canary(B))
    cluster.refuses = lambda _: "no front answers"
    with pytest.raises(RunError, match="asked for again, in vain so far: no front answers"):
        cluster.deploy(C, "canary")
    assert cluster.apps() == {A.app, B.app, C.app}
    cluster.refuses = lambda _: None
    verbs.rollback(cluster.service)
    assert cluster.apps() == {A.app}


def test_what_an_interrupted_verb_leaves_running_the_next_verb_ends(cluster: Cluster) -> None:
    cluster.live(canary(B))

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    cluster.sleep, patient = interrupt, cluster.sleep
    with pytest.raises(KeyboardInterrupt):
        verbs.rollback(cluster.service)
    assert cluster.service.traffic() == Traffic(primary=A)  # all fronts had followed
    assert cluster.apps() == {A.app, B.app}
    cluster.sleep = patient
    cluster.deploy(C)
    assert cluster.apps() == {A.app, C.app}
    assert FRONT in cluster.running


def test_a_verb_that_is_interrupted_before_fronts_follow_is_taken_back(cluster: Cluster) -> None:
    cluster.live(Traffic(primary=A))

    def interrupt(_: Traffic) -> None:
        raise KeyboardInterrupt

    cluster.refuses = interrupt
    with pytest.raises(KeyboardInterrupt):
        cluster.deploy(B)
    assert cluster.service.traffic() == Traffic(primary=A)
    assert cluster.service.history()[-1]["action"] == "deploy primary, taken back"


def test_a_service_that_stops_meanwhile_is_said_to_be_gone(cluster: Cluster) -> None:
    cluster.live(Traffic(primary=A))

    def stop(_: Traffic) -> str:
        cluster.service.retire()
        return "a front does not answer"

    cluster.refuses = stop
    with pytest.raises(UnreachableError, match="is gone.*starts it again, with version b"):
        cluster.deploy(B)
    assert cluster.happened == ["fronts follow b"]
    assert cluster.service.traffic() == Traffic(primary=B, previous=A)


def test_the_same_ensemble_in_another_layout_is_rolled_in_beside_itself(cluster: Cluster) -> None:
    apart = live("a", layout=Layout(placement="apart"))
    quick = live("a", layout=Layout(engine="onnx-int8"))
    assert len({A.app, apart.app, quick.app}) == 3
    cluster.live(Traffic(primary=A))
    assert cluster.deploy(apart) == Traffic(primary=apart, previous=A)
    assert [one.app for one in Traffic(primary=apart, previous=A).lives()] == [apart.app, A.app]
    assert cluster.deploy(quick) == Traffic(primary=quick, previous=apart)
    assert cluster.happened[-1] == f"delete {A.app}"


def test_a_version_that_runs_is_not_started_again_unless_in_another_layout(
    artefacts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def run_many(targets: Sequence[serve.RunTarget], **_: bool) -> None:
        started.extend(target.name for target in targets)
        running[started[-1]] = SimpleNamespace(status="RUNNING")

    monkeypatch.setattr(serve, "run_many", run_many)
    same = args_of(artefacts[0])
    running = {live_of(same).app: SimpleNamespace(status="RUNNING")}
    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications=running))
    apart = same.model_copy(update={"layout": Layout(placement="apart")})
    assert verbs.start_version(same).layout == Layout()
    assert started == []
    assert len(verbs.start_version(apart).places) == 2
    assert started == [live_of(apart).app]


def test_a_version_that_finds_no_room_is_told_and_ended(
    artefacts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve itself would wait without end for CPUs that other versions hold."""
    args = args_of(artefacts[0])
    app, now, deleted = live_of(args).app, [0.0], []
    said = "Deployment 'members' has 1 replicas that have taken more than 30s to be scheduled. Use"
    running: dict[str, Any] = {}

    def run_many(targets: Sequence[serve.RunTarget], **_: bool) -> None:
        deployments = {"members": SimpleNamespace(message="")}
        running[app] = SimpleNamespace(status="DEPLOYING", deployments=deployments)

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] > 30:
            running[app].deployments["members"].message = said

    monkeypatch.setattr(serve, "run_many", run_many)
    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications=running))
    monkeypatch.setattr(serve, "delete", lambda name, _blocking: deleted.append(name))
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with pytest.raises(RunError, match="find no CPUs beside .*`penchant serve rollback`"):
        verbs.start_version(args)
    assert 60 < now[0] < 61
    assert deleted == [app]


def test_a_verb_is_refused_while_another_one_changes_the_service(cluster: Cluster) -> None:
    cluster.live(Traffic(primary=A, previous=B))
    with cluster.service.changing():
        with pytest.raises(ConfigError, match="under way"):
            cluster.deploy(C)
        with pytest.raises(ConfigError, match="under way"):
            verbs.rollback(cluster.service)
    assert cluster.service.traffic() == Traffic(primary=A, previous=B)


def test_a_rollback_to_what_is_gone_is_refused_with_its_reason(
    cluster: Cluster, tmp_path: Path
) -> None:
    gone = live("b", str(tmp_path / "october"))
    cluster.live(Traffic(primary=A, previous=gone))
    with pytest.raises(DataError, match=r"cannot be returned to.*october holds no ensemble"):
        verbs.rollback(cluster.service)
    assert cluster.service.traffic() == Traffic(primary=A, previous=gone)
    assert cluster.happened == []


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    names = ("popular", "own")
    recipes = {name: RANKING[name] for name in names}
    prepared = fitted_run(tmp_path_factory.mktemp("deployed"), "baskets", recipes)
    spec = prepared.experiment.requests
    first, second = (
        save_ensemble(
            prepared.run,
            f"popular at {weight}",
            Linear(normalization="zscore", weights={"popular": weight, "own": 1 - weight}),
            spec,
            {},
        )
        for weight in (0.5, 0.75)
    )
    return first, second


def test_a_rollback_goes_to_what_can_be_opened_and_runs(
    cluster: Cluster, artefacts: tuple[Path, Path]
) -> None:
    before = live_of(args_of(artefacts[0]))
    cluster.live(Traffic(primary=A, previous=before))
    del cluster.running[before.app]
    with pytest.raises(RunError, match="members are gone, expected some that run"):
        verbs.rollback(cluster.service)
    cluster.running[before.app] = SimpleNamespace(status="DEPLOY_FAILED")
    with pytest.raises(RunError, match="members are DEPLOY_FAILED"):
        verbs.rollback(cluster.service)
    cluster.running[before.app] = SimpleNamespace(status="UNHEALTHY")  # a replica is replaced
    assert verbs.rollback(cluster.service) == Traffic(primary=before, previous=A)


def test_a_directory_that_holds_another_ensemble_by_now_is_not_the_version(
    artefacts: tuple[Path, Path],
) -> None:
    first, second = artefacts
    old = live_of(args_of(first))
    assert artefact_of(old).name == "popular at 0.5"
    replaced = old.model_copy(update={"directory": str(second)})
    with pytest.raises(DataError, match=f"holds version {version_of(second)} by now"):
        artefact_of(replaced)


def test_all_fronts_must_follow_and_have_opened_the_version() -> None:
    old, new = Traffic(primary=A), Traffic(primary=A, shadow=B)
    followed, behind = Following(traffic=new), Following(traffic=old)
    lame = Following(traffic=new, trouble={B.app: "OSError: no file"})
    other = Following(traffic=new, trouble={C.app: "OSError: no file"})
    assert why_not_yet([followed, followed, other], new, B) is None
    assert why_not_yet([followed, behind], new, B) == "a front has not looked yet, or is opening it"
    assert why_not_yet([lame, followed], new, B) == f"{B.app}: OSError: no file"
    assert why_not_yet([], new, B) == "no front answers"


def test_fronts_are_asked_until_all_follow_whoever_dies_meanwhile() -> None:
    new = Traffic(primary=A)
    told: list[Sequence[Following] | Exception] = [
        [Following(traffic=new), Following()],
        ConnectionError("died"),
        [Following(traffic=new)],
    ]

    def ask() -> Sequence[Following]:
        said = told.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    assert await_fronts(new, A, within_s=60, runs=lambda: True, ask=ask) is None
    assert told == []
    for within_s, runs in ((0, True), (60, False)):  # nobody waits for a service that has stopped
        told.append(ConnectionError("died"))
        why = await_fronts(new, A, within_s=within_s, runs=partial(bool, runs), ask=ask)
        assert "ConnectionError: died" in str(why)
