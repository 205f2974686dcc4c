"""The privacy statement for people, as Markdown in English and Turkish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kesit_privacy.rules.named import GROUNDS_TR
from kesit_server.wording import Language, Vocabulary, Wording, percent

_WORDS = {
    "title": Wording("Privacy statement: {study}", "Mahremiyet beyanı: {study}"),
    "kept": Wording(
        "Adding or removing one customer, who may be at up to {most} of the {members} members,"
        " {verb} whoever watched this run (the server, and up to {colluders} of the members"
        " together with it) an advantage bounded by ε = {spent} at δ = {delta}.",
        "Bir müşterinin eklenmesi ya da çıkarılması (müşteri {members} üyenin en çok {most}"
        " tanesinde olabilir), bu çalıştırmayı izleyene (sunucuya ve onunla birlikte en çok"
        " {colluders} üyeye) en çok ε = {spent}, δ = {delta} ile sınırlı bir üstünlük {verb}.",
    ),
    "gave": Wording("gave", "sağladı"),
    "would": Wording("would have given", "sağlardı"),
    "broken": Wording(
        "This run kept no promise to anyone. With noise and masks the same sums would have cost"
        " ε = {spent} at δ = {delta}.",
        "Bu çalıştırma kimseye verilen bir sözü tutmadı. Gürültü ve maskelerle aynı toplamların"
        " maliyeti ε = {spent}, δ = {delta} olurdu.",
    ),
    "agreed": Wording(
        "The members had agreed on ε = {agreed}.", "Üyeler ε = {agreed} üzerinde anlaşmıştı."
    ),
    "sums": Wording(
        "Every number of the result was computed from these sums alone",
        "Sonuçtaki her sayı yalnızca bu toplamlardan hesaplandı",
    ),
    "asked": Wording(
        "These sums were asked for. Each member that did not refuse was charged, so this is the"
        " most that it can have cost any of them",
        "Bu toplamlar istendi. Reddetmeyen her üye ücretlendirildi; yani bu, herhangi birine en çok"
        " neye mal olmuş olabileceğidir",
    ),
    "squares": Wording(
        "(their costs add up as squares, so the ε of each alone do not add up to the whole):",
        "(maliyetler kareler olarak toplanır; bu yüzden tek tek ε değerlerinin toplamı bütünü"
        " vermez):",
    ),
    "table": Wording(
        "| sum | attempt | members | opened | share of the budget (μ²) | ε alone |",
        "| toplam | deneme | üye | açıldı | bütçedeki pay (μ²) | tek başına ε |",
    ),
    "yes": Wording("yes", "evet"),
    "no": Wording("no", "hayır"),
    "pots": Wording(
        "The budget has two pots, whose ε and δ add up. {pots}.",
        "Bütçenin iki kasası vardır; ε ve δ değerleri toplanır. {pots}.",
    ),
    "pot": Wording(
        "{pot}: ε = {spent} of {agreed} at δ = {delta}",
        "{pot}: ε = {spent} / {agreed}, δ = {delta}",
    ),
    "limits": Wording(
        "The promise holds for members that follow the protocol, whatever the server does. It says"
        " nothing of data that a member publishes otherwise, and it does not stop a member from"
        " sending wrong data about its own customers.",
        "Söz, sunucu ne yaparsa yapsın, protokole uyan üyeler için geçerlidir. Bir üyenin başka"
        " yoldan yayımladığı veriler hakkında bir şey söylemez ve bir üyenin kendi müşterileri"
        " hakkında yanlış veri göndermesini engellemez.",
    ),
    "segment": Wording(
        "A segment of one customer is personal data.",
        "Tek bir müşterinin segmenti kişisel veridir.",
    ),
    "chance": Wording(
        "What the model says of one customer is personal data.",
        "Modelin tek bir müşteri hakkında söylediği kişisel veridir.",
    ),
    "purpose": Wording(
        "Purpose: {purpose}, on the ground {ground}. {made}: {features}. Protected: {protected}.",
        "Amaç: {purpose}; işleme şartı: {ground}. {made}: {features}."
        " Korunan özellikler: {protected}.",
    ),
    "segments of": Wording("Segments were made of", "Segmentlerin dayandığı özellikler"),
    "model of": Wording(
        "A model of {target} was made of", "{target} için kurulan modelin dayandığı özellikler"
    ),
    "none": Wording("none", "yok"),
    "end": Wording(
        "Study {hash}, run {run}, written by Kesit {kesit} at {time}.",
        "Çalışma {hash}, çalıştırma {run}; Kesit {kesit} tarafından {time} anında yazıldı.",
    ),
}

_STEPS_TR = {"noisy sums": "gürültülü toplamlar", "trainings (DP-SGD)": "eğitimler (DP-SGD)"}


def as_text(statement: Mapping[str, Any], language: Language = "en") -> str:
    """The statement for a person, as Markdown."""

    def say(name: str, **parts: object) -> str:
        return _WORDS[name].of(language).format(**parts)

    caveats = [caveat[language] for caveat in statement["caveats"]]
    lines = [f"# {say('title', study=statement['study'])}", ""]
    lines += [*(f"**{caveat}**" for caveat in caveats), *([""] if caveats else [])]
    lines += [_promise(statement, language), ""]
    lines += [f"{say('sums' if statement['result'] else 'asked')} {say('squares')}", ""]
    lines += [say("table"), "|---|---:|---:|---|---:|---:|"]
    lines += [
        f"| {row['step']} | {row['attempt']} | {row['members']}"
        f" | {say('yes' if row['opened'] else 'no')} | {percent(row['share_of_mu2'], language)}"
        f" | {_number(row['epsilon_alone'], language)} |"
        for row in statement["sums"]
    ]
    lines += ["", statement["apart"][language]] if statement["apart"] else []
    if "pots" in statement:
        told = "; ".join(_pot(pot, language) for pot in statement["pots"])
        lines += ["", say("pots", pots=told)]
    personal = say("segment" if statement["target"] is None else "chance")
    lines += ["", f"{say('limits')} {personal}", "", _purpose(statement, language), ""]
    lines += [
        say(
            "end",
            hash=statement["study_hash"],
            run=statement["run"],
            kesit=statement["kesit"],
            time=statement["written_at"],
        ),
        "",
    ]
    return "\n".join(lines)


def _promise(statement: Mapping[str, Any], language: Language) -> str:
    """The promise in a sentence, in the mood that is true."""
    parts = {
        "spent": _number(statement["epsilon_spent"], language),
        "delta": _small(statement["delta"], language),
    }
    agreed = _WORDS["agreed"].of(language)
    agreed = agreed.format(agreed=_small(statement["epsilon_agreed"], language))
    if not statement["promise_kept"]:
        return f"{_WORDS['broken'].of(language).format(**parts)} {agreed}"
    verb = _WORDS["gave" if statement["releasable"] else "would"].of(language)
    kept = (
        _WORDS["kept"]
        .of(language)
        .format(
            **parts,
            verb=verb,
            most=statement["max_clients_per_customer"],
            members=statement["members"],
            colluders=statement["max_colluders"],
        )
    )
    return f"{kept} {agreed}"


def _pot(pot: Mapping[str, Any], language: Language) -> str:
    name = _STEPS_TR[pot["pot"]] if language == "tr" else pot["pot"]
    return (
        _WORDS["pot"]
        .of(language)
        .format(
            pot=name,
            spent=_number(pot["epsilon_spent"], language),
            agreed=_small(pot["epsilon_agreed"], language),
            delta=_small(pot["delta"], language),
        )
    )


def _purpose(statement: Mapping[str, Any], language: Language) -> str:
    """What for, by which right, and of what."""
    target, ground = statement["target"], statement["legal_basis"]
    known = {name: Wording(label["en"], label["tr"]) for name, label in statement["labels"].items()}

    def told(names: Iterable[str]) -> str:
        return ", ".join(Vocabulary(known).feature(name, language) for name in names)

    made = _WORDS["segments of" if target is None else "model of"].of(language)
    return (
        _WORDS["purpose"]
        .of(language)
        .format(
            purpose=statement["purpose"],
            ground=GROUNDS_TR[ground] if language == "tr" else ground,
            made=made.format(target=told([target] if target else [])),
            features=told(statement["made_of"]),
            protected=told(statement["protected"]) or _WORDS["none"].of(language),
        )
    )


def _number(value: float, language: Language) -> str:
    """As it is: what was spent is rounded up already, and never to be rounded again."""
    return str(value).replace(".", ",") if language == "tr" else str(value)


def _small(value: float, language: Language) -> str:
    return f"{value:g}".replace(".", ",") if language == "tr" else f"{value:g}"
