"""Which columns look personal: by what their values are where that is certain, by their name otherwise."""

from dataclasses import dataclass

from lakehouse.contracts.inference import naming
from lakehouse.contracts.inference.profile import ColumnProfile

_SURE = 0.9
_PEOPLE_NAMES = (
    {"first", "name"},
    {"last", "name"},
    {"full", "name"},
    {"family", "name"},
    {"given", "name"},
    {"middle", "name"},
    {"maiden", "name"},
    {"head", "name"},
    {"respondent", "name"},
    {"contact", "name"},
    {"author", "name"},
    {"patient", "name"},
    {"employee", "name"},
    {"person", "name"},
    {"customer", "name"},
)
_NAME_WORDS = frozenset({"firstname", "lastname", "surname", "fullname", "forename", "familyname", "givenname"})
_PHONE_WORDS = frozenset({"phone", "telephone", "mobile", "tel", "cell", "cellphone", "msisdn", "phonenumber", "devicephonenum"})
_ADDRESS_WORDS = frozenset({"address", "street", "addr", "streetaddress", "addressline"})
_IP_WORDS = frozenset({"ip", "ipaddress", "ipaddr"})
_GEO_WORDS = frozenset({"latitude", "longitude", "lat", "lon", "lng", "long", "gpslatitude", "gpslongitude", "gps", "geolocation"})
_ID_WORDS = frozenset({"ssn", "passport", "curp", "rfc", "nin", "nino", "tin"})


@dataclass(frozen=True, slots=True)
class Personal:
    """A suspicion that a column is personal.

    Attributes:
        sure: values and name leave no doubt: the column is to be protected.
    """

    kind: str
    sure: bool
    evidence: str


def personal(profile: ColumnProfile) -> Personal | None:
    """What is personal about a column, if anything."""
    return _by_values(profile) or _by_name(profile)


def _by_values(profile: ColumnProfile) -> Personal | None:
    shape = profile.shape
    if profile.kind != "string" or shape.values == 0:
        return None
    for detector, kind, noun in (
        ("emails", "email", "e-mail addresses"),
        ("ips", "ip address", "IP addresses"),
        ("ibans", "iban", "IBANs"),
    ):
        if shape.share(detector) >= _SURE:
            return Personal(kind, sure=True, evidence=f"{shape.share(detector):.0%} of the values are {noun}")
    return None


def _by_name(profile: ColumnProfile) -> Personal | None:  # noqa: PLR0911 - one question per kind of person's data.
    parts = naming.words(profile.source)
    said, shape = set(parts), profile.shape
    text = profile.kind == "string" and shape.values > 0
    if said & _PHONE_WORDS:
        like_phones = shape.values > 0 and shape.share("phones") >= 0.8
        evidence = f"its name, and {shape.share('phones'):.0%} of the values are phone numbers" if like_phones else "its name alone"
        return Personal("phone", sure=like_phones and profile.kind in {"string", "integer"}, evidence=evidence)
    if said & _NAME_WORDS or any(pair <= said for pair in _PEOPLE_NAMES):
        sure = text and shape.share("coded") < 0.5
        return Personal("name", sure=sure, evidence="its name, and values that are no codes" if sure else "its name alone")
    if naming.is_birth(profile.source):
        return Personal("birth date", sure=False, evidence="its name")
    if said & _ADDRESS_WORDS and not said & _IP_WORDS and "email" not in said:
        sure = text and shape.share("spaced") >= 0.8
        return Personal("address", sure=sure, evidence="its name, and values of several words" if sure else "its name alone")
    if said & {"email", "mail"} or "e-mail" in profile.source.lower():
        return Personal("email", sure=False, evidence="its name, but the values are no e-mail addresses")
    if said & _IP_WORDS:
        return Personal("ip address", sure=False, evidence="its name, but the values are no IP addresses")
    if said & _GEO_WORDS and profile.kind in {"number", "integer"}:
        return Personal("location", sure=False, evidence="its name, and numbers")
    if said & _ID_WORDS:
        return Personal("national id", sure=False, evidence="its name")
    if parts[-1:] == ("name",) and text and not profile.categories and shape.share("spaced") >= 0.5:
        return Personal("name", sure=False, evidence="its name; it may also name things")
    return None
