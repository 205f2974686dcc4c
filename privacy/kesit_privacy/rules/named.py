"""Facts and conditions that a pack may name, and what people call them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from kesit_privacy.rules.facts import Facts
from kesit_privacy.rules.verdicts import Words
from kesit_privacy.study import Study

PROFILING_TAGS: Final = ("profiling", "behaviour-tracking", "sentiment")

GROUNDS_TR: Final = {
    "explicit-consent": "açık rıza",
    "law": "kanunlarda açıkça öngörülme",
    "protection-of-life": "hayatın veya beden bütünlüğünün korunması",
    "contract": "sözleşmenin kurulması veya ifası",
    "legal-obligation": "hukuki yükümlülük",
    "made-public": "alenileştirme",
    "establishment-of-right": "bir hakkın tesisi, kullanılması veya korunması",
    "legitimate-interest": "meşru menfaat",
    "health-services": "sağlık hizmetleri",
    "employment-duties": "istihdam ve sosyal güvenlik yükümlülükleri",
    "association-members": "vakıf, dernek ve sendika üyeliği",
}

BASES_TR: Final = {
    "adequacy": "yeterlilik kararı",
    "standard-contract": "standart sözleşme",
    "binding-corporate-rules": "bağlayıcı şirket kuralları",
    "undertaking": "taahhütname",
    "derogation": "istisnai hâl",
    "explicit-consent": "açık rıza",
    "none": "dayanak yok",
}

KINDS_TR: Final = {
    "balancing-test": "denge testi",
    "bank-review": "banka uyum incelemesi",
    "human-review": "insan incelemesi",
    "impact-assessment": "etki değerlendirmesi",
    "periodic-disposal": "periyodik imha",
    "privacy-notice": "aydınlatma metni",
    "processing-agreement": "işleme sözleşmesi",
    "processing-record": "işleme kaydı",
    "security-measures": "güvenlik tedbirleri",
    "stop-and-delete": "durdurma ve silme",
    "transfer-review": "aktarım incelemesi",
    "verbis-exemption": "VERBİS muafiyeti",
    "verbis-registration": "VERBİS kaydı",
    "verbis-scope": "VERBİS kapsamı",
    "withdrawal-channel": "geri alma kanalı",
}
"""Attestations of the packs that come with Kesit; a pack of one's own may name others."""

COUNTS: Final[dict[str, Words]] = {
    "consents.without_valid": Words(
        "customers included without the valid consent that the ground asks for",
        "dayanılan şartın gerektirdiği geçerli açık rıza olmadan dahil edilen müşteri",
    ),
    "consents.without_purpose": Words(
        "consents that do not name this purpose", "bu amacı belirtmeyen açık rıza kaydı"
    ),
    "consents.without_proof": Words(
        "consents without proof of who did what, and when",
        "kimin, ne zaman, hangi işlemle verdiği ispatlanamayan açık rıza kaydı",
    ),
    "consents.withdrawn": Words(
        "customers who withdrew their consent", "açık rızasını geri alan müşteri"
    ),
    "consents.withdrawn_included": Words(
        "customers who withdrew and are still included",
        "açık rızasını geri aldığı hâlde hâlâ dahil edilen müşteri",
    ),
    "consents.same_text": Words(
        "records whose notice and consent are one text",
        "aydınlatma metni ile açık rıza metni aynı olan kayıt",
    ),
    "consents.notice_in_action": Words(
        "records where one action covered notice and consent",
        "aydınlatma ile açık rızanın tek işlemle alındığı kayıt",
    ),
    "consents.purposes_in_action": Words(
        "records where one action covered two purposes",
        "tek işlemin birden çok amacı kapsadığı kayıt",
    ),
    "consents.needless": Words(
        "consents asked for where another ground applies",
        "başka bir işleme şartı varken alınan açık rıza",
    ),
    "consents.profiling_without": Words(
        "customers included without consent to profiling",
        "profillemeye açık rızası olmadan dahil edilen müşteri",
    ),
    "consents.iys_unapproved": Words(
        "customers on message lists without IYS approval",
        "İYS onayı olmadan ileti listesinde yer alan müşteri",
    ),
    "consents.iys_late": Words(
        "consents passed on to IYS too late", "İYS'ye süresinden sonra aktarılan onay"
    ),
    "requests.erasures_not_passed": Words(
        "erasures that a recipient has not acknowledged",
        "aktarılan tarafça henüz teyit edilmemiş silme işlemi",
    ),
    "requests.corrections_not_passed": Words(
        "corrections that a recipient has not acknowledged",
        "aktarılan tarafça henüz teyit edilmemiş düzeltme işlemi",
    ),
    "requests.withdrawals_not_passed": Words(
        "withdrawals that a recipient has not acknowledged",
        "aktarılan tarafça henüz teyit edilmemiş rıza geri alma işlemi",
    ),
    "requests.marketing_objections_included": Words(
        "persons who objected to marketing and are still included",
        "pazarlamaya itiraz ettiği hâlde hâlâ dahil edilen kişi",
    ),
}

