"""What a report says in one word, in one line, and in one cell of a table."""

from __future__ import annotations

VERDICTS = {
    "holds": "every claim holds",
    "fails": "a claim does not hold",
    "measured": "measured at smoke scale, not judged",
    "failed": "the study ended in an error",
    "interrupted": "the study was interrupted",
    "skipped": "the study's data is not on this machine",
    "running": "the study is running, or its process was killed",
    "not run": "there is a study, and no report of it",
    "planned": "not built yet",
}


def verdict(report: dict | None) -> str:
    """Say in one word how a study ended; None is a study that was never run."""
    if report is None:
        return "not run"
    if report["status"] != "finished":
        return report["status"]
    holds = [claim["holds"] for claim in report["claims"]]
    if not holds or None in holds:
        return "measured"
    return "holds" if all(holds) else "fails"


def claim_verdict(claim: dict) -> str:
    """Say whether a claim holds."""
    return {True: "holds", False: "does not hold", None: "not judged"}[claim["holds"]]


def verdict_rows(reports: list[dict]) -> list[list[object]]:
    """One row per claim: method, claim, baseline, measured, verdict; a report that did not finish adds a row that says why."""
    rows = []
    for report in reports:
        rows += [[report["slug"], claim["claim"], claim["baseline"], claim["measured"], claim_verdict(claim)] for claim in report["claims"]]
        if report["status"] != "finished":
            reason = (report.get("error") or "").strip().splitlines()
            rows.append([report["slug"], reason[-1] if reason else "", None, None, report["status"]])
    return rows


def cell(value: object) -> str:
    """Show one value: four significant digits, "-" for nothing, yes or no."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
