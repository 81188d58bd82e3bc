"""The profile as one HTML page that needs nothing else: no script, no font, no picture from elsewhere; at most about 900 kB."""

from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources

from lakehouse.quality.profile import svg
from lakehouse.quality.profile.facts import Association, ColumnFacts, Count, Profile, Target
from lakehouse.quality.profile.shown import moment_text, number_text, percent, score_text

_MOST_BYTES = 900_000
_ROW_BYTES = 420_000
_MAP_COLUMNS = 16
_PAIRS = 12
_MEASURES = {"spearman": "rank correlation", "cramers_v": "Cramér's V", "eta": "correlation ratio"}
_KINDS = {"number": "number", "moment": "time", "boolean": "yes/no", "text": "text", "nested": "nested", "bytes": "bytes"}


def html_page(profile: Profile, *, trend: Sequence[tuple[str, float]] = ()) -> str:
    """The page.

    Args:
        profile: what to show.
        trend: version and score of measured versions, oldest first; shown if there are two.
    """
    style = resources.files("lakehouse.quality.profile").joinpath("page.css").read_text("utf-8")
    title = escape(f"Profile of {profile.subject}")
    before = "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{title}</title>",
            f'<style>{style}</style></head><body><a class="skip" href="#columns">To the columns</a><main>',
            _head(profile),
            _dimensions(profile),
            _advice(profile),
            _trend(trend),
            _target(profile.target) if profile.target else _suggestions(profile),
            _associations(profile),
            _rows(profile),
        ]
    )
    after = _notes(profile) + "</main></body></html>\n"
    return before + _cards(profile, _MOST_BYTES - len(before.encode()) - len(after.encode())) + after


def _head(profile: Profile) -> str:
    version = f"version {profile.version} · " if profile.version is not None else ""
    rows = f"{profile.rows:,} row{'' if profile.rows == 1 else 's'} · {len(profile.columns):,} columns"
    links = [
        ("#do", "What to do"),
        ("#together", "What goes with what"),
        ("#columns", "Columns"),
        ("#details", "In detail"),
        ("#notes", "How it was measured"),
    ]
    return (
        f'<header><div><p class="soft">Data profile</p><h1>{escape(profile.subject)}</h1>'
        f'<p class="soft">{version}{rows} · profiled {profile.profiled_at:%Y-%m-%d %H:%M} UTC</p>'
        f'<nav aria-label="Sections">{"".join(f"<a href={place}>{name}</a>" for place, name in links)}</nav></div>{svg.ring(profile.score)}</header>'
    )


def _dimensions(profile: Profile) -> str:
    cards = "".join(
        f"<section><h3><span>{one.name}</span><span>{score_text(one.value)}</span></h3>"
        f'{svg.meter(one.value, one.name)}<p class="how">{escape(one.how)}</p></section>'
        for one in profile.dimensions
    )
    return f'<div class="five">{cards}</div><p class="how">The score is the mean of the parts that could be judged.</p>'


def _advice(profile: Profile) -> str:
    if not profile.advice:
        return '<h2 id="do">What to do</h2><p>Nothing stands out.</p>'
    items = "".join(
        f'<li class="{one.weight}"><span class="tag">{one.weight}</span><b>{escape(one.finding)}</b> {escape(one.action)}</li>'
        for one in profile.advice[:40]
    )
    more = len(profile.advice) - 40
    return f'<h2 id="do">What to do</h2><ul class="advice">{items}</ul>' + (f"<p>{more:,} more.</p>" if more > 0 else "")


def _trend(points: Sequence[tuple[str, float]]) -> str:
    if len(points) < 2:
        return ""
    figure = f'<figure class="card">{svg.trend(points[-60:])}<figcaption class="how">By version of the table.</figcaption></figure>'
    return f'<h2 id="trend">Score over time</h2>{figure}'


def _suggestions(profile: Profile) -> str:
    if not profile.targets:
        return ""
    items = "".join(f"<li><b>{escape(one.column)}</b> ({one.problem}): {escape('; '.join(one.reasons))}.</li>" for one in profile.targets)
    return f'<h2 id="targets">What could be predicted</h2><ul class="advice">{items}</ul>'


def _target(target: Target) -> str:
    close = _pairs(target.associations[:_PAIRS], f"What goes with {target.column}")
    total = sum(one.rows for one in target.balance)
    balance = _top(target.balance[:12], total) if total else ""
    suspects = "".join(f"<li class=high>{escape(one)}</li>" for one in target.suspects)
    held = f'<p class="sub">May hold the answer</p><ul class="advice">{suspects}</ul>' if suspects else ""
    card = f'<div class="card"><p>{target.problem}: {escape(target.detail)}.</p>{balance}{held}</div>'
    return f'<h2 id="targets">To be predicted: {escape(target.column)}</h2>{card}<br>{close}'


