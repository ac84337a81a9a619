"""The viewer over HTTP: what its pages hold, whom it answers, and that text is never anything but text."""

from __future__ import annotations

import http.client
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.small_ledgers import sample
from tests.viewer.looked import HOSTILE_PATHS, viewed, write_run


def get(address: str, path: str = "/") -> str:
    answer = httpx.get(address + path)
    assert answer.status_code == 200, answer.text[-2000:]
    return answer.text


def rows(html: str) -> list[str]:
    return re.findall(r'<li class="row.*?</li>', html, re.DOTALL)


def test_the_list_shows_problems_with_their_class_and_history(address: str) -> None:
    html = get(address)
    assert "6 problems with 34 sampled traces" in html
    found = {re.search(r"/problem/(\w+)", row)[1]: row for row in rows(html)}  # type: ignore[index]
    assert set(found) == set("abcdhu")
    assert "no survivors" in found["b"]
    assert "round 1 0 of 3, round 2 0 of 3" in found["b"]
    assert "8 of 8 correct" in found["a"]
    assert "held out (dev)" in found["h"]
    assert "unseen" in found["u"]


def test_the_list_of_traces_says_what_each_was_and_why_it_was_dropped(address: str) -> None:
    html = get(address, "/?by=trace&sort=id")
    assert len(rows(html)) == 25
    first, second = rows(html)[:2]
    assert "selected: trained on" in first
    assert "dropped: another trace says the same" in second
    assert "round 1, sample 0" in first
    assert "Sum 0: 1 + 1 = 2" in first


def test_a_filter_narrows_and_its_choice_is_marked(address: str) -> None:
    html = get(address, "/?status=incorrect&round=2")
    assert {re.search(r"/problem/(\w+)", row)[1] for row in rows(html)} == {"b", "c"}  # type: ignore[index]
    assert '<b class="number">2</b> problems, <b class="number">6</b> traces' in html
    assert 'aria-current="true"><span class="value">incorrect</span>' in html
    assert "3 of 6 traces match" in html
    assert 'aria-label="remove Verdict: incorrect"' in html