MEASURES: Final[dict[str, Words]] = {
    "consents.iys_proof_days": Words(
        "days for which proof of IYS consents is kept",
        "İYS onay ispatlarının saklandığı gün sayısı",
    ),
    "requests.oldest_days": Words(
        "days that the oldest open request is old", "en eski açık başvurunun gün sayısı"
    ),
    "requests.oldest_erasure_days": Words(
        "days that the oldest open request for erasure is old",
        "en eski açık silme talebinin gün sayısı",
    ),
    "rows_age_days": Words(
        "days since the rows were brought up to date", "verilerin son güncellenmesinden bu yana gün"
    ),
    "rows_kept_days": Words(
        "days since the oldest rows were taken in", "en eski verilerin alınmasından bu yana gün"
    ),
    "disposal_log_days": Words(
        "days for which records of disposals are kept",
        "imha kayıtlarının saklandığı gün sayısı",
    ),
}

FLAGS: Final[dict[str, Words]] = {
    "consents.retention_set": Words(
        "every consent record has a retention period", "her açık rıza kaydının saklama süresi var"
    ),
    "release.audit_passed": Words("an audit of the release passed", "çıktının denetimi başarılı"),
    "release.explained": Words(
        "each segment comes with an explanation", "her segment açıklamasıyla birlikte veriliyor"
    ),
    "release.pseudonymised": Words(
        "ids are replaced by pseudonyms", "kimlikler takma adlarla değiştirilmiş"
    ),
    "release.withdrawals_marked": Words(
        "releases made before a withdrawal are marked",
        "rızanın geri alınmasından önceki çıktılar işaretlenmiş",
    ),
    "release.differencing_rerun": Words(
        "the differencing audit was run again after the withdrawal",
        "rızanın geri alınmasından sonra fark alma denetimi yinelenmiş",
    ),
}

LABELS: Final[dict[str, Words]] = {**COUNTS, **MEASURES, **FLAGS}


def ground_tr(ground: str | None) -> str:
    """A ground of the study file, as Turkish calls it."""
    return "-" if ground is None else f"{GROUNDS_TR[ground]} ({ground})"


def basis_tr(basis: str | None) -> str:
    """A basis of a transfer abroad, as Turkish calls it."""
    return "?" if basis is None else f"{BASES_TR[basis]} ({basis})"


def kind_tr(kind: str) -> str:
    """A kind of attestation, as Turkish calls it; the file's word stands beside it."""
    return f"{KINDS_TR[kind]} ({kind})" if kind in KINDS_TR else kind


def value_of(facts: Facts, key: str) -> int | bool | None:
    """A fact by its name; None where any part of the way to it is unknown."""
    place: object = facts
    for part in key.split("."):
        if place is None:
            return None
        place = getattr(place, part)
    assert place is None or isinstance(place, int), key
    return place


def tagged(study: Study, tags: Collection[str]) -> tuple[list[str], list[str]]:
    """Names of features with one of the tags, and of features at which nobody looked."""
    found = [f.name for f in study.features if set(f.tags) & set(tags)]
    return found, [f.name for f in study.features if not f.tags]


def _on_ground(ground: str) -> Callable[[Facts], bool | None]:
    return lambda facts: None if facts.study is None else facts.study.legal_basis == ground


def _profiles(facts: Facts) -> bool | None:
    """A tag says yes, whatever the study says; no takes its word and the tags of all features."""
    if facts.study is None:
        return None
    found, untagged = tagged(facts.study, PROFILING_TAGS)
    said = None if facts.study.processing is None else facts.study.processing.profiling
    if found or said:
        return True
    return None if said is None or untagged else False


def _decides(facts: Facts) -> bool | None:
    processing = None if facts.study is None else facts.study.processing
    return None if processing is None else processing.automated_decisions


def _withdrawals(facts: Facts) -> bool | None:
    count = value_of(facts, "consents.withdrawn")
    return None if count is None else count > 0


CONDITIONS: Final[dict[str, tuple[Callable[[Facts], bool | None], Words]]] = {
    "explicit-consent": (
        _on_ground("explicit-consent"),
        Words("the study rests on explicit consent", "çalışma açık rızaya dayanıyor"),
    ),
    "legitimate-interest": (
        _on_ground("legitimate-interest"),
        Words("the study rests on legitimate interest", "çalışma meşru menfaate dayanıyor"),
    ),
    "profiling": (
        _profiles,
        Words("the study profiles customers", "çalışma müşterileri profilliyor"),
    ),
    "automated-decisions": (
        _decides,
        Words(
            "decisions about persons follow without a human being",
            "kişiler hakkında insan müdahalesi olmadan karar veriliyor",
        ),
    ),
    "withdrawals": (
        _withdrawals,
        Words("someone withdrew consent", "açık rızasını geri alan var"),
    ),
}
"""When a rule applies at all: the test, and the sentence that it decides."""
