"""The documentation cannot drift: what the code knows, the pages name, and the other way round."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from urllib.parse import unquote

import pytest

from pytest_vllm import plugin
from pytest_vllm.models import known_answer
from pytest_vllm.models.capabilities import Capabilities, Verdict
from pytest_vllm.report.facts import server_facts
from pytest_vllm.report.finish import _PROPERTIES
from pytest_vllm.report.records import VERDICTS, Record
from pytest_vllm.servers.images import DEFAULTS
from pytest_vllm.servers.server import Server
from pytest_vllm.settings import DEFAULT_MODEL, OPTIONS, Option
from pytest_vllm.spec import ServerSpec

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)


def docs(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(text: str, language: str = r"\w*") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one of any level, without examples."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    (found,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    return str(found)


def first_column(text: str) -> list[str]:
    """The words in backticks in the first column of the tables of a text."""
    cells = (line.split("|")[1] for line in text.splitlines() if line.startswith("|"))
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


# --- options ---------------------------------------------------------------------------------


@each_option
def test_an_option_has_a_row_with_its_variable_and_its_ini_key(option: Option) -> None:
    rows = [line for line in docs("options.md").splitlines() if line.startswith("| `--vllm-")]
    (row,) = [line for line in rows if re.match(rf"\| `{option.cli}[=`]", line)]
    assert f"| `{option.env}`, `{option.ini}` |" in row


@each_option
def test_an_option_is_shown_with_the_value_that_help_shows(option: Option) -> None:
    shown = option.cli + (f"={option.metavar}" if option.metavar else "")
    assert f"`{shown}`" in docs("options.md").replace("\\|", "|")


@each_page
def test_no_page_names_an_option_that_is_not_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"--vllm-[a-z-]+[a-z]", text)) <= {option.cli for option in OPTIONS}
    assert set(re.findall(r"VLLM_TEST_[A-Z_]+", text)) <= {option.env for option in OPTIONS}
    # `vllm_server` and such are fixtures and properties: only ini keys stand before ` =`.
    assert set(re.findall(r"^(vllm_\w+) = ", text, re.M)) <= {option.ini for option in OPTIONS}


def test_the_keys_of_a_models_table_are_named() -> None:
    text = section(docs("options.md"), "Settings of one model")
    (sentence,) = re.findall(r"The other keys are (.*?)\. ", text, re.S)
    keys = {option.name for option in OPTIONS if option.per_model}
    assert set(re.findall(r"`([^`]+)`", sentence)) == keys | {"args", "env"}


def test_defaults_that_matter_are_the_real_ones() -> None:
    assert f"`{DEFAULT_MODEL}`" in docs("options.md")
    for platform, image in DEFAULTS.items():
        assert f"| `{platform}` | `{image}` |" in docs("docker.md")
    assert f"`{DEFAULTS['rocm']}`" in (ROOT / "README.md").read_text(encoding="utf-8")


# --- fixtures and markers --------------------------------------------------------------------


def test_every_fixture_has_a_row_and_no_other() -> None:
    fixtures = {
        name
        for name, value in vars(plugin).items()
        if type(value).__name__ == "FixtureFunctionDefinition"
    }
    assert "vllm_server" in fixtures
    table = section(docs("writing-tests.md"), "Fixtures").partition("has these attributes")[0]
    assert set(first_column(table)) == fixtures


def test_every_attribute_of_the_server_has_a_row_and_no_other() -> None:
    table = section(docs("writing-tests.md"), "Fixtures").partition("has these attributes")[2]
    assert set(first_column(table)) == {field.name for field in fields(Server)} | {"url(path)"}


def test_every_marker_has_a_row_and_no_other() -> None:
    markers = [marker.partition(":")[0] for marker in plugin.MARKERS]
    assert first_column(section(docs("writing-tests.md"), "Markers")) == markers


def test_every_known_answer_model_is_explained() -> None:
    assert tuple(first_column(docs("known-answer.md"))[: len(known_answer.NAMES)]) == (
        known_answer.NAMES
    )


# --- results ---------------------------------------------------------------------------------


def a_server() -> Server:
    able = Capabilities(Verdict("base", "server", "asked"))
    return Server("http://x", "m", ServerSpec("m"), "x", None, "1", 1.0, able)


def test_every_field_of_a_server_has_a_row_and_no_other() -> None:
    text = section(docs("results.md"), "`servers[]`")
    servers, _, capabilities = text.partition("`capabilities`:")
    facts = server_facts(a_server())
    assert first_column(servers) == list(facts)
    able = facts["capabilities"]
    chat = {f"chat.{name}" for name in able["chat"]}
    assert set(first_column(capabilities)) == (set(able) - {"chat"}) | chat


def test_every_field_of_a_test_has_a_row_and_no_other() -> None:
    rows = first_column(section(docs("results.md"), "`tests[]`"))
    assert rows == [field.name for field in fields(Record)]


def test_every_field_of_the_run_has_a_row() -> None:
    source = (ROOT / "pytest_vllm" / "report" / "finish.py").read_text(encoding="utf-8")
    (run,) = re.findall(r'"run": \{(.*?)\}', source, re.S)
    rows = first_column(section(docs("results.md"), "`run`"))
    assert [row for row in rows if row != "pytest-vllm.run"] == re.findall(r'"(\w+)":', run)


def test_every_verdict_is_named() -> None:
    (sentence,) = re.findall(r"^A `verdict` is one of (.*?);", docs("results.md"), re.M | re.S)
    assert tuple(re.findall(r"`(\w+)`", sentence)) == VERDICTS
    rows = first_column(section(docs("verdicts.md"), "Verdicts of a test"))
    assert sorted(rows) == sorted(VERDICTS)


def test_every_junit_property_is_named() -> None:
    report = ROOT / "pytest_vllm" / "report"
    source = (report / "outcome.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"(vllm_(?:model|level|endpoint|message|server_log))"', source))
    assert len(named) == 5
    named |= {f"vllm.{name}" for name in (*_PROPERTIES, "capabilities", "error")}
    text = section(docs("results.md"), "JUnit: `--junitxml=FILE`")
    missing = {name for name in named if f"`{name}`" not in text}
    assert missing == set()


# --- the pages themselves --------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_links_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= set(
        re.findall(r"\]\(([^)#]+)\)", text)
    )


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_readme_is_one_screen(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 90


def test_the_chinese_readme_has_the_same_commands_and_output() -> None:
    english, chinese = (
        blocks((ROOT / name).read_text(encoding="utf-8"))
        for name in ("README.md", "README.zh-CN.md")
    )
    assert len(english) >= 4
    assert chinese == english


@each_page
def test_examples_in_python_compile(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        compile(block, page.name, "exec")


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    # The sources of rules are other projects' files.
    text = re.sub(r"^\|.*$", "", page.read_text(encoding="utf-8"), flags=re.M)
    named = re.findall(
        r"(?<![\w./-])((?:pytest_vllm|docker|tests|docs)/[\w./-]*\w/?)(?![\w/])", text
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


@each_page
def test_lines_that_are_no_tables_fit_a_screen(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(line) > 115 and not line.startswith("|")]
    assert long == []


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="the page is made with pytest 9")
def test_the_page_of_rules_is_generated_from_the_suite() -> None:
    script = ROOT / "docs" / "generate_conformance.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