@pytest.mark.full
def test_every_link_of_the_list_leads_somewhere(address: str) -> None:
    seen: set[str] = set()
    for start in ("/", "/?by=trace&status=correct&q=sum&page=1"):
        links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/[^"]*)"', get(address, start))}
        assert len(links) > 15
        seen |= links
    for link in seen:
        assert httpx.get(address + link).status_code == 200, link


def test_what_was_searched_for_is_marked_in_the_list(address: str) -> None:
    html = get(address, "/?q=SUM+0&sort=id")
    (row,) = rows(html)
    assert '<mark class="hit">Sum 0</mark>: 1 + 1 = 2' in row
    assert '<mark class="hit">apples</mark>' in get(address, "/?q=Apples")
    assert "Nothing matches" in get(address, "/?q=zzz")


def test_a_problem_has_its_samples_round_by_round(address: str) -> None:
    html = get(address, "/problem/c?status=incorrect&sort=id")
    columns = html.split('<section class="round"')[1:]
    assert ["Round 1" in columns[0], "Round 2" in columns[1], len(columns)] == [True, True, 2]
    assert "1 of 4 correct, 2 trained on" in columns[0]
    assert '<mark class="false" title="1 + 1 is 2, not 3">1 + 1 = 3</mark>' in columns[0]
    assert "flagged: an equation does not hold" in columns[0]
    assert "with a hint" in columns[0]
    assert "2 more with the same text" in columns[0]
    assert columns[0].count(">matches<") == 3
    assert "2 of 3" in html
    assert 'rel="prev" href="/problem/b?status=incorrect&amp;sort=id"' in html
    assert 'rel="next" href="/problem/h?status=incorrect&amp;sort=id"' in html
    assert 'href="/?status=incorrect&amp;sort=id">← all in the list' in html
    assert "reference solution" in html


def test_a_duplicate_links_to_the_one_that_was_kept(address: str) -> None:
    html = get(address, "/problem/a")
    kept = sample("a", 0, round_index=2).id
    assert f'duplicate of <a href="#t-{kept}">round 2, sample 0</a> (the same list of equations)' in html
    assert html.count(f'id="t-{kept}"') == 1


def test_a_problem_that_is_not_in_the_list_says_so(address: str) -> None:
    assert "not in the list" in get(address, "/problem/a?status=incorrect")


def test_a_trace_leads_to_its_place_on_its_problems_page(address: str) -> None:
    one = sample("c", 1, round_index=2).id
    answer = httpx.get(f"{address}/trace/{one}?status=incorrect")
    assert answer.status_code == 307
    assert answer.headers["location"] == f"/problem/c?status=incorrect#t-{one}"
    assert f'id="t-{one}"' in get(address, "/problem/c")


@pytest.mark.parametrize(
    "path", ["/problem/nothing", "/trace/nothing", "/elsewhere", "/problem/a/b", "//evil.example/x"]
)
def test_what_is_not_there_is_a_page_that_names_it(address: str, path: str) -> None:
    with closing(http.client.HTTPConnection(urlsplit(address).netloc)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        html = answer.read().decode()
    assert answer.status == 404
    assert path.rsplit("/", 1)[1] in html
    assert not re.search(r'href="//', html)


def test_pages_beyond_the_last_show_the_last(address: str) -> None:
    assert "page 2 of 2" in get(address, "/?by=trace&page=999999")
    assert len(rows(get(address, "/?by=trace&page=999999"))) == 9


@pytest.mark.full
def test_many_requests_at_once_are_answered_as_one_after_the_other(address: str) -> None:
    paths = ["/problem/c", "/?q=sum", "/?by=trace&status=incorrect", "/problem/a?q=apples", "/?sort=solved&round=2"] * 6

    def main_of(path: str) -> str:
        return get(address, path).partition("<main")[2].partition("</main>")[0]

    expected = {path: main_of(path) for path in paths}
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(main_of, paths)) == [expected[path] for path in paths]


# Whom it answers


def test_every_answer_says_what_a_page_may_do(address: str) -> None:
    for path in ("/", "/problem/a", "/problem/nothing", "/icon.svg"):
        headers = httpx.get(address + path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert headers["cache-control"] == "no-store"


def test_styles_and_script_carry_the_nonce_which_is_another_one_each_time(address: str) -> None:
    nonces = set()
    for _ in range(2):
        answer = httpx.get(address)
        (nonce,) = set(re.findall(r'nonce="([^"]+)"', answer.text))
        assert f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'" in answer.headers["content-security-policy"]
        assert len(re.findall(r"<(?:style|script)\b", answer.text)) == answer.text.count("nonce=")
        assert not re.search(r"\son\w+=|\sstyle=", answer.text)
        nonces.add(nonce)
    assert len(nonces) == 2


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil:{port}", ""]
)
def test_a_page_from_elsewhere_whose_name_leads_here_is_refused(address: str, host: str) -> None:
    port = urlsplit(address).port
    answer = httpx.get(address, headers={"Host": host.format(port=port)})
    assert answer.status_code == 421
    assert "problems" not in answer.text
    assert f"http://localhost:{port}" in answer.text


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_this_machines_own_names_are_answered(address: str, host: str) -> None:
    assert httpx.get(address, headers={"Host": host.format(port=urlsplit(address).port)}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_there_is_nothing_but_looking(address: str, method: str) -> None:
    answer = httpx.request(method, address)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_head_is_get_without_the_page(address: str) -> None:
    answer = httpx.head(f"{address}/problem/a")
    assert (answer.status_code, answer.text) == (200, "")


# Text is text


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_whatever_a_run_or_an_address_holds_is_shown_as_text(hostile: str, path: str) -> None:
    html = httpx.get(hostile + path).text
    assert "&lt;script&gt;alert(1)" in html
    body = re.sub(r'<(style|script) nonce="[\w-]+">.*?</\1>', "", html, flags=re.DOTALL)
    for part in ("<script", "<img", '"><img', "'49'", 'href="javascript'):
        assert part not in body, part


def test_a_run_folder_that_is_gone_is_a_page_that_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    with viewed(tmp_path / "run", tmp_path / "scratch") as (address, _):
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        answer = httpx.get(f"{address}/problem/a")
    assert answer.status_code == 500
    assert "The run folder cannot be read" in answer.text
