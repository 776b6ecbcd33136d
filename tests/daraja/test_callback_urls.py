"""Callback URLs: only ours open, each only its own path."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasoko_cli.daraja import callback_urls as links
from kasoko_cli.daraja.callback_urls import CallbackKind, Links, Route, base_of, doubt_of, validate_callback_url
from kasoko_cli.daraja.messages import SUSPECT_URL_WORDS
from kasoko_cli.errors import ConfigurationError

KEY = b"0123456789abcdef0123456789abcdef"
LINKS = Links("https://pay.example.org", KEY)
ID = "ks-" + "0af1" * 8


def urls(links: Links, subject_id: str) -> dict[CallbackKind, str]:
    return {
        CallbackKind.RESULT: links.of_payment(subject_id).result,
        CallbackKind.TIMEOUT: links.of_payment(subject_id).timeout,
        CallbackKind.STATUS: links.of_status(subject_id).result,
        CallbackKind.STATUS_TIMEOUT: links.of_status(subject_id).timeout,
        CallbackKind.BALANCE: links.of_balance(subject_id).result,
        CallbackKind.BALANCE_TIMEOUT: links.of_balance(subject_id).timeout,
    }


def test_a_result_url_is_base_path_id_and_mark() -> None:
    mark = hmac.new(KEY, f"kasoko callback 1\nb2c-callback\n{ID}".encode(), hashlib.sha256).hexdigest()[:32]
    assert LINKS.of_payment(ID).result == f"https://pay.example.org/api/payments/b2c-callback/{ID}/{mark}"
    assert LINKS.of_payment(ID).timeout.startswith(f"https://pay.example.org/api/payments/b2c-timeout/{ID}/")
    assert LINKS.of_status("q-1").result.startswith("https://pay.example.org/api/payments/status-callback/q-1/")
    assert LINKS.of_balance("q-1").result.startswith("https://pay.example.org/api/payments/balance-callback/q-1/")


@pytest.mark.parametrize("kind", list(CallbackKind))
def test_each_url_opens_its_own_path(kind: CallbackKind) -> None:
    assert LINKS.parse(urlsplit(urls(LINKS, ID)[kind]).path) == Route(kind, ID, mac_ok=True)


def test_no_mark_opens_another_path_or_another_id() -> None:
    """A timeout's mark must not open the path of results, where a success would be believed."""
    for kind, url in urls(LINKS, ID).items():
        mark = url.rsplit("/", 1)[1]
        for other in CallbackKind:
            for subject_id in (ID, "ks-" + "0af2" * 8):
                route = LINKS.parse(f"/api/payments/{other}/{subject_id}/{mark}")
                assert route == Route(other, subject_id, mac_ok=(other is kind and subject_id == ID))


@pytest.mark.parametrize("change", [lambda m: m[:-1], lambda m: m + "0", str.upper, lambda m: "", lambda m: "é" + m])
def test_a_changed_mark_is_wrong(change: object) -> None:
    assert callable(change)
    front, mark = urlsplit(LINKS.of_payment(ID).result).path.rsplit("/", 1)
    changed = change(mark)
    if changed == mark:  # a mark without letters has no upper case
        pytest.skip("the mark has no letters")
    route = LINKS.parse(f"{front}/{changed}")
    assert route is not None
    assert not route.mac_ok


def test_another_key_makes_another_mark() -> None:
    other = Links("https://pay.example.org", b"another key of sixteen bytes or more")
    route = LINKS.parse(urlsplit(other.of_payment(ID).result).path)
    assert route is not None
    assert not route.mac_ok


def test_urls_of_an_old_key_still_open_but_are_made_no_more() -> None:
    new = Links("https://pay.example.org", b"a new key of more than 16 bytes", old_keys=[KEY])
    old_path = urlsplit(LINKS.of_payment(ID).result).path
    assert new.parse(old_path) == Route(CallbackKind.RESULT, ID, mac_ok=True)
    assert new.of_payment(ID).result != LINKS.of_payment(ID).result
    assert new.parse(urlsplit(new.of_payment(ID).result).path) == Route(CallbackKind.RESULT, ID, mac_ok=True)


@pytest.mark.parametrize("path", ["/api/payments/b2c-callback", "/api/payments/b2c-callback/"])
def test_the_plain_path_is_a_hint(path: str) -> None:
    assert LINKS.parse(path) == Route(CallbackKind.RESULT, "", mac_ok=False)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/healthz",
        "/api/payments/",
        "/api/payments/b2c-timeout/",
        "/api/payments/status-callback",
        "/api/payments/other/ks-1/aa",
        "/api/payments/b2c-callback/ks-1",
        "/api/payments/b2c-callback/ks-1/aa/bb",
        "/api/payments/b2c-callback/KS-1/aa",
        "/api/payments/b2c-callback/../aa",
        "/api/payments/b2c-callback/ks 1/aa",
        "/api/payments/b2c-callback/" + "a" * 65 + "/aa",
        "/x/api/payments/b2c-callback/",
        "/api/payments/b2c-callback//aa",
        "//api/payments/b2c-callback/",
    ],
)
def test_every_other_path_is_none_of_ours(path: str) -> None:
    assert LINKS.parse(path) is None


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(max_size=60).map(lambda text: "/api/payments/b2c-callback/" + text) | st.text(max_size=60))
def test_no_invented_path_has_a_right_mark(path: str) -> None:
    route = LINKS.parse(path)
    assert route is None or not route.mac_ok


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(min_size=16, max_size=40), st.integers(0, 2**128 - 1))
def test_no_url_of_ours_has_a_word_that_m_pesa_forbids(key: bytes, number: int) -> None:
    for url in urls(Links("https://pay.example.org", key), f"ks-{number:032x}").values():
        assert not any(word in url.lower() for word in SUSPECT_URL_WORDS)


