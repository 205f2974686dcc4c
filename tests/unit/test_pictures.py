"""Pictures say what the values say, in both languages, and are written whole or not at all."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID
from kesit_server.errors import ServerError
from kesit_server.portrait.cards import Card, segment_cards
from kesit_server.portrait.hierarchy import dendrogram
from kesit_server.portrait.telling import Telling
from kesit_server.segmentation.choice import Candidate, Choice
from kesit_server.wording import NOT_RELEASABLE, Language, Wording
from kit import broken, small_study
from synopses import lumps

pytest.importorskip("matplotlib", reason="pictures need kesit[report]")

from kesit_server import drawing
from kesit_server.portrait import pictures
from kesit_server.reading import Heading

PNG = b"\x89PNG\r\n\x1a\n"
LANGUAGES: tuple[Language, ...] = ("en", "tr")


def some_cards(k: int, labels: dict[str, Wording] | None = None) -> tuple[Card, ...]:
    """Cards of k segments on a ring."""
    angles = np.arange(k) * 2 * np.pi / k
    centres = 0.5 + 0.35 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    synopsis, rng = lumps(centres, spread=0.03, each=15), np.random.default_rng(0)
    return segment_cards(
        Embedding.of(small_study()),
        centres * GRID,
        np.linspace(900, 100, k),
        20.0,
        synopsis,
        synopsis.found(rng, k, 2),
        labels=labels,
    )


def some_choice() -> Choice:
    """A curve of three candidates."""
    rows = [Candidate(k, 0.5, 0.02, 0.4, 0.03, 0.9, 0.05, 2.0, 1.62) for k in (2, 3, 4)]
    return Choice(3, tuple(rows), 0.8, 2)


def texts(figure: object) -> str:
    """Every text in a figure, in one string."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    assert isinstance(figure, Figure)
    figure.canvas.draw()
    found = figure.findobj(Text)
    return "\n".join(text.get_text() for text in found if isinstance(text, Text))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("k", [1, 2, 7])
def test_cards_name_every_segment_with_its_share_and_stability(k: int, language: Language) -> None:
    cards = some_cards(k, {"x": Wording("interest", "ilgi ölçüsü"), "y": Wording("age", "yaş")})
    said = texts(pictures.cards_picture(cards, language)).replace("\n", " ")
    for card in cards:
        assert f"{card.segment}. {card.name.of(language)}" in said
        assert card.stability.of(language) in said
    assert ("standart sapma" in said) == (language == "tr")
    assert ("ilgi ölçüsü" in said) == (language == "tr")


def test_bars_are_the_effects_and_those_within_the_noise_are_pale() -> None:
    from matplotlib.patches import Rectangle

    card = some_cards(3)[0]
    unsure = replace(card, traits=tuple(replace(trait, noise=5.0) for trait in card.traits))
    for given, alpha in ((card, None), (unsure, 0.3)):
        figure = pictures.cards_picture([given])
        bars = [
            patch
            for cell in figure.subfigs
            for patch in cell.axes[1].patches
            if isinstance(patch, Rectangle)
        ]
        assert [bar.get_width() for bar in bars] == pytest.approx(
            [trait.effect for trait in given.traits]
        )
        for bar, trait in zip(bars, given.traits, strict=True):
            assert bar.get_alpha() == (alpha or (1.0 if trait.clear else 0.3))


def test_bars_beyond_the_axis_are_cut_with_their_value() -> None:
    card = some_cards(3)[0]
    far = replace(card, traits=(replace(card.traits[0], effect=-7.25, noise=0.1),))
    assert "−7.25" in texts(pictures.cards_picture([far]))
    assert "−7,25" in texts(pictures.cards_picture([far], "tr"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_curve_shows_every_k_and_how_sure_the_choice_is(language: Language) -> None:
    figure = pictures.choice_picture(some_choice(), language)
    said = texts(figure)
    assert "k = 3" in said
    assert ("80%" if language == "en" else "%80") in said
    assert list(figure.axes[0].get_xticks()) == [2, 3, 4]
    alone = replace(some_choice(), runner_up=None)
    assert "80%" not in texts(pictures.choice_picture(alone))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_tree_names_its_leaves(language: Language) -> None:
    names = [Wording(f"Kind {place}", f"Tür {place}ş") for place in range(4)]
    tree = dendrogram(np.random.default_rng(0).random((4, 2)) * GRID, np.full(4, 1234.0))
    said = texts(pictures.dendrogram_picture(tree, names, language))
    for place, name in enumerate(names):
        size = "1,234" if language == "en" else "1.234"
        assert f"{place + 1}. {name.of(language)} ({size})" in said
    long = [Wording("Very high " + "income " * 9, "Çok yüksek gelir")] * 4
    assert "(1,234)" in texts(pictures.dendrogram_picture(tree, long))  # wrapped, not cut
    single = dendrogram(np.array([[1.0, 2.0]]), np.array([5.0]))
    assert "Kind 0" in texts(pictures.dendrogram_picture(single, names[:1]))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("releasable", [True, False])
def test_all_pictures_are_png_and_say_if_they_may_not_be_released(
    language: Language, releasable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    real = drawing.png
    monkeypatch.setattr(
        drawing, "png", lambda figure: (drawn.append(texts(figure)), real(figure))[1]
    )
    tree = dendrogram(np.random.default_rng(0).random((4, 2)) * GRID, np.full(4, 1234.0))
    told = Telling(
        Heading("S$hop", "ab" * 16, 1.0, 1e-4, releasable, ()),
        some_cards(4),
        tree,
        some_choice(),
        None,
    )
    files = pictures.pictures(told, language)
    assert list(files) == [f"{name}-{language}.png" for name in ("cards", "choice", "dendrogram")]
    assert all(data.startswith(PNG) for data in files.values())
    words = NOT_RELEASABLE.of(language)
    assert [words in said for said in drawn] == [not releasable] * 3
    assert all(r"S\$hop" in said and "abababab" in said and "ε = 1" in said for said in drawn)
    assert f"choice-{language}.png" not in pictures.pictures(replace(told, choice=None), language)


def test_without_matplotlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ServerError) as error:
        pictures.choice_picture(some_choice())
    broken(error)
    assert "kesit[report]" in error.value.remedy


def test_a_dollar_in_a_name_is_a_dollar_and_no_formula() -> None:
    cards = some_cards(2, {"x": Wording("$\\foo$", "a_$x"), "y": Wording("b $\\frac{ $", "yaş")})
    for language in LANGUAGES:
        said = texts(pictures.cards_picture(cards, language))  # draws it: a formula would raise
        assert "$" in said
    tree = dendrogram(np.array([[0.0, 0.0], [9.0, 9.0]]), np.array([10.0, 20.0]))
    texts(pictures.dendrogram_picture(tree, [card.name for card in cards]))
