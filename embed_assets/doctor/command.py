"""`embed-assets doctor`: examine, mend if asked, and tell."""

import json
from collections.abc import Callable

from embed_assets.doctor.child import Child
from embed_assets.doctor.examination import examine
from embed_assets.doctor.finding import Finding, Kind
from embed_assets.doctor.repair import SET_ASIDE, Repair
from embed_assets.wording import counted

Say = Callable[[str], None]


def run_doctor(root: str, say: Say, *, repair: bool, as_json: bool) -> int:
    """Examine the tables under a root. Returns the exit code: 0 clean, 1 findings remain."""
    with Child() as child:
        findings = examine(root, child)
        if repair and findings:
            _tell(findings, _quiet if as_json else say)
            findings = _repaired(root, findings, _quiet if as_json else say, child)
    if as_json:
        for f in findings:
            line = {"kind": f.kind.value, "table": f.table, "where": f.where, "detail": f.detail}
            say(json.dumps(line))
    else:
        _tell(findings, say)
        say(_verdict(findings, repair=repair))
    return 1 if findings else 0


def _quiet(line: str) -> None:
    """Say nothing."""


def _repaired(root: str, findings: list[Finding], say: Say, child: Child) -> list[Finding]:
    mending = Repair(root, child)
    for mend in (mending.logs, mending.rows, mending.history, mending.leftovers):
        done = list(mend(findings))
        for step in done:
            say(f"repair: {step}")
        # Examined again: what was mended may show what else there is.
        findings = examine(root, child) if done else findings
    if mending.n_moved:
        say(f"repair: what was taken away is under {root}/{SET_ASIDE}; nothing was deleted")
    return findings


def _tell(findings: list[Finding], say: Say) -> None:
    for finding in findings:
        say(str(finding))


def _verdict(findings: list[Finding], *, repair: bool) -> str:
    if not findings:
        return "clean: every row is as it was written, and everything is up to date"
    kinds = {finding.kind for finding in findings}
    n_findings = counted(len(findings), "finding")
    if kinds <= {Kind.STALE, Kind.UNKNOWN_SHARD}:
        return f"{n_findings}; embed-assets run makes stale shards again"
    if repair:
        return f"{n_findings} left; embed-assets run makes the shards again that are marked"
    return f"{n_findings}; --repair mends what can be mended from what is there"
