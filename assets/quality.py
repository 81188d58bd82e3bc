"""What a materialisation says about a profile: the score, how it is made up, what to do, and the columns at a glance."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets import plots
from assets.metadata import records_table

if TYPE_CHECKING:
    from lakehouse.quality.profile import Profile

_SHOWN_ADVICE = 8
_SHOWN_COLUMNS = 40


def quality_metadata(profile: "Profile") -> dict[str, Any]:
    """The profile of one table, for its own asset."""
    from lakehouse.quality.profile.shown import percent, score_text

    dimensions = [{"dimension": one.name, "score": score_text(one.value), "how": one.how} for one in profile.dimensions]
    judged = {one.name: one.value for one in profile.dimensions if one.value is not None}
    columns = [
        {
            "column": one.name,
            "type": one.type,
            "missing": percent(one.missing_share),
            "different": f"{'' if one.distinct_exact else 'about '}{one.distinct:,}",
            "most frequent": one.hidden or ", ".join(f"{top.label} ({top.rows:,})" for top in one.top[:3]),
        }
        for one in profile.columns[:_SHOWN_COLUMNS]
    ]
    metadata: dict[str, Any] = {
        "lakehouse/quality_score": dg.FloatMetadataValue(round(profile.score, 4)),
        "lakehouse/quality": records_table(dimensions),
        "lakehouse/quality_plot": plots.shares(f"Quality of {profile.subject}: {score_text(profile.score)}", judged),
        "lakehouse/profile": records_table(columns),
    }
    if profile.advice:
        shown = [{"weight": one.weight, "found": one.finding, "what to do": one.action} for one in profile.advice[:_SHOWN_ADVICE]]
        metadata["lakehouse/advice"] = records_table(shown)
    return metadata


def quality_overview(profiles: "Sequence[Profile]") -> dict[str, Any]:
    """The scores of several tables side by side."""
    from lakehouse.quality.profile.shown import score_text

    if not profiles:
        return {"lakehouse/scores": dg.MarkdownMetadataValue("nothing has been ingested yet")}
    rows: list[dict[str, Any]] = [
        {
            "table": one.subject,
            "version": one.version,
            "rows": one.rows,
            "score": score_text(one.score),
            **{dimension.name: score_text(dimension.value) for dimension in one.dimensions},
        }
        for one in profiles
    ]
    advice: list[dict[str, Any]] = [
        {"table": one.subject, "found": one.advice[0].finding, "what to do": one.advice[0].action} for one in profiles if one.advice
    ]
    return {
        "lakehouse/scores": records_table(rows),
        "lakehouse/first_to_do": records_table(advice),
        "lakehouse/scores_plot": plots.shares("Quality scores", {one.subject: one.score for one in profiles}),
    }