def _associations(profile: Profile) -> str:
    if not profile.associations:
        return (
            '<h2 id="together">What goes with what</h2><p class="soft">No two columns that could be compared say much about each other.</p>'
        )
    names: list[str] = []
    for one in profile.associations:
        names += [name for name in (one.left, one.right) if name not in names]
        if len(names) >= _MAP_COLUMNS:
            break
    order = {one.name: n for n, one in enumerate(profile.columns)}
    shown = sorted(names[:_MAP_COLUMNS], key=lambda name: order.get(name, 0))
    table = _pairs(profile.associations[:_PAIRS], "The strongest pairs")
    note = (
        f"Of {len(profile.compared):,} columns that have an order or few values, on {_sampled(profile)}. "
        "0 is no association, 1 a complete one; red is one that falls while the other rises."
    )
    return f'<h2 id="together">What goes with what</h2><div class="card">{svg.heat_map(shown, profile.associations)}<p class="how">{note}</p></div><br>{table}'


def _pairs(pairs: Sequence[Association], caption: str) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(one.left)}</th><td>{escape(one.right)}</td><td class="n">{one.value:.2f}</td><td>{_MEASURES[one.measure]}</td></tr>'
        for one in pairs
    )
    head = '<thead><tr><th scope="col">column</th><th scope="col">and</th><th scope="col" class="n">strength</th><th scope="col">measured by</th></tr></thead>'
    return f'<div class="scroll"><table><caption>{escape(caption)}</caption>{head}<tbody>{rows}</tbody></table></div>' if pairs else ""


def _rows(profile: Profile) -> str:
    """Every column in one row; a wide table's rows get shorter."""
    is_wide = len(profile.columns) > 300
    head = "".join(
        f'<th scope="col"{" class=n" if name in ("missing", "different") else ""}>{name}</th>'
        for name in (
            ["column", "type", "missing", "different"] if is_wide else ["column", "type", "missing", "different", "spread", "most frequent"]
        )
    )
    rows: list[str] = []
    size = 0
    for n, one in enumerate(profile.columns):
        row = _row(n, one, is_wide=is_wide)
        size += len(row.encode())
        if size > _ROW_BYTES:
            break
        rows.append(row)
    left = len(profile.columns) - len(rows)
    more = f'<p class="how">{left:,} more columns are in the JSON.</p>' if left else ""
    return f'<h2 id="columns">Columns</h2><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{more}'


def _row(n: int, one: ColumnFacts, *, is_wide: bool) -> str:
    name = escape(_short(one.name))
    about = "" if one.distinct_exact else "≈ "
    cells = (
        f'<th scope="row"><a href="#c{n}">{name}</a></th><td>{escape(_short(one.type, 24))}</td><td class="n">{percent(one.missing_share)}'
    )
    if is_wide:
        return f'<tr>{cells}</td><td class="n">{about}{one.distinct:,}</td></tr>'
    top = one.hidden or ", ".join(top.label for top in one.top[:3])
    gap = f'<span class="gap" aria-hidden="true"><span style="width:{one.missing_share * 100:.0f}%"></span></span>'
    return f'<tr>{cells}{gap}</td><td class="n">{about}{one.distinct:,}</td><td>{svg.spark(one)}</td><td class="t">{escape(_short(top, 70))}</td></tr>'


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _cards(profile: Profile, budget: int) -> str:
    cards: list[str] = []
    size = 2000
    for n, one in enumerate(profile.columns):
        card = _card(n, one)
        size += len(card.encode())
        if size > budget:
            break
        cards.append(card)
    left = len(profile.columns) - len(cards)
    more = f'<p class="how">Of the {left:,} columns that follow only the row above is shown; the JSON has everything.</p>' if left else ""
    return f'<h2 id="details">Columns in detail</h2><div class="cards">{"".join(cards)}</div>{more}'


def _card(n: int, one: ColumnFacts) -> str:
    about = "" if one.distinct_exact else "≈ "
    facts = [
        ("missing", f"{one.missing:,} ({percent(one.missing_share)})"),
        ("different", f"{about}{one.distinct:,}"),
        *_numbers(one),
        *_lengths(one),
    ]
    listed = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    hidden = f'<p class="hidden">Values are not shown: {escape(one.hidden)}.</p>' if one.hidden else ""
    is_listed = bool(one.top) and ((one.top_is_all and one.distinct <= 12) or one.numbers is None or one.numbers.histogram is None)
    top = _top(one.top[:8], one.values) if is_listed else ""
    plot = "" if is_listed else svg.distribution(one)
    rest = one.values - sum(count.rows for count in one.top[:8])
    others = f'<p class="sub">{rest:,} rows have others</p>' if top and rest > 0 else ""
    described = f'<p class="how">{escape(_short(one.description, 160))}</p>' if one.description else ""
    invalid = f'<p class="how">{escape(one.invalid_why)}</p>' if one.invalid_why else ""
    return (
        f'<section class="card" id="c{n}"><header><h3>{escape(_short(one.name, 80))}</h3>'
        f'<span class="kind">{escape(_short(one.type, 40))} · {_KINDS[one.kind]}</span></header>'
        f"{described}<dl>{listed}</dl>{hidden}{plot}{top}{others}{_patterns(one)}{invalid}</section>"
    )


