"""Names of segments and sentences on what sets them apart, in English and Turkish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kesit_server.portrait.traits import Trait
from kesit_server.wording import CELLS, Vocabulary, Wording, capitalised, number, percent

FIRST_TRAITS = 2
MOST_TRAITS = 4
"""Features in a name: two, and up to four where two segments would be called the same."""


AVERAGE = Wording("Average customer", "Ortalama müşteri")
UNCERTAIN = Wording("Not told from noise", "Gürültüden ayırt edilemeyen")


def names(
    traits: Sequence[Sequence[Trait]], told: Sequence[bool], vocabulary: Vocabulary
) -> tuple[Wording, ...]:
    """A short name for each segment, distinct in both languages.

    It is made of the clear traits with the largest effects, one a feature. A segment without any is
    an average customer; one that is not told from noise says so. Names that would be the same get
    another trait, and then the segment's number.

    Args:
        traits: of each segment, largest effect first.
        told: whether the segment is told from noise.
    """
    kept = [distinguishing(row) if known else [] for row, known in zip(traits, told, strict=True)]
    counts = [FIRST_TRAITS] * len(kept)
    while True:
        found = [
            _name(row[:count], vocabulary) if known else UNCERTAIN
            for row, count, known in zip(kept, counts, told, strict=True)
        ]
        same = _same(found)
        longer = [p for p in same if counts[p] < min(len(kept[p]), MOST_TRAITS)]
        if not longer:
            break
        for place in longer:
            counts[place] += 1
    return tuple(
        Wording(f"{name.en} (segment {place + 1})", f"{name.tr} ({place + 1}. segment)")
        if place in same
        else name
        for place, name in enumerate(found)
    )


def distinguishing(traits: Iterable[Trait]) -> list[Trait]:
    """The clear traits in their order, one of each feature.

    Of a categorical feature it is the level that most of the segment's customers have, if that is
    clear ("mostly yes" rather than "less often no"), and the first one otherwise.
    """
    found: dict[str, Trait] = {}
    for trait in traits:
        if trait.clear and (trait.feature not in found or trait.mostly):
            found[trait.feature] = trait
    return list(found.values())


def _key(name: Wording) -> tuple[frozenset[str], frozenset[str]]:
    """Names that differ in the order of their parts alone are the same to a reader."""
    english, turkish = (frozenset(text.casefold().split(", ")) for text in (name.en, name.tr))
    return english, turkish


def _same(names: Sequence[Wording]) -> set[int]:
    """Places of names that another segment has, too, in either language."""
    keys = [_key(name) for name in names]
    english, turkish = Counter(en for en, _ in keys), Counter(tr for _, tr in keys)
    return {place for place, (en, tr) in enumerate(keys) if english[en] > 1 or turkish[tr] > 1}


def _name(traits: Sequence[Trait], vocabulary: Vocabulary) -> Wording:
    if not traits:
        return AVERAGE
    phrases = [phrase(trait, vocabulary) for trait in traits]
    return Wording(
        capitalised(", ".join(part.en for part in phrases), turkish=False),
        capitalised(
            ", ".join(part.tr for part in phrases),
            turkish=vocabulary.is_turkish(traits[0].feature),
        ),
    )


def phrase(trait: Trait, vocabulary: Vocabulary) -> Wording:
    """A trait in two or three words, such as "high income" and "gelir yüksek"."""
    english = vocabulary.feature(trait.feature, "en")
    turkish = vocabulary.feature(trait.feature, "tr")
    if trait.level is not None:
        how = (
            Wording("mostly", "çoğunlukla")
            if trait.mostly
            else Wording("more often", "daha sık")
            if trait.effect > 0
            else Wording("less often", "daha seyrek")
        )
        level = CELLS.get(trait.level, Wording(trait.level, trait.level))
        return Wording(f"{english} {how.en} {level.en}", f"{turkish} {how.tr} {level.tr}")
    grade = Wording("high", "yüksek") if trait.effect > 0 else Wording("low", "düşük")
    if trait.strong:
        grade = Wording(f"very {grade.en}", f"çok {grade.tr}")
    return Wording(f"{grade.en} {english}", f"{turkish} {grade.tr}")


def sentence(trait: Trait, vocabulary: Vocabulary) -> Wording:
    """A trait with its numbers."""
    short = phrase(trait, vocabulary)
    deviations = abs(trait.effect)
    pair = (
        [(percent(x, "en"), percent(x, "tr")) for x in (trait.value, trait.overall)]
        if trait.level is not None
        else [(number(x, "en"), number(x, "tr")) for x in (trait.value, trait.overall)]
    )
    english = "above" if trait.effect > 0 else "below"
    turkish = "üstünde" if trait.effect > 0 else "altında"
    return Wording(
        f"{short.en}: {pair[0][0]}, all customers {pair[1][0]}"
        f" ({number(deviations, 'en')} standard deviations {english})",
        f"{short.tr}: {pair[0][1]}, tüm müşteriler {pair[1][1]}"
        f" ({number(deviations, 'tr')} standart sapma {turkish})",
    )
