"""What a prediction says when it is done, in plain lines that read the same on a terminal and in a log."""

from survey import files
from survey.predict.output import ARRAYS
from survey.predict.predict import Report
from survey.spectrum import REASONS


def summary(report: Report) -> str:
    """Who was asked about what, what came of it, and where to look."""
    about, made = report.about, report.made
    asked, source = about["ensemble"]["about"], about["source"]
    names = ", ".join(member["name"] for member in asked["members"])
    lines = [
        f"predicted  {report.path}",
        f"by         {about['ensemble']['path']} ({about['ensemble']['id']}): {names}{'' if asked.get('calibrated', True) else ', not calibrated'}",
        f"from       {source['path']}, {'a store' if source['kind'] == 'store' else 'survey files'}",
        f"shards     {about['shards']:,} complete, {made:,} made by this run",
        f"rows       {about['rows']:,} of {about['rows_in']:,}",
    ]
    if report.plan:
        lines.insert(3, f"input      {report.plan}")
    if report.plan and report.plan.changed:
        lines.append(
            f"changed    {report.plan.changed:,} files since, such as {report.plan.examples[0]}; ingest.reread=true reads them again"
        )
    refused = about["refused"]
    if refused:
        lines.append(f"refused    {sum(refused.values()):,} ({sum(refused.values()) / about['rows_in']:.2%})")
        lines += [f"  {count:>9,}  {reason}: {REASONS[reason]}" for reason, count in refused.items()]
    if about["classes"]:
        lines.append(f"said       {', '.join(f'{name} {count:,}' for name, count in about['said'].items())}")
    if asked.get("domain"):
        lines.append(
            f"far off    {about['outside']:,} are farther from the training spectra than 99 % of the validation ones (domain > 1)"
        )
    if about["silent"]:
        lines.append(f"no answer  {about['silent']:,} rows, which have nulls")
    choice = about["choice"]
    lines.append(
        f"with       batches of {choice['batch']}, {choice['precision']}{', compiled networks' if choice['compiled'] else ''}"
    )
    lines += [f"           {note}" for note in choice["notes"]]
    within = files.join(report.path, "predictions")
    lines.append(
        f"look at    {within}  with pandas.read_parquet, pyarrow, or duckdb: from '{within}/*.parquet'"
    )
    if about["arrays"]:
        lines.append(
            f"           {files.join(report.path, ARRAYS)}  class_probabilities.npy, labels.npy, ids.parquet"
        )
    return "\n".join(lines)