def _numbers(one: ColumnFacts) -> Iterator[tuple[str, str]]:
    numbers = one.numbers
    if numbers is None or not numbers.quantiles:
        return
    show = moment_text if one.kind == "moment" else number_text
    yield "median", show(numbers.quantiles[3])
    if one.kind == "number":
        yield "mean", show(numbers.mean)
        yield "deviation", show(numbers.deviation)
    yield "5 % to 95 %", f"{show(numbers.quantiles[1])} to {show(numbers.quantiles[5])}"
    if numbers.outliers_iqr or numbers.outliers_z:
        yield "outliers", f"{numbers.outliers_iqr or 0:,} (IQR), {numbers.outliers_z or 0:,} (3 sd)"
    if numbers.zeros:
        yield "zeros", f"{numbers.zeros:,}"
    if numbers.negatives:
        yield "negative", f"{numbers.negatives:,}"
    if numbers.not_finite:
        yield "NaN, infinite", f"{numbers.not_finite:,}"


def _lengths(one: ColumnFacts) -> Iterator[tuple[str, str]]:
    texts = one.texts
    if texts is None or texts.shortest is None or texts.longest is None:
        return
    unit = "items" if one.kind == "nested" else "bytes" if one.kind == "bytes" else "length"
    yield (
        unit,
        f"{texts.shortest:,}"
        if texts.shortest == texts.longest
        else f"{texts.shortest:,} to {texts.longest:,} ({texts.mean_length or 0:,.1f})",
    )
    if texts.looks_like:
        yield "looks like", texts.looks_like
    if texts.empty:
        yield "empty texts", f"{texts.empty:,}"


def _top(counts: Sequence[Count], total: int) -> str:
    most = max((one.rows for one in counts), default=1) or 1
    items = "".join(
        f'<li><span title="{escape(one.label)}">{escape(one.label) or "(empty)"}</span>'
        f'<span class="bar"><i style="width:{100 * one.rows / most:.0f}%"></i></span>'
        f'<span class="count">{one.rows:,} · {percent(one.rows / total) if total else ""}</span></li>'
        for one in counts
    )
    return f'<ul class="top">{items}</ul>'


def _patterns(one: ColumnFacts) -> str:
    texts = one.texts
    if texts is None or not texts.patterns or one.hidden or (one.top_is_all and one.distinct <= 12):
        return ""
    total = max(sum(pattern.rows for pattern in texts.patterns), 1)
    shown = ", ".join(
        f"<code>{escape(pattern.label) or '(empty)'}</code> {percent(pattern.rows / total)}" for pattern in texts.patterns[:3]
    )
    return f'<p class="sub">Written as {shown}</p>'


def _sampled(profile: Profile) -> str:
    return "all rows" if profile.sample_rows >= profile.rows else f"a sample of {profile.sample_rows:,} rows"


def _notes(profile: Profile) -> str:
    key = profile.duplicates.key
    told = (
        f"{' + '.join(key.columns)} ({'by the contract' if key.declared else 'found'}): {key.distinct:,} different in {profile.rows:,} rows"
        if key
        else "none"
    )
    about = "" if profile.duplicates.exact else "about "
    return (
        f'<footer id="notes"><p><b>How it was measured.</b> Key: {escape(told)}. '
        f"Rows that repeat another in every column: {about}{profile.duplicates.rows:,}.</p>"
        "<p>Counts, ranges, means, histograms, outliers and the rows of the listed values are exact. "
        "Different values marked ≈ are estimated from a part chosen by hash, with an error of about one percent. "
        f"Quantiles, patterns, associations, suggestions and which values are listed come from {_sampled(profile)}. "
        "In patterns A stands for a capital, a for a small letter, 9 for a digit, and + for several of the one before.</p>"
        "<p>Below a histogram: the middle half as a box, the median in red, 5 % to 95 % as a line. "
        "An outlier lies 1.5 interquartile ranges outside of the middle half, or 3 standard deviations (sd) from the mean.</p></footer>"
    )
