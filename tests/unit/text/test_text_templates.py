"""Chat templates: rendered as Hugging Face renders them, whatever they try."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.unit.text.hostile_templates import HOSTILE

from tilewright.errors import TemplateError
from tilewright.text.chat_template import ChatTemplate

NOW = datetime(2026, 1, 1)
USER = [{"role": "user", "content": "hi"}]


def arguments(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "tools": case["tools"],
        "add_generation_prompt": case["add_generation_prompt"],
        "now": NOW,
        **case.get("extra_kwargs", {}),
    }


def test_reference_conversations(oracle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = oracle / "templates"

    @cache
    def load(name: str, bos: str, eos: str) -> ChatTemplate:
        source = (folder / name).read_text(encoding="utf-8")
        return ChatTemplate(source, bos_token=bos, eos_token=eos, special_tokens=[eos, "<|x|>"])

    lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    errors = 0
    for case in map(json.loads, lines):
        template = load(case["template"], case["bos_token"], case["eos_token"])
        name = (case["template"], case["case"])
        if "error" in case:
            errors += 1
            with pytest.raises(TemplateError):
                template.render(case["messages"], **arguments(case))
            continue
        assert template.render(case["messages"], **arguments(case)) == case["rendered"], name
        prompt = template.render_prompt(case["messages"], **arguments(case))
        assert prompt.text == case["rendered"], name
    assert len(lines) >= 179
    with capsys.disabled():
        print(f"\n{len(lines)} template cases compared, {errors} of them errors", end="")


RENDER_ALL = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from tests.unit.text.hostile_templates import HOSTILE
from tilewright.errors import TemplateError
from tilewright.text.chat_template import ChatTemplate
for name, source in HOSTILE.items():
    start = time.process_time()
    try:
        template = ChatTemplate(source)
        answer = "rendered: " + template.render([{"role": "user", "content": "hi"}])[:50]
    except TemplateError as error:
        answer = error.code
    print(json.dumps([name, answer, time.process_time() - start]), flush=True)
"""


def test_hostile_templates_end_within_bounds() -> None:
    """Each ends in a TemplateError, in seconds, in a process that may have one gigabyte."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", RENDER_ALL],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, _, _ in answers] == list(HOSTILE), done.stderr[-2000:]
    assert {name: a for name, a, _ in answers if a != TemplateError.code} == {}
    assert {name: s for name, _, s in answers if s > 10} == {}


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ messages|attr('__class__') }}",
        "{{ self.__init__ }}",
        "{{ namespace.__init__ }}",
    ],
)
def test_python_is_out_of_reach(source: str) -> None:
    assert ChatTemplate(source).render(USER) == ""
    with pytest.raises(TemplateError, match="unsafe"):
        ChatTemplate("{{ cycler.__init__.__globals__ }}").render(USER)


def test_syntax_of_transformers() -> None:
    source = (
        "{% generation %}{{ x }}{% endgeneration %}{% for i in range(9) %}{% if i == 2 %}"
        "{% break %}{% endif %}{{ i }}{% endfor %}{{ {'ä': '<'}|tojson }}"
        "{{ {'a': [1]}|tojson(indent=2) }}{{ strftime_now('%d %b %Y') }}"
    )
    rendered = ChatTemplate(source).render(USER, now=NOW, x="X")
    assert rendered == 'X01{"ä": "<"}{\n  "a": [\n    1\n  ]\n}01 Jan 2026'
    with pytest.raises(TemplateError, match="no system"):
        ChatTemplate("{{ raise_exception('no system') }}").render(USER)
    with pytest.raises(TemplateError, match="does not compile"):
        ChatTemplate("{% for %}")


def test_large_conversations_fit_the_budget() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}U{% endif %}{{ m.content|trim }}"
        "{{ tools|tojson }}{% endfor %}"
    )
    messages = [{"role": "user", "content": "word " * 200}] * 1500
    tools = [{"name": "f", "description": "d" * 100}] * 5
    rendered = ChatTemplate(source).render(messages, tools=tools)
    assert len(rendered) > 1_500_000


def test_renderings_do_not_share_a_budget() -> None:
    template = ChatTemplate("{% for i in range(99999) %}{% endfor %}ok")
    assert [template.render(USER) for _ in range(12)] == ["ok"] * 12
