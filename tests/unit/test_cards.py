"""Segment cards: intervals and stability by hand, names without false claims, both languages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.features import GRID
from kesit_privacy.study_file import study_from_tables
from kesit_server import wording
from kesit_server.portrait import naming
from kesit_server.portrait.cards import (
    STABILITY,
    Card,
    own_units,
    segment_cards,
    share_of_all,
    stability,
)
from kesit_server.portrait.naming import AVERAGE, UNCERTAIN
from kesit_server.portrait.traits import Trait, segment_traits
from kesit_server.wording import Vocabulary, Wording, labels
from kit import mixed_study, small_study, study_tables
from synopses import Lumps, lumps

PLANE = Embedding.of(small_study())
THREE = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])


def three_cards(**changes: Any) -> tuple[Card, ...]:
    """Cards of three well-parted segments on the plane."""
    given = {"sizes": np.array([500.0, 300.0, 200.0]), "size_sigma": 10.0} | changes
    rng, synopsis = np.random.default_rng(0), lumps(THREE, spread=0.04)
    again = synopsis.found(rng, 3, 5)
    return segment_cards(PLANE, THREE * GRID, synopsis=synopsis, rehearsed=again, **given)


def trait(effect: float, noise: float = 0.1, feature: str = "income", **rest: Any) -> Trait:
    """A trait of a numeric feature, unless `level` is given."""
    return Trait(**{"feature": feature, "level": None, "value": 5.0, "overall": 3.0} | rest,
                 effect=effect, noise=noise)  # fmt: skip


def test_sizes_and_shares_have_their_intervals() -> None:
    card = three_cards()[0]
    assert (card.size, card.share) == (500, 0.5)
    assert card.size_95 == pytest.approx((500 - 19.6, 500 + 19.6))
    # Var p = (10/1000)²·((1 - 1/2)² + 2·(1/2)²)
    assert card.share_95 == pytest.approx(
        (0.5 - 0.0196 * math.sqrt(0.75), 0.5 + 0.0196 * math.sqrt(0.75))
    )


def test_the_delta_method_agrees_with_simulation() -> None:
    truth = np.array([400.0, 100.0, 50.0])
    rng = np.random.default_rng(5)
    noisy = truth + rng.normal(0, 8, (40_000, 3))
    simulated = (noisy / noisy.sum(axis=1)[:, None]).std(axis=0)
    shares, sigma = share_of_all(truth, 8.0)
    assert shares == pytest.approx(truth / 550)
    # A standard deviation of 40,000 draws is within 2 % (5.6 of its own deviations).
    assert sigma == pytest.approx(simulated, rel=0.02)


def test_sizes_at_the_noise_are_bounded_and_say_so() -> None:
    cards = three_cards(sizes=np.array([500.0, 15.0, -30.0]), min_size=50)
    assert [card.uncertain for card in cards] == [False, True, True]
    assert [card.too_small for card in cards] == [False, True, True]
    assert cards[2].size == 0
    assert cards[2].size_95 == (0, 0)
    assert cards[2].share_95[0] == 0
    assert cards[1].told == []
    assert cards[1].name.en == f"{UNCERTAIN.en} (segment 2)"
    nothing = three_cards(sizes=np.zeros(3))
    assert nothing[0].share_95 == (0, 1)


def test_traits_by_hand() -> None:
    # Two segments of equal size at 1/4 and 3/4 of x, both at 1/2 of y; no spread within.
    centres = np.array([[0.25, 0.5], [0.75, 0.5]]) * GRID
    still = Lumps(centres, np.ones(2))
    first, second = segment_traits(PLANE, centres, np.array([70.0, 70.0]), still, [])
    assert [(t.feature, t.effect, t.value, t.overall) for t in first] == [
        ("x", -1.0, 0.25, 0.5),
        ("y", 0.0, 0.5, 0.5),
    ]
    assert second[0].effect == 1.0
    # Points at ±1/8 around each centre add (1/8)² to the variance (1/4)².
    apart = np.array([[-0.125, 0.0], [0.125, 0.0]]) * GRID
    wide = Lumps(np.vstack([centres + shift for shift in apart]), np.ones(4))
    row = segment_traits(PLANE, centres, np.array([70.0, 70.0]), wide, [])[0]
    assert row[0].effect == pytest.approx(-0.25 / math.hypot(0.25, 0.125))


def test_noise_of_a_trait_is_its_spread_over_rehearsals() -> None:
    centres = THREE * GRID
    synopsis = Lumps(centres, np.full(3, 10.0))
    rng = np.random.default_rng(1)
    wobbles = rng.normal(0, 0.02 * GRID, (300, 3, 2))
    rehearsed = [(centres + wobble)[rng.permutation(3)] for wobble in wobbles]
    traits = segment_traits(PLANE, centres, np.ones(3), synopsis, rehearsed)
    # One point a segment: its own wobble, less its third in the mean: 0.02·sqrt(2/3), over the
    # deviation of x, sqrt(0.06) between the centres and nothing within. 300 draws: within 12 %.
    noise = next(t.noise for t in traits[0] if t.feature == "x")
    assert noise == pytest.approx(0.02 * math.sqrt(2 / 3) / math.sqrt(0.06), rel=0.12)


def test_stability_by_hand() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [11.0, 0.0]]) * 1000
    synopsis = Lumps(points, np.array([1.0, 1.0, 1.0, 1.0]))
    released = np.array([[0.5, 0.0], [10.5, 0.0]]) * 1000
    swapped = released[::-1] + 10
    # A rehearsal that parts {0} from {1, 10, 11}: 1/2 of the first is there, 2/3 of the second.
    other = np.array([[0.0, 0.0], [1.0, 0.0]]) * 1000
    found = stability(synopsis, released, [released, swapped, other])
    assert found.tolist() == [[1.0, 1.0], [1.0, 1.0], [1 / 2, pytest.approx(2 / 3)]]


def test_stable_and_unstable_segments_are_told_apart() -> None:
    assert all(card.jaccard > 0.95 for card in three_cards())
    rng = np.random.default_rng(3)
    flat = Lumps(rng.random((150, 2)) * GRID, np.ones(150), wobble=4000.0)
    centres = rng.random((6, 2)) * GRID
    cards = segment_cards(PLANE, centres, np.full(6, 100.0), 1.0, flat, flat.found(rng, 6, 5))
    assert np.mean([card.jaccard for card in cards]) < 0.75
    assert all(card.jaccard_worst <= card.jaccard for card in cards)


@pytest.mark.parametrize(
    ("jaccard", "word"),
    [(1.0, 0), (0.85, 0), (0.849, 1), (0.75, 1), (0.749, 2), (0.6, 2), (0.59, 3), (0.0, 3)],
)
def test_words_for_stability_are_hennigs(jaccard: float, word: int) -> None:
    card = three_cards()[0]
    changed = Card(**{**card.__dict__, "jaccard": jaccard})
    assert changed.stability == STABILITY[word][1]


def test_what_is_within_the_noise_is_not_claimed() -> None:
    assert trait(0.8).clear
    assert trait(-0.8).clear
    assert not trait(0.8, noise=0.5).clear  # 1.96·0.5 = 0.98
    assert not trait(0.4, noise=0.01).clear  # too little to tell, however sure
    assert trait(2.0).strong
    assert not trait(2.0, noise=1.2).strong
    words = naming.names([[trait(0.8, noise=0.5)], [trait(0.8)]], [True, True], Vocabulary())
    assert words == (AVERAGE, Wording("High income", "Income yüksek"))


def test_names_tell_two_features_in_order() -> None:
    vocabulary = Vocabulary(
        {"income": Wording("income", "gelir"), "visits": Wording("visits", "ziyaret")}
    )
    row = [trait(1.7), trait(-0.9, feature="visits"), trait(0.6, feature="age")]
    (name,) = naming.names([row], [True], vocabulary)
    assert name == Wording("Very high income, low visits", "Gelir çok yüksek, ziyaret düşük")


def test_names_are_distinct() -> None:
    same = [trait(1.0), trait(0.9, feature="age")]
    rows = [
        [*same, trait(0.8, feature="visits")],
        [*same, trait(-0.8, feature="visits")],
        same,
        same,
        [same[1], same[0]],  # the same words in another order
        [],
        [],
    ]
    found = naming.names(rows, [True] * 7, Vocabulary())
    assert len({name.en for name in found}) == len({name.tr for name in found}) == 7
    assert found[0].en == "High income, high age, high visits"
    assert found[1].en == "High income, high age, low visits"
    assert found[2].en == "High income, high age (segment 3)"
    assert found[4].tr == "Age yüksek, income yüksek (5. segment)"
    assert found[6] == Wording("Average customer (segment 7)", "Ortalama müşteri (7. segment)")


@pytest.mark.parametrize(
    ("text", "turkish", "expected"),
    [
        ("ilgi", True, "İlgi"),
        ("ısı", True, "Isı"),
        ("income", False, "Income"),
        ("çağrı", True, "Çağrı"),
        ("ürün", False, "Ürün"),
        ("şube", True, "Şube"),
        ("İl", True, "İl"),
        ("", True, ""),
    ],
)
def test_first_letters_follow_their_language(text: str, turkish: bool, expected: str) -> None:
    assert wording.capitalised(text, turkish=turkish) == expected


def test_turkish_rules_hold_for_turkish_names_alone() -> None:
    turkish = Vocabulary.of(["islem_sayısı", "yaş"])
    english = Vocabulary.of(["income", "age"])
    labelled = Vocabulary.of(["income"], {"income": Wording("income", "işlem")})
    assert naming.names([[trait(1.0, feature="islem_sayısı")]], [True], turkish)[0].tr == (
        "İslem sayısı yüksek"
    )
    assert naming.names([[trait(1.0)]], [True], english)[0].tr == "Income yüksek"
    assert naming.names([[trait(1.0)]], [True], labelled)[0].tr == "İşlem yüksek"


def test_a_label_in_one_language_leaves_the_name_in_the_other() -> None:
    turkish = Vocabulary.of(["monthly_income"], {"monthly_income": Wording("", "işlem hacmi")})
    english = Vocabulary.of(["ilk_ay"], {"ilk_ay": Wording("first month", "")})
    row = [trait(1.0, feature="monthly_income")]
    assert naming.names([row], [True], turkish)[0] == Wording(
        "High monthly income", "İşlem hacmi yüksek"
    )
    row = [trait(1.0, feature="ilk_ay")]
    assert naming.names([row], [True], english)[0] == Wording("High first month", "Ilk ay yüksek")


def test_labels_of_the_study_name_its_segments() -> None:
    tables = study_tables()
    tables["features"][0] |= {"label_en": "interest", "label_tr": "ilgi"}
    tables["features"][1] |= {"label_tr": "yaş"}
    space = Embedding.of(study_from_tables(tables))
    assert labels(space.features) == {"x": Wording("interest", "ilgi"), "y": Wording("", "yaş")}
    assert labels(PLANE.features) == {}


@pytest.mark.parametrize(
    ("effect", "share", "english", "turkish"),
    [
        (0.9, 0.7, "channel mostly web", "channel çoğunlukla web"),
        (0.9, 0.3, "channel more often web", "channel daha sık web"),
        (-0.9, 0.1, "channel less often web", "channel daha seyrek web"),
    ],
)
def test_levels_in_words(effect: float, share: float, english: str, turkish: str) -> None:
    told = trait(effect, feature="channel", level="web", value=share, overall=0.4)
    assert naming.phrase(told, Vocabulary()) == Wording(english, turkish)


def test_of_a_categorical_feature_the_usual_level_is_told() -> None:
    no = trait(-1.0, feature="loan", level="no", value=0.1, overall=0.6)
    yes = trait(0.9, feature="loan", level="yes", value=0.9, overall=0.4)
    assert naming.distinguishing([no, trait(0.95), yes]) == [yes, trait(0.95)]


@pytest.mark.parametrize(
    ("value", "english", "turkish"),
    [
        (1234567.0, "1,234,567", "1.234.567"),
        (-12.34, "-12.3", "-12,3"),
        (0.5, "0.50", "0,50"),
        (-0.001, "0.00", "0,00"),
    ],
)
def test_numbers_in_both_languages(value: float, english: str, turkish: str) -> None:
    assert (wording.number(value, "en"), wording.number(value, "tr")) == (english, turkish)


def test_counts_and_shares_in_both_languages() -> None:
    assert (wording.count(12345.6, "en"), wording.count(355.0, "tr")) == ("12,346", "355")
    assert (wording.percent(0.125, "en"), wording.percent(0.125, "tr")) == ("12.5%", "%12,5")


def test_sentences_carry_the_numbers() -> None:
    words = naming.sentence(trait(-1.234), Vocabulary())
    assert words.en == ("low income: 5.00, all customers 3.00 (1.23 standard deviations below)")
    assert words.tr == ("income düşük: 5,00, tüm müşteriler 3,00 (1,23 standart sapma altında)")


def test_centres_stand_in_their_own_units() -> None:
    space = Embedding.of(mixed_study())
    centre = np.full(space.dimensions, GRID / 2)
    centre[4:] = np.array([0.2, 0.7, 0.096, 0.0, 0.004]) * ONE_HOT
    found = own_units(space, centre)
    assert found["a"] == 0.5
    assert found["income"] == pytest.approx(space.features[3].decode(GRID / 2), rel=1e-4)
    channel = found["channel"]
    assert isinstance(channel, dict)
    assert list(channel.items()) == [("shop", 0.7), ("web", 0.2), ("phone", 0.096)]


def test_a_mixed_study_makes_cards_with_levels() -> None:
    space = Embedding.of(mixed_study())
    rng = np.random.default_rng(4)
    centres = np.full((2, space.dimensions), GRID / 2.0)
    centres[0, 4:] = np.array([1.0, 0, 0, 0, 0]) * ONE_HOT
    centres[1, 4:] = np.array([0, 1.0, 0, 0, 0]) * ONE_HOT
    points = np.repeat(centres, 30, axis=0)
    points[:, :4] += rng.normal(0, 1500, (60, 4))
    mixed = Lumps(points, np.ones(60), 20.0)
    cards = segment_cards(
        space, centres, np.array([600.0, 400.0]), 5.0, mixed, mixed.found(rng, 2, 4)
    )
    assert [card.name.en for card in cards] == ["Channel mostly web", "Channel mostly shop"]
    assert cards[0].name.tr == "Channel çoğunlukla web"
    assert len(cards[0].traits) == 4 + 5


def test_plain_form_and_text() -> None:
    cards = three_cards(spread=[0.1, 0.2, 0.3], silhouette=[0.5, 0.6, 0.7])
    plain = cards[0].as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["segment"], plain["spread"], plain["silhouette"]) == (1, 0.1, 0.5)
    english, turkish = cards[0].text("en"), cards[0].text("tr")
    assert "500 customers (95%: 480 – 520), share 50.0%" in english
    assert "500 müşteri (%95: 480 – 520), payı %50,0" in turkish
    assert "very stable" in english
    assert "çok kararlı" in turkish
    assert "too small" in three_cards(min_size=1000)[0].text("en")
    assert "yayımlanamayacak" in three_cards(min_size=1000)[0].text("tr")


def test_a_card_is_read_back_from_its_plain_form() -> None:
    for card in (*three_cards(spread=[0.1, 0.2, 0.3]), *three_cards(sizes=np.array([5.0, 0, -9]))):
        again = Card.from_dict(json.loads(json.dumps(card.as_dict())), card.vocabulary)
        assert again.as_dict() == card.as_dict()
        assert again.traits == card.traits
        assert again.text("tr") == card.text("tr")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", "many"),
        ("size", 10**9),
        ("share", None),
        ("size_95", [1]),
        ("centre", [1.0]),
        ("traits", [{"feature": "x"}]),
        ("name", {"en": "only English"}),
        ("stability", {}),
    ],
)
def test_a_broken_card_is_refused(field: str, value: Any) -> None:
    plain = three_cards()[0].as_dict() | {field: value}
    with pytest.raises((KeyError, ValueError)):
        Card.from_dict(plain, Vocabulary())


def test_the_text_shows_the_centre_the_most_telling_features_first() -> None:
    card = three_cards()[0]
    first, second = (trait.feature for trait in card.traits)
    english, turkish = (card.text(language).splitlines()[-1] for language in ("en", "tr"))
    values = [wording.number(float(str(card.centre[name])), "en") for name in (first, second)]
    assert english == f"  centre: {first} {values[0]}; {second} {values[1]}"
    assert turkish == english.replace("centre", "merkez").replace(".", ",")
    wide = replace(card, centre={f"f{place}": 1.0 for place in range(20)} | {"web": {"no": 0.7}})
    assert wide.text("en").endswith("9 features more")
    assert wide.text("tr").endswith("9 özellik daha")
    many = replace(card, traits=tuple(trait(1.0, feature=f"f{place}") for place in range(11)))
    assert "  - 3 features more" in many.text("en").splitlines()
    assert "  - 3 özellik daha" in many.text("tr").splitlines()
    levels = replace(card, centre={"web": {"no": 0.7, "yes": 0.3}}, traits=())
    assert levels.text("tr").endswith("web no %70")


def test_the_same_seed_gives_the_same_cards() -> None:
    assert three_cards() == three_cards()


@pytest.mark.parametrize(
    ("share", "english", "turkish"),
    [(-0.154, "-15.4%", "-%15,4"), (-0.0001, "0.0%", "%0,0")],
)
def test_percentages_have_their_signs_in_front(share: float, english: str, turkish: str) -> None:
    assert wording.percent(share, "en") == english
    assert wording.percent(share, "tr") == turkish
