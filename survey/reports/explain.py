"""What a person sees of an explanation: pictures, and a text that names the lines that matter."""

from collections.abc import Iterator, Sequence

from survey.explain.explain import Explained
from survey.explain.explanation import TargetRecord
from survey.reports import explain_plots
from survey.reports.kept_pictures import keep_pictures


def pictures(result: Explained) -> list[str]:
    """Draw the pictures, unless they are there; their paths."""
    return keep_pictures(result.folder, result.document, explain_plots.draw(result))


def summary(result: Explained, pictures: Sequence[str]) -> str:
    """For each label and class the features that matter, and from which element it follows."""
    document = result.document
    state = "made now" if result.created else "was finished: nothing to do"
    lines = [
        f"explain    {result.folder}  ({state})",
        _line(
            "of", f"{document.of}, {document.spectra:,} spectra of {document.store}, {document.blocks} blocks"
        ),
        _line("methods", ", ".join(document.methods)),
        *(_line("", f"no {method}: {why}") for method, why in document.left_out.items()),
        "",
        "what matters, most first (blocks that become continuum)",
        *(_line(f"  {target.column}", ", ".join(target.features), 12) for target in document.targets),
        "",
        *_dependence(document.targets),
        "test of strength: the most important blocks are taken away, or as many random ones",
        *_strength(result),
        "",
        _line("look at", ", ".join(path.rpartition("/")[2] for path in pictures)),
        _line("", ", ".join(document.content)),
    ]
    return "\n".join(lines)


def _line(title: str, text: str, width: int = 10) -> str:
    return f"{title:<{width}} {text}"


def _amount(value: float, target: TargetRecord) -> str:
    """A change with its unit."""
    if target.is_class:
        return f"{value:.2f}"
    return f"{value:.0f} K" if target.unit == "K" else f"{value:.2f} {target.unit}"


def _dependence(targets: Sequence[TargetRecord]) -> Iterator[str]:
    """Nothing if the wavelengths have no line of any element."""
    targets = [target for target in targets if target.element]
    if not targets:
        return
    yield "what a label or class follows from (all lines of an element become continuum)"
    for target in targets:
        text = f"changes by {_amount(target.change, target)} without {target.element}"
        if target.own_change is not None and target.own_element != target.element:
            own = _amount(target.own_change, target)
            text += f", but by {own} without {target.own_element}: it is inferred from {target.element}"
        yield _line(f"  {target.column}", text, 12)
    yield ""


def _strength(result: Explained) -> Iterator[str]:
    units = {target.column: target for target in result.document.targets}
    for record in result.document.strength:
        target = units[record.column]
        text = f"{_amount(record.important, target)} against {_amount(record.random, target)}"
        if record.random > 0:
            text += f": {record.ratio:.1f} times [{record.low:.1f}, {record.high:.1f}]"
            text += "" if record.holds else "  NOT more than by chance"
        elif not record.important:
            text += ": nothing changes, so the test says nothing"
        yield _line(f"  {record.column}", text, 12)
