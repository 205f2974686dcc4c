"""Checks of where members and server stand, and of whom data are given to."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from kesit_privacy import business_days
from kesit_privacy.features import STRICT
from kesit_privacy.processing import Region
from kesit_privacy.rules.checks.numbers import Calendar
from kesit_privacy.rules.checks.studies import NoParams
from kesit_privacy.rules.facts import Facts
from kesit_privacy.rules.named import basis_tr
from kesit_privacy.rules.records import Place, TransferBasis
from kesit_privacy.rules.verdicts import (
    Outcome,
    Words,
    counsel,
    failed,
    listed,
    not_known,
    passed,
    unknown,
)
from kesit_privacy.study import LegalBasis

PLACES: Final = Words(
    "where members and server stand", "üyelerin ve sunucunun hangi ülkede bulunduğu"
)


@dataclass(frozen=True, config=STRICT)
class TransferParams:
    """`home`: regions that need no basis. `accepted`, `counsel`: bases; the others are refused."""

    home: Annotated[tuple[Region, ...], Field(min_length=1)]
    accepted: tuple[TransferBasis, ...] = ()
    counsel: tuple[TransferBasis, ...] = ()


@dataclass(frozen=True, config=STRICT)
class NotifyParams:
    """A basis that must be notified within so many business days of its signature.

    `calendar`: the country whose public holidays are no business days. Where a feast whose date
    nobody has announced could decide, a lawyer counts.
    """

    home: Annotated[tuple[Region, ...], Field(min_length=1)]
    basis: TransferBasis
    days: Annotated[int, Field(ge=1, le=60)]
    calendar: Calendar


@dataclass(frozen=True, config=STRICT)
class RecipientParams:
    """Grounds on which data may be given to others."""

    grounds: Annotated[tuple[LegalBasis, ...], Field(min_length=1)]


def transfer_based(facts: Facts, params: TransferParams) -> Outcome:
    """Every place abroad has a basis that is accepted."""
    if not facts.places:
        return not_known(PLACES)
    abroad = [place for place in facts.places if place.region not in (None, *params.home)]
    fine = (*params.accepted, *params.counsel)
    bad = [place for place in abroad if place.basis is not None and place.basis not in fine]
    if bad:
        return failed(
            f"Abroad on a basis that does not carry it: {_shown(bad).en}.",
            f"Dayanağı yeterli olmayan yurt dışı aktarım: {_shown(bad).tr}.",
        )
    open_ends = [place for place in facts.places if place.region is None]
    open_ends += [place for place in abroad if place.basis is None]
    if open_ends:
        return unknown(
            f"Region or basis is not known of: {_shown(open_ends).en}.",
            f"Ülkesi ya da aktarım dayanağı bilinmiyor: {_shown(open_ends).tr}.",
        )
    doubtful = [place for place in abroad if place.basis in params.counsel]
    if doubtful:
        return counsel(
            f"Abroad on a basis that a lawyer must confirm: {_shown(doubtful).en}.",
            f"Hukukçunun teyit etmesi gereken yurt dışı aktarım: {_shown(doubtful).tr}.",
        )
    if abroad:
        return passed(
            f"Abroad, with a basis: {_shown(abroad).en}.", f"Yurt dışı: {_shown(abroad).tr}."
        )
    return passed("No place is abroad.", "Yurt dışında yer yok.")


def transfer_notified(facts: Facts, params: NotifyParams) -> Outcome:
    """Each standard contract was notified in time; one that was not, and is late, fails."""
    today = facts.today
    if not facts.places or today is None:
        return not_known(PLACES if today else Words("today's date", "bugünün tarihi"))
    unsure = [place for place in facts.places if _unclear(place, params)]
    contracts = [
        # What is planned is not done.
        replace(place, notified=None) if place.notified and place.notified > today else place
        for place in facts.places
        if place.region not in params.home and place.basis == params.basis
    ]
    taken = {
        place.name: business_days.between(place.signed, place.notified or today, params.calendar)
        for place in contracts
        if place.signed is not None
    }
    late = [name for name, days in taken.items() if days.least > params.days]
    if late:
        return failed(
            f"Not notified within {params.days} business days: {', '.join(late)}.",
            f"{params.days} iş günü içinde bildirilmemiş: {', '.join(late)}.",
        )
    waiting = [p.name for p in contracts if p.notified is None or p.signed is None]
    waiting += [place.name for place in unsure if place.name not in waiting]
    if waiting:
        return unknown(
            f"Signature or notification is not known of: {', '.join(waiting)}.",
            f"İmza ya da bildirim tarihi bilinmiyor: {', '.join(waiting)}.",
        )
    grey = [name for name, days in taken.items() if days.most > params.days]
    if grey:
        return counsel(
            f"In time only if a feast falls on the day that is estimated: {', '.join(grey)}.",
            f"Yalnızca dinî bayram tahmin edilen güne denk gelirse süresinde: {', '.join(grey)}.",
        )
    return passed(
        f"{len(contracts)} contracts abroad, all notified in time.",
        f"Yurt dışı sözleşme sayısı: {len(contracts)}; hepsi süresinde bildirilmiş.",
    )


def _unclear(place: Place, params: NotifyParams) -> bool:
    """Whether it may be abroad on this basis, for all that is known."""
    return place.region not in params.home and (place.region is None or place.basis is None)


def places_agreed(facts: Facts, params: NoParams) -> Outcome:
    """Every place is in a region that the study allows."""
    processing = None if facts.study is None else facts.study.processing
    if processing is None or processing.regions is None:
        return not_known(Words("the study's regions", "çalışmada belirtilen ülkeler"))
    if not facts.places:
        return not_known(PLACES)
    known = [place for place in facts.places if place.region is not None]
    outside = [place for place in known if place.region not in processing.regions]
    if outside:
        return failed(
            f"Outside the study's regions: {_shown(outside).en}.",
            f"Çalışmada belirtilen ülkelerin dışında: {_shown(outside).tr}.",
        )
    if len(known) < len(facts.places):
        names = listed(place.name for place in facts.places if place.region is None)
        return unknown(f"Region not known: {names}.", f"Ülkesi bilinmiyor: {names}.")
    return passed(
        f"All {len(known)} places are in the study's regions.",
        f"Yerlerin tümü ({len(known)}) çalışmada belirtilen ülkelerde.",
    )


def recipients_grounded(facts: Facts, params: RecipientParams) -> Outcome:
    """Every recipient has a ground that is accepted."""
    if facts.recipients is None:
        return not_known(Words("the recipients of the data", "verilerin aktarıldığı alıcılar"))
    bad = [r.name for r in facts.recipients if r.ground and r.ground not in params.grounds]
    if bad:
        names = listed(bad)
        return failed(
            f"Recipients on a ground that does not carry it: {names}.",
            f"Yeterli bir şarta dayanmayan alıcı: {names}.",
        )
    missing = [r.name for r in facts.recipients if r.ground is None]
    if missing:
        names = listed(missing)
        return unknown(f"Ground not known: {names}.", f"Aktarım şartı bilinmiyor: {names}.")
    return passed(
        f"{len(facts.recipients)} recipients, each with a ground.",
        f"Alıcı sayısı: {len(facts.recipients)}; her birinin bir şartı var.",
    )


def _shown(places: list[Place]) -> Words:
    """Places with region and basis."""
    return Words(
        listed(f"{place.name} ({place.region or '?'}, {place.basis or '?'})" for place in places),
        listed(
            f"{place.name} ({place.region or '?'}, {basis_tr(place.basis)})" for place in places
        ),
    )
