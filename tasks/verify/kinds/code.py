"""A small function that the model writes: run where it can do no harm, what it returns is compared here."""

from __future__ import annotations

import ast
import json
import re

from tasks.contracts import Answer, Unknown
from tasks.effects import sandbox
from tasks.effects.chat import Said, chat
from tasks.verify.asking import Asked, Found, shown
from tasks.verify.probe_shapes import Call, CodeTask, ProbeFile

LONGEST = 20_000
_BLOCK = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


def ask(probes: ProbeFile, asked: Asked) -> Found | None:
    """Ask for each function, and call it."""
    probe = probes.code
    if probe is None:
        return None
    answers: list[Answer] = []
    findings: list[str] = []
    for task in probe.tasks:
        said: Said = asked.ask(
            question(task),
            "a function",
            lambda left, task=task: chat(  # type: ignore[misc]
                asked.http,
                asked.server.base_url,
                asked.server.asked_as,
                task.ask,
                max_tokens=probe.max_tokens,
                timeout_s=left,
            ),
            max_tokens=probe.max_tokens,
        )
        source = extract(said.text, task.function)
        if isinstance(source, Unknown):
            raise asked.wrong(question(task), f"Python code that defines {task.function}", source.unknown)
        ran = sandbox.run(source, task.function, [call.arguments for call in task.calls])
        if isinstance(ran, Unknown):
            findings.append(f"the code for {task.function} was read, but not run: {ran.unknown}")
            answers.append(
                Answer(question(task), "a function", "a function", right=True, seconds=said.seconds)
            )
            continue
        answers += asked.check([judge(task, ran, said.seconds)])
    return Found(tuple(answers), tuple(findings), latency_s=min(answer.seconds for answer in answers))


def question(task: CodeTask) -> str:
    """Name a task in a sentence."""
    return f"what does its function {task.function} return"


def extract(text: str, function: str) -> str | Unknown:
    """Return the code of an answer: the block that defines the function, or all of a text without blocks."""
    if len(text) > LONGEST:
        return Unknown(f"{len(text):,} characters")
    blocks = _BLOCK.findall(text)
    for source in (*blocks, *(() if blocks else (text,))):
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body):
            return str(source)
    return Unknown(shown(text))


def judge(task: CodeTask, ran: sandbox.Ran, seconds: float) -> Answer:
    """Compare what the calls returned with what they must."""
    for place, call in enumerate(task.calls):
        got = _got(ran, place)
        want = _json(call.returns)
        if got != want:
            return Answer(f"what is {_shown(task, call)}", want, shown(got), right=False, seconds=seconds)
    count = f"{len(task.calls)} right values"
    return Answer(question(task), count, count, right=True, seconds=seconds)


def _got(ran: sandbox.Ran, place: int) -> str:
    """Return the value of a call as JSON, or in words what went wrong; words are never JSON of a value."""
    if ran.error or place >= len(ran.values):
        return f"nothing: {ran.error or 'no such call'}"
    return f"nothing: {ran.errors[place]}" if ran.errors[place] else _json(ran.values[place])


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _shown(task: CodeTask, call: Call) -> str:
    return f"{task.function}({', '.join(_json(value) for value in call.arguments)})"
