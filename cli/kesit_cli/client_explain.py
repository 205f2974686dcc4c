"""`kesit client explain`: why a released result says what it says of one customer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kesit_cli import show
from kesit_cli.keys import Home
from kesit_cli.segments import Folder, LanguageOption, language_of

if TYPE_CHECKING:
    from kesit_privacy.features import Feature
    from kesit_server.wording import Language

_COLUMNS = {"en": ("feature", "value"), "tr": ("özellik", "değer")}
_WORDS = {
    "en": {
        "chances": "Chances",
        "reasons": "Reasons for",
        "of": "{}",
        "segment": "Segment",
        "next": "Next",
        "alone": "none: there is one segment",
        "objection": "Objection",
        "score": "open: a human must answer it, and no score may be used",
        "code": "open: a human must answer it, and no code may be used",
        "logits": "logits beyond the usual",
        "shares": "speaks for it, and not for the next",
    },
    "tr": {
        "chances": "Olasılıklar",
        "reasons": "Gerekçe",
        "of": "{} için",
        "segment": "Segment",
        "next": "Sonraki",
        "alone": "yok: tek segment var",
        "objection": "İtiraz",
        "score": "açık: bir insan yanıtlamalı; puan kullanılamaz",
        "code": "açık: bir insan yanıtlamalı; kod kullanılamaz",
        "logits": "olağandan fark (logit)",
        "shares": "sonraki segmente karşı desteği",
    },
}


def explain(
    folder: Folder,
    customer: Annotated[str, typer.Argument(metavar="ID", hidden=True)],
    home: Home,
    language: LanguageOption = "en",
) -> None:
    """Print why the model or the segments in FOLDER say what they say of the customer ID.

    It is computed here. Where consents are kept, the customer must have a ground for the purpose at
    this moment, or an open objection, which nobody could answer without the reasons.

    \b
    Examples:
      kesit client explain kesit-results/telecom-who-leaves-0a1b2c3d 4711 --home ankara
      kesit client explain kesit-results/my-study-0a1b2c3d 4711 --language tr --home ankara
    """
    from kesit_privacy.segment_file import SEGMENTS

    explained = _segment if (folder / SEGMENTS).exists() else _chance
    explained(folder, customer, home, language_of(language))


def _chance(folder: Path, customer: str, home: Path, language: Language) -> None:
    from kesit_client.results import scoring
    from kesit_privacy import model_file
    from kesit_server.wording import local, percent

    words, model = _WORDS[language], model_file.read(folder)
    found = scoring.explain_home(home, model, customer)
    told = [f"{name} {percent(chance, language)}" for name, chance in found.chances.items()]
    facts = [
        (words["chances"], ", ".join(told)),
        (words["reasons"], words["of"].format(found.kind)),
    ]
    if found.objects:
        facts.append((words["objection"], words["score"]))
    rows = [(name, value, local(_signed(part), language)) for name, value, part in found.parts]
    _print(facts, words["logits"], rows, model.features, language)


def _signed(value: float) -> str:
    text = f"{value:+.2f}"
    return text if text.strip("+-0.") else "0.00"


def _segment(folder: Path, customer: str, home: Path, language: Language) -> None:
    from kesit_client.results import segmenting
    from kesit_privacy import segment_file
    from kesit_server.wording import local, percent

    words, segments = _WORDS[language], segment_file.read(folder)
    found = segmenting.explain_home(home, segments, customer)

    def called(number: int) -> str:
        far = local(f"{found.distances[number - 1]:.3f}", language)
        return f"{number}, {segments.names[number - 1][language]}: {far}"

    facts = [(words["segment"], called(found.segment))]
    facts.append((words["next"], words["alone"] if found.other is None else called(found.other)))
    if found.objects:
        facts.append((words["objection"], words["code"]))
    rows = [(name, value, percent(part, language, 0)) for name, value, part in found.parts]
    shown = rows if found.other is not None else []
    _print(facts, words["shares"], shown, segments.features, language)


def _print(
    facts: Sequence[tuple[str, str]],
    heading: str,
    rows: Sequence[tuple[str, str, str]],
    features: Sequence[Feature],
    language: Language,
) -> None:
    from kesit_privacy.features import Numeric
    from kesit_server.wording import CELLS, Vocabulary, labels, local

    screen = show.console()
    show.print_facts(screen, facts)
    names = Vocabulary(labels(features))
    numbers = {feature.name for feature in features if isinstance(feature, Numeric)}
    table = show.new_table(*_COLUMNS[language], heading, right=(2,))
    for name, value, part in rows:
        if value in CELLS:
            told = CELLS[value].of(language)
        else:
            told = local(value, language) if name in numbers else value
        table.add_row(show.plain(names.feature(name, language)), show.plain(told), part)
    show.put(screen, table)