@pytest.mark.parametrize(
    ("setting", "base"),
    [
        ("https://pay.example.org", "https://pay.example.org"),
        ("https://pay.example.org/", "https://pay.example.org"),
        ("https://pay.example.org/api/payments/b2c-callback/", "https://pay.example.org"),
        ("https://pay.example.org/api/payments/b2c-callback", "https://pay.example.org"),
        ("https://pay.example.org/front/api/payments/b2c-callback/", "https://pay.example.org/front"),
        ("https://196.201.214.1:8443", "https://196.201.214.1:8443"),
        (" https://pay.example.org\n", "https://pay.example.org"),
        ("http://127.0.0.1:8321", "http://127.0.0.1:8321"),
    ],
)
def test_older_settings_that_hold_the_whole_path_are_understood(setting: str, base: str) -> None:
    assert base_of(setting) == base
    assert Links(setting, KEY).of_payment(ID).result.startswith(base + "/api/payments/b2c-callback/")


def test_a_path_in_front_is_taken_with_and_without() -> None:
    """A proxy may pass the path on whole, or strip its own part."""
    links = Links("https://pay.example.org/front", KEY)
    path = urlsplit(links.of_payment(ID).result).path
    assert path.startswith("/front/api/")
    assert links.parse(path) == links.parse(path.removeprefix("/front")) == Route(CallbackKind.RESULT, ID, mac_ok=True)


@pytest.mark.parametrize(
    "setting",
    [
        "",
        "pay.example.org",
        "ftp://pay.example.org",
        "https://",
        "https://user:pw@pay.example.org",
        "https://pay.example.org/?a=b",
        "https://pay.example.org/#x",
        "https://pay.example.org:x",
        "https://pay.example.org/ä",
        "https://pay.example.org/a b",
        "https://[bad",
    ],
)
def test_what_is_no_plain_address_is_refused(setting: str) -> None:
    with pytest.raises(ConfigurationError):
        Links(setting, KEY)


@pytest.mark.parametrize("word", SUSPECT_URL_WORDS)
def test_a_word_that_c2b_forbids_is_doubtful_in_any_case_and_never_refused(word: str) -> None:
    for url in (f"https://{word.title()}.example.org/pay", f"https://pay.example.org/x{word.upper()}x"):
        validate_callback_url(url, production=True)
        assert f"'{word}'" in doubt_of(url)
    assert doubt_of("https://pay.example.org") == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://pay.example.org",
        "https://localhost",
        "https://127.0.0.1",
        "https://[::1]:8443",
        "https://10.0.0.7",
        "https://192.168.1.4:8443",
        "https://kasoko.local",
        "http://localhost:8321",
    ],
)
def test_what_m_pesa_cannot_reach_is_refused_in_production(url: str) -> None:
    with pytest.raises(ConfigurationError):
        validate_callback_url(url, production=True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8321", "http://localhost:8321", "http://pay.example.org"])
def test_plain_http_is_let_through_outside_production(url: str) -> None:
    validate_callback_url(url, production=False)


@pytest.mark.parametrize("url", ["https://pay.example.org", "https://196.201.214.1:8443/pay"])
def test_a_public_https_address_is_fine_in_production(url: str) -> None:
    validate_callback_url(url, production=True)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Links("https://pay.example.org", b"short")
    assert str(refused.value) == "The callback key is shorter than 16 bytes, so that its marks could be guessed."
    assert refused.value.hint == "Set KASOKO_CALLBACK_KEY to a long random text: openssl rand -hex 32"


def test_a_key_is_not_in_the_repr() -> None:
    assert repr(LINKS) == "Links('https://pay.example.org')"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/favicon.ico",
        "/api/payments/b2c-callback/",
        "/api/payments/b2c-timeout",
        "/api/payments/none/ks-1/" + "0" * 32,
        "/api/payments/b2c-callback/ks-1/" + "0" * 32,
        "/api/payments/b2c-callback/ks-1/",
        "/api/payments/b2c-callback/KS 1/" + "0" * 32,
        "/api/payments/b2c-callback/" + "x" * 65 + "/" + "0" * 32,
        "right",
    ],
)
def test_whatever_is_asked_for_the_same_marks_are_made_and_compared(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a 404 took says nothing of how near it was: each key makes one mark, each is compared once."""
    made = Links("https://pay.example.org", b"k" * 32, [b"l" * 32, b"m" * 32])
    path = urlsplit(made.of_payment("ks-1").result).path if path == "right" else path
    compared: list[tuple[bytes, bytes]] = []
    made_by: list[links._Marks] = []
    mark_of = links._Marks.of

    def counted(marks: links._Marks, kind: CallbackKind, subject_id: str) -> bytes:
        made_by.append(marks)
        return mark_of(marks, kind, subject_id)

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(links._Marks, "of", counted)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    made.parse(path)
    assert made_by == list(made._marks)
    assert len(compared) == 3
    assert {len(ours) for ours, _ in compared} == {32}
